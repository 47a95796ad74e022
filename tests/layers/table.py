"""The table of layers: a line for each configuration, and how the tests run it."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from xpnn.initializers import he_normal, normal
from xpnn.layers import (
    ELU,
    GELU,
    GLU,
    GRU,
    LSTM,
    SELU,
    AdaptiveAveragePool,
    Add,
    AlphaDropout,
    Average,
    AveragePool1D,
    AveragePool2D,
    AveragePool3D,
    BatchNorm,
    Bidirectional,
    Concatenate,
    Conv1D,
    Conv2D,
    Conv3D,
    ConvTranspose1D,
    ConvTranspose2D,
    ConvTranspose3D,
    Cropping,
    CrossAttention,
    Cutout,
    Dense,
    Dot,
    Dropout,
    Embedding,
    Flatten,
    GaussianNoise,
    GaussianSample,
    GlobalAveragePool,
    GlobalMaxPool,
    Graph,
    GroupNorm,
    HardSwish,
    Identity,
    Input,
    InstanceNorm,
    Lambda,
    LayerNorm,
    LeakyReLU,
    LearnedPositions,
    Masked,
    Maxout,
    MaxPool1D,
    MaxPool2D,
    MaxPool3D,
    Mish,
    MultiHeadAttention,
    Multiply,
    PaddingMask,
    Parallel,
    Permute,
    PixelShuffle,
    PReLU,
    RandomCrop,
    RandomFlip,
    RandomShift,
    Recompute,
    ReLU,
    Repeat,
    Reshape,
    Residual,
    RMSNorm,
    SeparableConv1D,
    SeparableConv2D,
    Sequential,
    Sigmoid,
    SiLU,
    SimpleRNN,
    SinusoidalPositions,
    Softmax,
    Softplus,
    SpatialDropout,
    Standardize,
    Subtract,
    SwiGLU,
    Tanh,
    TiedDense,
    TransformerBlock,
    TransformerDecoderBlock,
    UpSampling,
    WeightNorm,
    ZeroPadding,
)
from xpnn.layers.augmentation import Augmentation
from xpnn.network import Network


def maze():
    """Containers in containers in containers."""
    inner = Residual([Dense(3), SiLU()], shortcut=Dense(3, use_bias=False))
    pair = Parallel([Sequential([Dense(2), Tanh()]), inner])
    return Residual([Sequential([pair, Dropout(0.2)]), Parallel([Dense(4), Dense(4)], "sum")])


def tied(first, units):
    """A layer, and one that uses its weight on the way out."""
    return Sequential([first, Tanh(), TiedDense(units, first)])


def fork(shape, first, second, joint):
    """Two layers on the same input, and what joins them."""
    x = Input(shape)
    return Graph.of(x, joint(first(x), second(x)))


def looked_at_but_for_padding():
    ids = Input((3,), takes="integers")
    Z = Embedding(5, 4)(ids)
    return Graph.of(ids, CrossAttention(2)(Dense(4)(Z), Z, PaddingMask(2)(ids)))


def decoded():
    """A block that looks at all but padding, of both sides."""
    ids = Input((3,), takes="integers")
    Z, seen = Embedding(5, 4)(ids), PaddingMask(2)(ids)
    block = TransformerDecoderBlock(4, 1, hidden=3, norm_first=False, norm=RMSNorm)
    return Graph.of(ids, block(Dense(4)(Z), Z, seen, seen))


def shared():
    """Layers that are called at several places, of which one draws and one counts."""
    x, dense, drop, norm = Input((3,)), Dense(3), Dropout(0.3), BatchNorm()
    once = norm(drop(Tanh()(dense(x))))
    return Graph.of(x, Add()(norm(drop(dense(once))), once))


def graph_in_a_graph():
    """One of two inputs and two outputs, of which both and one are read."""
    a, b = Input((3,)), Input((4,))
    joined = Concatenate()(a, b)
    inner = Graph.of([a, b], [Dense(2)(joined), Multiply()(Dense(4)(a), b)])
    x = Input((4,))
    first, second = inner(Dense(3)(x), x)
    _, third = inner(Dense(3)(second), second)
    return Graph.of(x, Concatenate()(first, Residual([Dense(4)])(third)))


def adapted(features):
    """A layer that knows data of that many features, of which the last is constant."""
    spreads = np.arange(features)[::-1]
    x = 3.0 + spreads * np.random.default_rng(0).standard_normal((20, features))
    return Standardize().adapt(x)


def sine(xp, Z):
    return xp.sin(Z)


def sine_slope(xp, Z, delta):
    return delta * xp.cos(Z)


class Ids(tuple):
    """The input shape of a layer that looks up integers from 0 to 4."""


OVER_BLOCKS = [  # attention that goes by several blocks in a step, the last one smaller
    pytest.param(
        lambda: Sequential([Embedding(5, 2), MultiHeadAttention(1, causal=True)]),
        Ids((264,)),
        id="attention-over-blocks",
        marks=pytest.mark.slow_to_compile,  # where that many steps are no blocks
    ),
    pytest.param(
        lambda: Masked([Embedding(5, 4), MultiHeadAttention(2)], padding=2),
        Ids((264,)),
        id="attention-over-blocks-masked",
        marks=pytest.mark.slow_to_compile,  # where that many steps are no blocks
    ),
]

NOT_SAVED = pytest.param(lambda: Lambda(sine, sine_slope), (2, 3), id="lambda")

LAYERS = [  # a new layer joins every contract by adding one line: how to make it, its input shape
    pytest.param(lambda: Dense(3), (4,), id="dense"),
    pytest.param(lambda: Dense(3, use_bias=False), (4,), id="dense-without-bias"),
    pytest.param(lambda: Dense(2), (3, 4), id="dense-over-time"),
    pytest.param(lambda: Dense(2, bias_init=normal(1.0)), (2, 3, 2), id="dense-over-pixels"),
    pytest.param(lambda: Dense(1, weight_init=he_normal), (1,), id="dense-one-to-one"),
    pytest.param(lambda: Dense(3, activation="tanh"), (4,), id="dense-activated"),
    pytest.param(lambda: Dropout(0.4), (6,), id="dropout"),
    pytest.param(lambda: Dropout(0.4), (2, 3), id="dropout-2d"),
    pytest.param(lambda: Dropout(0.0), (4,), id="dropout-of-nothing"),
    pytest.param(Flatten, (2, 3), id="flatten"),
    pytest.param(Flatten, (4,), id="flatten-flat"),
    pytest.param(lambda: Reshape((3, 2)), (6,), id="reshape"),
    pytest.param(lambda: Reshape((4, -1)), (2, 2, 3), id="reshape-rest"),
    pytest.param(lambda: Permute((2, 3, 1)), (2, 3, 4), id="permute"),
    pytest.param(lambda: Repeat(3), (4,), id="repeat"),
    pytest.param(Identity, (4,), id="identity"),
    pytest.param(Sigmoid, (5,), id="sigmoid"),
    pytest.param(Tanh, (5,), id="tanh"),
    pytest.param(ReLU, (5,), id="relu"),
    pytest.param(ReLU, (2, 3), id="relu-2d"),
    pytest.param(LeakyReLU, (5,), id="leaky-relu"),
    pytest.param(lambda: LeakyReLU(0.3), (5,), id="leaky-relu-0.3"),
    pytest.param(PReLU, (2, 3), id="prelu"),
    pytest.param(lambda: PReLU(shared=True), (5,), id="prelu-shared"),
    pytest.param(ELU, (5,), id="elu"),
    pytest.param(lambda: ELU(0.5), (5,), id="elu-0.5"),
    pytest.param(SELU, (5,), id="selu"),
    pytest.param(SiLU, (5,), id="silu"),
    pytest.param(HardSwish, (5,), id="hard-swish"),
    pytest.param(Mish, (5,), id="mish"),
    pytest.param(GLU, (6,), id="glu"),
    pytest.param(SwiGLU, (2, 4), id="swiglu"),
    pytest.param(lambda: Maxout(3), (2, 6), id="maxout"),
    pytest.param(Softplus, (5,), id="softplus"),
    pytest.param(GELU, (5,), id="gelu"),
    pytest.param(lambda: GELU("tanh"), (5,), id="gelu-tanh"),
    pytest.param(Softmax, (4,), id="softmax"),
    pytest.param(Softmax, (2, 3), id="softmax-2d"),
    pytest.param(lambda: Conv1D(4, 3, stride=2, padding=1), (7, 3), id="conv1d"),
    pytest.param(lambda: Conv1D(3, 2, activation=PReLU), (4, 2), id="conv1d-activated"),
    pytest.param(lambda: Conv2D(3, (2, 3), padding="same"), (4, 5, 2), id="conv2d"),
    pytest.param(lambda: Conv2D(2, 2, dilation=2, use_bias=False), (4, 3, 9), id="conv2d-channels"),
    pytest.param(lambda: Conv2D(3, 1), (3, 4, 7), id="conv2d-one-by-one"),
    pytest.param(lambda: Conv2D(6, 3, stride=2, padding=1, groups=3), (4, 5, 3), id="depthwise"),
    pytest.param(lambda: Conv3D(2, (2, 3, 1), stride=(1, 2, 1)), (3, 5, 2, 2), id="conv3d"),
    pytest.param(lambda: SeparableConv1D(2, 3, padding="same"), (4, 3), id="separable-1d"),
    pytest.param(lambda: SeparableConv2D(2, 2, multiplier=2), (3, 3, 2), id="separable"),
    pytest.param(lambda: ConvTranspose2D(2, 3, stride=2), (2, 3, 3), id="transposed"),
    pytest.param(lambda: ConvTranspose1D(2, 3, padding=1), (3, 4), id="transposed-1d"),
    pytest.param(lambda: ConvTranspose3D(2, 2, stride=(2, 1, 1)), (2, 1, 2, 2), id="transposed-3d"),
    pytest.param(lambda: MaxPool1D(3, stride=1), (5, 2), id="max-pool-1d"),
    pytest.param(lambda: MaxPool2D(2), (4, 5, 2), id="max-pool"),
    pytest.param(lambda: MaxPool2D(3, stride=2, padding=1), (4, 5, 2), id="max-pool-padded"),
    pytest.param(lambda: MaxPool3D((1, 2, 2), stride=1), (2, 3, 2, 2), id="max-pool-3d"),
    pytest.param(lambda: AveragePool1D(2), (5, 3), id="average-pool-1d"),
    pytest.param(lambda: AveragePool2D(3, stride=2, padding=1), (4, 5, 2), id="average-pool"),
    pytest.param(lambda: AveragePool3D(2), (2, 3, 4, 2), id="average-pool-3d"),
    pytest.param(GlobalAveragePool, (3, 2, 4), id="global-average-pool"),
    pytest.param(GlobalMaxPool, (3, 2, 4), id="global-max-pool"),
    pytest.param(lambda: AdaptiveAveragePool((2, 1)), (3, 4, 2), id="adaptive-average-pool"),
    pytest.param(lambda: ZeroPadding((1, (0, 2))), (3, 2, 2), id="zero-padding"),
    pytest.param(lambda: Cropping((1, (2, 0))), (4, 4, 2), id="cropping"),
    pytest.param(lambda: UpSampling((2, 3)), (2, 2, 3), id="up-sampling"),
    pytest.param(lambda: UpSampling(2, mode="linear"), (3, 2, 2), id="up-sampling-linear"),
    pytest.param(lambda: PixelShuffle((2, 1)), (3, 2, 4), id="pixel-shuffle"),
    pytest.param(BatchNorm, (4,), id="batch-norm"),
    pytest.param(lambda: BatchNorm(0.5, epsilon=0.1), (3, 2, 4), id="batch-norm-pixels"),
    pytest.param(lambda: BatchNorm(synchronized=False), (4,), id="batch-norm-of-each-process"),
    pytest.param(LayerNorm, (4,), id="layer-norm"),
    pytest.param(LayerNorm, (3, 4), id="layer-norm-over-time"),
    pytest.param(RMSNorm, (3, 4), id="rms-norm"),
    pytest.param(lambda: GroupNorm(2), (4,), id="group-norm"),
    pytest.param(lambda: GroupNorm(3), (3, 2, 6), id="group-norm-pixels"),
    pytest.param(InstanceNorm, (3, 2, 4), id="instance-norm"),
    pytest.param(InstanceNorm, (2, 3), id="instance-norm-over-time"),
    pytest.param(lambda: adapted(3), (2, 3), id="standardize"),
    pytest.param(lambda: SpatialDropout(0.4), (3, 2, 5), id="spatial-dropout"),
    pytest.param(lambda: AlphaDropout(0.4), (6,), id="alpha-dropout"),
    pytest.param(lambda: GaussianNoise(0.3), (6,), id="gaussian-noise"),
    pytest.param(lambda: GaussianSample(0.7), (2, 6), id="gaussian-sample"),
    pytest.param(lambda: RandomFlip(0.5, vertical=0.5), (2, 3, 2), id="random-flip"),
    pytest.param(lambda: RandomShift((1, 2)), (3, 4, 2), id="random-shift"),
    pytest.param(lambda: RandomCrop((3, 2), padding=1), (4, 3, 2), id="random-crop"),
    pytest.param(lambda: Cutout((2, 1)), (3, 3, 2), id="cutout"),
    pytest.param(lambda: Embedding(5, 3), Ids((4,)), id="embedding"),
    pytest.param(lambda: Embedding(5, 2), Ids((2, 3)), id="embedding-2d"),
    pytest.param(LearnedPositions, (3, 4), id="learned-positions"),
    pytest.param(lambda: LearnedPositions(5), (3, 4), id="learned-positions-to-spare"),
    pytest.param(SinusoidalPositions, (3, 4), id="sinusoidal-positions"),
    pytest.param(lambda: SimpleRNN(3), (4, 2), id="simple-rnn"),
    pytest.param(lambda: SimpleRNN(2, return_sequences=True, reverse=True), (3, 2), id="rnn-back"),
    pytest.param(lambda: LSTM(3), (4, 2), id="lstm"),
    pytest.param(lambda: LSTM(2, return_sequences=True, use_bias=False), (3, 2), id="lstm-all"),
    pytest.param(lambda: GRU(3), (4, 2), id="gru"),
    pytest.param(lambda: Bidirectional(GRU(2, return_sequences=True)), (3, 2), id="bidirectional"),
    pytest.param(lambda: MultiHeadAttention(2), (3, 4), id="attention"),
    pytest.param(
        lambda: MultiHeadAttention(2, causal=True, rotate=True, dropout=0.3, use_bias=False),
        (3, 4),
        id="attention-causal-rotating",
    ),
    pytest.param(
        lambda: MultiHeadAttention(4, kv_heads=2, causal=True, window=2, alibi=True),
        (4, 8),
        id="grouped-attention",
    ),
    pytest.param(lambda: TransformerBlock(4, 2, hidden=3, causal=True), (3, 4), id="transformer"),
    pytest.param(
        lambda: TransformerBlock(4, 1, hidden=3, norm_first=False, dropout=0.2, norm=RMSNorm),
        (2, 4),
        id="transformer-norm-last",
    ),
    pytest.param(
        lambda: Masked([Embedding(5, 4), MultiHeadAttention(1), LSTM(2)], padding=2),
        Ids((4,)),
        id="masked",
    ),
    pytest.param(lambda: tied(Dense(3), 4), (4,), id="tied-dense"),
    pytest.param(lambda: tied(Embedding(5, 3), 5), Ids((4,)), id="tied-embedding"),
    pytest.param(lambda: Sequential([Dense(3), Tanh(), Dense(2)]), (4,), id="sequential"),
    pytest.param(lambda: Sequential([]), (3,), id="sequential-of-nothing"),
    pytest.param(lambda: Residual([Dense(4), Tanh()]), (4,), id="residual"),
    pytest.param(lambda: Residual([Dense(3)], Dense(3)), (4,), id="residual-shortcut"),
    pytest.param(lambda: Residual([Dropout(0.3)], Identity()), (4,), id="residual-identity"),
    pytest.param(lambda: Parallel([Dense(2), Tanh(), Dense(1)]), (3,), id="parallel"),
    pytest.param(lambda: Parallel([Dense(2), Dense(3)]), (2, 3), id="parallel-2d"),
    pytest.param(lambda: Parallel([Dense(3), Tanh()], "sum"), (3,), id="parallel-sum"),
    pytest.param(lambda: Parallel([Dense(3)]), (3,), id="parallel-of-one"),
    pytest.param(lambda: Parallel([Dropout(0.5), Dropout(0.5)]), (4,), id="parallel-dropouts"),
    pytest.param(lambda: Recompute([Dense(3), Dropout(0.4), Tanh()]), (4,), id="recompute"),
    pytest.param(
        lambda: Recompute([BatchNorm(), Recompute([Dense(3), Dropout(0.3)])]),
        (4,),
        id="recompute-twice",
    ),
    pytest.param(lambda: WeightNorm(Dense(3)), (4,), id="weight-norm"),
    pytest.param(lambda: WeightNorm(Conv1D(2, 2)), (4, 3), id="weight-norm-conv"),
    pytest.param(maze, (4,), id="nested"),
    NOT_SAVED,
    pytest.param(lambda: fork((3,), Dense(3), Tanh(), Add()), (3,), id="add"),
    pytest.param(
        lambda: fork(
            (2, 3), Dense(3), Sequential([GlobalAveragePool(), Reshape((1, 3))]), Multiply()
        ),
        (2, 3),
        id="multiply-repeated",
    ),
    pytest.param(lambda: fork((3,), Dense(3), Identity(), Subtract()), (3,), id="subtract"),
    pytest.param(lambda: fork((3,), Dense(3), Tanh(), Average()), (3,), id="average"),
    pytest.param(lambda: fork((2, 3), Dense(2), Tanh(), Concatenate()), (2, 3), id="concatenate"),
    pytest.param(
        lambda: fork((2, 3), Dense(3), Tanh(), Concatenate(0)), (2, 3), id="concatenate-0"
    ),
    pytest.param(lambda: fork((3,), Dense(3), Tanh(), Dot()), (3,), id="dot"),
    pytest.param(lambda: fork((2, 3), Dense(3), Tanh(), Dot(cosine=True)), (2, 3), id="dot-cosine"),
    pytest.param(
        lambda: fork((3, 4), Dense(4), Conv1D(4, 2), CrossAttention(2, kv_heads=1, dropout=0.2)),
        (3, 4),
        id="cross-attention",
    ),
    pytest.param(
        lambda: fork((3, 4), Dense(4), Conv1D(6, 2), CrossAttention(2, kv_heads=1)),
        (3, 4),
        id="cross-attention-to-other-features",
    ),
    pytest.param(looked_at_but_for_padding, Ids((3,)), id="cross-attention-masked"),
    pytest.param(
        lambda: fork((3, 4), Dense(4), Conv1D(4, 2), TransformerDecoderBlock(4, 2, dropout=0.2)),
        (3, 4),
        id="decoder",
    ),
    pytest.param(decoded, Ids((3,)), id="decoder-masked-norm-last"),
    pytest.param(shared, (3,), id="graph-of-shared-layers"),
    pytest.param(graph_in_a_graph, (4,), id="graph-in-a-graph"),
    *OVER_BLOCKS,
]
DRAWS = (
    Dropout,
    AlphaDropout,
    GaussianNoise,
    GaussianSample,
    Augmentation,
)  # layers that draw random numbers in training
OTHERWISE_IN_TRAINING = (*DRAWS, BatchNorm)  # whose training mode is not their prediction mode
IN_FLOAT32 = {"inverse", "lengths", "term"}  # what is kept of statistics, whatever the dtype


def has_two_modes(layer, kinds=OTHERWISE_IN_TRAINING):
    return any(isinstance(x, kinds) and getattr(x, "rate", 1) for _, x in layer.walk())


@functools.cache
def _two_modes(make):
    return has_two_modes(make())


def slides(layer):
    return any(type(x).__module__.startswith("xpnn.layers.sliding.") for _, x in layer.walk())


def is_another(number):
    """Whether an earlier line of the table has a layer of this kind, with no layers inside."""
    layer = LAYERS[number].values[0]()
    kinds = (type(row.values[0]()) for row in LAYERS[:number])
    return len([*layer.walk()]) == 1 and type(layer) in kinds


def table(layers):
    return pytest.mark.parametrize(("make", "input_shape"), layers)


each_layer = table(LAYERS)
each_layer_that_is_saved = table([row for row in LAYERS if row is not NOT_SAVED])
each_layer_over_blocks = table(OVER_BLOCKS)
each_layer_of_few_numbers = table([row for row in LAYERS if row not in OVER_BLOCKS])
each_layer_of_floats = table([row for row in LAYERS if not isinstance(row.values[1], Ids)])
each_layer_that_slides = table([row for row in LAYERS if slides(row.values[0]())])
each_layer_of_two_modes = table([row for row in LAYERS if _two_modes(row.values[0])])
each_layer_with_its_modes = table(  # of one mode, where no call asks for it, JAX has one program
    [
        pytest.param(
            *row.values,
            id=row.id,
            marks=() if _two_modes(row.values[0]) else pytest.mark.slow_to_compile,
        )
        for row in LAYERS
    ]
)
BY_KIND = [
    pytest.param(
        *row.values,
        id=row.id,
        marks=[*row.marks, *([pytest.mark.slow_to_compile] if is_another(k) else [])],
    )
    for k, row in enumerate(LAYERS)
]
"""Options of a layer have the numbers and dtypes that they have on NumPy."""
each_layer_by_kind = table(BY_KIND)
each_layer_by_width = table(  # where something is drawn or counted, 64 bits are tried, too
    [
        pytest.param(
            *row.values,
            id=row.id,
            marks=[
                *row.marks,
                *(() if _two_modes(row.values[0]) else [pytest.mark.any_width]),
            ],
        )
        for row in LAYERS
    ]
)
each_layer_of_one_mode = table([row for row in LAYERS if not _two_modes(row.values[0])])
each_dtype = pytest.mark.parametrize(
    "dtype",
    [
        "float32",
        pytest.param("float64", marks=pytest.mark.any_width),
        pytest.param("float16", marks=pytest.mark.any_width),
        # Wider floats show beside float16, too, and both halves on PyTorch.
        pytest.param("bfloat16", marks=[pytest.mark.any_width, pytest.mark.slow_to_compile]),
    ],
)
BATCH = 3


def build(make, input_shape, backend, dtype="float32", seed=0):
    return Network([make()], input_shape, backend, seed=seed, dtype=dtype)


def draw(shape, seed=1):
    if isinstance(shape, Ids):
        return np.random.default_rng(seed).integers(0, 5, (BATCH, *shape))
    return np.random.default_rng(seed).standard_normal((BATCH, *shape)).astype(np.float32)


def run(network, x, delta=None, training=True):
    """One forward and backward pass, as in a step; everything that came out of it, on the host.

    Compiled on JAX, as in training: call by call it would compile each call by itself.
    """
    backend = network.backend
    if backend.name == "jax":
        return runs(network, training)(x, delta)
    with network.uninspected():
        out = network.forward(x, training)
    if delta is None:
        delta = backend.asarray(draw(tuple(out.shape[1:]), seed=2)[: out.shape[0]], network.dtype)
    back = network.backward(delta)
    return on_host(backend, {"output": out, **network.grads, "input": back})


def runs(network, training=True):
    """``run``, to be called again and again; JAX traces and compiles it once for all."""
    backend = network.backend
    if backend.name != "jax":
        return functools.partial(run, network, training=training)
    step = backend.compiled(one_pass(network, training), wanted=True)

    def again(x, delta=None):
        if delta is None:
            delta = draw(network.output_shape, seed=2)[: len(x)]
        given = network.asarray(x), backend.asarray(delta, network.dtype)
        with backend.on_device():
            arrays, network.state = step(network.params, network.state, *given)
        return on_host(backend, arrays)

    return again


def one_pass(network, training=True):
    """Both passes as a function of arrays, which can be compiled."""

    def step(params, state, x, delta):
        with network.holding(params, state):
            out = network.root.forward(x, training)
            back = network.root.backward(delta)
            return {"output": out, "input": back, **network.grads}, network.state

    return step


@dataclass
class FirstRun:
    """A network with one layer, and its first pass in training.

    Attributes:
        network: after the pass.
        step: what was run, for other arrays of these shapes.
        x, delta: the arrays that were lent to the layer.
        values: the same on the host, as they were before.
        params, kinds_of_state: before the pass: values on the host, dtypes or types.
        results: everything that came out, on the host.
    """

    network: Network
    step: Callable[..., Any]
    x: Any
    delta: Any
    values: tuple[np.ndarray, np.ndarray]
    params: dict[str, np.ndarray]
    kinds_of_state: dict[str, Any]
    results: dict[str, np.ndarray]

    def on_other_inputs(self, x):
        """What comes out for another batch, on the host."""
        network = self.network
        with network.backend.on_device():
            given = network.params, network.state, network.asarray(x), self.delta
            return on_host(network.backend, self.step(*given)[0])


@functools.cache
def first_run(make, input_shape, spec):
    """One for all promises about it; on JAX compiled, as it is used: call by call takes twice."""
    network = build(make, input_shape, spec)
    backend, values = network.backend, (draw(input_shape), draw(network.output_shape, seed=2))
    x, delta = (backend.asarray(value.copy()) for value in values)
    params, kinds = host(network, "params"), kinds_of_state(network)
    step = backend.compiled(one_pass(network), wanted=backend.name == "jax")
    with backend.on_device():
        arrays, network.state = step(network.params, network.state, x, delta)
    return FirstRun(network, step, x, delta, values, params, kinds, on_host(backend, arrays))


def on_host(backend, arrays):
    return {
        name: np.array(backend.to_numpy(array))
        for name, array in arrays.items()
        if array is not None
    }


def kinds_of_state(network):
    return {name: getattr(value, "dtype", type(value)) for name, value in network.state.items()}


def host(network, kind):
    return {
        name: np.array(network.backend.to_numpy(array))
        for name, array in getattr(network, kind).items()
    }
