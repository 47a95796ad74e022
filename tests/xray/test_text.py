"""The text of a step: numbers worked out here, by hand or in plain Python, are those in it."""

import math
import re

import numpy as np
import pytest

from tests.xray.test_equations import Scale as DescribedScale
from xpnn import SGD, Conv2D, Dense, Flatten, Network, ReLU, Sigmoid, explain

pytestmark = pytest.mark.host_only

X, Y = [[1.0, 1.0], [1.0, 0.0]], [[0.0], [1.0]]
W1, B1, W2, B2 = [[0.5, -1.0], [-0.5, 2.0]], [0.0, 0.0], [[1.0], [-2.0]], [0.5]


def net_of_the_book(w1, b1, w2, b2):
    """Two inputs, two hidden units, one output."""
    layers = [Dense(2), Sigmoid(), Dense(1), Sigmoid()]
    network = Network(layers, input_shape=(2,), dtype="float64")
    values = {"0.dense.weight": w1, "0.dense.bias": b1, "2.dense.weight": w2, "2.dense.bias": b2}
    network.load({name: np.asarray(value) for name, value in values.items()})
    return network


def blocks(text):
    """The numbers behind each equation, by part of the text, layer and left side."""
    found, part, layer, equation = {}, "", "", ""
    for line in text.splitlines():
        if not line or line.startswith("step"):
            continue
        if re.match(r"\w", line):
            part = re.match(r"\w+", line)[0]
        elif re.match(r"  \S", line):
            layer = line.split(":")[0].strip()
        elif re.match(r"    \S", line):
            equation = line.strip().partition(" = ")[0]
        elif part in ("forward", "backward"):
            found[part, layer, equation] = line.strip().removeprefix("= ")
    return found


def test_numbers_that_are_exact():
    """Every sum is 0 and every sigmoid a half, so that all is a power of two or a sum of some."""
    network = net_of_the_book([[1, 2], [-1, -1]], [0, -1], [[2], [-2]], [0])
    found = blocks(str(explain(network, [[1, 1]], [[0]], "quadratic_cost")))
    assert found == {
        ("forward", "0.dense", "S"): "[0 0]",
        ("forward", "1.sigmoid", "Z"): "[0.5 0.5]",
        ("forward", "2.dense", "S"): "[0]",
        ("forward", "3.sigmoid", "Z"): "[0.5]",
        ("backward", "3.sigmoid", "dL/dS"): "[0.125]",  # 1/2 1/2 1/2
        ("backward", "2.dense", "dL/dW"): "[0.0625; 0.0625]",  # 1/2 1/8
        ("backward", "2.dense", "dL/db"): "[0.125]",
        ("backward", "2.dense", "dL/dZ"): "[0.25 -0.25]",  # 1/8 2 and 1/8 (-2)
        ("backward", "1.sigmoid", "dL/dS"): "[0.0625 -0.0625]",  # by 1/4
        ("backward", "0.dense", "dL/dW"): "[0.0625 -0.0625; 0.0625 -0.0625]",
        ("backward", "0.dense", "dL/db"): "[0.0625 -0.0625]",
        ("backward", "0.dense", "dL/dZ"): "[-0.0625 0]",  # 1/16 (1 - 2) and 1/16 (-1 + 1)
    }


def sigmoid(s):
    return 1 / (1 + math.exp(-s))


def by_hand():
    """All numbers of the net of the book, sample by sample and unit by unit."""
    samples, units = range(2), range(2)
    s1 = [[sum(x[j] * W1[j][k] for j in range(2)) + B1[k] for k in units] for x in X]
    z1 = [[sigmoid(s) for s in row] for row in s1]
    s2 = [[sum(z[j] * W2[j][0] for j in units) + B2[0]] for z in z1]
    z2 = [[sigmoid(s) for s in row] for row in s2]
    d2 = [[(z2[n][0] - Y[n][0]) / 2 * z2[n][0] * (1 - z2[n][0])] for n in samples]
    e1 = [[d2[n][0] * W2[k][0] for k in units] for n in samples]
    d1 = [[e1[n][k] * z1[n][k] * (1 - z1[n][k]) for k in units] for n in samples]
    e0 = [[sum(d1[n][k] * W1[j][k] for k in units) for j in range(2)] for n in samples]
    return {
        ("forward", "0.dense", "S"): s1,
        ("forward", "1.sigmoid", "Z"): z1,
        ("forward", "2.dense", "S"): s2,
        ("forward", "3.sigmoid", "Z"): z2,
        ("backward", "3.sigmoid", "dL/dS"): d2,
        ("backward", "2.dense", "dL/dW"): [
            [sum(z1[n][k] * d2[n][0] for n in samples)] for k in units
        ],
        ("backward", "2.dense", "dL/db"): [[sum(d2[n][0] for n in samples)]],
        ("backward", "2.dense", "dL/dZ"): e1,
        ("backward", "1.sigmoid", "dL/dS"): d1,
        ("backward", "0.dense", "dL/dW"): [
            [sum(X[n][j] * d1[n][k] for n in samples) for k in units] for j in range(2)
        ],
        ("backward", "0.dense", "dL/db"): [[sum(d1[n][k] for n in samples) for k in units]],
        ("backward", "0.dense", "dL/dZ"): e0,
    }


def test_the_net_of_the_book_to_the_last_digit():
    text = str(explain(net_of_the_book(W1, B1, W2, B2), X, Y, "quadratic_cost"))
    found = blocks(text)
    wanted = {
        place: "[" + "; ".join(" ".join(f"{one + 0:.4g}" for one in row) for row in rows) + "]"
        for place, rows in by_hand().items()
    }
    assert found == wanted
    z2 = by_hand()["forward", "3.sigmoid", "Z"]
    cost = sum((z[0] - y[0]) ** 2 for z, y in zip(z2, Y, strict=True)) / 4
    assert text.startswith(f"step 1: loss {cost:.4g}\n")
    assert "      = [1 1; 1 0] [0.5 -1; -0.5 2] + [0 0]\n" in text
    assert "      = 1 / (1 + exp(-[-0.4621; 0.5846]))\n" in text
    assert "          = [0.5 0.6225; 0.7311 0.2689] [0.04582; -0.04112]\n" in text  # Z^T delta
    assert "  C = 1/(2n) sum_x |a - y|^2\n" in text


def test_the_update_is_added_to_what_there_was():
    network = net_of_the_book(W1, B1, W2, B2)
    text = str(explain(network, X, Y, "quadratic_cost", SGD(10.0)))
    gradient = by_hand()["backward", "2.dense", "dL/db"][0][0]
    line = f"  2.dense.bias = [0.5] + [{-10 * gradient:.4g}] = [{0.5 - 10 * gradient:.4g}]"
    assert line in text.splitlines()


class Scale(DescribedScale):
    __doc__ = DescribedScale.__doc__

    def init_params(self, input_shape, rng):
        return {"factor": np.asarray([2.0, 3.0])}

    def forward(self, inputs, training=False):
        self.cache["Z"] = inputs
        return inputs * self.params["factor"]

    def backward(self, delta):
        self.grads["factor"] = self.xp.sum(self.cache["Z"] * delta, axis=0)
        return delta * self.params["factor"]


def test_a_layer_of_ones_own_whose_parameter_is_called_otherwise():
    found = blocks(str(explain(Network([Scale()], (2,)), [[1, 5]], [[1, 15]], "quadratic_cost")))
    assert found["forward", "0.scale", "S"] == "[2 15]"
    assert found["backward", "0.scale", "dL/da"] == "[1 0]"
    assert found["backward", "0.scale", "dL/dZ"] == "[2 0]"


def test_an_activation_stands_behind_the_sums_of_its_layer():
    network = Network([Dense(2, activation=ReLU())], (1,))
    network.load({"0.dense.weight": np.asarray([[1.0, -1.0]]), "0.dense.bias": np.zeros(2)})
    found = blocks(str(explain(network, [[2.0]], [[0.0, 0.0]], "quadratic_cost")))
    assert found["forward", "0.dense", "S"] == "[2 -2]"
    assert found["forward", "0.dense.activation", "Z"] == "[2 0]"
    assert found["backward", "0.dense", "dL/db"] == "[2 0]"


def test_of_large_arrays_it_says_what_they_are_like(rng):
    network = Network([Conv2D(3, 3), Flatten(), Dense(4)], (6, 6, 1))
    x, y = rng.standard_normal((5, 6, 6, 1)), np.arange(5) % 4
    seen = explain(network, x, y, "cross_entropy", "adam")
    found = blocks(str(seen))
    output = seen.steps[0].layers["0.conv2d"].output
    assert found["forward", "0.conv2d", "S[n, r, c]"] == (
        f"(5, 4, 4, 3), from {output.min():.4g} to {output.max():.4g}, of length "
        f"{np.linalg.norm(output.astype(float)):.4g}"
    )
    assert re.search(
        r"2\.dense\.weight \(48, 4\): a change of length 0.01386, 0\.\d+ of", str(seen)
    )
