"""Where a view of an array lies, once the array lies at other strides."""

from unittest.mock import patch

import numpy as np
from numpy.lib.stride_tricks import as_strided

from xpnn.backends.recording import joins
from xpnn.backends.recording.calls import Memory, View
from xpnn.backends.recording.joins import Layout


def view_of(memory, array, base):
    """What stands for an array that lies in the memory of another one."""
    offset = array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    return View(memory, offset, array.shape, array.strides, array.dtype)


def read(view, data):
    """The numbers of a view, in the bytes of its memory."""
    reach = zip(view.shape, view.strides, strict=True)
    assert view.offset + sum((length - 1) * stride for length, stride in reach) < data.nbytes
    start = data[view.offset // 4 :]
    return as_strided(start, view.shape, view.strides, writeable=False)


def laid(rng):
    """An array without gaps, and part of a larger one, into which it is copied."""
    axes = rng.permutation(3)
    shape = rng.integers(1, 5, 3)
    larger = np.full(shape + rng.integers(0, 4, 3), -1.0, "f4")
    place = larger[tuple(slice(m - n, m) for m, n in zip(larger.shape, shape, strict=True))]
    own = np.ascontiguousarray(np.arange(place.size, dtype="f4").reshape(shape).transpose(axes))
    piece = own.transpose(np.argsort(axes))
    place[...] = piece
    return own, piece, place, larger


def views(rng, own):
    """Some that a step may take of an array: parts, steps, other axes, other shapes."""
    flat = own.reshape(-1)
    yield own
    yield flat
    yield own.transpose(rng.permutation(own.ndim))
    ends = (sorted(rng.integers(0, n + 1, 2)) for n in own.shape)
    yield own[tuple(slice(*one, rng.integers(1, 3)) for one in ends)]
    start, stop = sorted(rng.integers(0, flat.size + 1, 2))
    yield flat[start : stop : rng.integers(1, 4)]
    yield own.reshape(own.shape[0], -1)
    yield own.reshape(-1, own.shape[-1])[:, None, :]
    yield np.broadcast_to(own[..., :1], own.shape)


@patch.object(joins, "LEAST_RUN", 1)
def test_a_view_has_the_same_numbers_there():
    moved = refused = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        own, piece, place, larger = laid(rng)
        memory, target = Memory(own.nbytes), Memory(larger.nbytes)
        layout = Layout.of(view_of(memory, piece, own), view_of(target, place, larger))
        if layout is None:
            continue
        whole = place.__array_interface__["data"][0] - larger.__array_interface__["data"][0]
        data = larger.reshape(-1)[whole // 4 :]
        assert layout.new.nbytes <= data.nbytes
        for view in views(rng, own):
            found = layout.moved(view_of(memory, view, own)) if view.size else None
            if found is None:
                refused += 1
                continue
            moved += 1
            np.testing.assert_array_equal(read(found, data), view)
    assert moved > 500
    assert refused > 100
