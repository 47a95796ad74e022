"""Recordings as text: what a line says, and the programs of three networks, word by word."""

import difflib
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.backends.recording.test_recording import record
from xpnn import CompileError, Dense, Network, ReLU, Trainer, cross_entropy
from xpnn.backends.recording.text import Listing
from xpnn.layers import LSTM, Embedding, LayerNorm, TransformerBlock
from xpnn.optimizers import SGD, Adam

PROGRAMS = Path(__file__).parent / "programs"


def lines_of(step, *given, names=(), donate=()):
    named = {(k,): name for k, name in enumerate(names)}
    return Listing(record(step, *given, donate=donate), named, {}).lines()


def calls_of(step, *given, **options):
    """The lines of the calls, without the forms behind them."""
    lines = lines_of(step, *given, **options)
    first = next(k for k, line in enumerate(lines) if line.startswith("calls")) + 1
    stop = next(k for k, line in enumerate(lines) if line.startswith("returns"))
    return [line.strip().partition("  ")[0] for line in lines[first:stop]]


def test_what_comes_in_what_is_called_and_what_goes_out():
    def step(w, x, rate):
        return w - rate * (x.T @ np.tanh(x @ w)), np.sum(x, axis=0)

    given = np.ones((3, 2)), np.ones((4, 3)), 0.5
    assert lines_of(step, *given, names=("w", "x", "rate")) == [
        "given 3",
        "    w     float64 (3, 2)",
        "    x     float64 (4, 3)",
        "    rate  float",
        "calls 6",
        "    a1 = x @ w           float64 (4, 2)",
        "    a2 = tanh(a1)        float64 (4, 2)",
        "    a3 = x.T @ a2        float64 (3, 2)",
        "    a4 = rate * a3       float64 (3, 2)",
        "    a5 = w - a4          float64 (3, 2)",
        "    a6 = sum(x, axis=0)  float64 (3,)",
        "returns 2",
        "    0 = a5",
        "    1 = a6",
    ]


VIEWS = {
    "x": lambda x: x,
    "x.transpose(2, 0, 1)": lambda x: np.transpose(x, (2, 0, 1)),
    "x.reshape(6, 4)": lambda x: x.reshape(6, 4),
    "x.reshape(6, 4).T": lambda x: x.reshape(6, 4).T,
    "x[1]": lambda x: x[1],
    "x[:, 1:3]": lambda x: x[:, 1:3],
    "x[0, :, 2]": lambda x: x[0, :, 2],
    "x.reshape(-1)[4:12].reshape(2, 4).T": lambda x: x.reshape(6, 4)[1:3].T,
    "x.strided(3, (2, 3, 4), (12, 4, -1))": lambda x: x[:, :, ::-1],
    "x.strided(0, (2, 2, 4), (12, 8, 1))": lambda x: x[:, ::2],
    "x.strided(0, (5, 2, 3, 4), (0, 12, 4, 1))": lambda x: np.broadcast_to(x, (5, 2, 3, 4)),
}


@pytest.mark.parametrize("text", VIEWS)
def test_views(text):
    """A text that Python can read gives the view itself."""
    x = np.arange(24.0).reshape(2, 3, 4)
    (line,) = calls_of(lambda x: np.exp(VIEWS[text](x)), x, names=("x",))
    assert line == f"a1 = exp({text})"
    if "strided" not in text:
        np.testing.assert_array_equal(eval(text), VIEWS[text](x))


def test_in_place():
    def step(x):
        held = np.exp(x)
        part = held[1:]
        part += 1.0
        return held

    assert calls_of(step, np.ones(3), names=("x",)) == ["a1 = exp(x)", "a1[1:3] = a1[1:3] + 1.0"]


def test_numbers_constants_and_pieces():
    def step(x, count):
        few = np.concatenate([x, np.asarray([1.5, 2.5])])
        return few * (count + 1), np.where(x > 0, x, np.ones(5))

    assert calls_of(step, np.ones(5), 3, names=("x", "count")) == [
        "a1 = concatenate([x, float64([1.5, 2.5])])",
        "n1 = count + 1",
        "a2 = a1 * n1",
        "a3 = x > 0",
        "a4 = where(a3, x, constant(float64 (5,)))",
    ]


def test_arguments_that_lie_side_by_side():
    def step(held):
        joint = np.concatenate([held["a"], held["b"]]) * 0.5
        return ({"a": joint[:3], "b": joint[3:]},)

    listing = lines_of(step, {"a": np.ones(3), "b": np.ones(5)}, donate=(0,))
    assert listing[4].split("  ")[2].strip() == "a1 = 0.a..0.b * 0.5"
    assert listing[-2:] == ["    0.a = a1[0:3]", "    0.b = a1[3:8]"]


# Whole networks: what changes in a layer, a loss or a pass is shown as a difference --------------


def mlp():
    layers = [Dense(128), ReLU(), Dense(10)]
    return Network(layers, (784,)), Adam(), np.zeros((64, 784), np.float32)


def lstm():
    return Network([LSTM(32), Dense(10)], (2, 16)), SGD(), np.zeros((8, 2, 16), np.float32)


def gpt_block():
    layers = [Embedding(96, 32), TransformerBlock(32, 4, causal=True), LayerNorm(), Dense(96)]
    return Network(layers, (16,)), SGD(), np.zeros((4, 16), np.int32)


def program_of(make):
    network, optimizer, x = make()
    trainer = Trainer(network, cross_entropy, optimizer)
    trainer.step(x, np.zeros((len(x), *network.output_shape[:-1]), np.int64))
    return f"{trainer.program}\n"


KEPT = {make.__name__: make for make in (mlp, lstm, gpt_block)}


@pytest.mark.parametrize("name", KEPT)
def test_the_program_of(name):
    """Where a change is meant: ``python -m tests.backends.recording.test_text`` writes it down."""
    found, kept = program_of(KEPT[name]), (PROGRAMS / f"{name}.txt").read_text()
    changed = difflib.unified_diff(kept.splitlines(), found.splitlines(), lineterm="", n=1)
    assert found == kept, "\n".join(changed)


# What has no program ------------------------------------------------------------------------------


def test_before_the_first_step():
    network, optimizer, _ = mlp()
    with pytest.raises(CompileError, match=r"train on a batch first, as by trainer\.step"):
        print(Trainer(network, cross_entropy, optimizer).program)


def test_call_by_call():
    network, optimizer, x = mlp()
    trainer = Trainer(network, cross_entropy, optimizer, compile=False)
    trainer.step(x, np.zeros(64, np.int64))
    with pytest.raises(CompileError, match="call by call: compile=False was given"):
        print(trainer.program)


if __name__ == "__main__":
    PROGRAMS.mkdir(exist_ok=True)
    for name in sys.argv[1:] or KEPT:
        (PROGRAMS / f"{name}.txt").write_text(program_of(KEPT[name]))
