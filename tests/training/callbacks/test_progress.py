"""ProgressBar: what stands where somebody looks, and that nobody has to."""

import contextlib
import io
import os
import sys
import time

import numpy as np
import pytest

from xpnn import SGD, Accuracy, Callback, Dense, Network, ProgressBar, Trainer, cross_entropy
from xpnn.training.callbacks import progress as progress_module

pytestmark = pytest.mark.host_only


def fit(*callbacks, **settings):
    x, y = np.ones((64, 4), np.float32), np.arange(64) % 3
    network, metrics = Network([Dense(3)], (4,)), [Accuracy()]
    trainer = Trainer(network, cross_entropy, SGD(0.1), metrics=metrics, log_every=2)
    settings = {"epochs": 2, "validation": 0.25, "callbacks": callbacks} | settings
    trainer.fit(x, y, batch_size=8, **settings)
    return trainer


@pytest.fixture
def shown(monkeypatch):
    """What comes to a terminal, of 80 columns unless said otherwise, by the end of a ``fit``."""
    pty, fcntl, termios = map(pytest.importorskip, ("pty", "fcntl", "termios"))
    ours, theirs = pty.openpty()

    def fitted(*callbacks, columns=80, **settings):
        size = np.array([24, columns, 0, 0], np.uint16).tobytes()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
        with open(theirs, "w") as terminal:
            monkeypatch.setattr(sys, "stderr", terminal)
            fit(*callbacks, **settings)
        text = b""
        with contextlib.suppress(OSError):  # Linux's way of saying that no more comes
            while piece := os.read(ours, 1000):
                text += piece
        return text.decode()

    yield fitted
    os.close(ours)


def test_a_terminal_has_a_bar_and_then_all_results_in_80_columns(shown):
    text = shown()
    assert "epoch 1/2:   0%|" in text
    lines = [line.rpartition("\r")[2] for line in text.strip().split("\r\n")]
    assert [line[:21] for line in lines] == ["epoch 1/2: 6 steps in", "epoch 2/2: 6 steps in"]
    for line in lines:
        assert "val_accuracy=0." in line
        assert len(line) <= 80


@pytest.mark.parametrize("columns", [120, 80, 40, 20])
def test_a_bar_is_no_wider_than_the_terminal(shown, columns):
    class Slow(Callback):
        def on_step_end(self, state, step):
            time.sleep(0.04)

    text = shown(Slow(), columns=columns, progress="bar")
    bars = [
        line
        for line in text.replace("\n", "\r").split("\r")
        if line.startswith("epoch") and "steps in" not in line
    ]
    assert any("loss=" in bar for bar in bars) or columns < 80
    assert max(map(len, bars)) <= columns
    assert len(bars) >= 4


@pytest.mark.parametrize("progress", ["lines", False])
def test_a_terminal_has_no_bar_where_none_is_wanted(shown, progress):
    text = shown(progress=progress)
    assert "%|" not in text
    assert text.count("epoch ") == (2 if progress else 0)


def test_a_file_has_a_bar_where_one_is_asked_for(capsys):
    fit(progress="bar")
    assert "epoch 1/2:   0%|" in capsys.readouterr().err


@pytest.mark.parametrize("progress", ["auto", True, "lines"])
def test_a_file_has_a_short_line_for_each_epoch(capsys, progress):
    fit(progress=progress)
    shown = capsys.readouterr().err.splitlines()
    assert [line[:9] for line in shown] == ["epoch 1/2", "epoch 2/2"]


def test_another_word_is_refused_before_a_step(capsys):
    with pytest.raises(ValueError, match="'auto', 'bar', 'lines', True or False, got 'verbose'"):
        fit(progress="verbose")
    with pytest.raises(TypeError, match="fit wants progress to be"):
        fit(progress=2)
    with pytest.raises(ValueError, match="'auto', 'bar' or 'lines', got 'line'"):
        ProgressBar("line")
    assert capsys.readouterr().err == ""


class Cell(io.StringIO):
    """What stands below a cell of a notebook: text, where ``ipywidgets`` is missing."""


Cell.__module__ = "ipykernel.iostream"


def test_a_notebook_without_widgets_has_text_that_is_no_error(monkeypatch):
    out, err = Cell(), Cell()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(progress_module, "_has_widgets", lambda: False)
    fit()
    assert "epoch 1/2:   0%|" in out.getvalue()
    assert "epoch 2/2: 6 steps in" in out.getvalue()
    assert err.getvalue() == ""


def test_a_notebook_has_one_bar_of_tqdm_for_all_epochs(monkeypatch):
    seen = []

    class Recorded:
        def __init__(self, **options):
            seen.append(("made", options["total"], options["desc"], options["leave"]))

        def __getattr__(self, name):
            return lambda *given, **named: seen.append((name, *given))

    monkeypatch.setattr(sys, "stdout", Cell())
    monkeypatch.setattr(sys, "stderr", Cell())
    monkeypatch.setattr(progress_module, "_has_widgets", lambda: True)
    monkeypatch.setattr(progress_module, "_bar_for", lambda stream: Recorded)
    fit()
    assert seen[0] == ("made", 6, "epoch 1/2", True)
    assert [one[0] for one in seen].count("made") == 1
    assert ("reset", 6) in seen
    assert ("set_description", "epoch 2/2") in seen
    assert [one[0] for one in seen].count("update") == 6 + 6 + 1  # and where an epoch begins
    assert seen[-1] == ("close",)


def test_one_among_the_callbacks_is_the_only_one(capsys):
    fit(ProgressBar())
    assert capsys.readouterr().err.count("epoch 1/2: 6 steps") == 1
    fit(ProgressBar(), progress=False)
    assert capsys.readouterr().err.count("epoch 1/2: 6 steps") == 1


def test_what_is_no_terminal_has_short_lines(capsys):
    fit()
    shown = capsys.readouterr().err
    assert "\r" not in shown
    lines = shown.splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) <= 80


class Unwritable(io.StringIO):
    """A stream that is broken, as a pipe that nobody reads; as a terminal or as a file."""

    def __init__(self, terminal, error=BrokenPipeError):
        super().__init__()
        self.terminal, self.error = terminal, error

    def isatty(self):
        return self.terminal

    def write(self, text):
        raise self.error("nobody reads this")

    flush = write


class Bare:
    """A stream of the user's that can do no more than write."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


def closed(terminal):
    stream = io.StringIO()
    stream.close()
    return stream


STREAMS = {
    "missing": lambda: None,
    "closed": lambda: closed(False),
    "broken": lambda: Unwritable(False),
    "broken terminal": lambda: Unwritable(True),
    "window that is gone": lambda: Unwritable(True, RuntimeError),
    "of few letters": lambda: io.TextIOWrapper(io.BytesIO(), encoding="ascii"),
    "bare": Bare,
}


@pytest.mark.fault("nobody sees the output")
@pytest.mark.parametrize("make", STREAMS.values(), ids=STREAMS)
def test_training_goes_on_though_nobody_sees_it(make, monkeypatch):
    monkeypatch.setattr(sys, "stderr", make())
    assert fit().steps == 12


@pytest.mark.fault("nobody sees the output")
@pytest.mark.parametrize("terminal", [False, True])
def test_training_goes_on_when_the_stream_is_closed_meanwhile(terminal, monkeypatch):
    stream = io.StringIO()
    stream.isatty = lambda: terminal

    class Close(Callback):
        def on_step_end(self, state, step):
            if step == 3:
                stream.close()

    monkeypatch.setattr(sys, "stderr", stream)
    assert fit(Close()).steps == 12


def test_a_name_that_the_stream_cannot_write_costs_the_line_alone(monkeypatch):
    class Named(Callback):
        def on_epoch_end(self, state, logs):
            logs["\N{GREEK SMALL LETTER ETA}"] = 1.0

    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", stream)
    assert fit(Named()).steps == 12
