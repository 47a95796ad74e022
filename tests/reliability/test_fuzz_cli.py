"""Command lines of any words: exit status 0, 1 or 2 with a text on stderr, never a traceback."""

import importlib.util
import os
import re
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xpnn.cli
import xpnn.commands.digits
import xpnn.commands.doctor
from tests.reliability.conduct import fuzz, in_time
from tests.reliability.tally import attempt

pytestmark = pytest.mark.host_only

WORDS = [
    *(
        *xpnn.cli.HELP,
        "--backend",
        "--epochs",
        "--batch-size",
        "--seed",
        "--out",
        "--quiet",
        "--resume",
        "--json",
        "--target",
        "--config",
    ),
    *("numpy", "numpi", "torch:xpu", "numpy:1", "array-api-strict", "", "auto:x", "jax:", "\0"),
    *("1", "2", "0", "-1", "1.5", "nan", "1e3", "x", "٣", "9" * 40, "-" + "9" * 40, "--", "-h"),
    *(
        "{folder}",
        "{file}",
        "{table}",
        "{file}/below",
        "/proc/nowhere",
        "{folder}/\udcff",
        "{long}",
        "--epoch",
    ),
]


BEGINNING = re.compile(rf"xpnn( ({'|'.join(xpnn.cli.HELP)}))?: ")
"""Of what is said of a command line that is wrong: the program, and the command if there is one."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    (folder / "file").write_text("kept")
    rows = "".join(f"{n},{'ab'[n % 2]}\n" for n in range(40))
    (folder / "table.csv").write_text(f"size,kind\n{rows}")
    return folder


@pytest.fixture(autouse=True, scope="module")
def short_runs(folder):
    """A few digits, and no pictures."""
    rng, find = np.random.default_rng(0), importlib.util.find_spec
    digits = rng.random((40, 64), dtype=np.float32), np.arange(40) % 10
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xpnn.commands.digits.datasets, "digits", lambda: digits)
        patch.setattr(
            importlib.util, "find_spec", lambda name: find(name) if name != "matplotlib" else None
        )
        for look in ("examine", "examine_engine"):  # other tests look at these
            patch.setattr(xpnn.commands.doctor, look, lambda name: "works")
        patch.chdir(folder)  # where paths without a folder lead
        yield


def run(arguments, capsys):
    """The exit status, and what was printed to stderr, which takes any text, as Python's own."""
    sys.stderr.reconfigure(errors="backslashreplace")
    with in_time():
        try:
            status = xpnn.cli.main(arguments)
        except SystemExit as stop:
            status = stop.code
    return status, capsys.readouterr().err


def check(arguments, capsys):
    status, said = run(arguments, capsys)
    assert status in (0, 1, 2), arguments
    assert "Traceback" not in said
    if status:
        assert BEGINNING.match(said), (arguments, said)
        assert len(said.strip()) > 20


def filled_in(words, folder):
    names = {"{folder}": folder, "{file}": folder / "file", "{long}": folder / ("x" * 400)}
    names["{table}"] = folder / "table.csv"
    for name, path in names.items():
        words = [word.replace(name, str(path)) for word in words]
    return words


@pytest.mark.fault("command lines of any words")
@fuzz(150)
@given(words=st.lists(st.sampled_from(WORDS) | st.text(max_size=5), max_size=6))
def test_any_words(words, folder, capsys):
    with attempt():
        check(filled_in(words, folder), capsys)
    assert (folder / "file").read_text() == "kept"


@pytest.mark.fault("command lines of any words")
@fuzz(60)
@given(data=st.data())
def test_options_of_any_values(data, folder, capsys):
    """What begins like a right command, so that most get past the parser."""
    words = ["train", "--epochs", "1", "--quiet", "--out", "{folder}"]
    if data.draw(st.booleans()):
        words[1:1] = ["{table}", "--target", "kind"]
    for option in ("--backend", "--batch-size", "--seed", "--out", "--rate", "--layers"):
        if data.draw(st.booleans()):
            words += [option, data.draw(st.sampled_from(WORDS))]
    with attempt():
        check(filled_in(words, folder), capsys)
    assert (folder / "file").read_text() == "kept"


@pytest.mark.fault("results that cannot be written")
@pytest.mark.parametrize("out", ["a file", "a read-only folder", "a name too long", "a full disk"])
def test_results_that_cannot_be_written(out, tmp_path, capsys, monkeypatch):
    place = tmp_path / "results"
    if out == "a file":
        place.write_text("kept")
    elif out == "a read-only folder":
        place = tmp_path / "locked"
        place.mkdir(mode=0o500)
        if os.access(place, os.W_OK):  # root may write everywhere but here
            place = "/proc"
    elif out == "a name too long":
        place = tmp_path / ("x" * 300)
    else:
        place = "/dev/full/results" if os.path.exists("/dev/full") else tmp_path / "\0"
    status, said = run(["train", "--epochs", "1", "--quiet", "--out", str(place)], capsys)
    assert status == 1
    assert said.startswith("xpnn: ")
