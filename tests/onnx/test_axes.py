"""Free axes beside that of the batch: what layers take them, and what is refused."""

import math
import re

import numpy as np
import pytest

from tests.layers.table import Ids
from tests.onnx.running import batch_of, exported, of_random_values
from xpnn import (
    GRU,
    LSTM,
    AdaptiveAveragePool,
    AveragePool1D,
    BatchNorm,
    Bidirectional,
    Conv1D,
    Conv2D,
    ConvTranspose1D,
    Cropping,
    Dense,
    Embedding,
    ExportError,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    GroupNorm,
    InstanceNorm,
    Layer,
    LayerNorm,
    LearnedPositions,
    Masked,
    MaxPool1D,
    MaxPool2D,
    MultiHeadAttention,
    Network,
    PixelShuffle,
    Reshape,
    SinusoidalPositions,
    Softmax,
    TransformerBlock,
    UpSampling,
    ZeroPadding,
)
from xpnn.layers import Input
from xpnn.onnx.sizes import Size, is_same

FREE_TIME = [
    pytest.param(lambda: [LSTM(4, return_sequences=True), GRU(3, reverse=True)], (6, 3), id="rnn"),
    pytest.param(lambda: [Bidirectional(LSTM(2, return_sequences=True))], (6, 3), id="both-ways"),
    pytest.param(
        lambda: [Embedding(5, 8), LearnedPositions(20), TransformerBlock(8, 2, causal=True)],
        Ids((6,)),
        id="gpt",
    ),
    pytest.param(
        lambda: [
            SinusoidalPositions(),
            MultiHeadAttention(2, causal=True, rotate=True, window=3, alibi=True),
        ],
        (6, 8),
        id="positions",
    ),
    pytest.param(
        lambda: [Masked([Embedding(5, 8), MultiHeadAttention(2), LSTM(3)], padding=2)],
        Ids((6,)),
        id="masked",
    ),
    pytest.param(
        lambda: [Conv1D(4, 3, padding="same"), Conv1D(3, 4, stride=2, padding=1), GlobalMaxPool()],
        (6, 3),
        id="convolution",
    ),
    pytest.param(lambda: [MaxPool1D(2), AveragePool1D(2, stride=1)], (6, 3), id="pooling"),
    pytest.param(lambda: [ConvTranspose1D(2, 3, stride=2)], (6, 3), id="transposed"),
    pytest.param(lambda: [UpSampling(2), UpSampling(2, mode="linear")], (6, 3), id="up-sampling"),
    pytest.param(
        lambda: [LayerNorm(), GroupNorm(1), InstanceNorm(), BatchNorm(), Softmax()],
        (6, 3),
        id="norms",
    ),
    pytest.param(lambda: [ZeroPadding((1,)), Cropping((2,))], (6, 3), id="edges"),
    pytest.param(lambda: [Reshape((-1, 3)), Dense(2), GlobalAveragePool()], (6, 6), id="reshape"),
]


@pytest.mark.parametrize(("make", "shape"), FREE_TIME)
def test_sequences_of_any_length(make, shape, tmp_path):
    """Against a network that is made for each length, with the same values."""
    network, rng = of_random_values(make(), shape), np.random.default_rng(1)
    session = exported(network, tmp_path, free={1: "time"})
    for count, time in ((1, 5), (2, 8), (5, 13)):
        other = type(shape)((time, *shape[1:]))
        x = batch_of(count, other, rng)
        made_for_it = Network(make(), other)
        made_for_it.load(network.numpy_arrays())
        (found,) = session.run(None, {"x": x})
        wanted = made_for_it.predict(x)
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-6)


def test_images_of_any_size(tmp_path):
    layers = lambda: [  # noqa: E731
        Conv2D(4, 3, padding="same", activation="relu"),
        MaxPool2D(2),
        PixelShuffle((2, 2)),
        GlobalAveragePool(),
    ]
    network, rng = of_random_values(layers(), (8, 8, 2)), np.random.default_rng(1)
    session = exported(network, tmp_path, free={1: "height", 2: "width"})
    for height, width in ((8, 8), (6, 11), (9, 4)):
        x = batch_of(2, (height, width, 2), rng)
        made_for_it = Network(layers(), (height, width, 2))
        made_for_it.load(network.numpy_arrays())
        np.testing.assert_allclose(
            session.run(None, {"x": x})[0], made_for_it.predict(x), rtol=1e-5, atol=2e-6
        )


def test_axes_of_one_name_are_of_one_length(tmp_path):
    from xpnn import Add

    a, b = Input((4, 3), name="a"), Input((4, 3), name="b")
    network = Network(inputs=[a, b], outputs=Add()(a, b))
    free = {"a": {1: "time"}, "b": {1: "time"}}
    session = exported(network, tmp_path, free=free, batch="n")
    shapes = [one.shape for one in (*session.get_inputs(), *session.get_outputs())]
    assert shapes == [["n", "time", 3]] * 3
    with pytest.raises(ExportError, match=r"(?s)layer 0\.add.*\(batch, long, 3\).*of free"):
        network.to_onnx(tmp_path / "other.onnx", free={"a": {1: "time"}, "b": {1: "long"}})
    assert not (tmp_path / "other.onnx").exists()


class Halved(Layer):
    """Divides by how many samples there are, of which it makes a number of its own."""

    def forward(self, Z, training=False):
        return Z * (1.0 / Z.shape[0])

    def backward(self, delta):
        return delta


class Shared(Halved):
    """Divides by how many samples there are, as arrays are divided."""

    def forward(self, Z, training=False):
        return Z / Z.shape[0]


REFUSED = [
    (lambda: [Flatten(), Dense(2)], (6, 3), r"layer 1\.dense.*3\*time.*leave axes out of free"),
    (lambda: [AdaptiveAveragePool(2)], (6, 3), r"0\.adaptiveaveragepool.*as a plain number"),
    (lambda: [Conv1D(2, 3, stride=2, padding="same")], (6, 3), r"padding of an axis depends on"),
    (lambda: [AveragePool1D(3, stride=2, padding="same")], (6, 3), r"padding of a mean depends on"),
]


@pytest.mark.parametrize(("make", "shape", "message"), REFUSED)
def test_what_needs_to_know_the_length_says_so(make, shape, message, tmp_path):
    network = Network(make(), shape)
    with pytest.raises(ExportError, match=f"(?s){message}") as caught:
        network.to_onnx(tmp_path / "network.onnx", free={1: "time"})
    assert caught.value.layer == re.match(r"layer (\S+) ?", str(caught.value))[1].rstrip(":")
    assert not (tmp_path / "network.onnx").exists()
    network.to_onnx(tmp_path / "network.onnx")  # as the advice says


def test_a_number_made_of_the_size_of_the_batch(tmp_path):
    """Which no trace alone can tell from a constant."""
    with pytest.raises(ExportError, match=r"layer 0\.halved goes by the length.*batch=1"):
        Network([Halved()], (3,)).to_onnx(tmp_path / "network.onnx")
    x = np.ones((4, 3), np.float32)
    for layer, batch in ((Halved(), 4), (Shared(), "batch")):
        session = exported(Network([layer], (3,)), tmp_path, batch=batch)
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], x / 4)
    assert session.get_inputs()[0].shape == ["batch", 3]


STEPS = [
    lambda one, other, number: one + other,
    lambda one, other, number: one - number,
    lambda one, other, number: one * other,
    lambda one, other, number: (one * number) // number,
    lambda one, other, number: one // number,
    lambda one, other, number: number - one % number,
    lambda one, other, number: -(-one // number),
]


def grown(start, seed):
    """Numbers that follow from others by drawn steps."""
    draws, values = np.random.default_rng(seed), list(start)
    for _ in range(8):
        one, other = (values[k] for k in draws.integers(0, len(values), 2))
        step = STEPS[draws.integers(0, len(STEPS))]
        values.append(step(one, other, int(draws.integers(1, 7))))
    return values


def at(terms, lengths):
    """What a sum of products is for these lengths."""
    return sum(
        count * math.prod(factor_at(one, lengths) for one in atoms) for atoms, count in terms
    )


def factor_at(atom, lengths):
    if hasattr(atom, "name"):
        return lengths[atom.name]
    pair = at(atom.dividend, lengths), at(atom.divisor, lengths)
    return pair[0] // pair[1] if atom.operation == "//" else pair[0] % pair[1]


def test_sizes_are_worked_out_again_for_other_lengths():
    """Random expressions of two lengths, taken at others by what they are a sum of."""
    a, b = (Size.of_axis(n, name, name, 0) for n, name in ((9973, "a"), (10003, "b")))
    free = 0
    for seed in range(100):
        for one, wanted in zip(grown((a, b), seed), grown((41, 53), seed), strict=True):
            free += isinstance(one, Size)
            terms = one.terms if isinstance(one, Size) else (((), one),)
            assert at(terms, {"a": 41, "b": 53}) == wanted
    assert free > 500


def test_sizes_that_cancel_are_plain_numbers():
    time = Size.of_axis(9973, "time", "x", 1)
    assert type((time - 2) * 3 - 3 * time) is int
    assert type(time * 4 // time) is int
    assert is_same((2 * time + 4) // 2, time + 2)
    assert str((time - 2) // 3 * 2 + 1) == "2*((time - 2) // 3) + 1"
    assert not is_same(time, 9973)
    with pytest.raises(ExportError, match="divide arrays by it"):
        time / 2
