"""Masked: a mask is read only by layers that see the steps it was made for."""

import pytest

from xpnn import (
    GRU,
    LSTM,
    AveragePool1D,
    Bidirectional,
    Conv1D,
    Dense,
    Embedding,
    Masked,
    MultiHeadAttention,
    Network,
    Reshape,
    Residual,
    Sequential,
    TransformerBlock,
)
from xpnn.errors import ShapeError

SHAPE = (6, 4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: [Conv1D(4, 3), LSTM(2)],
        lambda: [AveragePool1D(2), MultiHeadAttention(2)],
        lambda: [Sequential([Conv1D(4, 3, stride=2)]), Sequential([TransformerBlock(4, 2)])],
        lambda: [Residual([AveragePool1D(2), Bidirectional(GRU(3))], LSTM(6))],
        lambda: [Reshape((12, 2)), LSTM(2)],
        lambda: [LSTM(8), Reshape((4, 2)), LSTM(2)],
    ],
)
def test_layers_that_would_misread_the_mask_are_refused(make):
    with pytest.raises(ShapeError, match=r"mask.* of 6 steps, but .* reads \d+ steps; put"):
        Network([Masked(make())], SHAPE)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: Masked([LSTM(4), Dense(2)]), SHAPE),
        (lambda: Masked([LSTM(4, return_sequences=True), AveragePool1D(2)]), SHAPE),
        (lambda: Masked([Conv1D(4, 3, padding="same"), LSTM(4)]), SHAPE),
        (lambda: Masked([Embedding(5, 4), TransformerBlock(4, 2), Conv1D(4, 3)]), (6,)),
        (lambda: Masked([AveragePool1D(2), Masked([LSTM(4)])]), SHAPE),  # with a mask of its own
    ],
)
def test_time_may_change_behind_the_last_reader_of_the_mask(backend, make, shape):
    network = Network([make()], shape, backend)
    x = backend.xp.ones((2, *shape), dtype=backend.xp.int32, device=backend.device)
    assert tuple(network.forward(x).shape[1:]) == network.output_shape
