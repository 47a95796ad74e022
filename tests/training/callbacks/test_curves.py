"""Loss curves of whole networks: the same on every backend, compiled or not."""

from functools import cache

import numpy as np
import pytest

from xpnn import (
    GELU,
    LSTM,
    Adam,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool,
    LayerNorm,
    LearnedPositions,
    MaxPool2D,
    ReLU,
    TransformerBlock,
    cross_entropy,
)
from xpnn.testing import training_curve

STEPS = 50
OPTIONS = {"loss": cross_entropy, "optimizer": Adam(0.01), "batch": 8}
NETWORKS = {
    "mlp": (lambda: [Dense(16), ReLU(), Dropout(0.2), Dense(4)], (12,)),
    "cnn": (
        lambda: [
            *(Conv2D(4, 3, padding="same"), BatchNorm(), ReLU(), MaxPool2D(2)),
            *(Conv2D(8, 3), GELU(), Flatten(), Dense(4)),
        ],
        (8, 8, 1),
    ),
    "lstm": (lambda: [LSTM(6, return_sequences=True), LSTM(5), Dense(4)], (5, 3)),
    "transformer": (
        lambda: [
            *(Dense(8), LearnedPositions(), TransformerBlock(8, 2, causal=True, dropout=0.1)),
            *(LayerNorm(), GlobalAveragePool(), Dense(4)),
        ],
        (5, 3),
    ),
}


@pytest.mark.parametrize(
    "compile",
    [
        pytest.param(None, id="as-the-backend-does"),
        pytest.param(False, id="call-by-call", marks=pytest.mark.slow_to_compile),
    ],
)
@pytest.mark.parametrize("name", NETWORKS)
def test_curves_are_those_of_numpy(backend, name, compile):
    if backend.compiles == "none" and compile is False:
        pytest.skip("it compiles no steps unless asked to, so this is the other row")
    layers, shape = NETWORKS[name]
    steps = 12 if backend.name == "array-api-strict" else STEPS  # the calls are those of any step
    found = training_curve(layers, shape, backend, compile=compile, **OPTIONS, steps=steps)
    np.testing.assert_allclose(found, by_numpy(name)[:steps], rtol=1e-4)


@cache
def by_numpy(name):
    curve = training_curve(*NETWORKS[name], compile=False, **OPTIONS, steps=STEPS)
    assert curve[-1] < 0.97 * curve[0]
    return curve
