"""Replayed training, seen from networks and trainers: changes between steps take effect."""

import sys
import threading

import numpy as np
import pytest

from tests.backends.numpy.test_layers import assert_close, everything
from xpnn import L2, MaxNorm, mean_squared_error
from xpnn.layers import LSTM, Dense, Dropout, Flatten, Layer, Tanh
from xpnn.network import Network
from xpnn.optimizers import Adam
from xpnn.training import Trainer, make_train_step

CHOICES = (True, False)


def mlp(spec, seed=2, dtype="float32"):
    layers = [Dense(40), Tanh(), Dropout(0.3), Dense(30), Tanh(), Dense(3)]
    return Network(layers, (20,), spec, seed=seed, dtype=dtype)


def trainer(network, compile):
    # a larger epsilon: gradients near zero would have Adam blow up the rounding of their sums
    return Trainer(network, mean_squared_error, Adam(0.01, epsilon=1e-2), compile=compile)


def batch(seed, size=6, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((size, 20)).astype(dtype), rng.standard_normal((size, 3)).astype(
        dtype
    )


def on_host(one):
    """Copies, as replayed arrays are written over by the next step."""
    return {k: on_host(v) for k, v in one.items()} if isinstance(one, dict) else np.copy(one)


def side_by_side(spec, between, steps=9, make=mlp, **form):
    """Train replayed and call by call; ``between(trainer, k)`` acts before step k on either."""
    pair = [trainer(make(spec, **form), compile) for compile in CHOICES]
    for k in range(steps):
        x, y = batch(k, size=4 if k % 4 == 3 else 6, **form)
        before = x.copy(), y.copy()
        for one in pair:
            between(one, k)
        weight = np.linspace(0.1, 1, len(x), dtype=x.dtype) if k % 2 else None
        found, wanted = (one.step(x, y, weight) for one in pair)
        assert_close(found, wanted, f"loss {k}")
        assert_close(*map(everything, pair), f"step {k}")
        for one, was in zip((x, y), before, strict=True):
            np.testing.assert_array_equal(one, was)
    assert pair[0]._train_step.run.refusal is None
    return pair


def load(one, k):
    if k in (3, 4, 7):
        arrays = one.network.numpy_arrays()
        one.network.load({name: value * 0.5 for name, value in reversed(arrays.items())})


def set_params(one, k):
    if k in (3, 4, 7):
        one.network.params = {name: array + 0.1 for name, array in one.network.params.items()}


def freeze(one, k):
    for number in (2, 5):
        if k == number:
            one.network.layers[0].trainable = k == 5


def regularize(one, k):
    if k in (2, 5):
        one.network.layers[3].regularize(L2(0.1) if k == 2 else MaxNorm(0.5))


def forget_moments(one, k):
    if k == 4:
        one.opt_state = None


def reorder(one, k):
    if one.opt_state is not None:
        one.opt_state = {
            name: dict(reversed(part.items())) if isinstance(part, dict) else part
            for name, part in reversed(one.opt_state.items())
        }


def share_arrays(one, k):
    """The optimizer's slots are given as one and the same array."""
    if k == 3:
        slots = [name for name, part in one.opt_state.items() if isinstance(part, dict)]
        one.opt_state = one.opt_state | {slots[0]: dict(one.opt_state[slots[1]])}


@pytest.mark.parametrize(
    "between",
    [load, set_params, freeze, regularize, forget_moments, reorder, share_arrays],
    ids=lambda one: one.__name__,
)
def test_a_change_between_steps_takes_effect(between, spec):
    side_by_side(spec, between)


def test_double_precision(spec):
    side_by_side(spec, lambda *_: None, dtype="float64")


def test_fit_again_with_another_hyperparameter(spec):
    pair = [trainer(mlp(spec), compile) for compile in CHOICES]
    x, y = batch(0, 32)
    for rate in (0.3, 0.0, 0.0, 0.6, np.float32(0.2), np.float32(0.7)):
        for one in pair:
            one.network.layers[2].rate = rate
        draws = pair[0].network.state["2.dropout.draw"]
        histories = [one.fit(x, y, epochs=2, batch_size=6, progress=False) for one in pair]
        np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=1e-4)
        assert_close(*map(everything, pair), f"rate {rate}")
        assert (pair[0].network.state["2.dropout.draw"] == draws) == (rate == 0)


def test_losses_are_not_written_over(spec):
    one, kept = trainer(mlp(spec), True), []
    for k in range(6):
        value = one.step(*batch(k))
        kept.append((value, float(value)))
    assert len({number for _, number in kept}) == 6
    assert all(float(value) == number for value, number in kept)


def test_two_sets_of_parameters_through_one_step(spec):
    def start(network, optimizer):
        fresh = mlp(spec, seed=network)
        return fresh.params, fresh.state, optimizer.init(fresh.params, fresh.backend)

    network, optimizer = mlp(spec), Adam(0.01, epsilon=1e-2)
    steps = [
        make_train_step(network, mean_squared_error, optimizer, compile=choice)
        for choice in CHOICES
    ]
    own = on_host(network.params)
    alone = []
    for seed in (5, 6):
        held, trace = start(seed, optimizer), []
        for k in range(6):
            *held, value = steps[1](*held, *batch(10 * seed + k, 6 - k % 2))
            trace.append([on_host(one) for one in (*held, {"value": value})])
        alone.append(trace)
    held = [start(seed, optimizer) for seed in (5, 6)]
    for k in range(6):
        for number, seed in enumerate((5, 6)):
            *found, value = steps[0](*held[number], *batch(10 * seed + k, 6 - k % 2))
            held[number] = found
            for one, wanted in zip((*found, {"value": value}), alone[number][k], strict=True):
                assert_close(on_host(one), wanted, f"set {number}, step {k}")
    assert steps[0].refusal is None
    assert_close(network.params, own)  # the network's own arrays were only lent others


def test_two_trainers_in_two_threads(spec):
    def lstm(spec):
        return Network([LSTM(10), Flatten(), Dense(3)], (5, 4), spec, seed=3)

    def train(make, losses, gate):
        one = trainer(make(spec), True)
        gate.wait()
        for k in range(40):
            x, y = batch(k)
            losses.append(float(one.step(x.reshape(6, *one.network.input_shape), y)))

    makers = [mlp, mlp, lstm]
    alone = [[] for _ in makers]
    for make, losses in zip(makers, alone, strict=True):
        train(make, losses, threading.Barrier(1))
    gate, together = threading.Barrier(len(makers)), [[] for _ in makers]
    threads = [
        threading.Thread(target=train, args=(make, losses, gate))
        for make, losses in zip(makers, together, strict=True)
    ]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert together == alone


class Fragile(Layer):
    """Passes on what it gets, but breaks for batches of five rows."""

    def __init__(self, place):
        super().__init__()
        self.place = place

    def forward(self, z, training=False):
        return self._passed("forward", z)

    def backward(self, delta):
        return self._passed("backward", delta)

    def _passed(self, place, array):
        if place == self.place and array.shape[0] == 5:
            raise ValueError("broken")
        return array * 1


@pytest.mark.parametrize("place", ["forward", "backward"])
@pytest.mark.parametrize("compile", [True, False, None])
def test_an_error_in_a_step_changes_nothing(place, compile, spec, caplog):
    def make():
        layers = [Dense(40), Dropout(0.3), Fragile(place), Dense(3)]
        return trainer(Network(layers, (20,), spec, seed=1), compile)

    caplog.set_level("INFO", logger="xpnn")
    one, undisturbed = make(), make()
    for k in range(7):
        if k in (0, 2, 3):
            before = on_host(everything(one)) if one.opt_state else None
            with pytest.raises(ValueError, match="broken"):
                one.step(*batch(k, 5))
            if before is not None:
                assert_close(on_host(everything(one)), before)
            assert not any(layer.cache or layer.grads for layer in one.network.layers)
        size = 4 if k % 3 == 2 else 6
        found, wanted = (x.step(*batch(k, size)) for x in (one, undisturbed))
        assert float(found) == float(wanted)
    assert_close(everything(one), everything(undisturbed))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (2 if compile is None else 0)  # that a layer is not xpnn's, by each trainer
    assert all("Fragile is not xpnn's" in one for one in said)
    assert compile is not True or one.compiled
