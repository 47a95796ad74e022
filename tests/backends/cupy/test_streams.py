"""What streams and the host do with the same memory is kept in order by events and waiting.

Each run is written down and gone through by ``happens_before``: as it is, and with each event and
each waiting left out, which has to show. So none is missing, and none is there for nothing.
"""

import ast
import threading
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import xpnn
import xpnn.layers.replica
from tests.conftest import needs
from tests.distributed.played_nccl import PlayedNccl, host_reads
from xpnn import (
    Adam,
    BatchNorm,
    Checkpoint,
    Cosine,
    Dense,
    Dropout,
    Network,
    ReLU,
    Trainer,
    cross_entropy,
    get_backend,
    mean_squared_error,
)
from xpnn.backends.cupy.accesses import HOST, listeners, span_of, tell
from xpnn.backends.portable.compiled_step import NotCompilable
from xpnn.data.batches import Batches
from xpnn.distributed import Communicator
from xpnn.local_rows import LocalRows
from xpnn.training.stepping.step import make_flat_step

pytestmark = needs("cupy")

X = np.random.default_rng(0).normal(size=(43, 5)).astype("float32")
Y = np.arange(43) % 3


@pytest.fixture(scope="module")
def backend():
    pytest.importorskip("cupy", reason="it is about CuPy's streams")
    found = get_backend("cupy")
    found.asarray(X) @ found.asarray(X.T)  # its libraries are loaded
    return found


@contextmanager
def written_down():
    """A log of what is done meanwhile."""
    from tests.backends.cupy.happens_before import Log
    from xpnn.backends.cupy.backend import CupyBackend

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CupyBackend, "has_room_for", lambda self, nbytes: False)
        log = Log(patch)
        try:
            with log.memory():
                yield log
        finally:
            log.close()


def another_stream():
    import cupy

    return cupy.cuda.Stream(non_blocking=True)


# Runs ---------------------------------------------------------------------------------------------


def train(log, backend, folder, **options):
    """Batches from the host, the last one smaller; measured and saved between."""
    network = Network([Dense(8), Dropout(0.2), ReLU(), Dense(3)], (5,), backend)
    trainer = Trainer(network, cross_entropy, Adam(Cosine(1e-2, steps=20)), log_every=2, **options)
    saved = Checkpoint(folder, every_steps=3, background=True)
    measured = {"validation": (X[:20], Y[:20]), "callbacks": [saved]}
    trainer.fit(X, Y, epochs=4, batch_size=16, progress=False, **measured)
    trainer.evaluate(X, Y, batch_size=16)
    network.predict(X)


def stop(log, backend, folder):
    """A batch is on its way when nobody wants one any more, and its memory is used for more."""
    import cupy

    batches = Batches((X,), 4, backend)
    next(iter(batches))
    return [cupy.empty((4, 5), "float32") for _ in range(4)]


def drop(log, backend, folder):
    """All that a copy needs is dropped when it has only begun."""
    Batches((X,), 4, backend)[0]
    backend.asarray(X[:4])


def fail(log, backend, folder):
    """The second array of a batch cannot be read, and the memory of the first is used for more."""
    import cupy

    from xpnn.backends.cupy import staging

    def failing(array, *rest):
        if array is Y:
            raise OSError("the disk is gone")
        plain(array, *rest)

    plain, begun = staging.copy_rows, backend.staging()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staging, "copy_rows", failing)
        with pytest.raises(OSError, match="gone"):
            begun.send((X, Y), slice(0, 4))
    return [cupy.empty((4, 5), "float32") for _ in range(4)]


def write_again(log, backend, folder):
    """Pinned memory is handed over, and written to by its owner at once."""
    cupyx = pytest.importorskip("cupyx")
    own = cupyx.empty_pinned(X.shape, X.dtype)
    for _ in range(2):
        tell("numbers of a user's", writes=[own], on=HOST)
        own[...] = X
        backend.asarray(own)


def in_turns(log, *works):
    """Each in a thread of its own, and behind the one before."""

    def done(work):
        log.meet()
        with log.memory():
            work()
        log.meet()

    for work in works:
        thread = threading.Thread(target=done, args=(work,))
        thread.start()
        thread.join()


def share(log, backend, folder):
    """A constant is made on one stream and read on others."""
    count = 1000 + len(backend._indices)

    for make in (backend.indices, lambda number: backend.constant((0.5, number))):

        def work(make=make):
            with another_stream():
                tell("a gather", [make(count)])

        in_turns(log, work, work)


def two_trainers(log, backend, folder):
    """Two threads, each training on a stream of its own, at the same time."""
    failed = []

    def work(seed):
        try:
            with log.memory(), another_stream():
                network = Network([Dense(4), ReLU(), Dense(2)], (5,), backend, seed=seed)
                trainer = Trainer(network, mean_squared_error, Adam(1e-2), log_every=2)
                trainer.fit(X, X[:, :2], epochs=3, batch_size=16, progress=False)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def follow(log, backend, folder):
    """A step is rehearsed on a stream that lies where one was that is gone."""
    from xpnn.backends.cupy.graph import CaptureContext

    address, around = another_stream(), [another_stream() for _ in range(2)]
    for stream in around:
        with stream:
            context = CaptureContext()
            context.stream = address
            log.begin(address.ptr)
            result = context.rehearse(lambda: backend.xp.ones(1000), ())
            tell("the next step", [result])
            del result


class Twins(Communicator):
    """Of two processes that do the same, one."""

    def all_sum(self, array):
        return 2 * array


class Failing(ReLU):
    """Its backward fails at first, when sums of the layers behind it have begun."""

    failures: int = 0

    def backward(self, delta):
        if self.failures:
            self.failures -= 1
            raise MemoryError("planted")
        return super().backward(delta)


def add_up(log, backend, folder, compile, failures=0):
    """Steps whose gradients NCCL, which is played, adds up beside backward."""
    import cupy

    from xpnn.backends.cupy.communicator import NCCL

    if not host_reads(cupy.zeros(1).data.ptr):
        pytest.skip("NCCL is played on memory that the host reads, as a software GPU has it")
    failing, optimizer = Failing(), Adam(1e-2)
    failing.failures = failures
    layers = [Dense(8), BatchNorm(), Dropout(0.2), failing, Dense(3)]
    network = Network(layers, (5,), backend)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cupy.cuda, "nccl", PlayedNccl(Twins(0, 2)), raising=False)
        patch.setattr(xpnn.layers.replica, "BUCKET", 20)
        nccl = NCCL(0, 2, backend.device, lambda make: make())
        step = make_flat_step(network, cross_entropy, optimizer, None, 1, compile, nccl)
        opt_state = optimizer.init(network.params, backend)
        for size in (8, 8, 5, 8, 5, 8, 5):
            x, y = network.asarray(X[:size]), backend.asarray(Y[:size])
            expected = pytest.raises(MemoryError) if failing.failures else nullcontext()
            with expected:
                value, _ = step(opt_state, x, y, None, (LocalRows(0, size, 2 * size),))
                backend.to_numpy(value)


RUNS = {
    "captured": train,
    "fused": partial(train, compile="fused"),
    "call by call": partial(train, compile=False),
    "parts in float16": partial(train, precision="float16", accumulate=2),
    "stopped": stop,
    "dropped": drop,
    "failed": fail,
    "written again": write_again,
    "shared": share,
    "followed": follow,
    "two trainers": two_trainers,
    "added up, captured": partial(add_up, compile=None),
    "added up, fused": partial(add_up, compile="fused"),
    "added up, call by call": partial(add_up, compile=False),
    "added up, failed": partial(add_up, compile=False, failures=2),
}


@pytest.fixture(scope="module")
def logs(backend, tmp_path_factory):
    """The log of a run, by its name."""
    found = {}

    def log_of(name):
        if name not in found:
            with written_down() as found[name]:
                RUNS[name](found[name], backend, tmp_path_factory.mktemp("run"))
        return found[name]

    return log_of


@pytest.mark.parametrize("run", RUNS)
def test_all_is_in_order(logs, run):
    assert not logs(run).faults()


# What holds it, left out --------------------------------------------------------------------------

TO_HOST = "backend.py", "to_host", "wait"  # inside of CuPy's ``get``
ADDED_UP = "added up, captured", "added up, fused", "added up, call by call"
EDGES = {
    TO_HOST: ("captured", "fused", "call by call", "parts in float16"),
    ("staging.py", "send", "record"): ("captured", "fused", "call by call"),
    ("staging.py", "send", "wait"): ("captured", "fused", "call by call"),
    ("staging.py", "receive", "wait"): ("captured", "fused", "call by call", "dropped"),
    ("staging.py", "close", "wait"): ("stopped",),
    ("staging.py", "_end", "wait"): ("dropped",),
    ("graph.py", "_on", "record"): ("captured", "fused", "parts in float16"),
    ("graph.py", "_on", "wait"): ("captured", "fused", "parts in float16", "two trainers"),
    ("communicator.py", "start_all_sum", "record"): ADDED_UP,
    ("communicator.py", "start_all_sum", "wait"): ADDED_UP,
    ("communicator.py", "_waited_for", "wait"): ADDED_UP,
    ("backend.py", "from_others", "wait"): ("written again",),
    ("backend.py", "for_all_threads", "wait"): ("shared",),
}


@pytest.mark.parametrize(
    ("edge", "run"), [(edge, run) for edge, runs in EDGES.items() for run in runs], ids=str
)
def test_each_edge_is_missed(logs, edge, run):
    log = logs(run)
    sites = [site for site in log.sites() if (site.file, site.function, site.does) == edge]
    assert sites
    for site in sites:
        assert log.faults(without=site), site


def test_all_edges_of_the_source_are_among_these():
    calls = {"record": "record", "wait_event": "wait", "synchronize": "wait"}
    found = set()
    for file in Path(xpnn.__file__).parent.joinpath("backends", "cupy").glob("*.py"):
        for function in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(function, ast.FunctionDef):
                names = (one.attr for one in ast.walk(function) if isinstance(one, ast.Attribute))
                found |= {(file.name, function.name, calls[one]) for one in names if one in calls}
    whole_device = "backend.py", "synchronize", "wait"
    assert found - {whole_device} == EDGES.keys() - {TO_HOST}


# Planted: what is done on another stream than on that which waits ---------------------------------


def elsewhere(plain):
    def planted(self, *arguments):
        with another_stream():
            return plain(self, *arguments)

    return planted


@pytest.mark.parametrize(
    ("name", "words"),
    [("load", "put where a graph reads it"), ("run", "a graph"), ("_copied_out", "copied out")],
)
def test_what_is_done_on_another_stream_is_found(backend, tmp_path, name, words):
    from xpnn.backends.cupy.graph import Graph

    with written_down() as log, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Graph, name, elsewhere(getattr(Graph, name)))
        train(log, backend, tmp_path)
    assert any(words in fault for fault in log.faults())


def forked(branch, x):
    """Begins on the stream that is captured, goes on beside it, and is not waited for."""
    import cupy

    branch.wait_event(cupy.cuda.get_current_stream().record())
    with branch:
        tell("work beside", [x], [x])
        x += 1


def joined(branch, x):
    import cupy

    forked(branch, x)
    cupy.cuda.get_current_stream().wait_event(branch.record())


def from_outside(branch, x):
    """A captured stream waits for one that is not."""
    import cupy

    cupy.cuda.get_current_stream().wait_event(branch.record())


@pytest.mark.parametrize(
    ("work", "words"),
    [(forked, "is not joined|CaptureUnjoined"), (from_outside, "outside of its|CaptureIsolation")],
)
def test_a_capture_keeps_together(backend, work, words):
    """The log says so, and CUDA before it."""
    import cupy

    from xpnn.backends.cupy.graph import CaptureContext

    x, branch = cupy.ones(3), another_stream()
    with written_down(), pytest.raises((AssertionError, NotCompilable), match=words):
        CaptureContext().capture(lambda: work(branch, x))


def test_branches_of_a_graph_are_in_order(backend):
    """Each launch has a branch of its own, between what comes before the launch and behind it."""
    import cupy

    from xpnn.backends.cupy.graph import CaptureContext

    x = cupy.ones(3)
    with written_down() as log:
        graph, _ = CaptureContext().capture(lambda: joined(another_stream(), x))
        for _ in range(2):
            tell("work before", [], [x])
            graph.launch()
        tell("work behind", [x])
    assert not log.faults()
    assert {site.does for site in log.sites()} == {"record", "wait"}
    assert all(log.faults(without=site) for site in log.sites())


# What is told -------------------------------------------------------------------------------------


def test_what_a_step_changes_was_told(backend):
    network = Network([Dense(4), ReLU(), Dense(3)], (5,), backend)
    trainer = Trainer(network, cross_entropy, Adam(1e-2))
    x, y = backend.asarray(X), backend.asarray(Y)
    told = []
    for k in range(5):
        given = {**network.params, "x": x, "y": y}
        before = {name: backend.to_numpy(one).copy() for name, one in given.items()}
        listeners.append(told.append)
        trainer.step(x, y)
        listeners.remove(told.append)
        assert any(one.what == "a graph" for one in told) == (k > 1)
        for name, array in given.items():
            changed = not np.array_equal(before[name], backend.to_numpy(array))
            reads, writes = (
                any(low <= start and stop <= high for one in told for low, high in one[kind])
                for kind in (2, 3)
                for start, stop in [span_of(array)]
            )
            assert reads, name
            assert writes or not changed, name
        told.clear()


LAYOUTS = {
    "whole": lambda a: a,
    "rows": lambda a: a[2:5],
    "backwards": lambda a: a[::-1, ::-2],
    "turned": lambda a: a.T[1:],
    "one number": lambda a: a[3:4, 4:],
    "spread": lambda a: a[:, None, ::3],
    "nothing": lambda a: a[:0],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_spans(backend, layout):
    import cupy

    ours, theirs = LAYOUTS[layout](cupy.asarray(X)), LAYOUTS[layout](X)
    if theirs.size:
        assert span_of(ours) == cupy.byte_bounds(ours)
        assert span_of(theirs) == np.lib.array_utils.byte_bounds(theirs)
    else:
        assert len({*span_of(ours)}) == len({*span_of(theirs)}) == 1


# The checker itself -------------------------------------------------------------------------------


def found(*lines):
    """The faults of a log such as ``"A writes 0 8", "A records e", "B waits e", "fresh 0 8"``."""
    from tests.backends.cupy.happens_before import Access, Fresh, Order, Record, Site, Wait

    order, site = Order(), Site("", "", "", 0, "")
    for actor, *rest in map(str.split, lines):
        if actor == "fresh":
            order.follow(Fresh(*map(int, rest)))
        elif rest[0] == "records":
            order.follow(Record(actor, "host", rest[1], site))
        elif rest[0] == "waits":
            order.follow(Wait(actor, rest[1], site))
        else:
            does, *span = rest
            spans = {"reads": [], "writes": [], does: [tuple(map(int, span))]}
            thread = actor if actor.startswith("host") else "host"
            order.follow(Access(actor, thread, f"what {actor} {does}", **spans))
    return list(order.faults)


IN_ORDER = {
    "one stream": ("A writes 0 8", "A reads 0 8", "A writes 0 8"),
    "two readers": ("A reads 0 8", "B reads 0 8"),
    "neighbours": ("A writes 0 8", "B writes 8 16"),
    "an event": ("A writes 0 8", "A records e", "B waits e", "B reads 0 8"),
    "a later event": ("A writes 0 8", "A writes 8 9", "A records e", "B waits e", "B writes 0 8"),
    "recorded anew": ("A writes 0 8", *["A records e"] * 2, "B waits e", "B reads 0 8"),
    "through a third": (
        *("A writes 0 8", "A records e", "B waits e", "B records f"),
        *("C waits f", "C writes 0 8"),
    ),
    "asked by the host": ("host writes 0 8", "A reads 0 8"),
    "through the host": ("A reads 0 8", "A records e", "host waits e", "B writes 0 8"),
    "fresh": ("A writes 0 8", "fresh 0 8", "B writes 0 8"),
}
OUT_OF_ORDER = {
    "a writer, a reader": ("A writes 0 8", "B reads 0 8"),
    "a reader, a writer": ("A reads 0 8", "B writes 0 8"),
    "two writers": ("A writes 0 8", "B writes 0 8"),
    "a byte in common": ("A writes 0 8", "B writes 7 9"),
    "waited for the wrong way": ("A writes 0 8", "B records e", "A waits e", "B reads 0 8"),
    "an event before": ("A records e", "A writes 0 8", "B waits e", "B reads 0 8"),
    "waits before it is recorded": ("A writes 0 8", "B waits e", "A records e", "B reads 0 8"),
    "recorded too early": ("A records e", "B waits e", "A writes 0 8", "B reads 0 8"),
    "the host does not wait": ("A reads 0 8", "A records e", "host writes 0 8"),
    "behind a reader in order": (
        *("A reads 0 8", "B reads 0 8", "B records e"),
        *("C waits e", "C writes 0 8"),
    ),
    "a second reader": ("A writes 0 8", "A records e", "B waits e", "B reads 0 8", "C reads 0 8"),
    "partly fresh": ("A writes 0 8", "fresh 4 5", "B writes 0 8"),
}


@pytest.mark.parametrize("lines", IN_ORDER.values(), ids=IN_ORDER)
def test_what_is_in_order_passes(backend, lines):
    assert not found(*lines)


@pytest.mark.parametrize("lines", OUT_OF_ORDER.values(), ids=OUT_OF_ORDER)
def test_what_is_out_of_order_is_found(backend, lines):
    assert found(*lines)


def test_a_fault_names_both_and_what_is_missing(backend):
    (fault,) = found("A writes 0 8", "B reads 4 6")
    assert fault == (
        "what A writes (writes) on A, then what B reads (reads) on B, the same memory: nothing "
        "makes B wait for an event behind the first"
    )
