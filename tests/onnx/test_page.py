"""The blocks of docs/onnx.md, which ``tests/test_docs.py`` leaves out where onnx is not there."""

import re

from docs.hooks.running import run_page
from tests.test_docs import ROOT


def test_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "onnx.md").read_text(encoding="utf-8")
    assert len(run_page(re.sub(r"(?m)^# not run: .*\n", "", text), "docs/onnx.md")) == 4
