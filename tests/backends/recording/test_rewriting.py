"""The calls of a recording, rewritten as kernels want them: no more of them than it takes."""

import numpy as np

from tests.backends.recording.test_recording import record
from xpnn.backends.recording.calls import View
from xpnn.backends.recording.rewriting import widened_where_read, with_constants
from xpnn.backends.recording.shapes import cast

HALVES = np.arange(6, dtype="f2").reshape(2, 3)


def test_constants_that_are_alike_lie_in_one_place():
    def step(x):
        ones, rows, others = (np.array([[1.0], [k]]) for k in (2.0, 2.0, 3.0))
        return x * ones, x + rows, x - others, x / np.zeros((2, 3)), x * np.zeros((2, 3))

    calls, arrays = with_constants(record(step, HALVES.astype("f8")).calls)
    laid = [one.tolist() for one in arrays.values()]
    assert laid == [[[1.0], [2.0]], [[1.0], [3.0]], [0.0]]
    used = [view for call in calls for view in call.reads() if view.memory in arrays]
    assert len(used) == 5
    assert {view.strides for view in used} == {(8, 8), (0, 0)}


def test_a_cast_to_more_bytes_stands_once_with_each_reader():
    def step(x):
        wide = x.astype("f4")
        return wide * wide, wide + 1.0, np.sum(wide, axis=0)

    recording = record(step, HALVES)
    kept = {one.memory for one in recording.results if isinstance(one, View)}
    found = widened_where_read(recording.calls, kept)
    names = [call.function.__name__ for call in found]
    assert names == ["cast", "multiply", "cast", "add", "cast", "add"]
    casts, readers = found[::2], found[1::2]
    assert [call.function for call in casts] == [cast] * 3
    for call, reader in zip(casts, readers, strict=True):
        assert {view.memory for view in reader.reads()} == {call.results[0].memory}
    assert len({call.results[0].memory for call in casts}) == 3
