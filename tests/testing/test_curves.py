"""training_curve: the same on every backend, and falling."""

import numpy as np
import pytest

from xpnn.layers import (
    Dense,
    Dropout,
    Tanh,
)
from xpnn.losses import cross_entropy, mean_squared_error
from xpnn.optimizers import Adam
from xpnn.testing import training_curve


def small_net():
    return [Dense(8), Tanh(), Dropout(0.2), Dense(3)]


@pytest.mark.parametrize("loss", [mean_squared_error, cross_entropy])
def test_training_curve_is_the_same_on_every_backend(backend, loss):
    options = {"steps": 50, "loss": loss, "optimizer": Adam(0.01)}
    curve = training_curve(small_net, (6,), backend, **options)
    assert curve.shape == (50,)
    np.testing.assert_allclose(curve, training_curve(small_net, (6,), **options), rtol=1e-4)


def test_training_curve_falls_and_depends_on_the_seed():
    curve = training_curve(small_net, (6,), steps=40)
    assert np.mean(curve[-5:]) < 0.7 * np.mean(curve[:5])
    np.testing.assert_array_equal(curve, training_curve(small_net, (6,), steps=40))
    assert training_curve(small_net, (6,), steps=1, seed=1)[0] != curve[0]
