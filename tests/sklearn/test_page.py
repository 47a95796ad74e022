"""The blocks of docs/scikit-learn.md, which run where scikit-learn is installed."""

from pathlib import Path

import pytest

from docs.hooks.running import run_page
from tests.conftest import needs

pytest.importorskip("sklearn", reason="needs scikit-learn")

PAGE = Path(__file__).parent.parent.parent / "docs" / "scikit-learn.md"
REASON = "# not run: scikit-learn is an extra\n"


@needs("numpy")
def test_blocks_run_where_scikit_learn_is_installed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    assert text.count(REASON) > 5
    assert len(run_page(text.replace(REASON, ""), str(PAGE))) == text.count("\n```python")
