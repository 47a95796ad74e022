"""What is explained is what a trainer does, and whoever is explained stays as it was."""

import copy

import numpy as np
import pytest

from tests.layers.table import BATCH, LAYERS, Ids, draw, table
from xpnn import (
    Adam,
    Network,
    Trainer,
    explain,
)

FEW_NUMBERS = [row for row in LAYERS if "over-blocks" not in row.id]


def values_of(network):
    return {name: np.array(one) for name, one in network.numpy_arrays().items()}


def targets_of(network, seed=2):
    return np.asarray(draw(network.output_shape, seed))


def check_it_is_the_step(network, x, y, loss, optimizer, **tolerance):
    """Explain a step, take it, and compare what became of each parameter; the network stays."""
    before = values_of(network)
    seen = explain(network, x, y, loss, optimizer)
    for name, value in values_of(network).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    trainer = Trainer(copy.deepcopy(network), loss, optimizer, compile=False)
    value = trainer.step(x, y)
    (step,) = seen.steps
    to_numpy = network.backend.to_numpy
    np.testing.assert_allclose(step.loss, float(to_numpy(value)), rtol=1e-5)
    after = values_of(trainer.network)
    places = {info.name: info.name.partition(", call ")[0] for info in seen.layers}
    updates = {
        f"{place}.{key}": one
        for name, place in places.items()
        for key, one in step.layers[name].updates.items()
    }
    assert updates.keys() == network.params.keys()
    for name, update in updates.items():
        change = after[name] - before[name]
        np.testing.assert_allclose(update, change, err_msg=name, **tolerance)
    return seen


@table(FEW_NUMBERS)
def test_a_step_is_that_of_a_trainer(backend, make, input_shape):
    if backend.name == "jax":
        pytest.skip("call by call each call is compiled by itself; a few networks are below")
    network = Network([make()], input_shape, backend)
    x, y = draw(input_shape), targets_of(network)
    seen = check_it_is_the_step(network, x, y, "mse", Adam(0.1), rtol=1e-4, atol=1e-6)
    outer = seen.layers[0]
    assert outer.inside is None
    assert outer.kind == type(network.layers[0]).__name__
    view = seen.steps[0].layers[outer.name]
    np.testing.assert_array_equal(view.inputs[0], x.astype(view.inputs[0].dtype))
    assert view.output.shape == (BATCH, *network.output_shape)
    np.testing.assert_allclose(view.delta, 2 * (view.output - y) / y.size, rtol=1e-4, atol=1e-6)
    assert (view.passed[0] is None) == (isinstance(input_shape, Ids))
