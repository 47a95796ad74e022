"""Cells of wide tables know their columns, by which phones show them."""

import pytest

markdown = pytest.importorskip("markdown")
pytest.importorskip("mkdocs")

from docs.hooks.stacked_tables import StackedTables  # noqa: E402


def made(text):
    return markdown.markdown(text, extensions=["tables", StackedTables()])


def table(columns, cell, first="a"):
    heads = " | ".join([first, *(f"`{one}` and more" for one in range(1, columns))])
    return f"| {heads} |\n|{'---|' * columns}\n|{f' {cell} |' * columns}\n"


def test_cells_of_wide_tables_are_named():
    html = made(table(4, "a cell of words"))
    assert 'data-column="a"' in html
    assert [f'data-column="{one} and more"' in html for one in range(5)] == [0, 1, 1, 1, 0]
    assert '<table data-stacked="lines">' in html


def test_a_column_without_a_name_heads_its_rows():
    assert made(table(4, "1.25", first="")).count("data-column") == 3


def test_short_cells_stand_side_by_side():
    assert '<table data-stacked="side by side">' in made(table(4, "1.25"))


def test_tables_that_fit_stay_as_they_are():
    assert "data-" not in made(table(3, "1.25"))
    assert "data-" not in made(table(2, "words " * 40))


def test_three_columns_of_many_words_are_stacked():
    assert '<table data-stacked="lines">' in made(table(3, "words of some length, and more"))
