"""Streams: one pass an epoch, whatever kind of iterable it is."""

import numpy as np
import pytest

from xpnn.data.stream import Stream
from xpnn.errors import DataError

BATCHES = [(np.full((2, 3), k, np.float32), np.array([k, k])) for k in range(4)]


def look(batch, number):
    return (*batch, None)[:3]


def stream(backend, source):
    return Stream(source, backend, look)


def labels(backend, batches):
    return [int(backend.to_numpy(y)[0]) for _, y, _ in batches]


class Loader:
    """As a loader of another library: it can be asked for its length, but may not know it."""

    def __init__(self, length=None):
        self.length = length

    def __iter__(self):
        return iter(BATCHES)

    def __len__(self):
        if self.length is None:
            raise TypeError("no length")
        return self.length


SOURCES = {
    "list": (BATCHES, 4),
    "tuple": (tuple(BATCHES), 4),
    "loader": (Loader(4), 4),
    "loader without a length": (Loader(), None),
    "function": (lambda: iter(BATCHES), None),
    "generator function": (lambda: (batch for batch in BATCHES), None),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_each_pass_sees_all_batches_in_order(backend, kind):
    source, steps = SOURCES[kind]
    made = stream(backend, source)
    assert not made.one_shot
    assert made.steps == steps
    for _ in range(2):
        assert labels(backend, made) == [0, 1, 2, 3]


def test_an_iterator_is_empty_the_second_time(backend):
    made = stream(backend, iter(BATCHES))
    assert made.one_shot
    assert labels(backend, made) == [0, 1, 2, 3]
    with pytest.raises(DataError, match="at least one batch in each epoch, got none; an iterator"):
        next(iter(made))


def test_a_source_may_write_all_batches_into_the_same_memory(backend):
    x, y = np.zeros((2, 3), np.float32), np.zeros(2, np.int64)
    own = (
        (backend.asarray(x.copy()), backend.asarray(y.copy())) if backend.name == "numpy" else None
    )

    def refilled(x, y):
        for k in range(5):
            x[...], y[...] = k, k
            yield x, y

    for pair in [(x, y), *([own] if own else [])]:
        found = []
        for x, y, _ in stream(backend, refilled(*pair)):
            found.append((float(backend.to_numpy(x)[1, 2]), int(backend.to_numpy(y)[1])))
        assert found == [(k, k) for k in range(5)]


def test_weights_come_with_all_batches_or_with_none(backend):
    (x, y), weight = BATCHES[0], np.ones(2)
    with pytest.raises(
        DataError, match=r"batch 3: wanted a sample_weight .* got one here and none"
    ):
        list(stream(backend, [(x, y), (x, y), (x, y, weight)]))
    with pytest.raises(DataError, match=r"batch 2: .* got none here and one before; give all"):
        list(stream(backend, [(x, y, weight), (x, y)]))


@pytest.mark.parametrize("source", [3, None, "abc", {"x": 1}])
def test_what_cannot_be_gone_through_is_refused(backend, source):
    with pytest.raises(TypeError, match=r"wanted an iterable of batches, \(x, y\) or .*, got"):
        stream(backend, source)
