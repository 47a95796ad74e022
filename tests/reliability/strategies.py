"""Arrays as people pass them by mistake, and as somebody would who wants to break something."""

import math

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as drawn

FEATURES, CLASSES = 4, 3
"""What the network under test reads and tells apart."""

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float16", "float32", "float64", "longdouble"]
STRANGE = ["complex64", "U3", "S3", "object", "datetime64[D]", "V4", "bool"]

SCALARS = [
    *(None, True, False, 0, 1, 2, 3, -1, 10**12, 2**63, -(2**63) - 1, 10**400),
    *(0.0, 0.5, 2.5, -0.1, 1e300, math.nan, math.inf, -math.inf, 1j),
    *(
        "",
        "3",
        "same",
        "valid",
        "tanh",
        b"x",
        (),
        (2, 2),
        (0,),
        (-1,),
        (1, 2, 3),
        [2],
        {},
        {"a": 1},
    ),
    *(
        np.int64(2),
        np.float32(0.5),
        np.array(2),
        np.array([1, 2]),
        np.zeros((0, 3)),
        np.float16("nan"),
    ),
    *(object, print, object(), range(3), {1, 2}, slice(None)),
]
"""Arguments of all kinds."""

scalars = st.sampled_from(SCALARS)


def flavoured(draw, array):
    """The same numbers in another order in memory, byte order or stride, or read-only."""
    kind = draw(st.sampled_from(["as it is", "F", "swapped", "strided", "backwards", "read-only"]))
    if kind == "F":
        return np.asfortranarray(array)
    if kind == "swapped":
        return array.astype(array.dtype.newbyteorder("S"))
    if kind == "strided" and array.ndim:
        return np.repeat(array, 2, axis=array.ndim - 1)[..., ::2]
    if kind == "backwards" and array.ndim:
        return array[::-1].copy()[::-1]
    if kind == "read-only":
        array = array.copy()
        array.flags.writeable = False
    return array


def _filled(draw, dtype, shape):
    """An array of any dtype, zeros with one or two telling numbers among them."""
    array = np.zeros(shape, dtype)
    if dtype.kind in "biuf" and array.size:
        one = draw(drawn.from_dtype(dtype)) if dtype.char != "g" else draw(st.floats())
        with np.errstate(all="ignore"):
            array.flat[draw(st.integers(0, array.size - 1))] = one
    return array


@st.composite
def any_arrays(draw, rows=None):
    """Anything: any dtype, any shape of up to four short axes, or no array at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(scalars | st.lists(st.lists(st.floats() | st.text(max_size=2), max_size=4)))
    dtype = np.dtype(draw(st.sampled_from([*INTEGERS, *FLOATS, *STRANGE])))
    shape = draw(drawn.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    if rows is not None and shape and draw(st.booleans()):
        shape = (rows, *shape[1:])
    return flavoured(draw, _filled(draw, dtype, shape))


@st.composite
def inputs(draw, rows):
    """Inputs of the right shape, of any numeric dtype, some with a number that is none."""
    if draw(st.integers(0, 3)) == 0:
        return draw(any_arrays(rows))
    dtype = np.dtype(draw(st.sampled_from([*FLOATS, *FLOATS, *INTEGERS, "bool", "object"])))
    array = np.random.default_rng(rows).integers(0, 3, (rows, FEATURES)).astype(dtype)
    if rows and dtype.kind == "f" and draw(st.booleans()):
        with np.errstate(all="ignore"):
            array.flat[0] = draw(st.sampled_from([math.nan, math.inf, 1e38, 1e300, 1e-45, -0.0]))
    return flavoured(draw, array) if draw(st.integers(0, 5)) else array.tolist()


@st.composite
def labels(draw, rows):
    """Class numbers of any dtype: right ones, negative ones, some that overflow, floats."""
    if draw(st.integers(0, 3)) == 0:
        return draw(any_arrays(rows))
    dtype = np.dtype(draw(st.sampled_from([*INTEGERS, *INTEGERS, *FLOATS, "bool", "object"])))
    array = (np.arange(rows) % CLASSES).astype(dtype)
    if rows and dtype.kind in "iu" and draw(st.booleans()):
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        array[0] = draw(st.sampled_from([low, high, high - 1, CLASSES, 0]))
    if draw(st.integers(0, 9)) == 0:
        array = np.eye(CLASSES)[array.astype(int) % CLASSES]
    return flavoured(draw, array) if draw(st.integers(0, 5)) else array.tolist()


@st.composite
def weights(draw, rows):
    """Weights of the samples: none, right ones, negative ones, of other lengths."""
    if draw(st.integers(0, 1)) == 0:
        return None
    if draw(st.integers(0, 3)) == 0:
        return draw(any_arrays(rows))
    array = np.ones(rows, draw(st.sampled_from([*FLOATS, *INTEGERS, "bool"])))
    if rows and array.dtype.kind == "f":
        array[0] = draw(st.sampled_from([0.0, 1.0, -1.0, math.nan, math.inf, 6e4]))
    return flavoured(draw, array)
