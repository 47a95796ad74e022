"""Steps that cannot be replayed run as they are, and one line in the log says so; who is called."""

import logging

import numpy as np
import pytest

from tests.backends.numpy.test_layers import assert_close, everything
from xpnn import mean_squared_error
from xpnn.layers import Dense, Dropout, Layer
from xpnn.network import Network
from xpnn.optimizers import Adam
from xpnn.training import Trainer, make_eval_step


class Own(Layer):
    """A layer of the user's: scales by what ``factor`` makes of the inputs."""

    def __init__(self, factor=lambda layer, z: 2.0):
        super().__init__()
        self.factor, self.seen = factor, []

    def forward(self, z, training=False):
        self.seen.append(z.shape)
        self.cache["factor"] = self.factor(self, z)
        return z * self.cache["factor"]

    def backward(self, delta):
        return delta * self.cache["factor"]


def once(layer, z):
    if len(layer.seen) == 1:
        raise RuntimeError("only while it is recorded")
    return 1.5


def chosen(layer, z):
    return 2.0 if np.sum(z) > 0 else 0.5


def through_a_view(layer, z):
    room = np.zeros(z.shape, z.dtype)
    room[...] = np.abs(z)
    return room


UNFIT = {
    "reads-a-float": lambda layer, z: float(np.max(np.abs(z))),
    "compares": chosen,
    "masks": lambda layer, z: np.sum(np.abs(z[z > 0])),
    "writes-an-item": through_a_view,
    "asks-for-a-method": lambda layer, z: z.mean(),
    "to-a-list": lambda layer, z: np.float32(max(map(max, z.tolist()))),
    "unknown-call": lambda layer, z: np.float32(1) + np.median(z),
    "by-linalg": lambda layer, z: np.linalg.norm(z),
    "two-results": lambda layer, z: np.modf(z)[1],
    "not-when-recorded": once,
}


def make_trainer(spec, factor, compile):
    layers = [Dense(40), Own(factor), Dropout(0.3), Dense(3)]
    network = Network(layers, (20,), spec, seed=1)
    return Trainer(network, mean_squared_error, Adam(0.01, epsilon=1e-2), compile=compile)


def batches(count=8):
    rng = np.random.default_rng(0)
    for k in range(count):
        size = 4 if k % 3 == 2 else 6
        yield [rng.standard_normal((size, width)).astype(np.float32) for width in (20, 3)]


@pytest.mark.parametrize("factor", UNFIT.values(), ids=UNFIT)
def test_one_line_in_the_log_and_right_results(factor, spec, caplog):
    caplog.set_level(logging.INFO, logger="xpnn")
    pair = [make_trainer(spec, factor, compile) for compile in (True, False)]
    if factor is once:
        pair[1].network.layers[1].seen.append(None)
    for x, y in batches():
        found, wanted = (one.step(x, y) for one in pair)
        assert_close(found, wanted, "loss")
        assert_close(*map(everything, pair))
    assert pair[0]._train_step.run.refusal
    assert [record.name for record in caplog.records] == ["xpnn"]
    assert "call by call" in caplog.text


def test_measuring_falls_back_by_itself(spec, caplog):
    caplog.set_level(logging.INFO, logger="xpnn")
    network = make_trainer(spec, UNFIT["reads-a-float"], True).network
    steps = [
        make_eval_step(network, mean_squared_error, (), compile=choice) for choice in (True, False)
    ]
    for x, y in batches():
        found, wanted = (step(network.params, network.state, x, y) for step in steps)
        assert_close(found[0], wanted[0])
    assert len(caplog.records) == 1


def test_a_shape_that_cannot_be_recorded_leaves_the_others_replayed(spec, caplog):
    caplog.set_level(logging.INFO, logger="xpnn")

    def factor(layer, z):
        return 2.0 if z.shape[0] == 6 else float(np.max(np.abs(z)))

    pair = [make_trainer(spec, factor, compile) for compile in (True, False)]
    for x, y in batches():
        found, wanted = (one.step(x, y) for one in pair)
        assert_close(found, wanted, "loss")
        assert_close(*map(everything, pair))
    assert len(caplog.records) == 1


@pytest.mark.parametrize("compile", [None, True, False])
def test_who_is_called_how_often(compile, spec, caplog):
    caplog.set_level(logging.INFO, logger="xpnn")
    one = make_trainer(spec, lambda layer, z: 2.0, compile)
    layer, given = one.network.layers[1], [x.shape[0] for x, _ in batches()]
    for x, y in batches():
        one.step(x, y)
    sizes = list(dict.fromkeys(given)) if compile else given
    assert layer.seen == [(size, 40) for size in sizes]
    one.network.load(one.network.numpy_arrays())
    del layer.seen[:]
    for x, y in batches():  # other arrays: one more recording for each shape
        one.step(x, y)
    assert layer.seen == [(size, 40) for size in sizes]
    assert not caplog.records


def test_a_loss_of_the_users_is_called_at_every_step(spec):
    calls = []

    def loss(*arguments, **options):
        calls.append(1)
        return mean_squared_error(*arguments, **options)

    network = Network([Dense(3)], (20,), spec, seed=1)
    one = Trainer(network, loss, Adam(0.01))
    for x, y in batches():
        one.step(x, y)
    assert len(calls) == 8


def test_known_parts_are_replayed_unasked(spec):
    network = Network([Dense(40), Dropout(0.5), Dense(3)], (20,), spec, seed=1)
    asked = Trainer(network, mean_squared_error, Adam(0.01))
    for x, y in batches(2):
        asked.step(x, y)
    assert asked._train_step.run.units
