"""The tables of docs/names.md: what they name here exists, and all that PyTorch has is in them."""

import re
from pathlib import Path

import pytest

import xpnn

pytestmark = pytest.mark.host_only

PAGE = Path(__file__).parent.parent / "docs" / "names.md"
CODE = re.compile(r"`([^`]+)`")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith(("| `", "| |"))
]
WORDS = {"adapt(x)", "groups", "from_logits=False", "ignore_index", "label_smoothing"}
WORDS |= {"rule", "slope", "evaluate"}
"""What stands in the last column and is no name of the package: arguments and methods."""


def test_what_is_named_here_can_be_made():
    """Names are there, and what has arguments takes them."""
    found = [code for row in ROWS for code in CODE.findall(row[-1]) if code not in WORDS]
    assert len(found) > 100
    for code in found:
        eval(code, dict(vars(xpnn)))


def test_all_words_that_are_no_names_stand_in_a_table():
    assert {code for row in ROWS for code in CODE.findall(row[-1])} >= WORDS


def test_whoever_has_no_name_here_has_a_reason():
    for row in ROWS:
        assert CODE.search(row[-1]) or row[-1].startswith("not here: "), row


@pytest.mark.torch
def test_all_of_pytorch_is_in_a_table():
    torch = pytest.importorskip("torch")
    schedulers = vars(torch.optim.lr_scheduler)
    wanted = {
        *torch.nn.modules.__all__,
        *(name for name in vars(torch.optim) if isinstance(getattr(torch.optim, name), type)),
        *(name for name in schedulers if name.endswith("LR") and name[0] != "_"),
        *(name for name in vars(torch.nn.functional) if name.endswith("_loss") and name[0] != "_"),
        *("ChainedScheduler", "CosineAnnealingWarmRestarts", "ReduceLROnPlateau", "LRScheduler"),
        *("cross_entropy", "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div"),
    }
    named = {name for row in ROWS for name in CODE.findall(row[0])}
    assert sorted(wanted - named) == []
