"""Batches on their way to the device: the right rows, whatever happens to their source later."""

import numpy as np
import pytest

from tests.conftest import needs
from xpnn.backends.portable.staging import Staging

X = np.arange(60, dtype=np.float32).reshape(12, 5)
LAYOUTS = {
    "contiguous": X,
    "strided": np.repeat(X, 2, axis=1)[:, ::2],
    "fortran": np.asfortranarray(X),
    "backwards": X[::-1][::-1],
    "big-endian": X.astype(">f4"),
    "bytes": X.astype(np.uint8),
    "booleans": X > 7,
    "int64": X.astype(np.int64),
}
ROWS = {"chosen": np.array([7, 0, 11, 7]), "a stretch": slice(3, 8), "all": None}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_arrive(backend, layout, rows):
    array = LAYOUTS[layout]
    for staging in (backend.staging(), Staging(backend)):
        found = staging.receive(staging.send((array, None), rows))
        staging.close()
        assert found[1] is None
        assert backend.owns(found[0])
        wanted = array if rows is None else array[rows]
        np.testing.assert_array_equal(backend.to_numpy(found[0]), wanted)


def test_rows_of_a_memory_map_arrive(backend, tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    staging = backend.staging()
    (found,) = staging.receive(staging.send((mapped,), ROWS["chosen"]))
    np.testing.assert_array_equal(backend.to_numpy(found), X[[7, 0, 11, 7]])


def test_an_array_of_the_backend_passes_as_it_is(backend):
    array, staging = backend.asarray(X), backend.staging()
    (found,) = staging.receive(staging.send((array,)))
    assert found is array
    (found,) = staging.receive(staging.send((array,), np.array([1, 0])))
    np.testing.assert_array_equal(backend.to_numpy(found), X[[1, 0]])


def test_a_batch_that_was_sent_is_independent_of_later_ones(backend):
    # each is received one later, as in training, and read much later
    def made():
        for k in range(6):
            yield (X[:4] + k, np.full(4, k, dtype=np.uint16)), np.array([3, 1])

    kept = list(backend.staging().one_ahead(made()))
    assert len(kept) == 6
    for k, (x, y) in enumerate(kept):
        np.testing.assert_array_equal(backend.to_numpy(x), X[[3, 1]] + k)
        np.testing.assert_array_equal(backend.to_numpy(y), [k, k])


def test_batches_may_grow_and_shrink(backend):
    sizes = [2, 5, 1, 12, 3]
    source = ((X.astype(">f4")[:n], None) for n in sizes)
    found = [backend.to_numpy(x) for x, _ in backend.staging().one_ahead((s, None) for s in source)]
    for n, x in zip(sizes, found, strict=True):
        np.testing.assert_array_equal(x, X[:n])


def test_the_next_batch_is_asked_for_before_this_one_is_handed_on(backend):
    asked = []

    def made():
        for k in range(3):
            asked.append(k)
            yield (X, None), np.array([k])

    steps = [
        (int(backend.to_numpy(x)[0, 0]), len(asked)) for x, _ in backend.staging().one_ahead(made())
    ]
    assert steps == [(0, 2), (5, 3), (10, 3)]


def test_memory_that_is_handed_on_without_a_copy_is_used_before_it_is_written_again(backend):
    array, asked = backend.asarray(X), []

    def made():
        for k in range(3):
            asked.append(k)
            yield (array, X), None

    steps = [len(asked) for _ in backend.staging().one_ahead(made())]
    assert steps == [1, 2, 3]


@needs("cupy")
def test_every_event_stands_where_it_has_to():
    import cupy

    from xpnn.backends import get_backend

    log = []

    class Stream(cupy.cuda.Stream):
        def wait_event(self, event):
            log.append(f"{self.name} waits for {event.name}")
            super().wait_event(event)

        def synchronize(self):
            log.append(f"host waits for {self.name}")
            super().synchronize()

    class Event(cupy.cuda.Event):
        def record(self, stream=None):
            log.append(f"{self.name} after {stream.name}")
            super().record(stream)

        def synchronize(self):
            log.append(f"host waits for {self.name}")
            super().synchronize()

    def named(kind, name):
        made = kind()
        made.name = name
        return made

    staging = get_backend("cupy").staging()
    assert staging.copying.ptr not in (0, cupy.cuda.Stream.null.ptr)
    staging.copying, compute = named(Stream, "copies"), named(Stream, "compute")
    staging.allocated = named(Event, "allocated")
    for slot, name in zip(staging.slots, "AB", strict=True):
        slot.copied = named(Event, name)
    with compute:
        for _ in staging.one_ahead([((X,), None)] * 3):
            log.append("step")

    def sent(slot):
        return [
            f"host waits for {slot}",  # before its pinned memory is written to
            "allocated after compute",
            "copies waits for allocated",  # before the copy goes into memory of earlier steps
            f"{slot} after copies",
        ]

    assert log == [
        *sent("A"),
        *sent("B"),
        *("compute waits for A", "step"),
        *sent("A"),
        *("compute waits for B", "step"),
        *("compute waits for A", "step"),
        "host waits for copies",
    ]
    assert len({slot.array(0, X.shape, X.dtype).ctypes.data for slot in staging.slots}) == 2


@needs("cupy")
def test_pinned_memory_is_used_again():
    from xpnn.backends import get_backend

    staging = get_backend("cupy").staging()
    seen = set()
    for _ in staging.one_ahead([((X, X), None)] * 8):
        seen |= {block.ctypes.data for slot in staging.slots for block in slot._blocks.values()}
    assert len(seen) == 4


@needs("cupy")
def test_large_arrays_arrive_in_pieces(monkeypatch):
    from xpnn.backends import get_backend
    from xpnn.backends.cupy import backend as cupy_backend
    from xpnn.backends.cupy import staging

    for module in (cupy_backend, staging):
        monkeypatch.setattr(module, "PIECE", 50)
    backend = get_backend("cupy")
    for array in (X, np.asfortranarray(X), X[::2], X[:, :0], X.T):
        np.testing.assert_array_equal(backend.to_numpy(backend.from_numpy(array)), array)
