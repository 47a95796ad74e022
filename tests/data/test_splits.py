"""Splits and orders: every row once, the same everywhere, and in proportion where asked."""

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from xpnn.arguments import same_length
from xpnn.data import Batches, split
from xpnn.data.splits import held_out_rows, shuffled_order
from xpnn.errors import DataError, ShapeError


def test_every_row_goes_to_one_part_and_arrays_stay_together(backend):
    x = np.arange(40, dtype=np.float32).reshape(20, 2)
    y = np.arange(20, dtype=np.int32)
    parts = split(backend.asarray(x), backend.asarray(y), share=0.3, seed=4)
    assert all(backend.owns(part) for part in parts)
    x1, x2, y1, y2 = map(backend.to_numpy, parts)
    assert (len(x1), len(x2)) == (14, 6)
    assert sorted([*y1, *y2]) == list(range(20))
    np.testing.assert_array_equal(x1, x[y1])
    np.testing.assert_array_equal(x2, x[y2])


def test_parts_are_drawn_at_random_by_the_seed():
    rows = np.arange(100)
    draws = [split(rows, seed=seed)[1] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert set(draws[0]) != set(draws[2])
    assert set(draws[0]) != set(range(80, 100)) != set(range(20))
    assert np.all(np.diff(draws[0]) > 0)  # in rising order, so that nothing is said by it


def test_lists_are_taken_and_unequal_shapes_too():
    x1, x2, y1, y2 = split([[1, 2], [3, 4], [5, 6]], (7, 8, 9), share=1 / 3)
    assert x1.shape == (2, 2)
    assert y1.tolist() == [{1: 7, 3: 8, 5: 9}[row] for row in x1[:, 0].tolist()]
    assert (x2.shape, y2.shape) == ((1, 2), (1,))


def test_classes_keep_their_proportions(backend):
    labels = np.repeat([0, 1, 2], [70, 20, 10])
    for seed in range(5):
        given = backend.asarray(labels)
        y1, y2 = map(backend.to_numpy, split(given, share=0.2, seed=seed, stratify=given))
        np.testing.assert_array_equal(np.bincount(y1), [56, 16, 8])
        np.testing.assert_array_equal(np.bincount(y2), [14, 4, 2])


def test_uneven_classes_keep_them_as_nearly_as_they_can():
    labels = np.array(list("abbbbcccccccddddddddddde"))
    rows = np.arange(len(labels))
    kept, held = split(rows, share=0.25, stratify=labels)
    assert len(held) == 6
    for name, count in {"a": 1, "b": 4, "c": 7, "d": 11, "e": 1}.items():
        assert abs(np.sum(labels[held] == name) - 0.25 * count) < 1
    assert sorted([*kept, *held]) == rows.tolist()


def test_a_stratified_draw_is_still_a_draw():
    labels = np.repeat([0, 1], 50)
    draws = [held_out_rows(100, 0.2, seed, labels)[1] for seed in (0, 1)]
    assert set(draws[0]) != set(draws[1])


def test_the_order_of_an_epoch_is_a_permutation_of_its_own():
    orders = [shuffled_order(50, seed, epoch) for seed, epoch in [(0, 1), (0, 2), (1, 1), (0, 1)]]
    for order in orders:
        assert sorted(order) == list(range(50))
    assert len({tuple(order) for order in orders}) == 3
    np.testing.assert_array_equal(orders[0], orders[3])


def test_the_order_is_the_same_in_another_process():
    script = "from xpnn.data.splits import shuffled_order; print(*shuffled_order(8, 5, 3))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == [str(row) for row in shuffled_order(8, 5, 3)]


def test_every_place_is_equally_likely():
    counts = np.zeros((5, 5))
    for seed in range(2000):
        counts[np.arange(5), shuffled_order(5, seed, 1)] += 1
    # binomial: 400 +- 18 each, so that +- 90 is five standard deviations
    np.testing.assert_allclose(counts, 400, atol=90)


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, "half", None, float("nan")])
def test_a_share_is_a_share(share):
    with pytest.raises(ValueError, match=r"share of samples to hold out, in \(0, 1\), got"):
        split(np.arange(10), share=share)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, Fraction])
def test_a_share_is_a_number_of_any_kind(kind):
    rows = np.arange(64)
    for one, other in zip(split(rows, share=kind(0.25)), split(rows, share=0.25), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("count", "share"), [(1, 0.5), (3, 0.1), (3, 0.9)])
def test_no_part_is_empty(count, share):
    with pytest.raises(
        DataError, match=f"of {count} samples leaves one part empty; choose another"
    ):
        split(np.arange(count), share=share)


def test_lengths_have_to_agree():
    with pytest.raises(ShapeError, match="array 0 has 3, array 1 has 4; align the data"):
        split(np.zeros(3), np.zeros(4))
    with pytest.raises(ShapeError, match="x has 3, w has 2"):
        same_length(x=np.zeros(3), y=None, w=np.zeros(2))
    with pytest.raises(DataError, match="at least one sample, got none"):
        same_length(x=np.zeros((0, 4)))
    assert same_length(x=np.zeros((5, 2)), y=None) == 5


@pytest.mark.parametrize("shape", [(9,), (11,), (10, 3)])
def test_labels_to_stratify_by_are_one_for_each_sample(shape):
    with pytest.raises(ShapeError, match=r"one label for each sample, shape \(10,\), got"):
        split(np.arange(10), stratify=np.zeros(shape))


# Batches ---------------------------------------------------------------------------------------


def batches(backend, rows=10, size=4, **options):
    x = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    arrays = (backend.asarray(x), backend.asarray(np.arange(rows)), None)
    return Batches(arrays, size, backend, **options)


def test_batches_in_order(backend):
    listed = batches(backend)
    assert len(listed) == 3
    found = [[None if a is None else backend.to_numpy(a).tolist() for a in b] for b in listed]
    assert [y for _, y, _ in found] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert found[2] == [[[16, 17], [18, 19]], [8, 9], None]


def test_shuffled_batches_hold_each_row_once(backend):
    epochs = []
    for epoch in (0, 1):
        rows = []
        for x, y, weight in batches(backend, shuffle=True, seed=3, epoch=epoch):
            x, y = backend.to_numpy(x), backend.to_numpy(y)
            np.testing.assert_array_equal(x[:, 0], 2 * y)
            assert weight is None
            rows += y.tolist()
        assert sorted(rows) == list(range(10))
        epochs.append(rows)
    assert epochs[0] != epochs[1]
    np.testing.assert_array_equal(epochs[0], shuffled_order(10, 3, 1))


@pytest.mark.parametrize(("rows", "size", "count"), [(8, 4, 2), (3, 10, 1), (5, 1, 5)])
def test_the_number_of_batches(backend, rows, size, count):
    listed = batches(backend, rows, size, shuffle=True)
    assert len(listed) == count == len(list(listed))
    with pytest.raises(
        IndexError, match=f"there are {count} batches, numbered from 0, got {count}"
    ):
        listed[count]
    with pytest.raises(IndexError, match="got -1"):
        listed[-1]


# Host arrays: uint16 and strides, so that no backend gathers them itself


@pytest.mark.parametrize("rows", [None, np.array([8, 2, 3, 5, 9])])
@pytest.mark.parametrize("shuffle", [False, True])
def test_host_arrays_make_the_batches_that_device_arrays_make(backend, shuffle, rows):
    x = np.arange(20, dtype=np.float32).reshape(10, 2)
    strided = np.repeat(x, 2, axis=1)[:, ::2]
    y = np.arange(10)
    options = {"seed": 4, "epoch": 2, "shuffle": shuffle, "rows": rows}
    there = Batches((backend.asarray(x), backend.asarray(y), None), 4, backend, **options)
    here = Batches((strided, y, None), 4, backend, **options)
    mixed = Batches((strided, backend.asarray(y), None), 4, backend, **options)
    chosen = y if rows is None else rows
    if shuffle:
        chosen = chosen[shuffled_order(len(chosen), 4, 3)]
    found = np.concatenate([backend.to_numpy(batch[1]) for batch in there])
    np.testing.assert_array_equal(found, chosen)
    assert there.staging is None
    assert here.staging is not None
    for other in (here, mixed):
        assert len(other) == len(there) == other.steps
        for number, (one, two) in enumerate(zip(there, other, strict=True)):
            again = other[number]  # between two batches of a pass
            for a, b, c in zip(one, two, again, strict=True):
                if a is None:
                    assert b is c is None
                    continue
                assert backend.owns(b)
                np.testing.assert_array_equal(backend.to_numpy(a), backend.to_numpy(b))
                np.testing.assert_array_equal(backend.to_numpy(a), backend.to_numpy(c))


class Table:
    """As those whose rows are taken by a method of their own."""

    def __init__(self, values):
        self.values, self.shape = values, values.shape

    def __getitem__(self, name):
        raise KeyError(name)

    def take(self, rows):
        return Table(self.values[rows])


def test_tables_stay_tables():
    values = np.arange(20).reshape(10, 2)
    found, wanted = split(Table(values), share=0.3), split(values, share=0.3)
    for one, other in zip(found, wanted, strict=True):
        assert isinstance(one, Table)
        np.testing.assert_array_equal(one.values, other)


@pytest.mark.parametrize(
    "given", ["abc", {"a": 1}, 3.0, None, iter([1]), {1, 2}], ids=lambda given: type(given).__name__
)
def test_what_has_no_rows_is_refused(given):
    with pytest.raises(DataError, match="whose rows can be taken, got a"):
        split(given, np.arange(4))
