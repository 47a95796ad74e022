"""Losses whose targets or outputs are of a form of their own train through ``Trainer``, too."""

from functools import partial

import numpy as np
import pytest

import xpnn
from xpnn import Adam, Dense, Network, Trainer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 6, 4)).astype(np.float32)
KINDS = X.argmax(axis=-1)
READ = np.stack(
    [KINDS[:, 0] + 1, np.where(KINDS[:, 0] == KINDS[:, 5], -1, KINDS[:, 5] + 1)], axis=1
)
TIMED = np.concatenate([np.full((24, 1), 6), READ], axis=1)

LOSSES = {  # loss, inputs, targets, units
    "poisson": (xpnn.poisson, X, np.abs(X[..., :1]).round(), 1),
    "gaussian": (xpnn.gaussian, X, X[..., :1] * X[..., 1:2], 2),
    "dice": (xpnn.dice, X, X[..., :2] > 0, 2),
    "focal": (partial(xpnn.focal, class_weight="balanced"), X, KINDS, 4),
    "cosine": (xpnn.cosine_distance, X, X[..., ::-1].copy(), 4),
    "triplet": (partial(xpnn.triplet, margin=1.0), X[:, :3], np.zeros(24), 3),
    "contrastive": (xpnn.contrastive, X[:, :2], np.zeros(24), 3),
    "ctc": (partial(xpnn.ctc, lengths=True), X, TIMED, 5),
    "ignored": (
        partial(xpnn.cross_entropy, ignore_index=-1),
        *(X, np.where(KINDS == 2, -1, KINDS), 4),
    ),
}


@pytest.mark.slow_to_compile  # the losses are compiled there by test_contract.py
@pytest.mark.parametrize("name", LOSSES)
def test_networks_learn_by_them(backend, name):
    if backend.name == "array-api-strict":
        pytest.skip("tests/losses/test_contract.py makes the calls; NumPy's loop is the same")
    loss, x, y, units = LOSSES[name]
    values = []
    for parts in (1, 3):
        network = Network([Dense(8), xpnn.Tanh(), Dense(units)], x.shape[1:], backend, seed=0)
        trainer = Trainer(network, loss, Adam(0.03), accumulate=parts)
        options = {"epochs": 12, "batch_size": 10, "progress": False}
        history = trainer.fit(x, y, validation=(x, y), **options)
        assert history["val_loss"][-1] < history["val_loss"][0] - 0.05
        values.append(history["loss"])
    if name != "contrastive":  # whose negatives are those of a part
        np.testing.assert_allclose(values[1], values[0], rtol=1e-3)
