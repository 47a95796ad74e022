"""Steps that do something out of the common: replayed rightly, or run call by call."""

import collections
import subprocess
import sys

import numpy as np
import pytest

from tests.backends.refusals import compile_warnings
from xpnn.backends.numpy.replay import Replayed
from xpnn.errors import CompileError

Pair = collections.namedtuple("Pair", "a b")
X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
V = X[0].copy()
W = V.astype(np.float64)
ORDER = np.array([1, 2, 3, -1], np.float32)
K = np.arange(3, dtype=np.int32)


def copied(tree):
    if isinstance(tree, np.ndarray):
        return tree.copy()
    if type(tree) in (tuple, list):
        return type(tree)(map(copied, tree))
    if isinstance(tree, Pair):
        return Pair(*map(copied, tree))
    return type(tree)((k, copied(v)) for k, v in tree.items()) if isinstance(tree, dict) else tree


def assert_same(found, wanted):
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key, one in wanted.items():
            assert_same(found[key], one)
    elif isinstance(wanted, tuple | list):
        assert type(found) is type(wanted)
        for pair in zip(found, wanted, strict=True):
            assert_same(*pair)
    else:
        assert np.asarray(found).dtype == np.asarray(wanted).dtype
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def into(fill):
    def step(x):
        room = x * 0
        fill(x, room)
        return room + 1

    return step


def grow_a_total(x):
    total = first = np.sum(x)
    total += 1
    return first, total


def join(p, x, change=lambda j: j, **options):
    j = np.concatenate([p["a"], p["b"]], **options)
    if change is not None:
        j = change(j)
    return {"a": p["a"] * 2, "b": p["b"] * 3}, np.sum(j) + np.sum(x)


def write_joint(j):
    j += 1
    return j


def copy_over(p, x):
    np.copyto(p["a"], p["a"] + 1)
    return {"a": p["a"] * 2}, np.sum(x)


def clip_over(p, x):
    np.clip(p["a"], 0, 1, out=p["a"])
    return {"a": p["a"] * 2}, np.sum(x)


HELD = {"a": V, "b": V + 1}


def without_warning(x):
    with np.errstate(divide="ignore"):
        return 1 / (x * 0)


STEPS = {  # a step, and the arguments of its calls
    "bool": (lambda x, t: x * 2 if t else x * 3, (X, True), (X, False)),
    "float32-number": (lambda x, t: x * t, (X, np.float32(2)), (X, np.float32(3))),
    "float64-number": (lambda x, t: x * t, (X, np.float64(2)), (X, np.float64(3))),
    "str": (lambda x, t: x * len(t), (X, "a"), (X, "bb")),
    "none": (
        lambda x, t: x * 2 if t["w"] is None else x * t["w"],
        (X, {"w": None}),
        (X, {"w": X}),
    ),
    "weight-or-none": (
        lambda x, w: np.sum(x * 1) if w is None else np.sum(x * w),
        (X, None),
        (X, X),
    ),
    "ordered-dict": (
        lambda t: t["a"] * 2,
        (collections.OrderedDict(a=X),),
        (collections.OrderedDict(a=X + 1),),
    ),
    "namedtuple": (lambda t: t.a * 2, (Pair(X, X),), (Pair(X + 1, X),)),
    "namedtuple-returned": (lambda x: Pair(x * 2, x + 1), (X,), (X + 1,)),
    "number-equals": (lambda x, n: x * 2 if n == 1 else x * 3, (X, 1), (X, 2)),
    "number-is-true": (lambda x, n: x * 2 if n % 2 else x * 3, (X, 1), (X, 2)),
    "number-above": (lambda x, n: x * 2 if n > 1 else x * 3, (X, 1), (X, 2)),
    "number-negative": (lambda x, n: x * -n, (X, 1), (X, 2)),
    "number-int-float": (lambda k, n: (k * (n * 1), k * (n * 1.0)), (K, 2), (K, 3)),
    "number-of-another-kind": (lambda k, n: k * n, (K, 2), (K, 2.5)),
    "number-as-index": (lambda x, n: x[n] * 1, (X, 0), (X, 1)),
    "number-in-slice": (lambda x, n: np.sum(x[:n]), (X, 1), (X, 2)),
    "number-taken": (lambda x, n: np.take(x, n, axis=0), (X, 0), (X, 1)),
    "number-as-axis": (lambda x, n: np.sum(x[:, :3] * 2, axis=n), (X, 0), (X, 1)),
    "number-as-axis-of-view": (lambda x, n: np.flip(x, n) + 0, (X, 0), (X, 1)),
    "number-as-shape": (lambda x, n: np.reshape(x, (n, -1)) + 0, (X, 2), (X, 6)),
    "number-rolled": (lambda x, n: np.roll(x, n), (X, 0), (X, 1)),
    "clip-into": (into(lambda x, room: np.clip(x, 0, 1, out=room)), (X,), (X + 1,)),
    "cumsum-into": (into(lambda x, room: np.cumsum(x, axis=0, out=room)), (X,), (X + 1,)),
    "join-of-dtypes": (lambda x, k: np.concatenate([x[0, :1] * 2, k[:1] + 1]), (X, K), (X + 1, K)),
    "join-into": (
        into(lambda x, room: np.concatenate([x[1:], x[:1]], out=room)),
        (X,),
        (X + 1,),
    ),
    "copy-over-argument": (copy_over, ({"a": V}, X), ({"a": V + 1}, X)),
    "clip-over-argument": (clip_over, ({"a": V}, X), ({"a": V + 1}, X)),
    "total-grows": (grow_a_total, (X,), (X + 1,)),
    "array-equal": (lambda x, y: x * (2 if np.array_equal(x, y) else 3), (X, X), (X, X + 1)),
    "allclose": (lambda x, y: x * (2 if np.allclose(x, y) else 3), (X, X + 1), (X, X)),
    "count": (lambda x: x * np.count_nonzero(x), (X,), (X * 0 + 1,)),
    "count-by-rows": (lambda x: np.count_nonzero(x > 0, axis=-1) * x[:, 0], (X,), (X + 1,)),
    "value-read": (lambda x: x * float(np.sum(x)), (X,), (X + 1,)),
    "value-compared": (lambda x: x * 2 if np.sum(x) > 0 else x * 3, (X,), (X + 9,)),
    "value-taken-out": (lambda x: np.asarray(x) * 2, (X,), (X + 1,)),
    "norm": (lambda x: x / np.linalg.norm(x), (X,), (X + 1,)),
    "mask": (lambda x: np.sum(x[x > 0]), (ORDER,), (ORDER[::-1] - 2.5,)),
    "unique": (lambda x: np.sum(np.unique(x)), (ORDER,), (ORDER * 0 + 2,)),
    "nothing-split-off": (lambda x: np.split(x, [0, 2])[1] + 1, (X,), (X + 1,)),
    "broadcast-arrays": (
        lambda x: np.add(*np.broadcast_arrays(np.ones(4, np.float32), x)),
        (X,),
        (X + 1,),
    ),
    "reshape-by-columns": (lambda x: np.reshape(x, (4, 3), order="F") + 1, (X,), (X + 1,)),
    "reduce-from": (lambda x: np.add.reduce(x, axis=0, initial=5.0), (X,), (X + 1,)),
    "reduce-where": (
        lambda x: np.add.reduce(x, axis=0, where=np.array([True, False, True, True])),
        (X,),
        (X + 1,),
    ),
    "concat-half-single": (
        lambda x, y: np.concatenate([x * 2, y * 2, y * 3]) + 1,
        (V.astype(np.float16), V),
        (V.astype(np.float16), V * 2),
    ),
    "concat-single-double": (
        lambda x, y: np.concatenate([x * 2, y * 2, y * 3]),
        (V, W),
        (V + 1, W),
    ),
    "joint-written": (lambda p, x: join(p, x, write_joint), (HELD, X), (HELD, X + 1)),
    "joint-of-two-dtypes": (join, ({"a": V, "b": W}, X), ({"a": V + 1, "b": W}, X)),
    "joint-of-another-dtype": (
        lambda p, x: join(p, x, dtype=np.float64),
        (HELD, X),
        (HELD, X + 1),
    ),
    "two-results": (
        lambda x, n: (*np.modf(x * 2.5), *np.frexp(x), np.subtract(*np.divmod(x * 3, n))),
        (X, 2),
        (X + 1, 3),
    ),
    "nothing": (lambda x: (x[:0] * 2, np.sum(x[:0])), (X,), (X + 1,)),
    "number-in-method-reshape": (lambda x, n: x.reshape(n, -1) + 0, (X, 2), (X, 6)),
    "number-outgrows-dtype": (lambda k, n: k < n, (K.astype(np.uint8), 3), (K.astype("u1"), 300)),
    "quiet": (without_warning, (X,), (X + 1,)),
    "masked-array": (
        lambda x: np.sum(x),
        (np.ma.masked_greater(X, 0),),
        (np.ma.masked_greater(X, 1),),
    ),
    "list-then-dict": (lambda t: t[0] * (2 if type(t) is dict else 3), ([X],), ({0: X},)),
    "negative-zero": (
        lambda x: np.copysign(1, np.stack([np.maximum(x - 9, 0.0), np.maximum(x - 9, -0.0)])),
        (X,),
        (X + 1,),
    ),
}


REFUSED = {
    *("float32-number", "float64-number", "ordered-dict", "namedtuple", "namedtuple-returned"),
    *("number-equals", "number-is-true", "number-above", "number-negative", "number-as-index"),
    *("number-in-slice", "number-taken", "number-as-axis", "number-as-axis-of-view"),
    *("number-as-shape", "number-in-method-reshape", "number-rolled", "number-outgrows-dtype"),
    *("clip-into", "cumsum-into", "join-into", "copy-over-argument", "clip-over-argument"),
    *("array-equal", "allclose", "value-read", "value-compared", "value-taken-out"),
    *("norm", "mask", "unique", "quiet", "masked-array"),
}

if type(np.count_nonzero(X)) is int:  # as in older versions of NumPy
    REFUSED.add("count")


@pytest.mark.parametrize("name", STEPS)
def test_step(name):
    step, first, second = STEPS[name]
    replayed = Replayed(step, donate=(0,) if isinstance(first[0], dict) else ())
    with compile_warnings(name in REFUSED):
        for arguments in (first, second, first, second):
            wanted = step(*copied(arguments))
            assert_same(replayed(*copied(arguments)), wanted)
    assert (replayed.refusal is not None) == (name in REFUSED)


@pytest.mark.parametrize("name", sorted(REFUSED - {"number-outgrows-dtype"}))
def test_where_replaying_is_required_a_refusal_is_an_error(name):
    step, first, _ = STEPS[name]
    replayed = Replayed(step, (0,) if isinstance(first[0], dict) else (), required=True)
    given = copied(first)
    for _ in range(2):
        with pytest.raises(CompileError, match=r"compile=True asked .* cannot be: .*; change that"):
            replayed(*given)
    assert_same(given, first)


@pytest.mark.parametrize("dtype", ["float64", "int64", "float32", "float16"])
def test_every_dtype_is_replayed(dtype):
    x = (X * 4).astype(dtype)
    replayed = Replayed(lambda x: x * 2 + x)
    assert_same(replayed(x), x * 3)
    assert replayed.refusal is None


HIDDEN = """
import faulthandler, sys
import numpy as np
from xpnn.backends.numpy.replay import Replayed
X = np.arange(12, dtype=np.float32).reshape(3, 4)
faulthandler.enable()
replayed = Replayed(lambda x, n: {})
for n in (2.0, 3.0):
    found = replayed(X, n)
    wanted = (lambda x, n: {})(X, n)
    assert found.dtype == wanted.dtype, found
    np.testing.assert_array_equal(found, wanted)
"""


@pytest.mark.parametrize(
    "formula", ["x * np.asarray(n)", "x * np.array([n, n, 1, 1])", "x * np.full((4,), n)",
                "np.array([n, n])"]
)  # fmt: skip
def test_number_that_becomes_an_array(formula):
    subprocess.run([sys.executable, "-c", HIDDEN.format(formula, formula)], check=True)
