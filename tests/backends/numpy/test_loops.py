"""Loops: what they hold, in how many sweeps over a row; what they make of ends and long sums."""

import math

import mpmath
import numpy as np
import pytest

from tests.backends.numpy.conftest import WITH_NUMBA
from xpnn import GELU, SGD, Dense, Network, Trainer, mean_squared_error
from xpnn.backends import get_backend
from xpnn.backends.numpy.loops.compiling import compiled
from xpnn.backends.numpy.loops.grouping import bind_fused
from xpnn.backends.numpy.loops.loop import Loop
from xpnn.backends.numpy.loops.rows import add_rows_in_loop
from xpnn.backends.numpy.replay import Replayed
from xpnn.backends.recording.recording import Recording
from xpnn.trees import Structure

ULPS = 4  # as NumPy promises for its own


def loops_of(step, *arguments, donate=()):
    """The calls that are bound of a step: loops, and the names of all others."""
    form = Structure(arguments)
    recording = Recording(step, form, form.flatten(arguments), donate)
    calls = bind_fused(recording.calls, recording.kept)
    return [call if isinstance(call, Loop) else call.function.__name__ for call in calls]


def draw(*shape, dtype=np.float32):
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


def check(step, *arguments, rtol=2e-6, atol=1e-6):
    """A step replayed in loops gives what it gives call by call."""
    replayed = Replayed(step, bind=bind_fused, required=True)
    for _ in range(2):
        found = replayed(*arguments)
        for one, wanted in zip(found, step(*arguments), strict=True):
            assert one.dtype == wanted.dtype
            np.testing.assert_allclose(one, wanted, rtol=rtol, atol=atol)
    return replayed.units[0]


# What stands in one loop --------------------------------------------------------------------------


def softmax(x):
    powers = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return powers / np.sum(powers, axis=-1, keepdims=True)


def normalised(x, scale, shift):
    less = x - np.mean(x, axis=-1, keepdims=True)
    variance = np.mean(less * less, axis=-1, keepdims=True)
    return less / np.sqrt(variance + 1e-5) * scale + shift


def normalisation_back(x, root, delta, scale):
    slope = delta * scale
    mean = np.mean(slope, axis=-1, keepdims=True)
    along = np.mean(slope * x, axis=-1, keepdims=True)
    sums = np.sum(np.sum(delta * x, axis=0), axis=0), np.sum(np.sum(delta, axis=0), axis=0)
    return (slope - mean - x * along) / root, *sums


def variance_of_channels(x, mean):
    """As of images: the sum over all but the last axis is taken in two steps."""
    less = x - mean
    over_batch = np.sum(less * less, axis=0)
    return less, np.sum(np.reshape(over_batch, (-1, x.shape[-1])), axis=0)


def cross_entropy(z, b, classes):
    z = z + b
    less = z - np.max(z, axis=-1, keepdims=True)
    log = less - np.log(np.sum(np.exp(less), axis=-1, keepdims=True))
    right = classes[:, None] == np.arange(z.shape[-1])
    delta = (np.exp(log) - right.astype(z.dtype)) / 40
    return np.sum(np.where(right, log, 0.0)) * -1.0, delta, np.sum(delta, axis=0)


ONE_LOOP = {  # the step, its arguments, sweeps over a row
    "softmax": (lambda x: (softmax(x),), [draw(8, 40, 64)], 3),
    "softmax of sums along inner and outer axes": (
        lambda x, mask, row: (softmax(x + mask + row),),
        [draw(6, 40, 30), np.where(np.tri(40, 30), 0, -np.inf).astype("f4"), draw(6, 1, 30)],
        3,
    ),
    "a normalisation": (
        lambda x, a, b: (normalised(x, a, b),),
        [draw(4, 30, 96), draw(96), draw(96)],
        3,
    ),
    "its way back, with the gradients of its parameters": (
        normalisation_back,
        [draw(4, 30, 96), 1 + draw(4, 30, 1) ** 2, draw(4, 30, 96), draw(96)],
        2,
    ),
    "a variance of channels": (variance_of_channels, [draw(16, 6, 6, 8), draw(8)], 1),
    "cross-entropy with its delta and the gradient of a bias": (
        cross_entropy,
        [draw(40, 65), draw(65), np.arange(40) % 65],
        3,
    ),
    "GELU": (
        lambda x, b: ((x + b) / (1.0 + np.exp(-1.702 * (x + b))),),
        [draw(40, 128), draw(128)],
        1,
    ),
    "numbers of other dtypes": (
        lambda x, n: (np.where((x > 0.5) & (n != 2), x.astype("f8"), n), x.astype("i4") + 0 * n),
        [draw(70, 40), np.arange(40)],
        1,
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ONE_LOOP)
@WITH_NUMBA
def test_one_loop_does_it(name, dtype):
    step, arguments, sweeps = ONE_LOOP[name]
    arguments = [one.astype(dtype) if one.dtype.kind == "f" else one for one in arguments]
    found = loops_of(step, *arguments)
    (loop,) = [one for one in found if isinstance(one, Loop)]
    assert len(loop.sweeps) == sweeps
    with np.errstate(invalid="ignore"):
        tolerance = 1e-5 if dtype == "float32" else 1e-12
        check(step, *arguments, rtol=tolerance, atol=tolerance)


def test_what_only_the_loop_reads_gets_no_memory():
    (loop,) = loops_of(lambda x: softmax(x), draw(40, 64))
    assert [view.shape for view in loop.results] == [(40, 64)]
    assert [view.shape for view in loop.reads()] == [(40, 64)]


def test_a_sum_joins_the_loop_that_stands_before_a_product():
    def step(x, delta, z):
        delta = delta * (z > 0).astype(delta.dtype)
        return x.T @ delta, np.sum(delta, axis=0), delta @ x.T

    loop, *products = loops_of(step, draw(60, 60), draw(60, 60), draw(60, 60))
    assert products == ["matmul", "matmul"]
    assert [view.shape for view in loop.results] == [(60, 60), (60,)]


def relu_with_bias(s, b, delta):
    """Of images (height, width, batch, 4), biases repeated along the batch; both ways."""
    z = np.maximum(np.reshape(s, (72, 40)) + np.tile(b, 10), 0.0)
    z = np.transpose(np.reshape(z, (8, 9, 10, 4)), (2, 0, 1, 3))
    slope = (z > 0).astype(s.dtype) * np.transpose(delta, (2, 0, 1, 3))
    sums = np.sum(np.reshape(np.transpose(slope, (1, 2, 0, 3)), (72, 10, 4)), axis=0)
    return z, slope, np.sum(sums, axis=0)


def pooled(x):
    """Of pairs of rows the larger one, and which it was."""
    first, second = x[0::2], x[1::2]
    return np.maximum(first, second), second > first


WIDE = {  # the step, its arguments, columns of the loop, where the last axis has four
    "bias and slope": (relu_with_bias, [draw(8, 9, 10, 4), draw(4), draw(8, 9, 10, 4)], 40),
    "pooling": (pooled, [draw(80, 128, 4)], 512),
    "nothing but items": (lambda x: (np.exp(x) + 1.0 - x,), [draw(100, 40, 4)], 2000),
    "rows of four": (lambda x: (softmax(x) + x,), [draw(500, 4)], 4),
}


@WITH_NUMBA
@pytest.mark.parametrize("name", WIDE)
def test_loops_go_over_long_rows(name):
    step, arguments, columns = WIDE[name]
    loops = [one for one in loops_of(step, *arguments) if isinstance(one, Loop)]
    assert [loop.columns for loop in loops] == [columns]
    check(step, *arguments, rtol=1e-5, atol=1e-5)


def test_whole_arrays_are_not_made_before_a_product():
    """They would be kept in memory meanwhile."""

    def step(x, w):
        z = np.maximum(x * 2.0 + 1.0, 0.0)
        product = z @ w
        return product, (z > 0).astype("f4") * z - 1.0

    found = loops_of(step, draw(60, 60), draw(60, 60))
    assert [getattr(one, "function", one) == "matmul" for one in found] == [False, True, False]


@WITH_NUMBA
def test_a_call_that_reads_the_sums_of_a_loop_comes_after_it():
    def step(x):
        z = np.exp(x * 2.0) - 1.0
        return z - np.sum(z, axis=0), z

    first, *_ = loops_of(lambda x: (*step(x), np.tanh(x) * np.sum(x)), draw(60, 60))
    assert isinstance(first, Loop)
    check(step, draw(60, 60), atol=1e-4)


def gates(x, b):
    """As the gates of an LSTM."""
    z = x + b
    return np.tanh(z[0]) * z[1] + z[2] - z[3]


def test_what_is_read_in_pieces_is_made_in_pieces():
    (loop,) = loops_of(lambda x, b: (gates(x, b),), draw(4, 40, 50), draw(4, 1, 50))
    assert [view.shape for view in loop.results] == [(40, 50)]

    def across(x, b):
        z = x + b
        return np.tanh(z[0]) * 2.0, z[1:] * 2.0

    assert loops_of(across, draw(4, 40, 50), draw(4, 1, 50))[0] == "add"


@WITH_NUMBA
@pytest.mark.parametrize("shape", [(4, 280, 50), (1, 280, 50), (4, 1, 50), (280, 1), (50,)])
def test_pieces_meet_what_is_repeated(shape):
    def step(x, b, w):
        total = np.sum(x @ w, axis=0)
        return gates(x, b), gates(np.subtract(b, x), 1.0), np.exp(total * 0.01) - total

    check(step, draw(4, 280, 50), draw(*shape), draw(50, 50), rtol=1e-5, atol=1e-5)


@WITH_NUMBA
def test_gelu_is_one_loop_with_erfc_in_it():
    network = Network([Dense(64), GELU(), Dense(1)], (8,), "numpy:numba")
    trainer = Trainer(network, mean_squared_error, SGD(0.1), compile=True)
    trainer.step(draw(128, 8), draw(128, 1))
    (program,) = trainer._train_step.run.units
    names = [getattr(getattr(call, "func", call), "__name__", "") for call in program._calls]
    assert "exp" not in names
    assert "erfc" not in names


# What may lie where -------------------------------------------------------------------------------


@WITH_NUMBA
def test_a_result_is_not_written_over_what_a_later_sweep_reads():
    """x has the size of the result, and nobody reads it later; but the loop itself does."""

    def step(given):
        x = np.repeat(given, 2, axis=0)  # memory of the step's own
        y = np.tanh(x - np.mean(x, axis=-1, keepdims=True))
        return (y * np.sum(y, axis=-1, keepdims=True) + np.exp(np.flip(x, axis=0) * 0.1),)

    check(step, draw(40, 64), rtol=1e-5, atol=1e-5)


@WITH_NUMBA
def test_two_results_do_not_take_the_same_place():
    def step(x):
        room = np.repeat(x, 2, axis=0)
        return (room * 2.0 - 1.0) @ x.T, (np.exp(room) + room) @ x.T

    check(step, draw(40, 64), rtol=1e-4, atol=1e-4)


@WITH_NUMBA
def test_what_is_written_in_place_is_read_first_and_last():
    def step(x, row):
        room = np.repeat(x, 2, axis=0)
        total = np.sum(room, axis=-1, keepdims=True)
        half = room[:, ::2] * 2.0
        room += row
        room *= total
        room[:, ::2]
        return room - np.max(room, axis=-1, keepdims=True), half

    check(step, draw(40, 64), draw(64), rtol=1e-4, atol=1e-4)


@WITH_NUMBA
def test_donated_arrays_are_updated_in_place():
    def step(held, g):
        m = 0.9 * held["m"] + 0.1 * g
        v = 0.99 * held["v"] + 0.01 * (g * g)
        return {"w": held["w"] - 0.1 * m / (np.sqrt(v) + 1e-8), "m": m, "v": v}, g[:1, :1] * 2.0

    held = {name: np.abs(draw(100, 50)) for name in ("w", "m", "v")}
    wanted = {name: one.copy() for name, one in held.items()}
    replayed = Replayed(step, donate=(0,), bind=bind_fused, required=True)
    for k in range(3):
        g = draw(100, 50) + k
        own = dict(held)
        held, _ = replayed(held, g)
        wanted, _ = step(wanted, g)
        for name in held:
            assert held[name] is own[name]
            np.testing.assert_array_equal(held[name], wanted[name])
    assert len(replayed.units[0]._calls) == 2


# Sums ---------------------------------------------------------------------------------------------


@WITH_NUMBA
@pytest.mark.parametrize("shape", [(300_001, 3), (1000, 4000), (3, 16_384), (70_000, 16)])
def test_long_sums_keep_their_digits(shape):
    def step(x):
        y = x * 1.0 + 0.0
        return np.sum(y, axis=0), np.sum(y, axis=1), np.sum(y)

    tenth = np.full(shape, 0.1, np.float32)
    replayed = Replayed(step, bind=bind_fused, required=True)
    for _ in range(2):
        for found, count in zip(replayed(tenth), (*shape, math.prod(shape)), strict=True):
            np.testing.assert_allclose(
                found, float(tenth[0, 0]) * count, rtol=3e-5
            )  # as of NumPy, in test_binding.py


@WITH_NUMBA
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("count", [16, 64])
def test_sums_whose_axes_lie_in_another_order(count, keepdims):
    """The result lies as its source does, which is turned; in one block, and in several."""

    def sums(x):
        return np.sum(np.exp(np.transpose(x, (1, 3, 2, 0))), axis=-1, keepdims=keepdims)

    assert [type(one) for one in loops_of(sums, draw(count, 3, 128, 8))] == [Loop]
    check(lambda x: (sums(x),), draw(count, 3, 128, 8), rtol=1e-4, atol=1e-4)


@WITH_NUMBA
@pytest.mark.parametrize("shape", [(7, 5), (7,), (3, 2, 4)])
def test_rows_are_added_in_one_loop(shape):
    """As ``np.add.at`` does in float64, a run of 5,000 in blocks, rows from the end, too."""
    ids = np.concatenate([np.random.default_rng(1).integers(0, shape[0], 60), np.full(5000, 1)])
    updates, array = draw(len(ids), *shape[1:]), draw(*shape)
    for chosen in (ids, ids - shape[0], ids[:0]):
        wanted = array.astype("f8")
        np.add.at(wanted, chosen, updates[: len(chosen)])
        found = add_rows_in_loop(array, chosen, updates[: len(chosen)])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)
    with pytest.raises(IndexError):
        add_rows_in_loop(array, ids + 3, updates)
    with pytest.raises(IndexError):  # and none beyond the end of memory are read
        add_rows_in_loop(array, ids, updates[:1])


@WITH_NUMBA
def test_an_embedding_adds_its_rows_in_a_loop():
    add = get_backend("numpy:numba").scatter_add
    ids = np.array([2, 0, 2])
    found = loops_of(lambda x, rows: add(x, ids, rows), draw(3, 4), draw(3, 4))
    assert found == ["add_rows_in_loop"]


@WITH_NUMBA
def test_extremes_of_rows_pass_nan_on():
    x = draw(50, 64)
    x[3, 5], x[4, 0], x[5] = np.nan, np.inf, -np.inf
    x[6, 1], x[7], x[8] = np.copysign(np.nan, -1), -np.abs(x[7]), 0.0

    def step(x):
        y = x * 2.0
        return (
            np.max(y, axis=1),
            np.min(y, axis=1),
            np.maximum(y, 0.5),
            np.minimum(0.5, y),
            np.sign(y),
        )

    check(step, x)


# Functions ----------------------------------------------------------------------------------------

EXACT = {name: getattr(mpmath, name) for name in ("exp", "expm1", "log", "log1p", "tanh")}


def run(name, x):
    """What a loop makes of x."""
    letter, y = f"f{x.itemsize}", np.empty_like(x)
    head = (
        "def loop(first, last, per_block, rows, columns, a0, a1):\n    for j in range(first, last):"
    )
    loop = compiled(f"{head}\n        a1[j] = {name}_{letter}(a0[j])\n", (letter, letter))
    loop(0, len(x), 0, 0, 0, x, y)()
    return y


def all_over(name, dtype, count=400):
    """Numbers of every size at which the function is finite, and those at which it changes."""
    info, rng = np.finfo(dtype), np.random.default_rng(1)
    largest = math.log(float(info.max))
    small = 2.0 ** rng.uniform(info.minexp - info.nmant, 2, count)
    if name.startswith("log"):
        near = (1 if name == "log" else 0) + rng.normal(size=count) * 1e-3
        x = [small, 2.0 ** rng.uniform(-2, info.maxexp, count), near, rng.uniform(0.4, 2.5, count)]
        x += [] if name == "log" else [-rng.uniform(0, 1, count)]
    else:
        lowest = {"exp": math.log(float(info.smallest_subnormal)), "tanh": -30, "expm1": -50}[name]
        highest = 30 if name == "tanh" else largest
        x = [small, -small, rng.uniform(lowest, highest, count), rng.normal(size=count)]
        x += [np.arange(-20, 20) * math.log(2) / 2]
    return np.concatenate(x).astype(dtype)


@WITH_NUMBA
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", EXACT)
def test_functions_are_as_accurate_as_numpys(name, dtype):
    x = all_over(name, dtype)
    with mpmath.workprec(200):
        for one, found in zip(x, run(name, x), strict=True):
            exact = EXACT[name](mpmath.mpf(float(one)))
            wanted = np.dtype(dtype).type(float(exact))
            unit = mpmath.mpf(float(np.spacing(abs(wanted))))
            assert abs(mpmath.mpf(float(found)) - exact) <= ULPS * unit, (one, found, wanted)


@WITH_NUMBA
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", EXACT)
def test_functions_at_their_ends(name, dtype):
    info = np.finfo(dtype)
    ends = [0.0, 1.0, info.smallest_subnormal, info.smallest_normal, info.max, np.inf, np.nan]
    x = np.array([*ends, *(-end for end in ends)], dtype)
    with np.errstate(all="ignore"):
        right = getattr(np, name)(x)
    for found, wanted in zip(run(name, x), right, strict=True):
        if np.isfinite(wanted):
            np.testing.assert_array_max_ulp(found, wanted, ULPS)
        else:
            np.testing.assert_equal(found, wanted)
        assert np.isnan(wanted) or np.signbit(found) == np.signbit(wanted)
