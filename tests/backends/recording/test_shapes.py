"""What a call would return by shapes alone is what NumPy returns: shape, dtype, order of axes."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnn.backends.recording.recording import Recording
from xpnn.backends.recording.shapes import cast, check_written, result_of
from xpnn.trees import Structure

LENGTHS = st.integers(0, 4)
DTYPES = st.sampled_from(["float32", "float64", "float16", "int32", "int64", "uint32", "bool"])
FLOATS = st.sampled_from(["float32", "float64"])
UNTIMED = settings(deadline=None)  # as a busy machine says nothing about shapes
NUMBERS = [2, -1.5, np.float32(3), np.float64(0.5), True]


@st.composite
def arrays(draw, shape=None, dtypes=DTYPES):
    """Ones that lie in any order, in all of their memory, in every other item, or in the same."""
    if shape is None:
        shape = tuple(draw(st.lists(LENGTHS, max_size=4)))
    dtype, order = draw(dtypes), draw(st.permutations(range(len(shape))))
    step = draw(st.sampled_from([1, 1, 1, 2, -1]))
    lying = np.ones([shape[axis] * abs(step) for axis in order], dtype)
    lying = lying[(slice(None, None, step),) * len(shape)]
    array = lying.transpose(np.argsort(order))
    if shape and draw(st.integers(0, 5)) == 0:
        array = np.broadcast_to(array[..., :1], shape) if shape[-1] else array
    return array


@st.composite
def partners(draw, shape):
    """An array that broadcasts to that shape, or a number."""
    if draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from(NUMBERS))
    kept = draw(st.integers(0, len(shape)))
    lengths = [draw(st.sampled_from([n, n, 1])) for n in shape[len(shape) - kept :]]
    return draw(arrays(tuple(lengths)))


def same_form(found, wanted):
    """Whether two results are alike but for their values."""
    if isinstance(wanted, tuple | list):
        assert type(found) is type(wanted)
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            same_form(one, other)
        return
    assert type(found) is type(wanted)
    assert found.dtype == wanted.dtype
    assert np.shape(found) == np.shape(wanted)
    if wanted.size:
        long = [axis for axis, n in enumerate(np.shape(wanted)) if n > 1]
        assert [found.strides[k] for k in long] == [wanted.strides[k] for k in long]


def agrees(function, *arguments, method="", **options):
    """Compare a result by shapes with the real one, or the errors of both."""
    run = getattr(function, method) if method else function
    with np.errstate(all="ignore"):
        try:
            wanted = run(*arguments, **options)
        except (TypeError, ValueError) as error:
            with pytest.raises(type(error)):
                result_of(function, method, arguments, options)
            return
    same_form(result_of(function, method, arguments, options), wanted)


UFUNCS = [
    *(np.add, np.multiply, np.subtract, np.divide, np.maximum, np.greater, np.logical_and),
    *(np.bitwise_xor, np.power, np.floor_divide, np.divmod),
]


@UNTIMED
@given(st.data(), st.sampled_from(UFUNCS))
def test_elementwise(data, ufunc):
    first = data.draw(arrays())
    pair = [first, data.draw(partners(first.shape))][:: data.draw(st.sampled_from([1, -1]))]
    agrees(ufunc, *pair, method="__call__")


@UNTIMED
@given(st.data(), st.sampled_from([np.exp, np.sqrt, np.negative, np.isfinite, np.modf]))
def test_of_one_operand(data, ufunc):
    agrees(ufunc, data.draw(arrays()), method="__call__")


@UNTIMED
@given(st.data())
def test_a_choice(data):
    shape = tuple(data.draw(st.lists(LENGTHS, max_size=3)))
    where = data.draw(arrays(shape, st.just("bool")))
    agrees(np.where, where, data.draw(partners(shape)), data.draw(partners(shape)))
    agrees(np.clip, data.draw(arrays(shape)), -1.0, 2.5)


@pytest.mark.parametrize("function", [np.where, np.add], ids=["where", "add"])
def test_axes_of_the_same_items_say_nothing_about_the_order(function):
    same = np.broadcast_to(np.ones((3, 1), bool), (3, 4))
    turned = np.ones((4, 3), np.float32).T
    agrees(function, same, *([2] if function is np.where else []), turned)


@UNTIMED
@given(st.data(), st.sampled_from([np.add, np.maximum, np.logical_or]), st.booleans())
def test_reductions(data, ufunc, keepdims):
    array = data.draw(arrays())
    some = st.lists(st.integers(-4, 3), min_size=1, max_size=3).map(tuple)
    axis = data.draw(st.one_of(st.none(), st.integers(-4, 3), some))
    agrees(ufunc, array, method="reduce", axis=axis, keepdims=keepdims)
    agrees(ufunc, array, method="reduce")


@UNTIMED
@given(st.data())
def test_products(data):
    batch = tuple(data.draw(st.lists(LENGTHS, max_size=2)))
    m, k, n = (data.draw(LENGTHS) for _ in range(3))
    left = [(*batch, m, k), (m, k), (k,), (*[1] * len(batch), m, k), (m, k + 1)]
    right = [(*batch, k, n), (k, n), (k,), (k, n, 2, 2)]
    one = data.draw(arrays(data.draw(st.sampled_from(left)), FLOATS))
    other = data.draw(arrays(data.draw(st.sampled_from(right)), FLOATS))
    agrees(np.matmul, one, other, method="__call__")


@UNTIMED
@given(st.data(), st.sampled_from([np.concatenate, np.stack]))
def test_pieces(data, function):
    shape = data.draw(st.lists(LENGTHS, min_size=1, max_size=3))
    axis = data.draw(st.integers(-3, 2))
    pieces = []
    for _ in range(data.draw(st.integers(1, 3))):
        own = list(shape)
        if function is np.concatenate and -len(own) <= axis < len(own):
            own[axis] = data.draw(LENGTHS)
        if data.draw(st.integers(0, 9)) == 0:
            own[0] += 3
        pieces.append(data.draw(arrays(tuple(own))))
    agrees(function, pieces, axis=axis)


@UNTIMED
@given(st.data())
def test_rows_casts_and_shapes(data):
    array = data.draw(arrays())
    agrees(cast, array, np.dtype(data.draw(DTYPES)))
    agrees(np.reshape, array, (-1,))
    agrees(np.reshape, array, tuple(reversed(array.shape)))
    agrees(np.reshape, array, (3, -1))
    if array.ndim and array.size:
        ids = np.zeros(data.draw(st.lists(LENGTHS, max_size=2)), np.int32)
        agrees(np.take, array, ids, axis=data.draw(st.integers(-array.ndim, array.ndim - 1)))


@UNTIMED
@given(st.data(), st.sampled_from([np.add, np.maximum, np.bitwise_xor]))
def test_errors_of_what_is_written_in_place(data, ufunc):
    target = np.array(data.draw(arrays()))
    other = data.draw(partners(target.shape) | arrays())
    try:
        ufunc(target.copy(order="K"), other, out=target.copy(order="K"))
    except (TypeError, ValueError) as error:
        with pytest.raises(type(error)):
            check_written(ufunc, (target, other), target)
    else:
        check_written(ufunc, (target, other), target)
    np.testing.assert_array_equal(target, np.ones_like(target))


def test_nothing_is_computed():
    """Of a step that takes 16 GiB no more than its calls is in memory."""
    resource = pytest.importorskip("resource", reason="it counts pages, on Unix")

    def step(x, w):
        kept = [x]
        for _ in range(32):
            kept.append(np.tanh(kept[-1] @ w + 1.0))
        return sum(np.sum(one * one) for one in kept)

    given = np.zeros((1 << 17, 512), np.float32), np.zeros((512, 512), np.float32)
    form = Structure(given)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    recording = Recording(step, form, form.flatten(given))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert sum(view.nbytes for call in recording.calls for view in call.writes()) > 16 << 30
    assert grown * (1 if sys.platform == "darwin" else 1024) < 64 << 20
