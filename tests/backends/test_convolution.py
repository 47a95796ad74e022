"""Convolution and pooling on every backend, held to loops and to the portable version."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

from xpnn.backends.portable.base import Backend as Base
from xpnn.backends.portable.windows import Slide
from xpnn.layers import ConvTranspose2D
from xpnn.layers.sliding.windows import slide

# What JAX has of its own is compiled once; of the portable version, each call by itself.
each_version = pytest.mark.parametrize(
    "portable", [False, pytest.param(True, marks=pytest.mark.slow_to_compile)]
)


@dataclass
class Case:
    """A convolution: how it slides along each axis, and how many channels go in and come out."""

    slides: list[Slide]
    channels: int = 3
    filters: int = 4
    groups: int = 1

    def arrays(self, rng, dtype="float32", batch=2):
        lengths, positions = ([getattr(s, k) for s in self.slides] for k in ("length", "positions"))
        window = [s.size for s in self.slides]
        shapes = [
            (batch, *lengths, self.channels),
            (*window, self.channels // self.groups, self.filters),
            (batch, *positions, self.filters),
        ]
        return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def along(*axes):
    return [slide(*one) for one in axes]  # length, size, stride, dilation, padding


def transposed(shape, *arguments, **options):
    layer = ConvTranspose2D(*arguments, **options)
    return layer.slides(shape)


CASES = {
    "one axis": Case(along((9, 3, 1, 1, 0))),
    "one axis, all options": Case(along((11, 3, 2, 2, 3)), channels=4, groups=2),
    "one entry": Case(along((5, 1, 1, 1, 0), (4, 1, 1, 1, 0))),
    "same": Case(along((5, 3, 1, 1, "same"), (6, 3, 1, 1, "same"))),
    "same, even": Case(along((5, 2, 1, 1, "same"), (6, 4, 1, 1, "same"))),
    "same, strided": Case(along((7, 3, 2, 1, "same"), (8, 5, 3, 1, "same"))),
    "same, strides wider than windows": Case(along((8, 1, 2, 1, "same"), (9, 2, 3, 1, "same"))),
    "an end that no window reaches": Case(along((8, 3, 3, 1, 0), (7, 2, 2, 1, 0))),
    "more padding than window": Case(along((4, 2, 1, 1, 3), (5, 1, 2, 1, 2))),
    "windows that end where the padding begins": Case(along((2, 3, 1, 1, 1), (4, 2, 2, 1, 1))),
    "dilated": Case(along((9, 3, 1, 2, 1), (8, 2, 1, 3, 0))),
    "all options": Case(along((9, 3, 2, 2, 1), (10, 2, 3, 1, 2)), channels=6, filters=4, groups=2),
    "depthwise": Case(along((6, 3, 1, 1, 1), (6, 3, 2, 1, 1)), channels=4, filters=8, groups=4),
    "one channel": Case(along((6, 3, 1, 1, 0), (6, 3, 1, 1, 0)), channels=1, filters=1),
    "many channels": Case(along((5, 3, 1, 1, 1), (5, 3, 1, 1, 1)), channels=16, filters=8),
    "transposed": Case(transposed((4, 5), 1, 4, stride=2, padding=1)),
    "transposed, same": Case(transposed((4, 3), 1, 3, stride=2, padding="same")),
    "transposed, more behind": Case(transposed((4, 3), 1, 2, stride=3, output_padding=2)),
    "transposed, dilated": Case(transposed((3, 3), 1, 2, dilation=3, output_padding=2)),
    "transposed, padded in front": Case(
        transposed((4, 5), 1, 3, dilation=2, padding=2, output_padding=1)
    ),
    "three axes": Case(along((4, 2, 1, 1, 0), (5, 3, 2, 1, 1), (4, 2, 1, 2, "same"))),
    "three axes, groups": Case(
        along((4, 3, 1, 1, 1), (4, 2, 2, 1, 0), (3, 1, 1, 1, 0)), channels=4, groups=2
    ),
}
each_case = pytest.mark.parametrize("case", [pytest.param(c, id=name) for name, c in CASES.items()])


def by_loops(case, Z, W, delta):
    """S, dL/dZ and dL/dW, item by item as the equations have them, in float64."""
    Z, W, delta = (one.astype(np.float64) for one in (Z, W, delta))
    S, dZ, dW = np.zeros_like(delta), np.zeros_like(Z), np.zeros_like(W)
    inputs, outputs = W.shape[-2], W.shape[-1] // case.groups
    positions = itertools.product(*(range(s.positions) for s in case.slides))
    for at, k in itertools.product(list(positions), list(np.ndindex(*W.shape[:-2]))):
        axes = zip(at, k, case.slides, strict=True)
        over = [t * s.stride + i * s.dilation - s.low for t, i, s in axes]
        if any(not 0 <= u < s.length for u, s in zip(over, case.slides, strict=True)):
            continue
        for g in range(case.groups):
            seen = (slice(None), *over, slice(g * inputs, (g + 1) * inputs))
            made = (slice(None), *at, slice(g * outputs, (g + 1) * outputs))
            kernel = (*k, slice(None), made[-1])
            S[made] += Z[seen] @ W[kernel]
            dZ[seen] += delta[made] @ W[kernel].T
            dW[kernel] += Z[seen].T @ delta[made]
    return S, dZ, dW


def all_three(kind, backend, case, Z, W, delta, biases=(None, None)):
    """The same by a backend, as a class has it."""
    b, c = (one if one is None else backend.asarray(one) for one in biases)
    Z, W, delta = map(backend.asarray, (Z, W, delta))
    with backend.on_device():
        found = (
            kind.convolve(backend, Z, W, case.slides, case.groups, b),
            kind.convolve_input_gradient(backend, delta, W, case.slides, case.groups, c),
            kind.convolve_kernel_gradient(backend, Z, delta, case.slides, case.groups),
        )
    return [np.array(backend.to_numpy(one)) for one in found]


@pytest.mark.width
@each_version
@each_case
def test_it_is_what_the_equations_say(backend, rng, case, portable):
    arrays = case.arrays(rng)
    found = all_three(Base if portable else type(backend), backend, case, *arrays)
    for one, wanted in zip(found, by_loops(case, *arrays), strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, wanted, rtol=1e-5, atol=2e-5)


@each_version
@each_case
def test_a_bias_is_added_to_each_channel(backend, rng, case, portable):
    arrays, kind = case.arrays(rng), Base if portable else type(backend)
    biases = [rng.standard_normal(n).astype(np.float32) for n in (case.filters, case.channels)]
    plain = all_three(kind, backend, case, *arrays)
    found = all_three(kind, backend, case, *arrays, biases)
    for one, without, bias in zip(found, plain, biases, strict=False):
        np.testing.assert_allclose(one, without + bias, rtol=1e-5, atol=1e-5)


@each_version
@each_case
def test_of_no_samples_a_gradient_is_0(backend, rng, case, portable):
    arrays = case.arrays(rng, batch=0)
    biases = [rng.standard_normal(n).astype(np.float32) for n in (case.filters, case.channels)]
    kind = Base if portable else type(backend)
    found = all_three(kind, backend, case, *arrays, biases)
    for one, wanted in zip(found, by_loops(case, *arrays), strict=True):
        assert one.shape == wanted.shape
        np.testing.assert_array_equal(one, np.zeros_like(wanted))


@pytest.mark.parametrize(
    "name", ["same, even", "all options", "many channels", "transposed", "three axes, groups"]
)
def test_half_precision_is_added_up_in_float32(backend, rng, name):
    """So it is as far off as the rounding of its result: 11 bits."""
    if backend.name == "array-api-strict":
        pytest.skip("array-api-strict has no float16")
    case = CASES[name]
    arrays = case.arrays(rng, "float16", batch=32)
    found = all_three(type(backend), backend, case, *arrays)
    for one, wanted in zip(found, by_loops(case, *arrays), strict=True):
        assert one.dtype == np.float16
        np.testing.assert_allclose(one, wanted, rtol=2**-10, atol=2**-9 * np.abs(wanted).max())


@each_case
def test_it_can_be_compiled(backend, rng, case):
    arrays = case.arrays(rng)

    def step(Z, W, delta):
        slides, groups = case.slides, case.groups
        return (
            backend.convolve(Z, W, slides, groups),
            backend.convolve_input_gradient(delta, W, slides, groups),
            backend.convolve_kernel_gradient(Z, delta, slides, groups),
        )

    compiled = backend.compiled(step, known=True)
    plain = all_three(type(backend), backend, case, *arrays)
    with backend.on_device():
        for _ in range(4):  # taken down, run, run again; CuPy captures the third
            found = compiled(*map(backend.asarray, arrays))
            for one, wanted in zip(found, plain, strict=True):
                np.testing.assert_allclose(backend.to_numpy(one), wanted, rtol=1e-5, atol=2e-5)


# Pooling ------------------------------------------------------------------------------------------

POOLS = {  # length, size, stride, dilation, padding along each axis
    "one axis": along((9, 3, 2, 1, 1)),
    "halves": along((6, 2, 2, 1, 0), (8, 2, 2, 1, 0)),
    "overlapping": along((7, 3, 2, 1, 1), (8, 3, 2, 1, "same")),
    "more padding than half": along((5, 3, 1, 1, 2), (5, 2, 1, 1, 1)),
    "same, even": along((5, 2, 1, 1, "same"), (6, 4, 1, 1, "same")),
    "an end that no window reaches": along((8, 3, 3, 1, 0), (7, 2, 2, 1, 0)),
    "one entry": along((5, 1, 1, 1, 0), (4, 1, 2, 1, 0)),
    "three axes": along((4, 2, 2, 1, 0), (5, 3, 1, 1, 1), (4, 3, 2, 1, "same")),
}


each_pool = pytest.mark.parametrize(
    "slides", [pytest.param(s, id=name) for name, s in POOLS.items()]
)


def under_windows(slides):
    """Each position, with the entries of the axes that lie under the window there."""
    for at in np.ndindex(*(s.positions for s in slides)):
        starts = [t * s.stride - s.low for t, s in zip(at, slides, strict=True)]
        every = (range(u, u + s.size) for u, s in zip(starts, slides, strict=True))
        lengths = [range(s.length) for s in slides]
        inside = (set(e) & set(n) for e, n in zip(every, lengths, strict=True))
        yield at, list(itertools.product(*map(sorted, inside)))


@pytest.mark.width
@each_version
@pytest.mark.parametrize("count_padding", [False, True])
@each_pool
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_mean_is_over_what_counts(backend, rng, slides, count_padding, portable, dtype):
    if dtype == "float16" and backend.name == "array-api-strict":
        pytest.skip("array-api-strict has no float16")
    shapes = ([2, *(getattr(s, k) for s in slides), 3] for k in ("length", "positions"))
    Z, delta = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    S, dZ = (np.zeros(one.shape) for one in (delta, Z))
    for at, entries in under_windows(slides):
        size = np.prod([s.size for s in slides]) if count_padding else len(entries)
        for over in entries:
            S[:, *at] += Z[:, *over].astype(np.float64) / size
            dZ[:, *over] += delta[:, *at].astype(np.float64) / size
    kind = Base if portable else type(backend)

    def both(Z, delta):
        found = kind.average_pool(backend, Z, slides, count_padding)
        return found, kind.average_pool_gradient(backend, delta, slides, count_padding)

    # as a whole on JAX, which would compile each call by itself
    run = backend.compiled(both, wanted=backend.name == "jax")
    with backend.on_device():
        found, back = run(backend.asarray(Z), backend.asarray(delta))
    tolerance = 1e-6 if dtype == "float32" else 2**-9  # halves are rounded once along each axis
    for one, wanted in ((found, S), (back, dZ)):
        one = backend.to_numpy(one)
        assert one.dtype == dtype
        np.testing.assert_allclose(one, wanted, rtol=tolerance, atol=tolerance)


@each_version
@pytest.mark.parametrize("ties", [False, True])
@each_pool
def test_the_first_of_the_largest_gets_all_of_delta(backend, rng, slides, ties, portable):
    shapes = ([2, *(getattr(s, k) for s in slides), 3] for k in ("length", "positions"))
    Z, delta = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    Z = np.round(Z) if ties else Z
    S, dZ = np.full_like(delta, -np.inf), np.zeros_like(Z)
    for at, entries in under_windows(slides):
        for n, c in np.ndindex(2, 3):
            first = None
            for over in entries:
                if first is None or Z[(n, *over, c)] > Z[first]:
                    first = (n, *over, c)
            S[(n, *at, c)] = Z[first]
            dZ[first] += delta[(n, *at, c)]
    kind = Base if portable else type(backend)
    with backend.on_device():
        found, kept = kind.max_pool(backend, backend.asarray(Z), slides)
        back = kind.max_pool_gradient(backend, backend.asarray(delta), kept, slides)
    np.testing.assert_array_equal(backend.to_numpy(found), S)
    np.testing.assert_allclose(backend.to_numpy(back), dZ, rtol=1e-6, atol=1e-6)
