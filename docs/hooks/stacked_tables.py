"""Prepares wide tables for phones, where each row stands as lines of "column: cell".

Cells of tables that no phone has room for are given the name of their column, which the style sheet
shows in front of them there.
"""

from xml.etree.ElementTree import Element

from markdown import Extension, Markdown
from markdown.treeprocessors import Treeprocessor
from mkdocs.config.defaults import MkDocsConfig

COLUMNS = 3
"""How many a phone has room for."""
CHARACTERS = 72
"""How long a row of so many cells may be."""
SHORT = 12
"""Up to how many characters cells of more columns stand side by side."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Let Markdown do it, so that pages and docstrings are treated alike."""
    config.markdown_extensions.append(StackedTables())
    return config


class StackedTables(Extension):
    """Labels the cells of wide tables."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 (Markdown's name)
        """Come behind what sets the text of cells."""
        md.treeprocessors.register(Labels(md), "stacked_tables", priority=1)


class Labels(Treeprocessor):
    """Goes through all tables of a page."""

    def run(self, root: Element) -> None:
        """Label those that are wide."""
        for table in root.iter("table"):
            columns = [text_of(cell) for cell in table.iterfind("thead/tr/th")]
            rows = [list(row) for row in table.iterfind("tbody/tr")]
            longest = [
                max((len(text_of(row[k])) for row in rows), default=0) for k in range(len(columns))
            ]
            if len(columns) > COLUMNS or (len(columns) == COLUMNS and sum(longest) > CHARACTERS):
                label(rows, columns)
                table.set("data-stacked", "lines" if max(longest[1:]) > SHORT else "side by side")


def label(rows: list[list[Element]], columns: list[str]) -> None:
    """Give cells the names of their columns, if these have names."""
    for row in rows:
        for column, cell in zip(columns, row, strict=True):
            if column:
                cell.set("data-column", column)


def text_of(cell: Element) -> str:
    """What a reader sees of it."""
    return "".join(cell.itertext()).strip()
