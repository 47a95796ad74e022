"""Pooling: against torch.nn, against jax.grad, and against maxima and means found by hand."""

import numpy as np
import pytest

from tests.conftest import needs
from tests.layers.oracles import assert_close, by_differences, jax_passes, passes, torch_passes
from xpnn import Network, get_backend
from xpnn.backends.portable.windows import batch_order, fold, slid_order
from xpnn.errors import GradientError, ShapeError
from xpnn.layers import (
    AveragePool1D,
    AveragePool2D,
    AveragePool3D,
    GlobalAveragePool,
    GlobalMaxPool,
    MaxPool1D,
    MaxPool2D,
    MaxPool3D,
)
from xpnn.testing import check_gradients

SHAPE = (7, 6, 3)
WINDOWS = {
    "halves": dict(pool_size=2),
    "columns": dict(pool_size=(1, 2)),
    "rectangle": dict(pool_size=(3, 2)),
    "overlap": dict(pool_size=3, stride=1),
    "overlap-by-one": dict(pool_size=3, stride=2),
    "gaps": dict(pool_size=2, stride=3),
    "every-other": dict(pool_size=1, stride=2),
    "padding": dict(pool_size=3, stride=2, padding=1),
    "paddings": dict(pool_size=(4, 2), stride=(1, 2), padding=(2, 1)),
}
SAME = {  # torch has no such padding: against differences only
    "same": dict(pool_size=3, stride=1, padding="same"),
    "same-stride": dict(pool_size=(2, 3), stride=(3, 2), padding="same"),
    "wide-padding": dict(pool_size=3, stride=1, padding=2),
}
each_window = pytest.mark.parametrize("options", WINDOWS.values(), ids=WINDOWS)
each_kind = pytest.mark.parametrize("make", [MaxPool2D, AveragePool2D])


def draws(network, seed=1, batch=3):
    rng = np.random.default_rng(seed)
    shapes = (network.input_shape, network.output_shape)
    return tuple(rng.standard_normal((batch, *shape)).astype(np.float32) for shape in shapes)


def theirs(kind, options, shape=SHAPE):
    """The torch module of that kind and those options."""
    import torch

    kind = f"{kind}Pool{len(shape) - 1}d"
    options = dict(options)
    return getattr(torch.nn, kind)(options.pop("pool_size"), **options)


# Against torch ------------------------------------------------------------------------------------


@needs("torch")
@each_window
def test_max_equals_torch(backend, options):
    network = Network([MaxPool2D(**options)], SHAPE, backend)
    x, delta = draws(network)
    oracle = torch_passes(theirs("Max", options), x, delta, channels_first=True)
    assert_close(passes(network, x, delta), oracle)


@needs("torch")
@each_window
def test_first_of_equal_maxima_gets_delta_as_in_torch(backend, options):
    network = Network([MaxPool2D(**options)], SHAPE, backend)
    x, delta = draws(network)
    x = np.maximum(np.round(x), 0)  # as after ReLU: most windows hold several equal maxima
    oracle = torch_passes(theirs("Max", options), x, delta, channels_first=True)
    assert_close(passes(network, x, delta), oracle)


@needs("torch")
@pytest.mark.parametrize("count", [True, False], ids=["counted", "not-counted"])
@each_window
def test_average_equals_torch(backend, options, count):
    network = Network([AveragePool2D(**options, count_padding=count)], SHAPE, backend)
    x, delta = draws(network)
    module = theirs("Avg", {**options, "count_include_pad": count})
    assert_close(passes(network, x, delta), torch_passes(module, x, delta, channels_first=True))


@needs("torch")
@pytest.mark.parametrize(
    "options",
    [dict(pool_size=2), dict(pool_size=4, stride=3, padding=2)],
    ids=["halves", "padding"],
)
@pytest.mark.parametrize(("make", "kind"), [(MaxPool1D, "Max"), (AveragePool1D, "Avg")])
def test_one_axis_equals_torch(backend, make, kind, options):
    network = Network([make(**options)], (11, 3), backend)
    x, delta = draws(network)
    more = {"count_include_pad": False} if kind == "Avg" else {}
    module = theirs(kind, {**options, **more}, (11, 3))
    assert_close(passes(network, x, delta), torch_passes(module, x, delta, channels_first=True))


@needs("torch")
@pytest.mark.parametrize(("make", "kind"), [(MaxPool3D, "Max"), (AveragePool3D, "Avg")])
def test_volumes_equal_torch(backend, make, kind):
    options, shape = dict(pool_size=(2, 3, 2), stride=(1, 2, 2), padding=(1, 0, 1)), (3, 5, 4, 3)
    network = Network([make(**options)], shape, backend)
    x, delta = draws(network)
    more = {"count_include_pad": False} if kind == "Avg" else {}
    module = theirs(kind, {**options, **more}, shape)
    assert_close(passes(network, x, delta), torch_passes(module, x, delta, channels_first=True))


@needs("torch")
@pytest.mark.parametrize(("make", "kind"), [(GlobalMaxPool, "Max"), (GlobalAveragePool, "Avg")])
@pytest.mark.parametrize("ties", [False, True], ids=["", "ties"])
def test_all_positions_equal_torch(backend, make, kind, ties):
    import torch

    network = Network([make()], SHAPE, backend)
    x, delta = draws(network)
    x = np.maximum(np.round(x), 0) if ties else x
    module = torch.nn.Sequential(getattr(torch.nn, f"Adaptive{kind}Pool2d")(1), torch.nn.Flatten())
    assert_close(passes(network, x, delta), torch_passes(module, x, delta, channels_first=True))


# Against differences and jax.grad -----------------------------------------------------------------


@each_kind
@pytest.mark.parametrize("options", [*WINDOWS.values(), *SAME.values()], ids=[*WINDOWS, *SAME])
@by_differences
def test_against_differences(backend, make, options):
    report = check_gradients(make(**options), (5, 4, 2), backend, batch=2)
    assert report.error < 1e-6


@pytest.mark.parametrize("make", [GlobalMaxPool, GlobalAveragePool])
@pytest.mark.parametrize("shape", [(4, 3), (3, 2, 2), (2, 2, 2, 2)], ids=str)
@by_differences
def test_all_positions_against_differences(backend, make, shape):
    assert check_gradients(make(), shape, backend).error < 1e-6


@needs("jax")
@pytest.mark.parametrize("name", ["halves", "overlap", "paddings", "same-stride"])
@each_kind
def test_backward_equals_jax_grad(make, name):
    options = {**WINDOWS, **SAME}[name]
    network = Network([make(**options)], SHAPE)
    x, delta = draws(network)
    assert_close(*jax_passes(lambda: [make(**options)], SHAPE, x, delta))


# By hand ------------------------------------------------------------------------------------------


def test_ties_by_hand(backend):
    """Equal maxima: the first one, row by row, gets all of delta, once."""
    x = np.array([[1.0, 5, 5], [5, 2, 7], [0, 7, 7]]).reshape(1, 3, 3, 1)
    network = Network([MaxPool2D(2, stride=1)], (3, 3, 1), backend)
    found = passes(network, x, np.array([[1.0, 10], [100, 1000]]).reshape(1, 2, 2, 1))
    np.testing.assert_array_equal(found["output"][0, ..., 0], [[5, 7], [7, 7]])
    np.testing.assert_array_equal(found["input"][0, ..., 0], [[0, 1, 0], [0, 0, 1010], [0, 100, 0]])


def test_padding_never_wins(backend):
    x = -np.arange(1.0, 5).reshape(1, 2, 2, 1)
    found = passes(Network([MaxPool2D(2, padding=1)], (2, 2, 1), backend), x, x)
    np.testing.assert_array_equal(found["output"], x)
    np.testing.assert_array_equal(found["input"], x)


def test_padding_counts_where_it_should(backend):
    x = np.full((1, 3, 1), 6.0)
    for count, wanted in ((False, [6, 6]), (True, [4, 4])):
        network = Network(
            [AveragePool1D(3, stride=2, padding=1, count_padding=count)], (3, 1), backend
        )
        found = passes(network, x, np.array([[[1.0], [10]]]))
        np.testing.assert_allclose(found["output"][0, :, 0], wanted, rtol=1e-6)
        shares = np.array([1, 11, 10]) / (3 if count else 2)
        np.testing.assert_allclose(found["input"][0, :, 0], shares, rtol=1e-6)


def test_same_keeps_a_mean_a_mean(backend):
    """What is constant stays so at the edges, as padding does not count unless it is asked to."""
    network = Network([AveragePool2D(3, stride=2, padding="same")], (5, 4, 2), backend)
    found = passes(network, np.ones((1, 5, 4, 2)), np.ones((1, 3, 2, 2)))
    np.testing.assert_allclose(found["output"], np.ones((1, 3, 2, 2)), rtol=1e-6)


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "shape", "words"),
    [
        (lambda: MaxPool2D(2), (8, 8), r"\(height, width, channels\), got \(8, 8\)"),
        (lambda: AveragePool1D(2), (8, 8, 1), r"\(length, channels\), got \(8, 8, 1\)"),
        (lambda: MaxPool3D(2), (8, 8, 1), r"\(depth, height, width, channels\), got \(8, 8, 1\)"),
        (lambda: MaxPool2D((2, 9)), (8, 8, 1), "spans 9 does not fit into an axis of length 8"),
        (GlobalMaxPool, (8,), "nothing to pool over, so leave it out"),
    ],
)
def test_shapes_that_do_not_fit_are_explained(make, shape, words):
    with pytest.raises(ShapeError, match=words):
        Network([make()], shape)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MaxPool2D(2, padding=2), "padding smaller than the window"),
        (lambda: AveragePool2D((3, 2), padding=(1, 2)), "padding smaller than the window"),
        (lambda: MaxPool1D(0), "pool_size is an integer of at least 1, got 0"),
        (lambda: MaxPool2D(2, stride=(1, 1, 1)), "stride is"),
        (lambda: MaxPool2D(2, padding="full"), "padding is 'valid', 'same' or integers"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# Planted bugs -------------------------------------------------------------------------------------


class GivesToAll(MaxPool1D):
    """delta for every entry under the window."""

    def backward(self, delta):
        (slide,), (x, first) = self.cache["slides"], slid_order(delta, self.backend)
        return batch_order(fold([x] * slide.size, first, slide, self.backend), self.backend)


class DividesByTheWindow(AveragePool1D):
    """Forward leaves the padding out of the count, backward does not."""

    def backward(self, delta):
        return self.backend.average_pool_gradient(delta, self.cache["slides"], count_padding=True)


@pytest.mark.parametrize("bug", [GivesToAll, DividesByTheWindow])
def test_planted_bugs_are_found(bug):
    with pytest.raises(GradientError):
        check_gradients(bug(3, stride=2, padding=1), (7, 2))
    assert check_gradients(bug.__base__(3, stride=2, padding=1), (7, 2)).error < 1e-6


# Windows of more entries than one kernel takes ----------------------------------------------------


@pytest.mark.slow_to_compile  # one call for each entry of the window, each compiled by itself
@pytest.mark.parametrize("size", [25, 60, 700])
def test_long_windows_by_hand(backend, rng, size):
    """The first of the largest gets delta; entries of a mean share it alike."""
    positions, stride = 3, size // 2
    length = size + (positions - 1) * stride
    x = rng.integers(0, 4, (2, length, 1)).astype(np.float32)  # many are equal
    delta = rng.integers(1, 9, (2, positions, 1)).astype(np.float32)
    largest, mean = np.zeros_like(delta), np.zeros_like(delta)
    won, shared = np.zeros_like(x), np.zeros_like(x)
    for n, t in np.ndindex(2, positions):
        under = slice(t * stride, t * stride + size)
        first = int(np.argmax(x[n, under, 0]))
        largest[n, t], mean[n, t] = x[n, under].max(), x[n, under].mean(dtype=np.float64)
        won[n, t * stride + first] += delta[n, t]
        shared[n, under] += delta[n, t] / size
    for make, forward, back in ((MaxPool1D, largest, won), (AveragePool1D, mean, shared)):
        found = passes(Network([make(size, stride=stride)], (length, 1), backend), x, delta)
        np.testing.assert_allclose(found["output"], forward, rtol=1e-6)
        np.testing.assert_allclose(found["input"], back, rtol=1e-6)


@needs("cupy")
def test_no_kernel_takes_more_arrays_than_a_gpu_allows(monkeypatch):
    """A launch may have 4 KiB of arguments, of which an array of three axes takes 64 bytes."""
    backend, taken = get_backend("cupy"), []
    for name in ("_compare", "_share", "_total", "_mean"):
        run = getattr(backend, name)
        monkeypatch.setitem(
            vars(backend),
            name,
            lambda *arrays, run=run: counted(taken, arrays, run(*arrays)),
        )
    for make in (MaxPool1D, AveragePool1D):
        root = Network([make(300, stride=100)], (900, 1), backend).root
        with backend.on_device():
            root.backward(root.forward(backend.xp.ones((2, 900, 1)), True))
    assert 24 < max(taken) <= 64


def counted(taken, given, found):
    taken.append(len(given) + (len(found) if isinstance(found, tuple) else 1))
    return found
