"""Each rewrite of the replay is taken where it should be, and what comes out is right.

``benchmarks/NOTES.md`` has what each of them brings. Others are looked at where they are tested:
turned matrices in ``test_layout.py``, rows in ``test_binding.py``, what is joined, made on top of
arguments or left out in ``recording/test_recording.py``.
"""

import numpy as np
import pytest

from xpnn.backends.numpy.replay import Replayed


def draw(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def bound(step, *arguments, bind):
    """The names of what a replay runs, in order; its results are those of the step itself."""
    replayed = Replayed(step, bind=bind, required=True)
    for _ in range(2):
        found, wanted = replayed(*arguments), step(*arguments)
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)
    (unit,) = replayed.units
    return [getattr(getattr(one, "func", one), "__name__", "") for one in unit._calls]


ROWS = np.array([2, 0, 2])
REWRITES = {  # the step, its arguments, what is run
    "a sum over rows is a product with ones": (lambda x: np.sum(x, axis=0), [draw(50, 30)], "dot"),
    "a sum of rows is a product with ones": (lambda x: np.sum(x, axis=1), [draw(50, 30)], "dot"),
    "a small sum of all is one": (np.sum, [draw(30, 30)], "dot"),
    "a sum over a middle axis is a stacked one": (
        lambda x: np.sum(x, axis=1),
        [draw(3, 70, 64)],
        "matmul",
    ),
    "a product of matrices is dot": (lambda x, w: x @ w, [draw(5, 6), draw(6, 7)], "dot"),
    "a stack times a matrix is one": (lambda x, w: x @ w, [draw(4, 5, 6), draw(6, 7)], "dot"),
    "a stack of products stays one": (lambda x, w: x @ w, [draw(4, 5, 6), draw(4, 6, 7)], "matmul"),
    "rows are taken into their target": (lambda x: np.take(x, ROWS, axis=0), [draw(4, 5)], "take"),
    "a cast is one copy": (lambda x: x.astype(np.float64), [draw(6)], "copyto"),
    "an axis that stays is reshaped by one copy": (
        lambda x: np.reshape(np.transpose(x, (1, 0, 2)), (-1,)),
        [draw(3, 4, 5)],
        "copyto",
    ),
    "another axis is joined by one call": (
        lambda x, y: np.concatenate([x, y], axis=1),
        [draw(3, 4), draw(3, 5)],
        "concatenate",
    ),
    "a long sum of all is NumPy's": (np.sum, [draw(60, 60)], "reduce"),
}


@pytest.mark.parametrize("name", REWRITES)
def test_it_is_bound_to_that_call_alone(bind, name):
    step, arguments, wanted = REWRITES[name]
    assert bound(step, *arguments, bind=bind) == [wanted]


def test_a_stack_is_made_of_pieces_that_lie_in_it(bind):
    calls = bound(lambda x, y: np.stack([x + y, x - y]), draw(7), draw(7), bind=bind)
    assert calls == ["add", "subtract"]


def heads(x, w):
    """Products of a stack, two of each, side by side in the order of rows."""
    both = [np.transpose(x @ w, (1, 0, 2)), np.transpose(x @ -w, (1, 0, 2))]
    return np.reshape(np.stack(both, axis=1), (5, 4 * 32))


def windows(x):
    """Every other row of two arrays, with zeros behind."""
    rows = np.reshape(np.stack([x * x, x + x], axis=1), (6, 40))
    return np.concatenate([rows, np.zeros((2, 40), np.float32)])


def across_rows(x):
    """Turned, and read in other rows, which are joined: what is turned goes across them."""
    rows = np.reshape(np.transpose(x * x, (1, 0, 2)), (6, 80))
    return np.concatenate([rows, rows + rows], axis=1)


MADE_IN_PLACE = {  # the step, its arguments, what is left to copy
    "along another axis": (lambda x: np.concatenate([x * x, x + x], 1), [draw(3, 40)], 0),
    "turned": (lambda x: np.reshape(np.transpose(x * x, (1, 0, 2)), (12, 40)), [draw(3, 4, 40)], 0),
    "products, stacked and turned": (heads, [draw(2, 5, 6), draw(2, 6, 32)], 0),
    "in turns, and zeros": (windows, [draw(3, 40)], 1),
    "across rows": (across_rows, [draw(3, 4, 40)], 1),
    "a piece twice": (lambda x: np.concatenate([x * x] * 2, 1), [draw(3, 40)], 1),
    "short pieces": (lambda x: np.concatenate([x * x, x + x], 1), [draw(40, 3)], 1),
    "an argument": (lambda x: np.concatenate([x, x + x], 1), [draw(3, 40)], 1),
}


@pytest.mark.parametrize("name", MADE_IN_PLACE)
def test_what_is_joined_is_made_at_its_place(bind, name):
    step, arguments, copies = MADE_IN_PLACE[name]
    calls = bound(step, *arguments, bind=bind)
    assert sum(one in ("copyto", "concatenate") for one in calls) == copies


def test_a_piece_that_is_read_after_what_it_joined_was_changed_lies_by_itself(bind):
    def step(x):
        piece = x * x
        both = np.concatenate([piece, x + x], axis=1)
        both += 1
        return np.stack([np.sum(both), np.sum(piece)])

    bound(step, draw(3, 40), bind=bind)


@pytest.mark.parametrize("ids", [[2, 0, -1], [0, 1, 2]])
def test_many_rows_are_taken_as_they_are(bind, ids):
    """Rows from the end, too; an index out of range is an error as it is in NumPy."""
    ids = np.array(ids * 100)
    calls = bound(lambda x: np.take(x, ids, axis=0), draw(3, 64), bind=bind)
    assert calls == ["_take_unbuffered"]
    replayed = Replayed(lambda x, ids: np.take(x, ids, axis=0), bind=bind, required=True)
    replayed(draw(3, 64), ids)
    for k in (3, -4):  # the first ones that are out of range
        outside = ids.copy()
        outside[-1] = k
        with pytest.raises(IndexError):
            replayed(draw(3, 64), outside)


def test_arrays_are_joined_flat(bind):
    bound(lambda x, y: np.concatenate([x * x, y + y], axis=None), draw(3, 64), draw(5), bind=bind)


def test_many_items_are_taken_of_an_array_that_is_read_flat(bind):
    ids = np.arange(20_000) % 192
    bound(lambda x: np.take(x, ids, axis=None), draw(3, 64), bind=bind)


def test_a_number_beside_few_items_is_an_array(bind):
    replayed = Replayed(lambda x: x * 2.0, bind=bind)
    replayed(draw(3, 4))
    (unit,) = replayed.units
    shapes = [one.shape for call in unit._calls for one in call.args]
    assert shapes == [(12,)] * 3
