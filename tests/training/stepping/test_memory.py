"""Steps that do not fit into memory: tried again, then explained, never half done."""

import re
import subprocess
import sys
import tracemalloc
import weakref
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import needs
from xpnn import (
    SGD,
    Adam,
    ClipByGlobalNorm,
    Dense,
    Network,
    OutOfMemory,
    ReLU,
    Trainer,
    XpnnError,
    mean_squared_error,
)
from xpnn.backends import get_backend
from xpnn.backends.portable.device_memory import bytes_named


def trainer_on(backend):
    network = Network([Dense(64), ReLU(), Dense(1)], (16,), backend, seed=3)
    return Trainer(network, mean_squared_error, SGD(0.1), seed=3)


def batch(rng, size=64):
    return rng.normal(size=(size, 16)).astype("f4"), rng.normal(size=(size, 1)).astype("f4")


def refuse(trainer, times):
    """Let the next steps run out of memory, so many times."""
    take, left = trainer._train_step, [times]

    def step(*arrays):
        if left[0]:
            left[0] -= 1
            raise MemoryError("Unable to allocate 3.00 GiB for an array")
        return take(*arrays)

    trainer._train_step = step


def test_a_step_is_tried_again(backend, rng):
    pairs = [batch(rng) for _ in range(4)]
    curves = []
    for refused in (0, 1):
        trainer = trainer_on(backend)
        values = []
        for x, y in pairs:
            refuse(trainer, refused)
            values.append(float(backend.to_numpy(trainer.step(x, y))))
        curves.append(values)
        assert trainer.steps == 4
    assert curves[0] == curves[1]


def test_another_error_of_the_second_try_comes_out(backend, rng):
    trainer = trainer_on(backend)
    ends = [MemoryError("Unable to allocate 3.00 GiB for an array"), ZeroDivisionError("mine")]

    def step(*arrays):
        raise ends.pop(0)

    trainer._train_step = step
    with pytest.raises(ZeroDivisionError, match="mine"):
        trainer.step(*batch(rng))
    assert not ends
    assert trainer.steps == 0


def test_a_step_that_never_fits_is_explained_and_changes_nothing(backend, rng):
    trainer = trainer_on(backend)
    x, y = batch(rng)
    trainer.step(x, y)
    before = trainer.network.numpy_arrays()
    refuse(trainer, 2)
    with pytest.raises(OutOfMemory, match="batch of 64 samples asked") as caught:
        trainer.step(x, y)
    assert isinstance(caught.value, XpnnError)
    assert isinstance(caught.value, MemoryError)
    assert isinstance(caught.value.__cause__, MemoryError)
    assert "for 3.2 GB more" in str(caught.value)
    assert "batch_size of" in str(caught.value)
    assert trainer.steps == 1
    for name, array in trainer.network.numpy_arrays().items():
        np.testing.assert_array_equal(array, before[name])
    trainer.step(x, y)
    assert trainer.steps == 2


@pytest.mark.parametrize(
    ("free", "advice"),
    [
        (None, "a batch_size of 32 would fit, or accumulate=2 "),
        (10**12, "a batch_size of 32 would fit, or accumulate=2 "),  # it did not fit, though
        (1198, "not even one sample fits: make the network smaller"),
    ],
)
def test_what_would_fit_is_said(rng, monkeypatch, free, advice):
    trainer = trainer_on("numpy")
    monkeypatch.setattr(get_backend("numpy"), "free_bytes", lambda: free, raising=False)
    refuse(trainer, 2)
    with pytest.raises(OutOfMemory, match=advice):
        trainer.step(*batch(rng))


def test_where_a_copy_has_no_room_half_is_suggested(rng, monkeypatch):
    def refusing(trainer, backend):
        raise MemoryError

    trainer = trainer_on("numpy")
    monkeypatch.setattr(Trainer, "to", refusing)
    refuse(trainer, 2)
    with pytest.raises(OutOfMemory, match="a batch_size of 32 would fit, or accumulate=2 "):
        trainer.step(*batch(rng))


def traced(trainer, x, y):
    """What steps took beside the trainer and the batch, at their highest moment."""
    tracemalloc.start()
    try:
        for _ in range(2):
            trainer.step(x, y)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_what_is_suggested_fits_and_little_more_would(rng, monkeypatch):
    def made(**options):
        network = Network([Dense(128), ReLU(), Dense(1)], (16,), seed=3)
        return Trainer(network, mean_squared_error, Adam(), **options)

    x, y = batch(rng, 6000)
    whole, free = traced(made(), x, y), 4_000_000
    assert whole > 2 * free
    trainer = made()
    refuse(trainer, 2)
    with monkeypatch.context() as patch:
        patch.setattr(get_backend("numpy"), "free_bytes", lambda: free)
        with pytest.raises(OutOfMemory) as caught:
            trainer.step(x, y)
    fits, parts = map(int, re.search(r"_size of (\d+) .*e=(\d+)", str(caught.value)).groups())
    assert 0.65 * free < traced(made(), x[:fits], y[:fits]) < free
    assert 0.5 * free < traced(made(accumulate=parts), x, y) < free


class Held:
    """Stands for the arrays of a step."""


def test_what_a_failed_step_held_is_freed(backend, rng):
    trainer, kept = trainer_on(backend), []

    def step(*arrays):
        if kept:
            assert kept[0]() is None  # or its arrays would still fill the memory
        held = Held()
        kept.append(weakref.ref(held))
        trainer.network.forward(arrays[1], training=True)
        raise MemoryError

    trainer._train_step = step
    with pytest.raises(OutOfMemory):
        trainer.step(*batch(rng))
    assert len(kept) == 2
    assert kept[1]() is None
    assert not any(layer.cache for _, layer in trainer.network.root.walk())


@pytest.mark.parametrize("clip", [None, ClipByGlobalNorm(0.5)])
def test_an_update_that_runs_out_has_changed_nothing(backend, rng, monkeypatch, clip):
    """The last arrays that it asks for are those it joins; counters go on behind them."""
    pairs, curves, join = [batch(rng) for _ in range(4)], [], backend.join
    refused = []

    def refusing(arrays):
        if refused.pop():
            raise MemoryError
        return join(arrays)

    for times in (0, 1):
        network = Network([Dense(8), ReLU(), Dense(1)], (16,), backend, seed=3)
        trainer = Trainer(network, mean_squared_error, Adam(0.1, clip=clip), compile=False)
        monkeypatch.setattr(backend, "join", refusing)
        values = []
        for x, y in pairs:
            refused[:] = [False] * 99 + [bool(times), False]
            values.append(float(backend.to_numpy(trainer.step(x, y))))
        curves.append((values, int(trainer.opt_state["step"])))
    assert curves[0] == curves[1]


def test_other_errors_pass(backend, rng):
    trainer = trainer_on(backend)

    def step(*arrays):
        raise ZeroDivisionError

    trainer._train_step = step
    with pytest.raises(ZeroDivisionError):
        trainer.step(*batch(rng))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("Out of memory allocating 1,234,944 bytes (allocated so far: 5 bytes).", 1_234_944),
        ("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has", 2_684_354_560),
        ("you tried to allocate 4000 bytes. Error code 12", 4000),
        ("RESOURCE_EXHAUSTED: Out of memory allocating 400 bytes.", 400),
        ("Unable to allocate 7.5 KiB for an array with shape (9,)", 7680),
        ("no memory", 0),
    ],
)
def test_sizes_in_messages(text, size):
    assert bytes_named(text) == size


@pytest.mark.parametrize(
    ("spec", "allocate"),
    [
        ("numpy", lambda xp: xp.ones(10**15)),
        pytest.param("torch", lambda xp: xp.ones(10**15), marks=needs("torch")),
        pytest.param("jax", lambda xp: xp.ones(10**14, dtype=xp.float32), marks=needs("jax")),
    ],
)
def test_what_libraries_raise_is_known(spec, allocate):
    backend = get_backend(spec)
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        allocate(backend.xp)
    assert backend.ran_out_of_memory(caught.value)
    assert bytes_named(str(caught.value)) > 10**14
    assert not backend.ran_out_of_memory(RuntimeError("another one"))


@needs("cupy")
def test_the_suggested_batch_fits_on_cupy():
    """In a process of its own: no earlier test has left gaps between what it holds."""
    script = f"import {__name__} as here; here.suggested_batch_fits()"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def suggested_batch_fits():
    import cupy

    backend, rng = get_backend("cupy"), np.random.default_rng(0)
    pool = cupy.get_default_memory_pool()
    trainer = trainer_on(backend)
    trainer.compile = False  # a captured one has 34 MB for cuBLAS beside
    trainer.step(*batch(rng))
    size = 20_000
    x, y = map(cupy.asarray, batch(rng, size))
    pool.set_limit(size=pool.total_bytes() + 8_000_000)
    with pytest.raises(OutOfMemory, match="a batch_size of") as caught:
        trainer.step(x, y)
    fits = int(re.search(r"batch_size of (\d+)", str(caught.value)).group(1))
    assert 1000 < fits < size
    trainer.step(x[:fits], y[:fits])
    assert trainer.steps == 2
