"""Layers against independent sources: torch.nn with copied weights, and jax.grad."""

import numpy as np
import pytest

from tests.conftest import needs
from tests.layers.table import BATCH, Ids, build, draw, each_layer_by_kind, first_run, run
from xpnn.initializers import normal
from xpnn.layers import (
    ELU,
    GELU,
    GLU,
    SELU,
    AdaptiveAveragePool,
    Cropping,
    Dense,
    Flatten,
    HardSwish,
    Identity,
    LeakyReLU,
    Maxout,
    Mish,
    Parallel,
    Permute,
    PixelShuffle,
    PReLU,
    ReLU,
    Repeat,
    Reshape,
    Residual,
    SeparableConv1D,
    SeparableConv2D,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    SwiGLU,
    Tanh,
    UpSampling,
    ZeroPadding,
)


def linear(nn, p, x, name=""):
    """torch.nn.Linear, whose weight is (outputs, inputs), with ours, which is (inputs, outputs)."""
    return nn.functional.linear(x, p[f"{name}weight"].T, p.get(f"{name}bias"))


def swiglu(nn, p, x):
    gate, value = x.chunk(2, dim=-1)
    return nn.SiLU()(gate) * value


def mlp(nn, p, x):
    return linear(nn, p, nn.GELU()(linear(nn, p, x, "0.dense.")), "2.dense.")


def residual(nn, p, x):
    return x + nn.Tanh()(linear(nn, p, x, "body.0.dense."))


def projected(nn, p, x):
    return nn.ReLU()(linear(nn, p, x, "body.0.dense.")) + linear(nn, p, x, "shortcut.")


def branches(nn, p, x):
    import torch

    return torch.cat([linear(nn, p, x, "0.dense."), nn.Sigmoid()(x)], dim=-1)


def summed(nn, p, x):
    return linear(nn, p, x, "0.dense.") + nn.SiLU()(linear(nn, p, x, "1.sequential.0.dense."))


def on_images(make):
    """A module of torch, which has channels first."""
    return lambda nn, p, x: make(nn)(x.movedim(-1, 1)).movedim(1, -1)


def resized(make, lengths, theirs, name):
    return pytest.param(make, (*lengths, 4), on_images(theirs), id=name)


def separable(axes, inputs, stride=1, padding=0):
    """Two convolutions of torch, the first with a group for each channel."""

    def run(nn, p, x):
        convolve = getattr(nn.functional, f"conv{axes}d")
        V, W = (p[f"{kind}wise_weight"].movedim((-1, -2), (0, 1)) for kind in ("depth", "point"))
        D = convolve(x.movedim(-1, 1), V, stride=stride, padding=padding, groups=inputs)
        return convolve(D, W, p.get("bias")).movedim(1, -1)

    return run


SEPARABLE = [
    pytest.param(
        lambda: SeparableConv1D(5, 3, padding="same", use_bias=False),
        (7, 8),
        separable(1, 8, padding=1),
        id="separable-1d",
    ),
    pytest.param(
        lambda: SeparableConv2D(
            4, (3, 2), stride=(2, 1), padding=1, multiplier=3, bias_init=normal(1.0)
        ),
        (5, 4, 3),
        separable(2, 3, stride=(2, 1), padding=1),
        id="separable",
    ),
]

RESIZED = [
    resized(lambda: ZeroPadding(2), (3, 4), lambda nn: nn.ZeroPad2d(2), "zero-padding"),
    resized(lambda: ZeroPadding(((1, 3),)), (5,), lambda nn: nn.ZeroPad1d((1, 3)), "zeros-1d"),
    resized(
        lambda: Cropping((1, (0, 2))), (5, 4), lambda nn: nn.ZeroPad2d((0, -2, -1, -1)), "crop"
    ),
    resized(lambda: UpSampling(3), (5,), lambda nn: nn.Upsample(scale_factor=3), "nearest-1d"),
    resized(
        lambda: UpSampling((2, 1, 3)),
        (2, 3, 2),
        lambda nn: nn.Upsample(scale_factor=(2, 1, 3)),
        "nearest-3d",
    ),
    *(
        resized(
            lambda f=factor: UpSampling(f, mode="linear"),
            lengths,
            lambda nn, f=factor, m=mode: nn.Upsample(scale_factor=f, mode=m),
            mode,
        )
        for factor, lengths, mode in (
            (4, (5,), "linear"),
            ((3, 2), (4, 1), "bilinear"),
            ((1, 2, 3), (2, 3, 2), "trilinear"),
        )
    ),
    resized(
        lambda: AdaptiveAveragePool(3), (7,), lambda nn: nn.AdaptiveAvgPool1d(3), "adaptive-1d"
    ),
    resized(
        lambda: AdaptiveAveragePool((2, 5)),
        (6, 3),
        lambda nn: nn.AdaptiveAvgPool2d((2, 5)),
        "adaptive-2d",
    ),
    resized(
        lambda: AdaptiveAveragePool((1, 2, 3)),
        (4, 3, 5),
        lambda nn: nn.AdaptiveAvgPool3d((1, 2, 3)),
        "adaptive-3d",
    ),
    resized(lambda: PixelShuffle(2), (3, 5), lambda nn: nn.PixelShuffle(2), "pixel-shuffle"),
]


TORCH = [  # how to make the layer, its input shape, the same in torch given (nn, parameters, x)
    pytest.param(lambda: Dense(3), (4,), linear, id="dense"),
    pytest.param(lambda: Dense(3, use_bias=False), (4,), linear, id="dense-without-bias"),
    pytest.param(lambda: Dense(5), (3, 4), linear, id="dense-over-time"),
    pytest.param(lambda: Dense(17), (130,), linear, id="dense-wide"),
    pytest.param(
        lambda: Dense(3, activation="gelu"),
        (4,),
        lambda nn, p, x: nn.GELU()(linear(nn, p, x)),
        id="dense-activated",
    ),
    pytest.param(Identity, (4,), lambda nn, p, x: nn.Identity()(x), id="identity"),
    pytest.param(Flatten, (2, 3), lambda nn, p, x: nn.Flatten()(x), id="flatten"),
    pytest.param(
        lambda: Reshape((3, 2)), (6,), lambda nn, p, x: nn.Unflatten(1, (3, 2))(x), id="reshape"
    ),
    pytest.param(Sigmoid, (50,), lambda nn, p, x: nn.Sigmoid()(x), id="sigmoid"),
    pytest.param(Tanh, (50,), lambda nn, p, x: nn.Tanh()(x), id="tanh"),
    pytest.param(ReLU, (50,), lambda nn, p, x: nn.ReLU()(x), id="relu"),
    pytest.param(LeakyReLU, (50,), lambda nn, p, x: nn.LeakyReLU()(x), id="leaky-relu"),
    pytest.param(
        lambda: LeakyReLU(0.3), (50,), lambda nn, p, x: nn.LeakyReLU(0.3)(x), id="leaky-relu-0.3"
    ),
    pytest.param(
        lambda: PReLU(slope_init=normal(1.0)),
        (50,),
        lambda nn, p, x: nn.functional.prelu(x, p["slope"]),
        id="prelu",
    ),
    pytest.param(
        lambda: PReLU(shared=True),
        (4, 5),
        lambda nn, p, x: nn.functional.prelu(x, p["slope"]),
        id="prelu-shared",
    ),
    pytest.param(ELU, (50,), lambda nn, p, x: nn.ELU()(x), id="elu"),
    pytest.param(lambda: ELU(0.5), (50,), lambda nn, p, x: nn.ELU(0.5)(x), id="elu-0.5"),
    pytest.param(SELU, (50,), lambda nn, p, x: nn.SELU()(x), id="selu"),
    pytest.param(SiLU, (50,), lambda nn, p, x: nn.SiLU()(x), id="silu"),
    pytest.param(Mish, (50,), lambda nn, p, x: nn.Mish()(x), id="mish"),
    pytest.param(HardSwish, (50,), lambda nn, p, x: nn.Hardswish()(x), id="hard-swish"),
    pytest.param(GLU, (3, 50), lambda nn, p, x: nn.GLU()(x), id="glu"),
    pytest.param(SwiGLU, (3, 50), swiglu, id="swiglu"),
    pytest.param(
        lambda: Maxout(4), (3, 12), lambda nn, p, x: x.unflatten(-1, (3, 4)).amax(-1), id="maxout"
    ),
    pytest.param(
        lambda: Permute((3, 1, 2)), (2, 3, 4), lambda nn, p, x: x.permute(0, 3, 1, 2), id="permute"
    ),
    pytest.param(
        lambda: Repeat(3), (2, 4), lambda nn, p, x: x[:, None].repeat(1, 3, 1, 1), id="repeat"
    ),
    pytest.param(Softplus, (50,), lambda nn, p, x: nn.Softplus()(x), id="softplus"),
    pytest.param(GELU, (50,), lambda nn, p, x: nn.GELU()(x), id="gelu"),
    pytest.param(
        lambda: GELU("tanh"), (50,), lambda nn, p, x: nn.GELU(approximate="tanh")(x), id="gelu-tanh"
    ),
    pytest.param(Softmax, (9,), lambda nn, p, x: nn.Softmax(dim=-1)(x), id="softmax"),
    pytest.param(Softmax, (4, 5), lambda nn, p, x: nn.Softmax(dim=-1)(x), id="softmax-2d"),
    pytest.param(lambda: Sequential([Dense(6), GELU(), Dense(2)]), (4,), mlp, id="sequential"),
    pytest.param(lambda: Residual([Dense(4), Tanh()]), (4,), residual, id="residual"),
    pytest.param(
        lambda: Residual([Dense(3), ReLU()], Dense(3)), (4,), projected, id="residual-shortcut"
    ),
    pytest.param(lambda: Parallel([Dense(2), Sigmoid()]), (4,), branches, id="parallel"),
    pytest.param(
        lambda: Parallel([Dense(3), Sequential([Dense(3), SiLU()])], "sum"),
        (4,),
        summed,
        id="parallel-sum",
    ),
    *RESIZED,
    *SEPARABLE,
]


def by_own_name(network, arrays):
    """Arrays of a network of one layer under the names that the layer itself uses."""
    prefix = next(iter(network.root.children())) + "."
    return {name.removeprefix(prefix): array for name, array in arrays.items()}


@needs("torch")
@pytest.mark.parametrize(
    "size",
    [
        pytest.param(
            1.0, marks=pytest.mark.slow_to_compile
        ),  # which has NumPy's numbers of that size
        30.0,  # where exponentials overflow if one lets them
    ],
)
@pytest.mark.parametrize(("make", "input_shape", "reference"), TORCH)
def test_equals_torch(backend, make, input_shape, reference, size):
    import torch

    network, x = build(make, input_shape, backend), size * draw(input_shape)
    delta = draw(network.output_shape, seed=2)
    found = by_own_name(network, run(network, x, backend.asarray(delta)))

    weights = by_own_name(network, network.params)
    p = {n: torch.tensor(backend.to_numpy(w), requires_grad=True) for n, w in weights.items()}
    x = torch.tensor(x, requires_grad=True)
    output = reference(torch.nn, p, x)
    output.backward(torch.tensor(delta))

    assert found.keys() == {"output", "input", *p}
    for name, tensor in {"input": x, **p}.items():
        wanted = tensor.grad.numpy()
        atol = 1e-5 * max(1.0, float(np.max(np.abs(wanted))))
        np.testing.assert_allclose(found[name], wanted, rtol=1e-5, atol=atol, err_msg=name)
    np.testing.assert_allclose(
        found["output"], output.detach().numpy(), rtol=1e-5, atol=1e-5 * size
    )


@needs("jax")
@each_layer_by_kind
def test_backward_equals_jax_vjp_of_the_same_forward(make, input_shape):
    import jax

    ran, twin = first_run(make, input_shape, "jax"), build(make, input_shape, "jax")
    found = ran.results

    def forward(params, x):
        with twin.holding(params, twin.state):
            output = twin.root.forward(x, training=True)
            return output, [layer.cache["term"] for _, layer in twin.walk() if layer.adds]

    @jax.jit
    def both(params, x, delta):
        (output, terms), pull = jax.vjp(forward, params, x)
        return output, *pull((delta, [jax.numpy.ones_like(term) for term in terms]))

    output, grads, back = both(twin.params, ran.x, ran.delta)
    inputs = {} if isinstance(input_shape, Ids) else {"input": back}  # ids have no gradient
    assert found.keys() == {"output", *inputs, *grads}
    for name, array in {"output": output, **inputs, **grads}.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5, err_msg=name)


@needs("torch")
def test_dropout_scales_as_torch_does(backend):
    """Torch's masks are other ones, so the two are compared where both keep something."""
    import torch

    from xpnn.layers import Dropout

    network = build(lambda: Dropout(0.25), (1000,), backend)
    found = run(
        network, np.ones((BATCH, 1000)), backend.asarray(np.ones((BATCH, 1000), np.float32))
    )
    theirs = torch.nn.Dropout(0.25)(torch.ones(BATCH, 1000)).numpy()
    assert set(np.unique(theirs)) == set(np.unique(found["output"])) == {0, np.float32(4 / 3)}
    np.testing.assert_array_equal(found["input"], found["output"])
    assert abs(np.mean(found["output"] > 0) - np.mean(theirs > 0)) < 0.05
