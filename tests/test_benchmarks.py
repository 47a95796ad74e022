"""The benchmarks run, and what they time is the same network in every column."""

import importlib
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import benchmarks
from benchmarks import curves, gpu, peaks, processes
from benchmarks.__main__ import columns, measure, show
from benchmarks.gpu_works import SMALL, two_lstms
from benchmarks.gpu_works import WORKS as GPU_WORKS
from benchmarks.peers_column import ARCHITECTURES, make_trainer, register
from benchmarks.works import WORKS, mlp, torch_run
from tests.conftest import needs
from tests.distributed.threads import together
from xpnn import LSTM, Network
from xpnn.backends.cupy.products import WORKSPACE

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
def test_curves_of_a_backend_stand_beside_those_of_pytorch(monkeypatch, capsys):
    monkeypatch.setattr(curves, "STEPS", 2)
    curves.main(["torch"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    kinds = [(name, column, width) for name, column, width, *_ in rows]
    widths = "float32", "float16", "bfloat16"
    assert kinds == [
        (name, column, width)
        for name in ("gpt", "resnet")
        for column in ("torch", "PyTorch")
        for width in widths
    ]
    for _, _, width, *_, apart, _ in rows:
        assert float(apart) < (1e-5 if width == "float32" else 6e-3)


def test_steps_of_two_processes_are_timed_with_their_sum_and_without(monkeypatch):
    monkeypatch.setitem(WORKS, "tiny", mlp([4, 3, 2], batch=6))
    tables = together(2, lambda one: processes.measured(one, "numpy", ["tiny"], 2, least=1e-2))
    for works, sums in tables:
        (row,) = works.values()
        assert min(row[key] for key in ("step", "alone", "sum")) > 0
        assert row["bytes"] == 4 * (4 * 3 + 3 + 3 * 2 + 2 + 1)  # gradients, and the loss
        assert list(sums) == [4 * count for count in processes.SIZES]


@needs("torch")
@pytest.mark.parametrize("title", [*WORKS, *SMALL])
def test_torch_times_the_same_network(title):
    import torch

    work = (WORKS | SMALL)[title]
    ours = Network(work.layers(), work.input_shape).params.values()
    theirs = [param.numel() for param in work.torch(torch.nn).parameters()]
    for layer in Network(work.layers(), work.input_shape).layers:
        if isinstance(layer, LSTM):  # torch.nn's has two biases, of which only the sum counts
            theirs.remove(4 * layer.units)
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


def test_the_works_of_a_gpu_are_there_in_small():
    for real, small in zip(GPU_WORKS.values(), SMALL.values(), strict=True):
        kinds = [[type(layer) for layer in one.layers()] for one in (real, small)]
        assert kinds[0] == kinds[1]


@needs("torch")
def test_the_benchmark_of_a_gpu(capsys, tmp_path):
    """Without a GPU its columns are named and left out; on the CPU each has a process."""
    given = ["--works", "MLP", "--columns", "xpnn on torch, TF32", "PyTorch, TF32", "cupy, float16"]
    few = ["--small", "--cpu", "--rounds", "2", "--seconds", "0.001", "--json", "found.json"]
    gpu.main([*given, *few[:-1], str(tmp_path / few[-1])])
    printed = capsys.readouterr().out
    assert "### MLP, small: 370 parameters" in printed
    line = next(line for line in printed.splitlines() if line.startswith("| PyTorch, TF32 |"))
    assert line.split(" | ")[2] == "1.00"
    found = json.loads((tmp_path / "found.json").read_text())["MLP, small"]
    assert len(found["xpnn on torch, TF32"]["step"]) == 2
    assert ("xpnn on cupy, float16" in found) != ("no column xpnn on cupy, float16" in printed)


def test_a_benchmark_out_of_time_says_so(capsys):
    gpu.main(["--small", "--works", "LSTM", "--columns", "no graph", "--limit", "0"])
    assert "no column xpnn on cupy, TF32, no graph: out of time" in capsys.readouterr().out


def test_a_profile_shows_what_takes_longest():
    kernels = [("sum", 3e-3, 4.0), ("product", 1e-3, 2.0)]
    first, second = gpu.profile_table("xpnn", kernels, count=1).splitlines()
    assert first == "xpnn: 4.000 ms a step in 6 launches"
    assert second.split() == ["3.000", "ms", "4", "x", "sum"]


@needs("cupy")
@pytest.mark.parametrize("fused", [[], ["--fused"]])
def test_what_a_step_launches_is_counted_without_running_it(fused):
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.counted", "--small"]
    chosen = ["--works", "MLP", "--precisions", "TF32", "--json", "-"]
    done = subprocess.run([*command, *chosen, *fused], capture_output=True, text=True, check=True)
    (step,) = json.loads(done.stdout).values()
    assert (step["products"], step["unseen launches"]) == (11, 0)
    sizes = [(16, 8), (8, 8), (8, 8), (8, 10)]
    forward = sum(2 * 4 * a * b for a, b in sizes)
    assert step["flop"] == 3 * forward - 2 * 4 * 16 * 8  # no gradient of the inputs
    weights = sum((a + 1) * b for a, b in sizes)
    moved = 4 * 7 * weights  # by Adam: four arrays read, three written
    assert step["bytes"] >= moved
    assert fused or step["calls"]["adam"][1] >= moved


# Peaks --------------------------------------------------------------------------------------------

SQUARE = mlp([1024] * 4, batch=1024)
"""A network whose arrays all are of one size, 4 MiB, but for biases and labels. At the highest
moment, on the way back, there are 15: 3 weights, 6 slots, 1 of the inputs and 2 of hidden layers,
and 3 on the way: a delta, the next one and a gradient, say."""
SQUARES = {"TF32": 15, "bfloat16": 15.5}  # in half precision a float32 of the loss is higher


@needs("torch")
@pytest.mark.parametrize("precision", SQUARES)
def test_torch_s_peak_is_counted_as_by_hand(precision):
    assert peaks.torch_peak(SQUARE, precision) / 2**22 == pytest.approx(
        SQUARES[precision], abs=0.02
    )


@needs("torch")
def test_what_autograd_has_saved_is_alive():
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(), peaks._following() as storages:
        x = torch.zeros(1024, requires_grad=True)
        for saved in (False, True):
            storages.most = 0
            y = x.exp() if saved else x + 1
            y = y + 1  # of the sum before nothing is saved, the power is
            y = y + 1
            assert storages.most == (4 if saved else 3) * 4096
            del y


@needs("torch")
def test_an_lstm_takes_what_cudnn_reserves():
    work = two_lstms(64, 64, 16, 32)
    small, large = (
        peaks.torch_peak(replace(work, batch=batch), "TF32") for batch in (work.batch, 64)
    )
    sequences = 32 * 16 * 64 * 4  # more: inputs, outputs, their delta, that of the inputs, reserved
    assert large - small == pytest.approx((4 + 2 * peaks.RESERVED) * sequences, rel=0.01)


@needs("cupy")
def test_cupy_s_peak_is_counted_as_by_hand():
    phases = peaks.cupy_peaks(SQUARE, "TF32")
    used = {name: phase["used"] / 2**22 for name, phase in phases.items()}
    # the first step watches what layers promise, with a delta in its hand; a graph has a buffer
    assert used == pytest.approx({"first": 16, "rehearsed": 15, "captured": 16}, abs=0.05)
    for phase in phases.values():
        assert phase["alive"].total() - phase["used"] in (0, WORKSPACE)
        assert phase["used"] <= phase["held"] < 1.3 * phase["used"]


@needs("torch")
def test_peaks_on_the_host_are_those_of_arrays():
    """An eager step on NumPy takes what torch.nn does, but for what a sweep has in cache."""
    pytest.importorskip("llvmlite")
    found = peaks.on_cpu("MLP 784-1024-1024-10, batch 128")
    first, replayed, plain, in_loops, own, peer = found
    weights = 4 * (784 * 1024 + 1024 * 1024 + 1024 * 10)
    assert 4 * weights < peer < 4.3 * weights  # with two slots and the gradients
    assert peer < plain < 1.1 * peer
    assert peer < replayed < first
    assert 3 * weights < in_loops < replayed  # not all gradients are there at once
    assert peer < own < peer + 4 * weights


@needs("torch")
def test_a_table_of_peaks(capsys, tmp_path):
    chosen = ["--small", "--works", "MLP", "--precisions", "TF32", "--sides", "PyTorch"]
    peaks.main([*chosen, "--json", str(tmp_path / "found.json")])
    (found,) = json.loads((tmp_path / "found.json").read_text(encoding="utf-8")).values()
    assert found["CuPy"] is None
    assert f"| MLP, small, TF32 |  |  | {found['PyTorch'] / 1e9:.2f} |  |  |" in (
        capsys.readouterr().out
    )


@needs("torch")
@pytest.mark.parametrize("autocast", [None, "bfloat16"])
def test_torch_runs_in_half_precision_too(autocast):
    torch_run(mlp([4, 3, 2], batch=5), autocast=autocast)(2)
