"""Convolutions: against torch.nn, against jax.grad, and against sums done by hand."""

import math

import numpy as np
import pytest

from tests.conftest import needs
from tests.layers.oracles import (
    assert_close,
    by_differences,
    host,
    jax_passes,
    passes,
    randomized,
    torch_passes,
)
from xpnn import Dense, Flatten, Network, ReLU, Trainer
from xpnn.backends import get_backend
from xpnn.backends.portable import convolution
from xpnn.backends.portable.convolution import FEW_CHANNELS
from xpnn.backends.portable.windows import cut, fold
from xpnn.errors import GradientError, ShapeError
from xpnn.layers import (
    Conv1D,
    Conv2D,
    Conv3D,
    ConvTranspose1D,
    ConvTranspose2D,
    ConvTranspose3D,
    MaxPool2D,
    SeparableConv2D,
)
from xpnn.layers.sliding.windows import slide
from xpnn.losses import mean_squared_error
from xpnn.optimizers import SGD
from xpnn.testing import check_gradients, training_curve

SHAPE = (7, 6)
CONVOLUTIONS = {  # options of a Conv2D on images of SHAPE, with channels 4 and 12
    "plain": dict(kernel_size=3),
    "one": dict(kernel_size=1),
    "rectangular": dict(kernel_size=(2, 3)),
    "no-bias": dict(kernel_size=3, use_bias=False),
    "stride": dict(kernel_size=3, stride=2),
    "strides": dict(kernel_size=(3, 2), stride=(1, 3)),
    "patches": dict(kernel_size=2, stride=2),
    "gaps": dict(kernel_size=2, stride=3),
    "padding": dict(kernel_size=3, padding=1),
    "paddings": dict(kernel_size=(5, 3), padding=(3, 1), stride=2),
    "wide-padding": dict(kernel_size=2, padding=3, stride=2),
    "full": dict(kernel_size=3, padding=2),
    "dilation": dict(kernel_size=3, dilation=2),
    "dilations": dict(kernel_size=(2, 3), dilation=(3, 2), padding=(1, 2), stride=2),
    "same": dict(kernel_size=3, padding="same"),
    "same-even": dict(kernel_size=(4, 2), padding="same", dilation=(1, 2)),
    "same-stride": dict(kernel_size=3, padding="same", stride=(2, 3)),
    "same-gaps": dict(kernel_size=1, padding="same", stride=2),
    "groups": dict(kernel_size=3, groups=2, padding=1),
    "groups-stride": dict(kernel_size=(3, 2), groups=2, stride=2, dilation=(2, 1)),
    "depthwise": dict(kernel_size=3, groups="all", padding="same"),
    "depthwise-stride": dict(kernel_size=3, groups="all", stride=2),
}
TRANSPOSED = {  # options of a ConvTranspose2D
    "plain": dict(kernel_size=3),
    "one": dict(kernel_size=1),
    "no-bias": dict(kernel_size=(2, 3), use_bias=False),
    "twice": dict(kernel_size=2, stride=2),
    "gan": dict(kernel_size=4, stride=2, padding=1),
    "gaps": dict(kernel_size=2, stride=3),
    "odd": dict(kernel_size=3, stride=2, padding=1, output_padding=1),
    "odds": dict(kernel_size=(3, 4), stride=(2, 3), padding=(0, 2), output_padding=(1, 2)),
    "dilation": dict(kernel_size=3, dilation=2, padding=2, output_padding=1),
    "dilation-stride": dict(kernel_size=(2, 3), dilation=(3, 2), stride=2, output_padding=1),
    "cut": dict(kernel_size=3, padding=2),
    "groups": dict(kernel_size=3, stride=2, groups=2, output_padding=1),
    "depthwise": dict(kernel_size=3, groups="all", padding=1),
}
each_convolution = pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
each_transposed = pytest.mark.parametrize("options", TRANSPOSED.values(), ids=TRANSPOSED)
each_width = pytest.mark.parametrize("channels", [4, 12], ids=["few", "many"])


def made(layer, options, channels):
    """A layer of twice as many filters as channels; ``groups="all"`` makes it depthwise."""
    groups = options.get("groups", 1)
    options = {**options, "groups": channels if groups == "all" else groups}
    return layer(2 * channels, **options)


def draws(network, seed=1, batch=3):
    rng = np.random.default_rng(seed)
    shapes = (network.input_shape, network.output_shape)
    return tuple(rng.standard_normal((batch, *shape)).astype(np.float32) for shape in shapes)


def ours(network, x, delta):
    """The arrays of ``passes`` under the layer's own names."""
    return {name.rpartition(".")[2]: array for name, array in passes(network, x, delta).items()}


def edges(layer, lengths):
    """The zeros around an input as torch.nn.functional.pad lists them: the last axis first."""
    sides = []
    for length, size, stride, dilation, padding in zip(
        lengths, layer.kernel_size, layer.stride, layer.dilation, layer.padding, strict=True
    ):
        if padding == "same":
            needed = (math.ceil(length / stride) - 1) * stride + dilation * (size - 1) + 1 - length
            needed = max(needed, 0)
            sides.append((needed // 2, needed - needed // 2))
        else:
            sides.append((0, 0) if padding == "valid" else (padding, padding))
    return [n for pair in reversed(sides) for n in pair]


def torch_convolution(layer, channels, lengths):
    """The torch module of the same options, with zeros put around the input by hand."""
    import torch

    convolution = getattr(torch.nn, f"Conv{layer.axes}d")(
        channels,
        layer.filters,
        layer.kernel_size,
        stride=layer.stride,
        dilation=layer.dilation,
        groups=layer.groups,
        bias=layer.use_bias,
    )
    zeros = getattr(torch.nn, f"ConstantPad{layer.axes}d")(tuple(edges(layer, lengths)), 0.0)
    return torch.nn.Sequential(zeros, convolution), convolution


def torch_transposed(layer, channels):
    import torch

    return getattr(torch.nn, f"ConvTranspose{layer.axes}d")(
        channels,
        layer.filters,
        layer.kernel_size,
        stride=layer.stride,
        padding=tuple(0 if p == "valid" else p for p in layer.padding),
        output_padding=layer.output_padding,
        dilation=layer.dilation,
        groups=layer.groups,
        bias=layer.use_bias,
    )


def copy_weights(network, module, turned):
    import torch

    with torch.no_grad():
        for name, array in network.numpy_arrays().items():
            kind = name.rpartition(".")[2]
            value = turned(array) if kind == "weight" else array
            getattr(module, kind).copy_(torch.tensor(np.ascontiguousarray(value)))


def assert_equal_torch(network, module, inner, turned, back):
    """Outputs, dL/d(input) and parameter gradients of the two, with copied weights."""
    copy_weights(network, inner, turned)
    x, delta = draws(network)
    theirs = torch_passes(module, x, delta, channels_first=True)
    theirs = {name.rpartition(".")[2]: array for name, array in theirs.items()}
    theirs["weight"] = back(theirs["weight"])
    found = ours(network, x, delta)
    assert found.keys() == theirs.keys()
    assert_close(found, theirs, tolerance=2e-5)  # sums of up to 1,000 products in another order


@pytest.mark.parametrize("side_by_side", [0, 1 << 25])
@pytest.mark.parametrize("channels", [1, 8])
def test_a_long_product_may_be_cut(backend, monkeypatch, channels, side_by_side):
    """The gradient of a kernel in parts, as on a GPU: the same in the end."""
    if not backend.positions_first:
        pytest.skip("its library convolves, and cuts products itself")
    monkeypatch.setattr(backend, "side_by_side", side_by_side)
    parts, found, into = [], [], convolution.largest_divisor
    monkeypatch.setattr(
        convolution, "largest_divisor", lambda *given: parts.append(into(*given)) or parts[-1]
    )
    for stacks in (1, 64):
        monkeypatch.setattr(backend, "stacks", stacks)
        network = randomized(Network([Conv2D(4, 3)], (6, 18, channels), backend))
        found.append(ours(network, *draws(network, batch=64)))
    assert parts == [1, 8 if channels == 1 or side_by_side else 2]
    assert_close(*found, tolerance=2e-4)  # sums of 4,096 products of about 1


# Against torch ------------------------------------------------------------------------------------


@needs("torch")
@each_width
@each_convolution
def test_convolution_equals_torch(backend, options, channels):
    layer = made(Conv2D, options, channels)
    network = randomized(Network([layer], (*SHAPE, channels), backend))
    module, inner = torch_convolution(layer, channels, SHAPE)
    assert_equal_torch(
        network,
        module,
        inner,
        lambda W: W.transpose(3, 2, 0, 1),
        lambda dW: dW.transpose(2, 3, 1, 0),
    )


@needs("torch")
@each_width
@pytest.mark.parametrize(
    "name", ["plain", "stride", "patches", "full", "dilation", "same", "groups"]
)
def test_convolution_along_one_axis_equals_torch(backend, name, channels):
    layer = made(Conv1D, CONVOLUTIONS[name], channels)
    network = randomized(Network([layer], (9, channels), backend))
    module, inner = torch_convolution(layer, channels, (9,))
    assert_equal_torch(
        network, module, inner, lambda W: W.transpose(2, 1, 0), lambda dW: dW.transpose(2, 1, 0)
    )


VOLUMES = {  # options of a Conv3D
    "plain": dict(kernel_size=(2, 3, 1)),
    "all": dict(kernel_size=2, stride=(1, 2, 3), padding=(1, 0, 2), dilation=(2, 1, 1), groups=2),
    "same": dict(kernel_size=(3, 2, 3), padding="same", stride=(2, 1, 1), use_bias=False),
}


@needs("torch")
@each_width
@pytest.mark.parametrize("options", VOLUMES.values(), ids=VOLUMES)
def test_convolution_of_volumes_equals_torch(backend, options, channels):
    layer = made(Conv3D, options, channels)
    network = randomized(Network([layer], (4, 5, 4, channels), backend))
    module, inner = torch_convolution(layer, channels, (4, 5, 4))
    assert_equal_torch(
        network,
        module,
        inner,
        lambda W: W.transpose(4, 3, 0, 1, 2),
        lambda dW: dW.transpose(2, 3, 4, 1, 0),
    )


OTHER_AXES = {  # a transposed convolution, its options, and lengths
    "one axis": (ConvTranspose1D, TRANSPOSED["gan"], (5,)),
    "one axis, groups": (ConvTranspose1D, TRANSPOSED["groups"], (5,)),
    "volumes": (
        ConvTranspose3D,
        dict(kernel_size=(2, 3, 1), stride=2, padding=(0, 1, 0), output_padding=1, groups=2),
        (2, 3, 2),
    ),
}


@needs("torch")
@pytest.mark.parametrize(("make", "options", "lengths"), OTHER_AXES.values(), ids=OTHER_AXES)
def test_transposed_along_other_axes_equals_torch(backend, make, options, lengths):
    assert_transposed_equals_torch(made(make, options, 4), (*lengths, 4), backend)


@needs("torch")
@each_width
@each_transposed
def test_transposed_convolution_equals_torch(backend, options, channels):
    layer = made(ConvTranspose2D, options, channels)
    assert_transposed_equals_torch(layer, (4, 3, channels), backend)


def assert_transposed_equals_torch(layer, input_shape, backend):
    channels, g, size = input_shape[-1], layer.groups, layer.kernel_size
    network = randomized(Network([layer], input_shape, backend))
    module = torch_transposed(layer, channels)

    def turned(W):  # ours (*window, inputs / g, filters), theirs (inputs, filters / g, *window)
        W = W.reshape(*size, channels // g, g, layer.filters // g)
        return np.moveaxis(W, (-2, -3, -1), (0, 1, 2)).reshape(channels, layer.filters // g, *size)

    def back(dW):
        dW = dW.reshape(g, channels // g, layer.filters // g, *size)
        return np.moveaxis(dW, (1, 0, 2), (-3, -2, -1)).reshape(*size, channels // g, layer.filters)

    assert_equal_torch(network, module, module, turned, back)


# Against differences and jax.grad -----------------------------------------------------------------

DIFFERENCES = [
    "plain",
    "strides",
    "paddings",
    "dilations",
    "same-even",
    "groups-stride",
    "depthwise",
]
DIFFERENCES_TRANSPOSED = ["twice", "odds", "dilation-stride", "cut", "groups"]


@pytest.mark.parametrize("name", DIFFERENCES)
@by_differences
def test_convolution_against_differences(backend, name):
    layer = made(Conv2D, CONVOLUTIONS[name], 2)
    assert check_gradients(layer, (5, 4, 2), backend, batch=2).error < 1e-6


@pytest.mark.parametrize("name", DIFFERENCES_TRANSPOSED)
@by_differences
def test_transposed_convolution_against_differences(backend, name):
    layer = made(ConvTranspose2D, TRANSPOSED[name], 2)
    assert check_gradients(layer, (3, 3, 2), backend, batch=2).error < 1e-6


@pytest.mark.parametrize("make", [Conv2D, ConvTranspose2D])
@by_differences
def test_many_channels_against_differences(backend, make):
    layer = make(1, (2, 3), stride=(1, 2), padding=1, dilation=(2, 1))
    assert check_gradients(layer, (3, 3, FEW_CHANNELS), backend, batch=2).error < 1e-6


@needs("jax")
@each_width
@pytest.mark.parametrize("name", ["plain", "paddings", "dilations", "same-stride", "groups-stride"])
def test_backward_equals_jax_grad(name, channels):
    def layers():
        return [made(Conv2D, CONVOLUTIONS[name], channels)]

    lengths = Network(layers(), (*SHAPE, channels)).output_shape
    x = np.random.default_rng(1).standard_normal((2, *SHAPE, channels))
    delta = np.random.default_rng(2).standard_normal((2, *lengths))
    assert_close(*jax_passes(layers, (*SHAPE, channels), x, delta), tolerance=2e-5)


# By hand ------------------------------------------------------------------------------------------


def test_a_convolution_by_hand(backend):
    network = Network([Conv1D(1, 2)], (4, 1), backend)
    network.load({"0.conv1d.weight": [[[2.0]], [[-1.0]]], "0.conv1d.bias": [10.0]})
    found = ours(
        network, np.array([[[1.0], [3.0], [2.0], [5.0]]]), np.array([[[1.0], [10], [100]]])
    )
    np.testing.assert_array_equal(found["output"][0, :, 0], [9, 14, 9])  # 2 z[t] - z[t + 1] + 10
    np.testing.assert_array_equal(found["weight"][:, 0, 0], [231, 523])
    np.testing.assert_array_equal(found["bias"], [111])
    np.testing.assert_array_equal(found["input"][0, :, 0], [2, 19, 190, -100])


def test_a_transposed_convolution_by_hand(backend):
    """Each input paints the kernel, times itself; one row, two inputs, stride 2."""
    network = Network([ConvTranspose2D(1, (1, 3), stride=2)], (1, 2, 1), backend)
    network.load(
        {
            "0.convtranspose2d.weight": [[[[1.0]], [[2.0]], [[3.0]]]],
            "0.convtranspose2d.bias": [0.5],
        }
    )
    found = ours(network, np.array([[[[10.0], [20.0]]]]), np.ones((1, 1, 5, 1)))
    np.testing.assert_array_equal(found["output"][0, 0, :, 0], [10.5, 20.5, 50.5, 40.5, 60.5])
    np.testing.assert_array_equal(found["input"][0, 0, :, 0], [6, 6])
    np.testing.assert_array_equal(found["weight"][0, :, 0, 0], [30, 30, 30])
    np.testing.assert_array_equal(found["bias"], [5])


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        (dict(kernel_size=3, stride=2, padding=1), (7, 9, 2)),
        (dict(kernel_size=3, stride=2, padding="same"), (6, 8, 2)),
        (dict(kernel_size=(4, 2), stride=(1, 3), padding="same", dilation=(2, 1)), (6, 9, 2)),
    ],
    ids=["padding", "same", "same-wide"],
)
def test_transposed_is_the_transpose(backend, options, shape):
    """<Conv(x), y> = <x, ConvTranspose(y)> for one kernel with its two sides exchanged."""
    down = Network([Conv2D(5, use_bias=False, **options)], shape, backend)
    up = Network([ConvTranspose2D(2, use_bias=False, **options)], down.output_shape, backend)
    W = down.numpy_arrays()["0.conv2d.weight"]
    up.load({"0.convtranspose2d.weight": np.swapaxes(W, 2, 3)})
    assert up.output_shape == down.input_shape
    x, y = draws(down)
    there, back = (backend.to_numpy(one.forward(z)) for one, z in ((down, x), (up, y)))
    np.testing.assert_allclose(np.sum(there * y), np.sum(x * back), rtol=1e-4)  # sums that cancel


def test_transposed_sizes_by_hand():
    """(n - 1) stride + dilation (kernel - 1) + 1 - 2 padding + output_padding, worked out."""
    sizes = {
        7: dict(stride=2, padding=1),
        8: dict(stride=2, padding=1, output_padding=1),
        9: dict(stride=2),
        12: dict(stride=3, padding="same"),
        14: dict(stride=3, dilation=2),
    }
    for size, options in sizes.items():
        assert ConvTranspose2D(5, 3, **options).output_shape((4, 4, 2)) == (size, size, 5)


def geometries():
    rng = np.random.default_rng(0)
    while True:
        length, size, stride, dilation = (int(n) for n in rng.integers(1, [12, 5, 5, 4]))
        padding = [int(rng.integers(0, 6)), "same"][int(rng.integers(0, 2))]
        try:
            yield slide(length, size, stride, dilation, padding)
        except ShapeError:
            assert padding != "same"


def cut_and_folded(x, y, one, backend):
    both = backend.compiled(lambda x, y: (cut(x, 1, one, backend), fold(y, 1, one, backend)))
    with backend.allow_float64(), backend.on_device():
        parts, back = both(backend.asarray(x), [backend.asarray(part) for part in y])
        return [backend.to_numpy(part) for part in parts], backend.to_numpy(back)


def test_cut_and_fold_are_transposes(backend, rng):
    """<cut(x), y> = <x, fold(y)>, whatever the geometry; and cut finds what the formula says."""
    for _, one in zip(range(25), geometries(), strict=False):
        x = rng.standard_normal((2, one.length, 3))
        y = rng.standard_normal((one.size, 2, one.positions, 3))
        parts, back = cut_and_folded(x, y, one, backend)
        assert np.isclose(np.sum(np.stack(parts) * y), np.sum(x * back)), one
        for k, o in np.ndindex(one.size, one.positions):
            at = o * one.stride + k * one.dilation - one.low
            np.testing.assert_array_equal(parts[k][:, o], x[:, at] if 0 <= at < one.length else 0.0)


# In a network -------------------------------------------------------------------------------------


def small_network():
    return [
        Conv2D(6, 3, padding="same"),
        ReLU(),
        MaxPool2D(2),
        Conv2D(9, 3, stride=2, padding=1),
        ReLU(),
        ConvTranspose2D(8, 2, stride=2),
        Flatten(),
        Dense(3),
    ]


def test_training_follows_numpy(backend):
    curves = [training_curve(small_network, (8, 8, 2), place) for place in (backend, "numpy")]
    assert curves[0][-1] < curves[0][0]
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-4)


def test_first_layer_passes_nothing_back(backend):
    """Its dL/d(input) is not worked out where nobody asks; its gradients stay the same."""
    network = randomized(Network(small_network(), (8, 8, 2), backend))
    x, delta = draws(network)
    network.forward(x, training=True)
    assert network.backward(backend.asarray(delta)) is not None
    wanted = host(network, network.grads)
    assert network.backward(backend.asarray(delta), to_input=False) is None
    for name, array in network.grads.items():
        np.testing.assert_array_equal(backend.to_numpy(array), wanted[name])


def test_a_filter_is_learned():
    """A convolution learns the blur that made its targets, from noise."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 8, 8, 1)).astype(np.float32)
    blur = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    y = sum(blur[i, j] * x[:, i : i + 6, j : j + 6] for i, j in np.ndindex(3, 3))
    network = Network([Conv2D(1, 3)], (8, 8, 1))
    Trainer(network, mean_squared_error, SGD(0.1)).fit(x, y, epochs=20, progress=False)
    W = network.numpy_arrays()["0.conv2d.weight"][..., 0, 0]
    np.testing.assert_allclose(W, blur, atol=1e-3)


def test_work_is_counted():
    """The number of products, counted one output at a time."""
    assert Conv2D(16, 3).multiply_adds((28, 28, 1)) == 26 * 26 * 16 * 9
    assert Conv2D(8, 3, groups=4, padding=1).multiply_adds((5, 5, 4)) == 5 * 5 * 8 * 9
    assert Conv1D(4, 5, stride=2).multiply_adds((9, 3)) == 3 * 4 * 5 * 3
    assert ConvTranspose2D(6, 2, stride=2, groups=2).multiply_adds((4, 4, 4)) == 4 * 4 * 4 * 4 * 3


def test_kernels_start_with_the_right_spread():
    """glorot_uniform's limit, from the entries that an output sums over and those it reaches."""
    from xpnn.initializers import he_normal

    network = Network([Conv2D(64, 3, weight_init=he_normal)], (8, 8, 32))
    W = network.numpy_arrays()["0.conv2d.weight"]
    assert W.shape == (3, 3, 32, 64)
    assert np.std(W) == pytest.approx(math.sqrt(2 / (9 * 32)), rel=0.02)


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "shape", "words"),
    [
        (
            lambda: Conv2D(4, 3),
            (28, 28),
            r"\(height, width, channels\), got \(28, 28\); put a Resh",
        ),
        (lambda: Conv1D(4, 3), (28, 28, 1), r"\(length, channels\), got \(28, 28, 1\)"),
        (lambda: Conv3D(4, 3), (9, 9, 1), r"\(depth, height, width, channels\), got \(9, 9, 1\)"),
        (lambda: Conv2D(4, 5), (4, 9, 1), r"spans 5 does not fit into an axis of length 4"),
        (lambda: Conv2D(4, 3, dilation=4), (9, 8, 1), r"spans 9 .* length 8 .*padding='same'"),
        (lambda: Conv2D(4, 3, groups=2), (9, 9, 3), r"cannot cut 3 channels into groups=2"),
        (lambda: ConvTranspose2D(1, 3, padding=3), (1, 1, 1), r"cuts all of the output away"),
        (lambda: MaxPool2D(3), (2, 2, 1), r"spans 3 does not fit"),
    ],
)
def test_shapes_that_do_not_fit_are_explained(make, shape, words):
    with pytest.raises(ShapeError, match=words):
        Network([make()], shape)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Conv2D(0, 3), "filters that are a multiple of groups.*filters=0"),
        (lambda: Conv2D(3, 3, groups=2), "filters=3, groups=2"),
        (lambda: SeparableConv2D(3, 3, multiplier=0), "multiplier of at least 1, got multiplier=0"),
        (lambda: Conv2D(3, 0), "kernel_size is an integer, or 2 of them, of at least 1, got 0"),
        (lambda: Conv2D(3, (3, 3, 3)), "kernel_size is an integer, or 2 of them"),
        (lambda: Conv1D(3, 2.5), "kernel_size is an integer of at least 1, got 2.5"),
        (lambda: Conv2D(3, 3, stride=0), "stride is"),
        (lambda: Conv2D(3, 3, dilation=(1, 0)), "dilation is"),
        (
            lambda: Conv2D(3, 3, padding="full"),
            "padding is 'valid', 'same' or integers, got 'full'",
        ),
        (lambda: Conv2D(3, 3, padding=-1), "padding is an integer"),
        (lambda: ConvTranspose2D(3, 3, stride=2, output_padding=2), "output_padding=2 with stride"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# Planted bugs -------------------------------------------------------------------------------------


class SwapsTheAxes(Conv2D):
    def backward(self, delta):
        back = super().backward(delta)
        self.grads["weight"] = self.xp.permute_dims(self.grads["weight"], (1, 0, 2, 3))
        return back


class FlipsTheKernel(Conv2D):
    def backward(self, delta):
        W = self.params["weight"]
        self.params["weight"] = self.xp.flip(W, axis=1)
        back = super().backward(delta)
        self.params["weight"] = W
        return back


class ForgetsTheBiasOfOneSample(Conv2D):
    def backward(self, delta):
        back = super().backward(delta)
        self.grads["bias"] = self.xp.sum(delta[0, ...], axis=(0, 1))
        return back


@pytest.mark.parametrize("bug", [SwapsTheAxes, FlipsTheKernel, ForgetsTheBiasOfOneSample])
def test_planted_bugs_are_found(bug):
    with pytest.raises(GradientError):
        check_gradients(bug(2, 2), (4, 4, 2), get_backend("numpy"))
    assert check_gradients(Conv2D(2, 2), (4, 4, 2)).error < 1e-6
