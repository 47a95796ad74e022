"""``predict`` with ``probabilities=True``, by the loss, on every backend."""

from functools import partial

import numpy as np
import pytest

from xpnn import (
    SGD,
    Identity,
    Network,
    Sigmoid,
    Trainer,
    binary_cross_entropy,
    cross_entropy,
    hinge,
    huber,
    kl_divergence,
    mean_absolute_error,
    mean_squared_error,
    quadratic_cost,
)

SCORES = np.array([[3.0, -1, 0.5], [0, 0, 0], [-40, 2, 1], [88, -88, 1], [0.25, 1, -2]])
POWERS = np.exp(SCORES - SCORES.max(axis=1, keepdims=True))
SOFTMAX, SIGMOID = POWERS / POWERS.sum(axis=1, keepdims=True), 1 / (1 + np.exp(-SCORES))

LINKED = {
    "classes": (Identity(), cross_entropy, SOFTMAX),
    "smooth": (Identity(), partial(cross_entropy, label_smoothing=0.1), SOFTMAX),
    "divergence": (Identity(), kl_divergence, SOFTMAX),
    "logits": (Identity(), binary_cross_entropy, SIGMOID),
    "weighted": (Identity(), partial(binary_cross_entropy, class_weight=[1.0, 2.0]), SIGMOID),
    "as they are": (Sigmoid(), partial(binary_cross_entropy, from_logits=False), SIGMOID),
}


@pytest.mark.parametrize("name", LINKED)
def test_outputs_become_the_probabilities_that_the_loss_takes_them_for(backend, name):
    layer, loss, wanted = LINKED[name]
    trainer = Trainer(Network([type(layer)()], (3,), backend), loss, SGD(0.1))
    for batch_size in (256, 2):
        found = trainer.predict(SCORES, batch_size=batch_size, probabilities=True)
        assert backend.owns(found)
        # float32 has 24 bits, and the smallest of these are the tails of what is near 0
        np.testing.assert_allclose(backend.to_numpy(found), wanted, rtol=2e-6, atol=1e-7)
    alone = trainer.network.predict(SCORES, probabilities=loss)
    np.testing.assert_array_equal(backend.to_numpy(alone), backend.to_numpy(found))
    np.testing.assert_allclose(
        backend.to_numpy(trainer.predict(SCORES)),
        SIGMOID if name == "as they are" else SCORES,
        rtol=2e-6,
        atol=1e-7,
    )


@pytest.mark.host_only
@pytest.mark.parametrize(
    "loss", [mean_squared_error, quadratic_cost, mean_absolute_error, huber, hinge]
)
def test_a_loss_to_which_outputs_are_something_else_says_so(loss):
    trainer = Trainer(Network([Identity()], (3,)), loss, SGD(0.1))
    with pytest.raises(ValueError, match=f"{loss.__name__} takes outputs for .*leave probabilit"):
        trainer.predict(SCORES, probabilities=True)
    np.testing.assert_allclose(trainer.predict(SCORES, probabilities=False), SCORES)
