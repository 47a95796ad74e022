"""Trainer.to: training goes on elsewhere as if it had never moved."""

import numpy as np
import pytest

import xpnn
from tests.conftest import SPECS
from xpnn import (
    SGD,
    Accuracy,
    Adam,
    BatchNorm,
    Cosine,
    Dense,
    Dropout,
    History,
    Network,
    ReduceOnPlateau,
    ReLU,
    Trainer,
    WarmUp,
)

rng = np.random.default_rng(0)
X = rng.standard_normal((40, 6)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(np.int64)
BATCHES = [slice(start, start + 8) for start in range(0, 40, 8)] * 2

OPTIMIZERS = [
    pytest.param(lambda: Adam(WarmUp(4, Cosine(1e-2, steps=10))), id="adam-scheduled"),
    pytest.param(lambda: SGD(0.05, momentum=0.9, weight_decay=1e-3), id="sgd"),
]


def trainer(backend, optimizer, **options):
    # no bias before BatchNorm: its gradient is 0 but for rounding, which Adam blows up
    layers = [Dense(8, use_bias=False), BatchNorm(), ReLU(), Dropout(0.3), Dense(2)]
    network = Network(layers, (6,), backend, seed=3)
    return Trainer(network, xpnn.cross_entropy, optimizer, **options)


def losses(one, batches):
    backend = one.network.backend
    x, y = backend.asarray(X), backend.asarray(Y)
    return [float(backend.to_numpy(one.step(x[rows, ...], y[rows, ...]))) for rows in batches]


@pytest.mark.parametrize("target", SPECS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_five_steps_here_and_five_there_are_ten(backend, target, optimizer):
    whole = trainer(backend, optimizer())
    wanted = losses(whole, BATCHES)
    here = trainer(backend, optimizer())
    found = losses(here, BATCHES[:5])
    there = here.to(target)
    found += losses(there, BATCHES[5:])
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert (here.steps, there.steps) == (5, 10)
    assert int(there.opt_state["step"]) == 10
    for name, value in whole.network.numpy_arrays().items():
        moved = there.network.numpy_arrays()[name]
        np.testing.assert_allclose(moved, value, rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.slow_to_compile  # five steps here and five there are ten on it, too
@pytest.mark.parametrize("target", SPECS)
def test_the_old_trainer_goes_on_by_itself(backend, target):
    optimizer = Adam(1e-2)
    wanted = losses(trainer(backend, optimizer), BATCHES)
    here = trainer(backend, optimizer)
    found = losses(here, BATCHES[:5])
    losses(here.to(target), BATCHES[:3])
    found += losses(here, BATCHES[5:])
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.slow_to_compile
@pytest.mark.parametrize("target", SPECS)
def test_epochs_go_on_with_their_order_and_history(backend, target):
    def fit(one, epochs):
        one.fit(X, Y, epochs=epochs, batch_size=8, validation=0.2, progress=False)

    def with_history():
        history = History()
        optimizer = Adam(ReduceOnPlateau(1e-2, patience=0, threshold=0.5))
        options = {"metrics": [Accuracy()], "callbacks": [history], "log_every": 2}
        return history, trainer(backend, optimizer, seed=9, compile=False, **options)

    wanted, whole = with_history()
    fit(whole, 4)
    found, here = with_history()
    fit(here, 2)
    there = here.to(target)
    assert (there.seed, there.log_every, there.compile) == (9, 2, False)
    fit(there, 2)
    assert found["epoch"] == wanted["epoch"] == [1, 2, 3, 4]
    assert wanted["rate"][-1] < wanted["rate"][0]
    for name in ("loss", "val_loss", "val_accuracy", "rate"):
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-5, err_msg=name)


def test_a_trainer_that_has_not_begun_can_move(backend):
    there = trainer("numpy", Adam(1e-2)).to(backend)
    assert there.opt_state is None
    np.testing.assert_allclose(
        losses(there, BATCHES), losses(trainer(backend, Adam(1e-2)), BATCHES), atol=1e-6
    )


@pytest.mark.parametrize("target", SPECS)
def test_optimizer_state_is_of_the_new_backend(backend, target):
    here = trainer(backend, Adam(1e-2))
    losses(here, BATCHES[:2])
    there = here.to(target)
    place = there.network.backend
    assert there.opt_state.keys() == here.opt_state.keys()
    assert type(there.opt_state["step"]) is type(place.counter())
    for slot in there.optimizer.slots:
        for name, array in there.opt_state[slot].items():
            assert place.owns(array)
            np.testing.assert_array_equal(
                place.to_numpy(array), backend.to_numpy(here.opt_state[slot][name])
            )
