"""A replayed step that ends with an error has changed nothing."""

import numpy as np
import pytest

import xpnn
from xpnn import (
    Adam,
    BatchNorm,
    Dense,
    Embedding,
    Flatten,
    Network,
    Parallel,
    Sequential,
    Trainer,
)
from xpnn.backends.numpy.replay import Replayed


def test_ids_out_of_range_leave_parameters_and_state_alone():
    first = Sequential([Embedding(7, 4), BatchNorm(), Flatten()])
    second = Sequential([Embedding(5, 4), Flatten()])  # looks up behind the first one's statistics
    network = Network([Parallel([first, second]), Dense(3)], (6,), "numpy")
    trainer = Trainer(network, xpnn.cross_entropy, Adam(0.1))
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, (8, 6)), rng.integers(0, 3, 8)
    for _ in range(3):
        trainer.step(x, y)
    assert trainer._train_step.run.units, "the step was not replayed"
    before, slots = network.numpy_arrays(), dict(trainer.opt_state)
    bad = x.copy()
    bad[0, 0] = 6  # which only the first one knows
    with pytest.raises(IndexError, match="out of bounds"):
        trainer.step(bad, y)
    for name, value in network.numpy_arrays().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    assert trainer.opt_state == slots
    assert trainer.steps == 3
    trainer.step(x, y)
    assert trainer.opt_state["step"] == 4


def test_updates_still_take_the_place_of_what_they_update():
    network = Network([Embedding(300, 80), Flatten(), Dense(200), BatchNorm(), Dense(3)], (6,))
    trainer = Trainer(network, xpnn.cross_entropy, Adam(0.1))
    rng = np.random.default_rng(0)
    trainer.step(rng.integers(0, 300, (8, 6)), rng.integers(0, 3, 8))
    (program,) = trainer._train_step.run.units
    copied = [call for call in program._calls if getattr(call, "func", None) is np.copyto]
    targets = {id(call.args[0]) for call in copied}
    assert not any(id(value) in targets for value in network.params.values())


def test_an_argument_is_not_written_over_before_the_last_call_that_may_raise():
    def step(held, table, ids):
        return ({"a": held["a"] * 0.5 + np.take(table, ids, axis=0)},)

    replayed, held = Replayed(step, donate=(0,)), {"a": np.ones(3)}
    table, ids = np.arange(1.0, 5.0), np.array([0, 1, 2])
    assert replayed(held, table, ids)[0]["a"].tolist() == [1.5, 2.5, 3.5]
    with pytest.raises(IndexError):
        replayed(held, table, ids + 3)
    assert held["a"].tolist() == [1.5, 2.5, 3.5]
    assert replayed(held, table, ids)[0]["a"].tolist() == [1.75, 3.25, 4.75]


def test_what_nobody_reads_is_left_out_unless_it_may_raise():
    def step(x, table, ids):
        np.take(table, ids, axis=0)
        (x @ table) * 2.0
        return x + 1.0

    replayed, x, table = Replayed(step), np.ones((2, 4)), np.ones((4, 3))
    for ids in (np.array([0, 3]), np.array([1, 2])):
        assert replayed(x, table, ids).tolist() == [[2.0] * 4] * 2
    with pytest.raises(IndexError):
        replayed(x, table, np.array([0, 4]))
    (program,) = replayed.units
    assert len(program._calls) == 2
