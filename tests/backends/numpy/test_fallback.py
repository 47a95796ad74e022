"""Steps that cannot be replayed: a warning where nobody asked, else an error; who is called."""

import logging

import numpy as np
import pytest

from tests.backends.numpy.test_layers import assert_close, everything
from tests.backends.refusals import compile_warnings
from xpnn import mean_squared_error
from xpnn.backends.numpy.backend import NumpyBackend
from xpnn.errors import CompileError
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
    "outside-of-its-dtype": lambda layer, z: 2 - (np.astype(z > 0, np.uint8) == -1).astype(z.dtype),
    "by-linalg": lambda layer, z: np.linalg.norm(z),
}


def make_trainer(spec, factor, compile):
    """With ``compile="unasked"`` a layer of the user's is replayed as one of xpnn's would be."""
    layers = [Dense(40), Own(factor), Dropout(0.3), Dense(3)]
    backend = NumpyBackend("numba" if spec == "numpy:numba" else None)
    if compile == "unasked":
        backend.compiles, compile = "all", None
    network = Network(layers, (20,), backend, seed=1)
    return Trainer(network, mean_squared_error, Adam(0.01, epsilon=1e-2), compile=compile)


def batches(count=8):
    rng = np.random.default_rng(0)
    for k in range(count):
        size = 4 if k % 3 == 2 else 6
        yield [rng.standard_normal((size, width)).astype(np.float32) for width in (20, 3)]


@pytest.mark.parametrize("factor", UNFIT.values(), ids=UNFIT)
def test_one_warning_and_right_results(factor, spec):
    pair = [make_trainer(spec, factor, compile) for compile in ("unasked", False)]
    assert pair[0].compiled
    with compile_warnings(1) as said:
        for x, y in batches():
            found, wanted = (one.step(x, y) for one in pair)
            assert_close(found, wanted, "loss")
            assert_close(*map(everything, pair))
    assert "steps run call by call" in str(said[0].message)
    assert not pair[0].compiled
    assert pair[0]._train_step.refusal in str(said[0].message)
    assert pair[0]._train_step.refusal in repr(pair[0])


@pytest.mark.parametrize("factor", UNFIT.values(), ids=UNFIT)
def test_where_it_was_asked_for_it_is_an_error_and_nothing_changed(factor, spec):
    trainer = make_trainer(spec, factor, True)
    before = trainer.network.numpy_arrays()
    for x, y in batches(2):
        with pytest.raises(CompileError, match=r"compile=True asked .* cannot be: .*; change"):
            trainer.step(x, y)
    assert trainer.steps == trainer.opt_state["step"] == 0
    for name, value in trainer.network.numpy_arrays().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("error", [RuntimeError, AttributeError, NotImplementedError, MemoryError])
@pytest.mark.parametrize("compile", ["unasked", True])
def test_what_a_step_raises_while_it_is_recorded_comes_out(error, compile, spec):
    def once(layer, z):
        if len(layer.seen) == 1:
            raise error("only while it is recorded")
        return 1.5

    one, other = (make_trainer(spec, once, choice) for choice in (compile, False))
    other.network.layers[1].seen.append(None)
    (x, y), *more = batches()
    before = one.network.numpy_arrays()
    with pytest.raises(MemoryError if error is MemoryError else error, match="only while"):
        one._train_step(one.state.fresh_opt_state(), x, y, None)
    for name, value in one.network.numpy_arrays().items():
        np.testing.assert_array_equal(value, before[name])
    for x, y in more:
        found, wanted = one.step(x, y), other.step(x, y)
        assert_close(found, wanted, "loss")
    assert one.compiled
    assert one._train_step.run.units


def test_measuring_falls_back_by_itself(spec):
    network = make_trainer(spec, UNFIT["reads-a-float"], "unasked").network
    steps = [
        make_eval_step(network, mean_squared_error, (), compile=choice) for choice in (None, False)
    ]
    with compile_warnings(1):
        for x, y in batches():
            found, wanted = (step(network.params, network.state, x, y) for step in steps)
            assert_close(found[0], wanted[0])


def test_a_shape_that_cannot_be_recorded_behind_one_that_was(spec):
    def factor(layer, z):
        return 2.0 if z.shape[0] == 6 else float(np.max(np.abs(z)))

    pair = [make_trainer(spec, factor, compile) for compile in ("unasked", False)]
    with compile_warnings(1):
        for x, y in batches():
            found, wanted = (one.step(x, y) for one in pair)
            assert_close(found, wanted, "loss")
            assert_close(*map(everything, pair))


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
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (compile is None)
    assert all("Own is not xpnn's" in one for one in said)


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
