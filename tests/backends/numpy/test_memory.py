"""How much memory replayed steps hold: it does not grow, and the plan uses it over and over."""

import gc
import tracemalloc
from functools import partial

import numpy as np
import pytest

from xpnn import mean_squared_error
from xpnn.backends.numpy.replay import Replayed
from xpnn.layers import LSTM, Conv2D, Dense, Dropout, Flatten, ReLU, Sigmoid, Tanh
from xpnn.network import Network
from xpnn.optimizers import SGD, Adam
from xpnn.training import Trainer

KIB = 1024
# np.array frees some small blocks in a way that tracemalloc does not see; also in a bare loop
FREED_UNSEEN = tracemalloc.Filter(False, "*/array_api_compat/*")
OWN = tracemalloc.Filter(False, tracemalloc.__file__)


def mlp(spec):
    return Network([Dense(40), Tanh(), Dropout(0.2), Dense(40), Tanh(), Dense(3)], (20,), spec)


def lstm(spec):
    return Network([LSTM(8), Flatten(), Dense(3)], (5, 4), spec)


@pytest.mark.parametrize("make", [mlp, lstm])
def test_steps_leave_no_memory_behind(make, spec):
    network = make(spec)
    trainer = Trainer(network, mean_squared_error, Adam(0.01), compile=True)
    rng = np.random.default_rng(0)
    given = [
        [rng.standard_normal((size, *shape)).astype("f") for shape in (network.input_shape, (3,))]
        for size in (8, 8, 5)
    ]

    def train(steps):
        for k in range(steps):
            trainer.step(*given[k % 3])
        gc.collect()
        snapshot = tracemalloc.take_snapshot().filter_traces([FREED_UNSEEN, OWN])
        return sum(trace.size for trace in snapshot.traces)

    for x, y in given:
        trainer.step(x, y)
    tracemalloc.start()
    try:
        before = train(200)
        after = train(200)
    finally:
        tracemalloc.stop()
    assert trainer._train_step.run.refusal is None
    assert after - before < 4 * KIB  # 20 bytes a step: not even a number was kept


def test_loading_weights_again_and_again_keeps_two_recordings(spec):
    network = mlp(spec)
    trainer = Trainer(network, mean_squared_error, SGD(0.01), compile=True)
    x, y = np.ones((8, 20), np.float32), np.ones((8, 3), np.float32)
    for _ in range(10):
        network.load(network.numpy_arrays())
        trainer.step(x, y)
        trainer.step(x, y)
    assert len(trainer._train_step.run.units) == 2


DEPTH, WIDTH, BATCH = 12, 32, 512


def deep(spec, optimizer):
    layers = [layer for _ in range(DEPTH) for layer in (Dense(WIDTH), Tanh())]
    network = Network(layers, (WIDTH,), spec)
    return Trainer(network, mean_squared_error, optimizer, compile=True)


@pytest.mark.parametrize("optimizer", [SGD(0.01), Adam(0.01)], ids=["sgd", "adam"])
def test_scratch_of_a_deep_network(optimizer, spec):
    """Let A be the bytes of one activation (batch, width), G <= A those of all gradients together.

    Backward needs the output of each Tanh: the factor of its own slope, and the input of the next
    Dense. That is DEPTH A. Beside them live, at any one time, delta, the delta that comes of it and
    what Tanh's slope is made of: 3 A. Gradients are made in their places in one joint array, for
    the update of all together: A at most. The update starts when the activations are free. The rest
    are numbers and rows of the loss: 16 KiB.

    Run call by call, each layer makes Z W, S and tanh S forward, and t t, 1 - t t, delta times that
    and delta W^T backward: 7 A each.
    """
    trainer = deep(spec, optimizer)
    x = np.random.default_rng(0).standard_normal((BATCH, WIDTH)).astype(np.float32)
    for _ in range(3):
        trainer.step(x, x)
    step = trainer._train_step.run
    assert step.refusal is None
    activation = 4 * BATCH * WIDTH
    gradients = 4 * DEPTH * (WIDTH * WIDTH + WIDTH)
    scratch = step.arena.nbytes
    assert gradients <= activation
    assert DEPTH * activation < scratch <= (DEPTH + 4) * activation + 16 * KIB
    assert scratch < 0.25 * 7 * DEPTH * activation


def test_adam_needs_one_array_beside_the_gradient(spec):
    """It runs over five arrays: the parameter, m, v, the gradient, and what is added to m of it."""
    network = Network([Dense(64, use_bias=False)], (512,), spec)
    trainer = Trainer(network, mean_squared_error, Adam(0.01), compile=True)
    for _ in range(3):
        trainer.step(np.ones((1, 512), np.float32), np.ones((1, 64), np.float32))
    step = trainer._train_step.run
    assert step.refusal is None
    assert step.arena.nbytes < 2 * 4 * 512 * 64 + 4 * KIB


@pytest.mark.parametrize(("width", "sweeps"), [(128, 1), (512, 2)])
def test_an_mlp_of_middle_size_is_updated_in_one_sweep(width, sweeps, spec):
    """Up to 131,072 numbers in all; a larger matrix by itself, as caches hold no more."""
    network = Network([Dense(width), ReLU(), Dense(10)], (784,), spec)
    trainer = Trainer(network, mean_squared_error, Adam(0.01), compile=True)
    trainer.step(np.ones((2, 784), np.float32), np.ones((2, 10), np.float32))
    (program,) = trainer._train_step.run.units
    run = [call for call in program._calls if isinstance(call, partial)]
    cores = trainer._train_step.run.cores
    run = [call.args[0][0] if cores and call.func == cores.run else call for call in run]
    loops = [call.args[0] for call in run if hasattr(call.func, "engine")]
    updates = [words for words in loops if words[3] * words[4] >= 10 * width]  # rows, columns
    assert len(updates or [call for call in run if call.func is np.sqrt]) == sweeps


def test_rows_change_places_apart_from_where_they_lie(spec):
    """Half of the argument may lie in its place, but has to be gone before its rows come there."""

    def step(held):
        half = held["a"] * 0.5
        return ({"a": np.concatenate((half[1:], half[:1]))},)

    replayed, held = Replayed(step, donate=(0,)), {"a": np.array([8.0, 16.0, 32.0])}
    assert replayed(held)[0]["a"].tolist() == [8, 16, 4]
    assert replayed(held)[0]["a"].tolist() == [8, 2, 4]
    assert replayed.units


def test_a_shorter_batch_uses_the_same_scratch(spec):
    trainer = deep(spec, SGD(0.01))
    x = np.random.default_rng(0).standard_normal((BATCH, WIDTH)).astype(np.float32)
    trainer.step(x, x)
    alone = trainer._train_step.run.arena.nbytes
    short = x[: BATCH * 3 // 4]
    for one in (short, x, short):
        trainer.step(one, one)
    assert len(trainer._train_step.run.units) == 2
    both = trainer._train_step.run.arena.nbytes
    assert both <= 1.1 * alone


def test_numbers_written_out_lie_like_what_they_are_compared_with():
    """A convolution's output is made pixel by pixel; zeros in another order take ReLU four times
    as long, as the two are then walked through in different orders."""
    network = Network([Conv2D(4, 3), ReLU(), Flatten(), Dense(2)], (9, 9, 1))
    trainer = Trainer(network, mean_squared_error, SGD(0.1))
    rng = np.random.default_rng(0)
    for _ in range(2):
        trainer.step(rng.standard_normal((6, 9, 9, 1)), rng.standard_normal((6, 2)))
    (program,) = trainer._train_step.run.units
    ((sums, zeros), made) = next(
        (call.args, call.keywords["out"])
        for call in program._calls
        if getattr(call, "func", None) is np.maximum
    )
    assert sums is made
    assert sums.shape == zeros.shape == (6 * 7 * 7 * 4,)
    assert sums.strides == zeros.strides == (4,)
    assert not zeros.any()


def test_a_call_that_writes_over_an_operand_has_one_object_for_both():
    """Of two objects NumPy works out how they overlap, which takes longer than a small call."""
    network = Network([Dense(6), Sigmoid(), Dense(3), ReLU()], (5,))
    trainer = Trainer(network, mean_squared_error, SGD(0.1, momentum=0.9))
    for _ in range(2):
        trainer.step(np.ones((4, 5)), np.ones((4, 3)))
    (program,) = trainer._train_step.run.units
    written_over = 0
    for call in program._calls:
        if not isinstance(getattr(call, "func", None), np.ufunc):
            continue
        arrays = [one for one in call.args if one.ndim]
        out = call.keywords["out"] if "out" in call.keywords else arrays.pop()
        form = out.__array_interface__
        over = [one for one in arrays if one.__array_interface__ == form]
        assert all(one is out for one in over)
        written_over += len(over)
    assert written_over > 10
