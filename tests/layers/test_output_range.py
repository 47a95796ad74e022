"""Between which numbers outputs lie, as each layer says: what losses are told of the last one."""

import math

import numpy as np
import pytest

from tests.layers.table import LAYERS, Ids, build, draw, each_layer_of_floats, table
from xpnn import (
    Dense,
    Dropout,
    Flatten,
    Identity,
    Layer,
    Masked,
    Parallel,
    Recompute,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    Softmax,
    Softplus,
    Tanh,
    TiedDense,
)

pytestmark = pytest.mark.host_only

ANY, SHARES = (-math.inf, math.inf), (0.0, 1.0)


def outputs(make, input_shape, inputs):
    """What a layer with large weights makes of inputs, in training and in prediction."""
    network = build(make, input_shape, "numpy", "float64")
    network.params = {name: 1000 * value for name, value in network.params.items()}
    return np.concatenate([network.forward(x, training) for x in inputs for training in (0, 1)])


def inputs_of(shape):
    """Small and large ones, of both signs and of one."""
    if isinstance(shape, Ids):
        return [draw(shape, seed) for seed in range(4)]
    drawn = [draw(shape, seed) for seed in range(8)]
    scales = [(1, 0), (30, 0), (30, 30), (30, -30), (1, 3), (1, -3), (1e3, 0), (1e3, 1e3)]
    return [scale * x + shift for x, (scale, shift) in zip(drawn, scales, strict=True)]


@table([row for row in LAYERS if row.values[0]().output_range(ANY) is not None])
def test_outputs_lie_where_the_layer_says(make, input_shape):
    low, high = make().output_range(ANY)
    found = outputs(make, input_shape, inputs_of(input_shape))
    assert low <= found.min()
    assert found.max() <= high
    # what a loss goes by is said wherever it is so
    assert (found.min() < 0) == (low < 0)
    assert (found.max() > 1) == (high > 1)


@each_layer_of_floats
def test_outputs_of_inputs_between_bounds_lie_where_the_layer_says(make, input_shape):
    for low, high in (SHARES, (-1.0, 1.0), (2.0, 3.0)):
        inputs = [low + (high - low) * np.abs(np.tanh(draw(input_shape, s))) for s in range(4)]
        told = make().output_range((low, high))
        if told is None:  # of what somebody's function does
            continue
        least, most = told
        found = outputs(make, input_shape, inputs)
        assert least <= found.min()
        assert found.max() <= most


BY_HAND = [
    (Sequential([Dense(3), Sigmoid()]), SHARES),
    (Sequential([Sigmoid(), Dense(3)]), ANY),
    (Sequential([Dense(3), Sequential([Sequential([Softmax()]), Flatten()])]), SHARES),
    (Sequential([]), ANY),
    (Recompute([Dense(3), Softmax()]), SHARES),
    (Masked([Dense(3), Softmax()]), SHARES),
    (Sequential([Sigmoid(), Dropout(0.5)]), (0.0, 2.0)),
    (Residual([Dense(3), Sigmoid()]), ANY),
    (Residual([Sigmoid()], Tanh()), (-1.0, 2.0)),
    (Parallel([Sigmoid(), Softmax()]), SHARES),
    (Parallel([Sigmoid(), Dense(3)]), ANY),
    (Parallel([Sigmoid(), Tanh()]), (-1.0, 1.0)),
    (Parallel([Sigmoid(), Softplus()], "sum"), (0.0, math.inf)),
    (Sequential([TiedDense(3, Dense(2)), ReLU()]), (0.0, math.inf)),
]


@pytest.mark.parametrize(("layer", "wanted"), BY_HAND, ids=lambda value: repr(value)[:60])
def test_ranges_by_hand(layer, wanted):
    assert layer.output_range(ANY) == wanted


def test_of_inputs_that_nothing_is_known_of_only_some_is_known():
    assert Identity().output_range(None) is None
    assert Residual([Sigmoid()]).output_range(None) is None
    assert Parallel([Identity(), Sigmoid()]).output_range(None) is None
    assert Dropout().output_range(None) is None
    assert Sequential([Flatten(), Sigmoid()]).output_range(None) == SHARES


class Own(Layer):
    def forward(self, Z, training=False):
        return Z


class Squashed(Dense):
    """Made from a layer that gives any number, with a forward of its own."""

    def forward(self, Z, training=False):
        return 1 / (1 + np.exp(-super().forward(Z, training)))


class Stretched(Sigmoid):
    def rule(self, xp, S):
        return 5 * super().rule(xp, S)


class Declared(Dropout):
    gives = (0.0, 1.0)


class Block(Sequential):
    def __init__(self):
        super().__init__([Dense(3), Sigmoid()])


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [(Own, None), (lambda: Squashed(3), None), (Stretched, None), (Declared, SHARES)],
)
def test_a_layer_of_ones_own_says_it_itself(kind, wanted):
    assert kind().output_range(ANY) == wanted


def test_a_container_of_ones_own_is_what_is_inside():
    assert Block().output_range(ANY) == SHARES
