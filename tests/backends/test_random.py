"""random_bits: the same words on every backend, and words that look random."""

import math

import numpy as np
import pytest

from tests.conftest import SPECS
from xpnn.backends import get_backend
from xpnn.backends.portable.base import Backend as Base
from xpnn.errors import ShapeError
from xpnn.local_rows import LocalRows, Stretch

pytestmark = pytest.mark.width

LIBRARIES = sorted({spec.partition(":")[0] for spec in [*SPECS, "numpy"]})
SMALL, BLOCKED, THREADED = 7, 40_000, (1 << 20) + 17


def host(backend, *arrays):
    return [np.array(backend.to_numpy(array)) for array in arrays]


NUMPY = get_backend("numpy")


def mixed(word):
    """Mueller's hash, on Python's integers."""
    for _ in range(2):
        word = ((word >> 16) ^ word) * 0x45D9F3B % 2**32
    return (word >> 16) ^ word


def words(seed, draw, count):
    """What random_bits promises, one word after another."""
    key = mixed(mixed(mixed(draw) ^ seed % 2**32) ^ seed >> 32)
    return [mixed(mixed(i) ^ key) for i in range(count)]


def bits(backend, seed, draw, shape):
    return host(backend, backend.random_bits(seed, backend.counter(draw), shape))[0]


SEEDS = [0, 1, 12345, 2**31, 2**32 - 1, 2**32, 2**63 + 5, 2**64 - 1]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("draw", [0, 1, 77, 2**31 - 1])
def test_random_bits_are_the_same_words_everywhere(backend, seed, draw):
    wanted = words(seed, draw, 12)
    for shape in [(12,), (3, 4), (2, 3, 2)]:
        found = bits(backend, seed, draw, shape)
        assert found.shape == shape
        assert found.reshape(-1).tolist() == wanted
    portable = Base.random_bits(backend, seed, backend.counter(draw), (12,))
    assert host(backend, portable)[0].tolist() == wanted


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0)])
def test_random_bits_of_odd_shapes(backend, shape):
    found = bits(backend, 9, 4, shape)
    assert found.shape == shape
    assert found.reshape(-1).tolist() == words(9, 4, found.size)


def test_random_bits_of_many_words(backend):
    count = 70_000  # more than NumPy takes in one block
    found = bits(backend, 3, 2, (count,))
    assert found[-50:].tolist() == words(3, 2, count)[-50:]


def test_random_bits_are_the_same_in_a_compiled_step(backend):
    def step(draw):
        return backend.random_bits(5, draw, (6,)), draw + 1

    compiled, draw = backend.compiled(step, known=True), backend.counter()
    for wanted in (words(5, draw, 6) for draw in range(4)):
        found, draw = compiled(draw)
        assert host(backend, found)[0].tolist() == wanted


# Words of a part of a larger array ----------------------------------------------------------------


@pytest.mark.parametrize(
    "before", [(), pytest.param((2,), marks=pytest.mark.slow_to_compile), (3, 2)]
)
@pytest.mark.parametrize(
    "behind", [(), pytest.param((5,), marks=pytest.mark.slow_to_compile), (3, 2)]
)
@pytest.mark.parametrize(("total", "size"), [(7, 3), (2, 3), (1, 2), (6, 1)])
def test_words_of_some_rows_are_those_rows_of_the_words(backend, before, behind, total, size):
    whole = bits(backend, 9, 4, (*before, total, *behind))
    kept = host(backend, backend.random_mask(0.4, 9, backend.counter(4), whole.shape))[0]
    axis = len(before)
    for rank in range(size):
        first, stop = (total * k // size for k in (rank, rank + 1))
        shape = (*before, stop - first, *behind)
        stretch = LocalRows(first, stop - first, total).stretch(shape, axis)
        words = backend.random_bits(9, backend.counter(4), shape, stretch)
        mask = backend.random_mask(0.4, 9, backend.counter(4), shape, stretch)
        rows = np.arange(first, stop)
        np.testing.assert_array_equal(host(backend, words)[0], np.take(whole, rows, axis))
        np.testing.assert_array_equal(host(backend, mask)[0], np.take(kept, rows, axis))


def test_words_of_a_part_are_numbered_modulo_2_to_the_32(backend):
    start, step = 2**32 - 2, 2**32 + 3
    found = backend.random_bits(5, backend.counter(6), (2, 4), Stretch(start, 4, step))
    key = mixed(mixed(mixed(6) ^ 5) ^ 0)
    numbers = [(start + piece * step + k) % 2**32 for piece in range(2) for k in range(4)]
    wanted = [mixed(mixed(number) ^ key) for number in numbers]
    assert host(backend, found)[0].reshape(-1).tolist() == wanted


def test_words_of_a_part_are_the_same_in_a_compiled_step(backend):
    def step(draw):
        return backend.random_bits(5, draw, (2, 3), Stretch(6, 3, 9)), draw + 1

    compiled, draw = backend.compiled(step, known=True), backend.counter()
    for number in range(4):
        found, draw = compiled(draw)
        every = words(5, number, 18)
        assert host(backend, found)[0].tolist() == [every[6:9], every[15:18]]


def test_rows_may_have_several_entries_each():
    assert LocalRows(first=2, count=3, total=5).stretch((6, 10)) == Stretch(40, 60, 100)
    assert LocalRows(first=2, count=3, total=5).stretch((3, 0)).length > 0


@pytest.mark.parametrize(
    ("rows", "shape"), [((2, 3, 5), (4, 10)), ((0, 0, 1), (3,)), ((2, 3, 5), (0,))]
)
def test_an_axis_that_does_not_number_the_rows_is_refused(rows, shape):
    with pytest.raises(ShapeError, match=r"wanted an array of the \d rows .*; say by axis="):
        LocalRows(*rows).stretch(shape)


MANY = 200_000


def floats(seed, draw):
    return NUMPY.random_bits(seed, draw, (MANY,)) / 2**32


def test_random_bits_are_uniform():
    u = floats(1, 0)
    assert abs(np.mean(u) - 0.5) < 4 * math.sqrt(1 / 12 / MANY)
    assert abs(np.var(u) - 1 / 12) < 4 * math.sqrt(1 / 180 / MANY)


@pytest.mark.parametrize("draw", [0, 1, 1000])
def test_each_bit_is_set_half_of_the_time(draw):
    drawn = NUMPY.random_bits(7, draw, (MANY,))
    for bit in range(32):
        assert abs(np.mean((drawn >> bit) & 1) - 0.5) < 4.5 * 0.5 / math.sqrt(MANY)


@pytest.mark.parametrize("seed", [0, 1, 2**40 + 3])
def test_bytes_are_even(seed):
    drawn = NUMPY.random_bits(seed, 0, (MANY,))
    for byte in range(4):
        counts = np.bincount((drawn >> (8 * byte)) & 255, minlength=256)
        chi_square = np.sum((counts - MANY / 256) ** 2) / (MANY / 256)
        assert 150 < chi_square < 370  # 255 degrees of freedom: 255 +- 5 standard deviations


PAIRS = [
    pytest.param((1, 0), (1, 1), id="draws"),
    pytest.param((1, 0), (1, 1000), id="far-draws"),
    pytest.param((1, 0), (2, 0), id="low-seeds"),
    pytest.param((5, 0), (5 + 2**32, 0), id="high-seeds"),
    pytest.param((0, 1), (2**32, 0), id="seed-for-draw"),
    pytest.param((0, 1), (1, 0), id="layer-for-draw"),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
@pytest.mark.parametrize("shift", [0, 1, 2, 17])
def test_streams_are_not_correlated(one, other, shift):
    a, b = floats(*one), np.roll(floats(*other), shift)
    assert abs(np.corrcoef(a, b)[0, 1]) < 4.5 / math.sqrt(MANY)


def test_neighbours_are_not_correlated():
    u = floats(3, 3)
    for lag in (1, 2, 3, 8, 64, 256, 1024):
        assert abs(np.corrcoef(u[:-lag], u[lag:])[0, 1]) < 4.5 / math.sqrt(MANY)


def test_another_seed_is_not_the_same_draws_in_another_order():
    firsts = [{words(seed, draw, 1)[0] for draw in range(64)} for seed in (0, 2**32, 2**33, 1, 2)]
    for i, one in enumerate(firsts):
        assert len(one) == 64
        assert all(one.isdisjoint(other) for other in firsts[i + 1 :])


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.8, 0.999, 1.0])
def test_random_mask_keeps_its_share(backend, keep):
    mask = host(backend, backend.random_mask(keep, 11, backend.counter(3), (100, 200)))[0]
    assert mask.dtype == np.bool_
    assert abs(np.mean(mask) - keep) <= 4.5 * math.sqrt(keep * (1 - keep) / mask.size)
    np.testing.assert_array_equal(mask, np.reshape(words(11, 3, 20_000), mask.shape) < keep * 2**32)
