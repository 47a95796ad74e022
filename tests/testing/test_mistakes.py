"""check_gradients catches planted mistakes and names them."""

import math

import pytest

from tests.testing.mistaken import MISTAKES, BadSigmoid, BranchesSwapped, Scale, mistaken
from xpnn.errors import GradientError
from xpnn.layers import (
    Dense,
    ReLU,
    Residual,
    Sequential,
    Tanh,
)
from xpnn.losses import cross_entropy, mean_squared_error, quadratic_cost
from xpnn.network import Network
from xpnn.testing import check_gradients


@pytest.mark.slow_to_compile  # where losses and a whole network are tried
@pytest.mark.parametrize(("make", "shape", "name", "words"), MISTAKES)
def test_mistake_is_caught_and_named(backend, make, shape, name, words):
    with pytest.raises(GradientError) as caught:
        check_gradients(make(), shape, backend)
    assert f"\n{name}: {words}" in str(caught.value)
    assert "gradients are WRONG" in str(caught.value)


LOSS_MISTAKES = [
    pytest.param(
        lambda value, delta: (value, 3 * delta), "factor: 3 times the right", id="no-mean"
    ),
    pytest.param(
        lambda value, delta: (value, delta / 3), "factor: 0.333333 times", id="mean-twice"
    ),
    pytest.param(lambda value, delta: (value, -delta), "sign:", id="target-minus-prediction"),
    pytest.param(lambda value, delta: (2 * value, delta), "factor: 0.5 times", id="no-2"),
]


@pytest.mark.parametrize(("plant", "words"), LOSS_MISTAKES)
@pytest.mark.parametrize("loss", [cross_entropy, quadratic_cost, mean_squared_error])
def test_mistake_in_a_loss_is_caught_and_named(backend, loss, plant, words):
    def wrong(predictions, targets, **options):
        return plant(*loss(predictions, targets, **options))

    with pytest.raises(GradientError) as caught:
        check_gradients(wrong, (4,), backend)
    assert f"\n(predictions): {words}" in str(caught.value)


def test_the_wrong_layer_of_a_network_is_named(backend):
    layers = [Dense(3), Residual([Sequential([Dense(3), BadSigmoid()])]), Tanh()]
    with pytest.raises(GradientError) as caught:
        check_gradients(Network(layers, (4,), backend))
    culprits = [line for line in str(caught.value).splitlines() if "by itself" in line]
    assert len(culprits) == 1
    assert culprits[0].startswith("1.residual.body.0.sequential.1.wrong is wrong")
    assert "f' of the wrong array: evaluated at the input" in culprits[0]


def test_a_container_whose_layers_are_right_is_named(backend):
    with pytest.raises(GradientError, match="every layer inside is right by itself"):
        check_gradients(BranchesSwapped([Dense(2), Dense(2)]), (4,), backend)


def test_gradient_of_what_has_no_influence():
    class Idle(Scale):
        def forward(self, Z, training=False):
            self.cache["Z"] = Z
            return 1.0 * Z

    with pytest.raises(GradientError, match=r"g: extra: the output does not depend on this"):
        check_gradients(Idle(), (4,))


def test_where_the_wrong_elements_lie():
    def spoilt(m):
        return m.xp.stack([m.right[0, :], m.right[1, :] + 1.0, m.right[2, :]])

    with pytest.raises(GradientError, match="2 of 6 elements are wrong, all at index 1 of axis 0"):
        check_gradients(mistaken("weight", spoilt)(), (3,))


def test_gradient_missing_from_grads():
    class Forgetful(Scale):
        def backward(self, delta):
            return delta * self.params["g"]

    with pytest.raises(GradientError, match="g: missing: not in grads"):
        check_gradients(Forgetful(), (4,))


def test_writing_into_the_input_is_a_fault():
    class Greedy(ReLU):
        def forward(self, S, training=False):
            S *= S > 0
            return super().forward(S, training)

    with pytest.raises(GradientError, match="the input array was written to"):
        check_gradients(Greedy(), (4,))


def test_writing_into_a_parameter_is_a_fault():
    """Also as differences go by arrays that were lent before."""

    class Shrinking(Scale):
        def forward(self, Z, training=False):
            self.params["g"] *= 0.5
            return super().forward(Z, training)

    with pytest.raises(GradientError, match="the g array was written to"):
        check_gradients(Shrinking(), (4,))


def test_leaving_float64_is_a_fault():
    class Narrow(Tanh):
        def forward(self, S, training=False):
            return self.xp.astype(super().forward(S, training), self.xp.float32)

    with pytest.raises(GradientError, match="the output is float32 while all that goes in is"):
        check_gradients(Narrow(), (4,), tolerance=1.0)


def test_forward_that_gives_nan_is_a_fault():
    class Root(Tanh):
        def forward(self, S, training=False):
            return S * math.nan

    with pytest.raises(GradientError, match="forward pass gives values that are not finite"):
        check_gradients(Root(), (4,))
