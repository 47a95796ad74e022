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


def test_a_number_beside_few_items_is_an_array(bind):
    replayed = Replayed(lambda x: x * 2.0, bind=bind)
    replayed(draw(3, 4))
    (unit,) = replayed.units
    shapes = [one.shape for call in unit._calls for one in call.args]
    assert shapes == [(12,)] * 3
