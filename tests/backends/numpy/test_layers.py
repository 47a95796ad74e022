"""Every layer, optimizer and loss: a replayed step is the step itself, up to the order of sums."""

from unittest.mock import patch

import numpy as np
import pytest

from tests.backends.numpy.conftest import WITH_NUMBA
from tests.backends.numpy.test_fuzz import in_python
from tests.layers.table import Ids, each_layer, each_layer_of_few_numbers
from tests.losses.table import each_loss
from tests.optimizers.table import each_optimizer
from xpnn import mean_squared_error
from xpnn.backends.numpy import backend
from xpnn.layers import LSTM, Dense, Dropout, Flatten, GaussianNoise, GaussianSample, Tanh
from xpnn.network import Network
from xpnn.optimizers import Adam, ClipByGlobalNorm, ClipByValue, Exponential
from xpnn.training import Trainer

SIZES = (4, 4, 3, 4, 3)  # of the batches: a shorter one in between
CLOSE = {"rtol": 2e-5, "atol": 2e-6}  # a few units of float32, grown over five steps


def draw(shape, size, seed):
    rng = np.random.default_rng(seed)
    if isinstance(shape, Ids):
        return rng.integers(0, 5, (size, *shape))
    return rng.standard_normal((size, *shape)).astype(np.float32)


def everything(trainer):
    """All arrays and numbers that a step has left, by name."""
    found = {"params": trainer.network.params, "state": trainer.network.state}
    return found | {"opt_state": trainer.opt_state}


def assert_close(found, wanted, where=""):
    assert type(found) is type(wanted), where
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), where
        for key, one in wanted.items():
            assert_close(found[key], one, f"{where}.{key}")
    else:
        assert np.asarray(found).dtype == np.asarray(wanted).dtype, where
        np.testing.assert_allclose(found, wanted, **CLOSE, err_msg=where)


def check(make_network, loss, make_optimizer, batches, *more):
    """Train twice on the same batches; the replayed run, and what it left."""
    trainers = [
        Trainer(make_network(), loss, make_optimizer(), compile=choice) for choice in (True, False)
    ]
    for x, y in batches:
        found, wanted = (trainer.step(x, y) for trainer in trainers)
        assert_close(found, wanted, "loss")
        assert_close(*map(everything, trainers))
    step = trainers[0]._train_step.run
    assert step.refusal is None
    programs = list(step.units)
    assert len(programs) == len({x.shape for x, _ in batches})
    for x, y in batches:
        trainers[0].step(x, y)
    assert list(step.units) == programs


@each_layer
def test_layer(make, input_shape):
    def network():
        behind = [Flatten(), Dense(2)]
        return Network([make(), *behind], input_shape, "numpy", seed=1)

    batches = [
        (draw(input_shape, size, seed), draw((2,), size, seed + 10))
        for seed, size in enumerate(SIZES)
    ]
    check(network, mean_squared_error, lambda: Adam(0.01, epsilon=1e-2), batches)


def test_sweeps_that_would_go_by_blocks_are_recorded_as_a_whole():
    """An LSTM's first memory is a constant beside arrays of the recording."""
    with patch.object(backend, "BLOCK", 4):
        test_layer(lambda: LSTM(5), (3, 4))


EXACT = {"rtol": 1e-12, "atol": 1e-13}


@WITH_NUMBA
@each_layer_of_few_numbers  # one of many takes Python a quarter of a minute
def test_layer_in_loops(make, input_shape):
    """Of single calls, too, run by Python: in float64 to the last digits."""

    def network():
        layers = [make(), Flatten(), Dense(2)]
        return Network(layers, input_shape, "numpy:numba", seed=1, dtype="float64")

    wide = np.int64 if isinstance(input_shape, Ids) else np.float64
    batches = [
        (draw(input_shape, size, seed).astype(wide), draw((2,), size, seed + 10).astype("f8"))
        for seed, size in enumerate(SIZES[:2])
    ]
    drawn = GaussianNoise, GaussianSample  # in float32, by a log of their own
    with in_python(per_block=8), patch.dict(CLOSE, {} if isinstance(make(), drawn) else EXACT):
        check(network, mean_squared_error, lambda: Adam(0.01, epsilon=1e-2), batches)


def small_network():
    return Network([Dense(5), Tanh(), Dropout(0.2), Dense(3)], (4,), "numpy", seed=2)


MORE = {
    "plain": dict,
    "clip-norm": lambda: {"clip": ClipByGlobalNorm(0.1)},
    "clip-value": lambda: {"clip": ClipByValue(0.1)},
    "decay": lambda: {"weight_decay": 0.1},
    "schedule": lambda: {"rate": Exponential(0.05, factor=0.5, steps=2)},
}


@pytest.mark.parametrize("more", MORE.values(), ids=MORE)
@each_optimizer
def test_optimizer(case, more):
    batches = [(draw((4,), 4, seed), draw((3,), 4, seed + 10)) for seed in range(4)]
    check(small_network, mean_squared_error, lambda: case.make(**more()), batches)


@each_loss
def test_loss(case):
    def network():
        shape = case.shape[1:] or (1,)
        return Network([Dense(shape[-1])], shape, "numpy", seed=3)

    drawn = [case.arrays("float32", seed) for seed in range(len(SIZES))]
    if len(case.shape) == 1:
        drawn = [(x[:, None], y[:, None]) for x, y in drawn]
    if case.predictions.__name__ == "shares":
        pytest.skip("wants a network that ends in probabilities")
    batches = [(x[:size], y[:size]) for (x, y), size in zip(drawn, SIZES, strict=True)]
    # A bias cancels in the distances of triplet: of its gradient only rounding is left, which Adam
    # without an epsilon to speak of would divide by itself.
    check(network, case.loss, lambda: Adam(0.01, epsilon=1e-2), batches)
