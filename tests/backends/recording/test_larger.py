"""A recording that is carried on from two small batches is that of the larger one."""

import numpy as np
import pytest

from xpnn import Adam, BatchNorm, Conv2D, Dense, Flatten, Network, ReLU, Trainer, cross_entropy
from xpnn.backends.recording.larger import carried_on


def step_of(layers, shape, size):
    trainer = Trainer(Network(layers, shape), cross_entropy, Adam())
    x = np.zeros((size, *shape), np.float32)
    trainer.step(x, np.zeros(size, np.int32))
    return trainer._train_step.compiled.units[0].recording, trainer._train_step.compiled


NETWORKS = {
    "MLP": lambda: ([Dense(64), ReLU(), Dense(10)], (30,)),
    "CNN": lambda: ([Conv2D(4, 3), BatchNorm(), ReLU(), Flatten(), Dense(10)], (8, 8, 3)),
}


def forms(recording):
    return [
        (one.shape, one.strides, one.memory.nbytes)
        for call in recording.calls
        for one in call.views()
    ]


@pytest.mark.parametrize("network", NETWORKS)
def test_it_is_the_one_that_would_be_recorded(network):
    (small, _), (large, _), (wanted, step) = (
        step_of(*NETWORKS[network](), size) for size in (8, 16, 40)
    )
    found = carried_on(small, large, 3)
    assert forms(found) == forms(wanted) != forms(large)
    assert step._bytes_of(found) == step._bytes_of(wanted)


def test_other_calls_are_not_carried_on():
    small, _ = step_of(*NETWORKS["MLP"](), 24)
    other, _ = step_of(*NETWORKS["CNN"](), 48)
    assert carried_on(small, other, 3) is None
