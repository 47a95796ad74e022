"""Pages that are served unchanged are not run again; a build runs everything."""

import pytest

from docs.hooks import kept as hooks


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """A function that counts its calls, what keeps its results, and the sources to change."""
    monkeypatch.setattr(hooks, "ROOT", tmp_path)
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "one.py").write_text("1")
    calls = []

    def make(text):
        calls.append(text)
        return {0: text.upper()}, {"curve.svg": b"<svg/>"}

    def serve(text, name="how-to/page.md", taken=True):
        hooks.sources.cache_clear()
        kept = hooks.Kept(tmp_path / "kept")
        kept.taken = taken
        assert kept(name, make, text) == ({0: text.upper()}, {"curve.svg": b"<svg/>"})
        return len(calls)

    yield serve, tmp_path
    hooks.sources.cache_clear()


def test_what_has_not_changed_is_not_run_again(counted):
    serve, _ = counted
    assert [serve("a"), serve("a"), serve("a")] == [1, 1, 1]


def test_a_page_that_has_changed_is_run_and_its_file_replaced(counted):
    serve, folder = counted
    assert [serve("a"), serve("b"), serve("b")] == [1, 2, 2]
    assert len(list((folder / "kept").iterdir())) == 1


def test_pages_of_one_text_have_their_own_results(counted):
    serve, _ = counted
    assert [serve("a"), serve("a", "book/page.md"), serve("a")] == [1, 2, 2]


def test_all_is_run_again_once_a_source_has_changed(counted):
    serve, folder = counted
    assert serve("a") == 1
    (folder / "examples" / "one.py").write_text("2")
    assert [serve("a"), serve("a")] == [2, 2]


def test_a_build_runs_everything_and_leaves_it_for_serving(counted):
    serve, _ = counted
    assert [serve("a", taken=False), serve("a", taken=False), serve("a")] == [1, 2, 2]
