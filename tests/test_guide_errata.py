"""The guide's errata: its printed form is shown to be wrong, and the layers here to be right.

``docs/guide.md`` tells the story of each. The printed forms are written out here, in NumPy.
"""

import numpy as np
import pytest

from tests.test_guide import NAND_X, NAND_Y, cost, feed, linked, nand, slope
from xpnn.guide import InputLayer, OutputLayer
from xpnn.layers import Sigmoid, SiLU, Tanh


def test_the_printed_update_climbs():
    """The guide's code adds the gradient; its own formula subtracts it."""
    printed, ours = nand(), nand(rate=1.0)
    climbing, falling = [cost(printed, NAND_Y)], [cost(ours, NAND_Y)]
    for _ in range(20):
        *_, o = printed
        o.learning_rate = 0.0  # for the gradients alone; the update is the guide's, written out
        o.backprop(NAND_Y)
        for layer in printed[1:]:
            layer.weights = layer.weights + (1.0 / layer.delta.shape[0]) * layer.harp_w
            layer.bias = layer.bias + (1.0 / layer.delta.shape[0]) * layer.harp_b
        climbing.append(cost(printed, NAND_Y))
        ours[-1].backprop(NAND_Y)
        falling.append(cost(ours, NAND_Y))
    assert np.all(np.diff(climbing) > 0)
    assert np.all(np.diff(falling) < 0)


def test_the_plus_would_be_right_with_the_error_of_the_guides_text():
    """The text calls the error true minus predicted; the code takes predicted minus true."""
    _, h, o = layers = nand(rate=1.0)
    feed(layers)
    weights, upper_z, z = o.weights, h.z, o.z
    delta = (NAND_Y - z) * z * (1 - z)
    o.backprop(NAND_Y)
    np.testing.assert_allclose(o.weights, weights + 1.0 / 4 * upper_z.T @ delta, rtol=1e-12)


def test_the_printed_harp_b_is_not_summed_over_the_batch():
    """A bias of shape (units,) turns into one of (batch, units), and fits no other batch."""
    i, h, o = layers = nand()
    feed(layers)
    bias = o.bias
    o.backprop(NAND_Y)
    printed_harp_b = o.delta
    printed_bias = bias - (1.0 / o.delta.shape[0]) * printed_harp_b
    assert printed_bias.shape == (4, 1)
    with pytest.raises(ValueError, match="broadcast"):
        h.z[:3] @ o.weights + printed_bias
    assert o.bias.shape == bias.shape == (1,)
    i.z = NAND_X[:3]
    feed(layers)  # another batch size is no trouble

    i.z = NAND_X
    feed(layers)
    o.learning_rate = 0.0
    o.backprop(NAND_Y)
    for layer in (h, o):
        by_differences = slope(layers, layer, "bias", NAND_Y)
        np.testing.assert_allclose(layer.harp_b, by_differences, rtol=1e-6, atol=1e-9)
        assert not np.any(np.isclose(layer.delta, by_differences, rtol=1e-3))


def test_the_printed_weight_gradient_names_w_for_an_activation():
    """``sum w delta f'`` is the delta of the layer above; W needs ``z^T delta`` of it."""
    _, h, o = layers = nand(rate=0.0)
    feed(layers)
    o.backprop(NAND_Y)
    printed = (o.delta @ o.weights.T) * h.z * (1 - h.z)
    np.testing.assert_allclose(printed, h.delta, rtol=1e-12)
    assert printed.shape == (4, 4)
    assert o.harp_w.shape == o.weights.shape == (4, 1)


def test_the_printed_weight_gradient_is_wrong_where_its_shape_fits(rng):
    """With as many samples as units the printed formula fits W, but is not its gradient."""
    x, y = rng.standard_normal((3, 3)), rng.random((3, 3))
    _, h, o = layers = linked(x, [(3, Sigmoid), (3, Sigmoid)], rate=0.0, dtype="float64")
    feed(layers)
    o.backprop(y)
    printed = (o.delta @ o.weights.T) * h.z * (1 - h.z)
    by_differences = slope(layers, o, "weights", y)
    assert printed.shape == by_differences.shape
    assert not np.any(np.isclose(printed, by_differences, rtol=1e-2))
    np.testing.assert_allclose(o.harp_w, by_differences, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("activation", [Sigmoid, Tanh, SiLU])
def test_the_printed_derivative_is_taken_of_the_activation(activation):
    """f' is a function of S. Given z, which the guide's text takes for S, it is another number."""
    o = OutputLayer(1, InputLayer(NAND_X, dtype="float64"), activation, learning_rate=0.0)
    o.weights, o.bias = [[-1.5], [-1.5]], [0.5]
    o.feedforward()
    o.backprop(NAND_Y)

    def derivative(x):
        s = 1 / (1 + np.exp(-x))
        slopes = {Sigmoid: s * (1 - s), Tanh: 1 - np.tanh(x) ** 2, SiLU: s + x * s * (1 - s)}
        return slopes[activation]

    printed = (o.z - NAND_Y) * derivative(o.z)
    by_differences = slope([o.upper_layer, o], o, "bias", NAND_Y)
    assert not np.allclose(np.sum(printed, axis=0), by_differences, rtol=1e-2)
    np.testing.assert_allclose(o.harp_b, by_differences, rtol=1e-6)
    np.testing.assert_allclose(o.delta, (o.z - NAND_Y) * derivative(o.S), rtol=1e-10)


def test_a_derivative_from_the_activation_does_not_exist_for_all():
    """Sigmoid can be differentiated from z; SiLU goes up and down through one and the same z."""
    o = OutputLayer(1, InputLayer([[-0.5], [-2.4]], dtype="float64"), SiLU, learning_rate=0.0)
    o.weights = [[1.0]]
    low, high = -8.0, -1.3
    for _ in range(60):  # bisection: the other S with the z of S = -0.5
        o.upper_layer.z = [[-0.5], [(low + high) / 2]]
        o.feedforward()
        low, high = ((low + high) / 2, high) if o.z[1, 0] > o.z[0, 0] else (low, (low + high) / 2)
    o.backprop([[0.0], [0.0]])
    np.testing.assert_allclose(o.z[0], o.z[1], rtol=1e-12)
    slopes = (o.delta / o.z)[:, 0]
    assert slopes[0] > 0.1
    assert slopes[1] < -0.05
