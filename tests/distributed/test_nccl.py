"""NCCL: what it is asked for, on which stream and in which order; and the GPU of each process.

Where there is no NCCL it is played, and adds up over a pipe to a second process.
"""

import multiprocessing
from types import SimpleNamespace

import numpy as np
import pytest

import xpnn.layers.replica
from tests.distributed.played_nccl import NAME, Pair, PlayedNccl, host_reads
from xpnn import (
    Adam,
    BatchNorm,
    Dense,
    Dropout,
    Network,
    Tanh,
    Trainer,
    cross_entropy,
    get_backend,
)
from xpnn.backends.cupy.backend import CupyBackend
from xpnn.distributed import Communicator, opening
from xpnn.distributed.opening import as_communicator
from xpnn.errors import BackendUnavailable, CompileError, CompileWarning

pytestmark = pytest.mark.needs("cupy")

COMPILE = {"call by call": False, "captured": None, "fused": "fused"}
BATCHES, EPOCHS = 3, 5  # the last batch is a smaller one
BUCKET = 50
EARLY = [16 * 4 + 4, 6 * 16 + 16 + 16]  # gradients of the last layer, and of those before


def connected(played, rank=0, size=2):
    """The communicator of a process, with NCCL as it is played."""
    import cupy

    from xpnn.backends.cupy.communicator import NCCL

    cupy.cuda.nccl = played
    return NCCL(rank, size, cupy.cuda.Device(0), lambda make: make(), timeout=None)


def trained(communicator, compile):
    """Losses, parameters and the trainer of a small training."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(43, 6)).astype("f4")
    y = rng.integers(0, 4, 43).astype("i4")
    layers = [Dense(16, use_bias=False), BatchNorm(), Tanh(), Dropout(0.2), Dense(4)]
    network = Network(layers, input_shape=(6,), seed=1, backend="cupy")
    trainer = Trainer(
        *(network, cross_entropy, Adam(1e-2)),
        metrics=["accuracy"],
        distributed=communicator,
        compile=compile,
        seed=3,
        log_every=1,
    )
    weight = rng.uniform(0.5, 1.5, 43).astype("f4")
    history = trainer.fit(
        *(x, y), sample_weight=weight, epochs=EPOCHS, batch_size=20, progress=False
    )
    measured = trainer.evaluate(x, y)
    params = {name: network.backend.to_numpy(one) for name, one in network.params.items()}
    return history["loss"], measured, params, trainer


def ways_of(pipe, rank):
    """What a process makes of each way to take steps, and what NCCL was asked for meanwhile."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xpnn.layers.replica, "BUCKET", BUCKET)
        for way, compile in COMPILE.items():
            played = PlayedNccl(Pair(rank, pipe))
            *numbers, trainer = trained(connected(played, rank), compile)
            found[way] = *numbers, trainer.compiled, played.calls, played.run
    return found


def other_process(pipe):
    pipe.send(ways_of(pipe, 1))


@pytest.fixture(scope="module")
def ways():
    """What each of two processes makes of the ways, and what one alone does."""
    import cupy

    if not host_reads(cupy.zeros(1).data.ptr):
        pytest.skip("NCCL is played on memory that the host reads, as a software GPU has it")
    own, its = multiprocessing.Pipe()
    there = multiprocessing.get_context("spawn").Process(target=other_process, args=(its,))
    there.start()
    before = vars(cupy.cuda).get("nccl")
    try:
        first = ways_of(own, 0)
        second, alone = own.recv(), {way: trained(None, one) for way, one in COMPILE.items()}
    finally:
        there.kill()
        vars(cupy.cuda).pop("nccl")  # or the test behind these would take it for a real one
        if before is not None:
            cupy.cuda.nccl = before
    return first, second, alone


@pytest.mark.parametrize("way", COMPILE)
def test_two_processes_have_the_curve_of_one(way, ways):
    first, second, alone = (one[way] for one in ways)
    np.testing.assert_allclose(first[0], alone[0], rtol=1e-6)
    for name, value in alone[1].items():
        assert first[1][name] == second[1][name] == pytest.approx(value, rel=1e-6)
    for name, one in first[2].items():
        np.testing.assert_array_equal(one, second[2][name])
        np.testing.assert_allclose(one, alone[2][name], atol=1e-6)


@pytest.mark.parametrize("way", COMPILE)
def test_sums_are_captured_where_steps_are(way, ways):
    for *_, compiled, calls, run in (one[way] for one in ways[:2]):
        early = [call for call in calls if call.count in EARLY]
        captured = [call for call in calls if call.captured]
        steps = BATCHES * EPOCHS
        if way == "call by call":
            assert not compiled
            assert not captured
            assert len(early) == 2 * steps
        else:  # each of the two sizes of batches runs, is rehearsed and is captured once
            assert compiled
            assert len([call for call in early if call.captured]) == 2 * 2
            assert len(early) == 2 * 6
        assert [call.count for call in early] == len(early) // 2 * EARLY
        single = [call for call in calls if call.dtype == "f4" and call.count == 1]
        weights, losses = single[::2], single[1::2]
        for ones in (weights, losses):
            assert [call.captured for call in ones] == [call.captured for call in early[::2]]
        assert not any(call.in_place for call in early)
        assert not any(call.captured for call in calls if call.dtype != "f4")  # of the host
        a_step = len(captured) // 2
        assert not captured or a_step > 3  # those of BatchNorm, too
        assert run == len(calls) - len(captured) + a_step * (steps - 4 if captured else 0)


@pytest.mark.parametrize("way", COMPILE)
def test_sums_begin_beside_backward(way, ways):
    """The first layers' BatchNorm adds up its own when the last one's gradients have begun to."""
    for *_, calls, _ in (one[way] for one in ways[:2]):
        beside = {call.stream for call in calls if call.count in EARLY and not call.captured}
        assert len(beside) == 1
        assert not beside & {call.stream for call in calls if call.count not in EARLY}
        first, last = ([k for k, one in enumerate(calls) if one.count == size] for size in EARLY)
        for begun, ended in zip(first, last, strict=True):
            between = calls[begun + 1 : ended]
            assert [call.count for call in between] == [2 * 16]
            assert calls[begun].stream == calls[ended].stream != between[0].stream


def test_processes_ask_for_the_same_in_one_order(ways):
    first, second, _ = ways
    for way in COMPILE:
        asked = [
            [(call.verb, call.count, call.dtype, call.captured) for call in one[way][-2]]
            for one in (first, second)
        ]
        assert asked[0] == asked[1]


# Arguments ---------------------------------------------------------------------------------------


@pytest.fixture
def played(monkeypatch):
    """NCCL, of which nothing runs."""
    import cupy

    found = PlayedNccl()
    monkeypatch.setattr(cupy.cuda, "nccl", found, raising=False)
    return found


def test_a_communicator_is_begun_with_the_name_of_the_first(played):
    connected(played, rank=1, size=4)
    assert played.begun == [(4, NAME, 1)]


def test_dtypes_and_counts_are_those_of_nccl(played, monkeypatch):
    import cupy

    from xpnn.backends.cupy import communicator

    given = []
    monkeypatch.setattr(played, "allReduce", lambda *one: given.append(one), raising=False)
    own = connected(played)
    names = {"int32": 2, "int64": 4, "float16": 6, "float32": 7, "float64": 8, "bfloat16": 9}
    assert names == communicator.DTYPES  # as nccl.h has them
    backend = get_backend("cupy")
    stream = cupy.cuda.Stream(non_blocking=True)
    for name in names:
        array = cupy.zeros((3, 5), backend.dtype(name))
        with stream:
            found = own.all_sum(array)
        assert (found.shape, found.dtype) == (array.shape, array.dtype)
        wanted = array.data.ptr, found.data.ptr, 15, names[name], played.NCCL_SUM, stream.ptr
        assert given.pop() == wanted
    with pytest.raises(TypeError, match="which NCCL adds up, got uint8"):
        own.all_sum(cupy.zeros(3, "u1"))


def test_what_has_gaps_is_copied_and_then_in_place(played):
    import cupy

    own = connected(played)
    array = cupy.arange(12, dtype="f4").reshape(3, 4)
    own.all_sum(array[:, 1:3])
    own.all_sum(array[1:])
    own.broadcast(array.T)
    own.all_sum(array[0, 0])
    own.all_sum(array[:0])  # for which nobody is asked
    assert [(call.verb, call.count, call.in_place) for call in played.calls] == [
        ("all_sum", 6, True),
        ("all_sum", 8, False),
        ("broadcast", 12, True),
        ("all_sum", 1, False),
    ]


def test_sums_by_others_are_not_captured():
    import cupy

    class Echo(Communicator):
        def all_sum(self, array):
            return 2 * array

    backend, own = get_backend("cupy"), Echo(0, 2)

    def step(x):
        return (backend.all_sum(x, own) + 1,)

    run = backend.compile(step)
    for k in range(2):
        assert run(cupy.full(3, float(k)))[0].get().tolist() == [2.0 * k + 1] * 3
    with pytest.warns(CompileWarning, match="Echo adds up outside of CUDA"):
        run(cupy.zeros(3))
    assert run(cupy.full(3, 7.0))[0].get().tolist() == [15.0] * 3
    wanted = backend.compile(step, required=True)
    for _ in range(2):
        wanted(cupy.zeros(3))
    with pytest.raises(CompileError, match="distributed='nccl' can be captured"):
        wanted(cupy.zeros(3))


# What does not work ------------------------------------------------------------------------------


@pytest.fixture
def launched_alike(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    opening._opened.cache_clear()
    yield
    opening._opened.cache_clear()


def test_nccl_that_is_not_installed_is_told(launched_alike, monkeypatch):
    import cupy

    monkeypatch.setattr(cupy.cuda, "nccl", SimpleNamespace(available=False), raising=False)
    with pytest.raises(BackendUnavailable, match=r"CuPy finds no NCCL here; type: pip install"):
        as_communicator("auto", get_backend("cupy"))


def test_processes_that_share_a_gpu_are_told(launched_alike, played, monkeypatch):
    def refuse(*_):
        raise played.NcclError("NCCL_ERROR_INVALID_USAGE")

    monkeypatch.setattr(played, "NcclCommunicator", refuse, raising=False)
    monkeypatch.setattr(opening, "from_first", lambda place, make: make())
    said = r"does not connect 2 processes \(NCCL_ERROR_INVALID_USAGE\), of which this one has GPU 0"
    with pytest.raises(BackendUnavailable, match=said):
        as_communicator("nccl", get_backend("cupy"))


def test_each_process_has_the_gpu_of_its_rank_on_its_machine(monkeypatch):
    import cupy

    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: 1)
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert CupyBackend().device.id == 0  # as there are fewer
    chosen, device = [], cupy.cuda.Device(0)
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: 8)
    monkeypatch.setattr(cupy.cuda, "Device", lambda number: chosen.append(number) or device)
    for asked in (None, "6"):
        get_backend("cupy").resolve_device(asked)
    assert chosen == [3, 6]


# A real one --------------------------------------------------------------------------------------


@pytest.mark.gpu_only
def test_a_graph_holds_sums_of_nccl():
    """One process: NCCL wants a GPU for each."""
    import cupy

    from xpnn.backends.cupy.communicator import NCCL

    backend = get_backend("cupy")
    try:
        communicator = NCCL(0, 1, backend.device, lambda make: make())
    except BackendUnavailable as missing:
        pytest.skip(str(missing))

    def add(total, x):
        return (total + backend.all_sum(x, communicator),)

    def begin_and_add(total, x):
        token = backend.start_all_sum(2 * x, communicator, 0)
        own = total - x  # meanwhile
        return (own + backend.finish_all_sum(token, communicator, 0, x.shape, x.dtype),)

    for function in (add, begin_and_add):
        step = backend.compile(function, donate=(0,), required=True)
        total = cupy.zeros(1000, "f4")
        for k in range(6):
            (total,) = step(total, cupy.full(1000, k, "f4"))
        np.testing.assert_array_equal(total.get(), np.full(1000, 15, "f4"))
        assert len(step.units) == 1
    for name in ("float16", "bfloat16", "float32", "float64", "int32", "int64"):
        array = backend.asarray(np.arange(10.0), name)
        for found in (communicator.all_sum(array), communicator.broadcast(array)):
            np.testing.assert_array_equal(backend.to_numpy(found), np.arange(10.0))
    np.testing.assert_array_equal(communicator.all_sum(np.arange(3)), np.arange(3))
