"""The benchmarks run, and what they time is the same network in every column."""

import importlib
import math
import os
from types import SimpleNamespace

import numpy as np
import pytest

import benchmarks
from benchmarks.__main__ import columns, measure, show
from benchmarks.gpu import COLUMNS, runs_of, table
from benchmarks.peers_column import ARCHITECTURES, make_trainer, register
from benchmarks.works import WORKS, mlp, torch_run, xpnn_run
from tests.conftest import needs
from xpnn import Network

ADAM = {"name": "adam", "lr": 1e-3, "b1": 0.9, "b2": 0.999, "eps": 1e-8}
SPECS = {
    "mlp": {"sizes": [4, 3, 2], "act": "sigmoid", "loss": "quad"},
    "cnn": {"loss": "ce"},
    "lstm": {"H": 3, "T": 4, "I": 2, "loss": "ce"},
    "gpt": {"V": 5, "D": 4, "heads": 2, "blocks": 1, "T": 3, "loss": "ce"},
}


def test_child_processes_multiply_as_their_parent_does(monkeypatch):
    """Where NumPy is loaded, its choice of products is made: children have to be told the same."""
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    importlib.reload(benchmarks)
    assert os.environ["OPENBLAS_CORETYPE"] == "Haswell"


def test_a_table_of_one_small_network(capsys):
    runs = columns(mlp([4, 3, 2], batch=5), ["numpy", "no such library"])
    assert "xpnn on numpy" in runs
    show("tiny", measure(runs, rounds=2, seconds=1e-4))
    printed = capsys.readouterr().out
    assert "no column xpnn on no such library" in printed
    assert "| xpnn on numpy |" in printed


@needs("torch")
@pytest.mark.parametrize("title", WORKS)
def test_torch_times_the_same_network(title):
    import torch

    work = WORKS[title]
    ours = Network(work.layers(), work.input_shape).params.values()
    theirs = [param.numel() for param in work.torch(torch.nn).parameters()]
    if "LSTM" in title:
        theirs.remove(512)  # torch.nn.LSTM has two biases, of which only the sum counts
    assert sum(math.prod(param.shape) for param in ours) == sum(theirs)


@pytest.mark.parametrize("kind", SPECS)
def test_the_weights_of_the_benchmark_have_a_place(kind):
    work = {"kind": kind, "opt": ADAM, **SPECS[kind]}
    layers, shape, names = ARCHITECTURES[kind](work)
    params = Network(layers, shape).params
    assert names.keys() == params.keys()
    rng = np.random.default_rng(0)
    weights = {theirs: rng.standard_normal(params[own].shape) for own, theirs in names.items()}
    network = make_trainer(work, weights, "numpy").network
    for own, theirs in names.items():
        np.testing.assert_allclose(network.params[own], weights[theirs], rtol=1e-6)


def test_the_columns_drive_a_trainer():
    rng = np.random.default_rng(0)
    work = {"kind": "mlp", "opt": ADAM, **SPECS["mlp"]}
    weights = {"W0": rng.random((4, 3)), "b0": np.zeros(3)}
    weights |= {"W1": rng.random((3, 2)), "b1": np.zeros(2)}
    xs, ys = rng.random((2, 5, 4)).astype("float32"), rng.integers(0, 2, (2, 5))
    lib = SimpleNamespace(
        make_data=lambda name: (work, weights, xs, ys),
        one_hot=lambda labels: np.eye(2, dtype="float32")[labels],
        Runner=lambda step, value, sync: SimpleNamespace(step=step, value=value, sync=sync),
    )
    found = {}
    register(found, lib)
    runner = found["xpnn"]["make"]("W1")
    first = runner.value(runner.step(0))
    for _ in range(20):
        last = runner.value(runner.step(0))
    runner.sync()
    assert last < first


def test_the_table_of_a_gpu(capsys):
    """On a machine without one, all columns are named and left out; NumPy stands in for them."""
    work = mlp([4, 3, 2], batch=5)
    runs_of(work, {"no such": lambda work: xpnn_run(work, backend="no such library")})
    assert "no column no such" in capsys.readouterr().out
    times = measure({"PyTorch": xpnn_run(work, "numpy"), **runs_of(work, COLUMNS)}, 2, 1e-4)
    lines = table("tiny", work, times).splitlines()
    assert lines[0].startswith("### tiny: ")
    assert any(line.startswith("| PyTorch |") and line.endswith(" 1.00 |") for line in lines)


@needs("torch")
@pytest.mark.parametrize("autocast", [None, "bfloat16"])
def test_torch_runs_in_half_precision_too(autocast):
    torch_run(mlp([4, 3, 2], batch=5), autocast=autocast)(2)
