"""Sums of gradients that begin while backward goes on."""

import gc
import math
import weakref

import numpy as np
import pytest

import xpnn.layers.replica
from tests.distributed.threads import ThreadCommunicator, together
from xpnn import (
    Adam,
    Add,
    Dense,
    Embedding,
    Flatten,
    Input,
    Network,
    ReLU,
    Residual,
    Trainer,
    cross_entropy,
)
from xpnn.backends.portable.sums_begun import finish_begun
from xpnn.layers import TiedDense
from xpnn.local_rows import LocalRows
from xpnn.training.stepping.step import make_flat_step


class Overlapping(ThreadCommunicator):
    """Adds up when it is waited for, and notes the order."""

    overlaps = True

    def __init__(self, given):
        super().__init__(given.rank, given.size, given.meeting)
        self.order = []

    def all_sum(self, array):
        self.order.append(("sum", tuple(array.shape)))
        return super().all_sum(array)

    def start_all_sum(self, array):
        self.order.append(("start", tuple(array.shape)))
        given = array + 0  # which may be written over before it is waited for

        def wait():
            self.order.append(("wait", tuple(array.shape)))
            return super(Overlapping, self).all_sum(given)

        return wait


def chain():
    return {"layers": [Dense(8), ReLU(), Residual([Dense(8), ReLU(), Dense(8)]), Dense(3)]}


def tied():
    words = Embedding(9, 4)
    return {"layers": [words, Dense(4), TiedDense(9, words), Flatten(), Dense(3)]}


def shared():
    x, layer = Input((6,)), Dense(6)
    return {"inputs": x, "outputs": Dense(3)(Add()(layer(x), layer(ReLU()(layer(x)))))}


NETWORKS = {
    "chain": (chain, (6,), None, 4),
    "tied": (tied, (5,), 9, 2),  # all but the embedding
    "shared": (shared, None, None, 1),  # the last layer
}
"""What makes it, the shape of a sample, how many ids there are, and how many sums begin early."""


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_sums_that_begin_early_are_the_same(backend, name, accumulate, monkeypatch):
    monkeypatch.setattr(xpnn.layers.replica, "BUCKET", 20)
    make, shape, ids, early = NETWORKS[name]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, *(shape or (6,)))).astype(np.float32)
    x = x if ids is None else rng.integers(0, ids, (30, *shape))
    y = rng.integers(0, 3, 30).astype(np.int32)

    def train(communicator, overlaps):
        communicator = Overlapping(communicator) if overlaps else communicator
        made = make()
        network = Network(made.pop("layers", None), shape, backend, seed=1, **made)
        trainer = Trainer(
            *(network, cross_entropy, Adam(1e-2)),
            accumulate=accumulate,
            distributed=communicator,
        )
        found = trainer.fit(x, y, epochs=3, batch_size=10, progress=False)["loss"]
        return found, getattr(communicator, "order", None)

    late = together(2, lambda one: train(one, overlaps=False))
    for (losses, order), (wanted, _) in zip(
        together(2, lambda one: train(one, overlaps=True)), late, strict=True
    ):
        assert losses == wanted
        starts = [shape for verb, shape in order if verb == "start"]
        assert starts == [shape for verb, shape in order if verb == "wait"]
        assert len(starts) == (9 * early if accumulate == 1 else 0)
        if starts:
            verbs = [verb for verb, _ in order]
            assert verbs[verbs.index("start") :][:early] == ["start"] * early


def test_nothing_is_added_up_twice(backend, monkeypatch):
    """Each number of each gradient goes into one sum, and the loss."""
    monkeypatch.setattr(xpnn.layers.replica, "BUCKET", 20)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 6)).astype(np.float32), rng.integers(0, 3, 8).astype(np.int32)

    def step(communicator):
        communicator = Overlapping(communicator)
        network = Network(**chain(), input_shape=(6,), backend=backend)
        trainer = Trainer(network, cross_entropy, Adam(1e-2), distributed=communicator)
        batch = network.asarray(x), backend.asarray(y)
        for _ in range(2):  # before which the processes compare what they were given
            trainer.step(*batch)
        before = len(communicator.order)
        trainer.step(*batch)
        counted = [np.prod(shape) for verb, shape in communicator.order[before:] if verb != "wait"]
        return sum(counted), sum(np.prod(one.shape) for one in network.params.values())

    for added, parameters in together(2, step):
        assert added == parameters + 1


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_step_takes_its_rows_of_lists_and_arrays(backend, accumulate):
    """Each process is given the whole batch."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 6)).astype(np.float32), rng.integers(0, 3, 7).astype(np.int32)

    def steps(communicator=None):
        network = Network(**chain(), input_shape=(6,), backend=backend)
        trainer = Trainer(
            *(network, cross_entropy, Adam(1e-2)), accumulate=accumulate, distributed=communicator
        )
        own = network.asarray(x), backend.asarray(y)
        given = [own, (x, y), (x.tolist(), y.tolist())]
        return [float(backend.to_numpy(trainer.step(*batch))) for batch in given]

    for found in together(3, steps):
        assert found == pytest.approx(steps(), rel=1e-6)


class Weak(ThreadCommunicator):
    """Knows which of its sums are still there."""

    def __init__(self, given):
        super().__init__(given.rank, given.size, given.meeting)
        self.sums = []

    def all_sum(self, array):
        found = super().all_sum(array)
        self.sums.append(weakref.ref(found))
        return found


@pytest.mark.parametrize("sharded", [False, True])
def test_no_sum_outlives_its_step(backend, sharded):
    """The value of a step, which a log point may read 100 steps later, holds no gradients."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 6)).astype(np.float32), rng.integers(0, 3, 8).astype(np.int32)

    def step(communicator):
        communicator = Weak(communicator)
        network = Network(**chain(), input_shape=(6,), backend=backend)
        trainer = Trainer(
            *(network, cross_entropy, Adam(1e-2)),
            distributed=communicator,
            shard_optimizer=sharded,
            compile=False,
        )
        x_here, y_here = network.asarray(x), backend.asarray(y)
        for _ in range(2):  # before which the processes compare what they were given
            trainer.step(x_here, y_here)
        communicator.sums.clear()
        value = trainer.step(x_here, y_here)
        gc.collect()
        kept = [tuple(one().shape) for one in communicator.sums if one() is not None]
        parameters = sum(math.prod(one.shape) for one in network.params.values())
        return float(backend.to_numpy(value)), len(communicator.sums), kept, parameters

    for value, sums, kept, parameters in together(2, step):
        assert np.isfinite(value)
        assert sums == 1 + sharded
        assert kept in ([], [(parameters,)] if sharded else [])  # the parameters may be its parts


class Failing(ReLU):
    """Whose backward fails, when sums of the layers behind it have begun."""

    def backward(self, delta):
        raise ZeroDivisionError("planted")


@pytest.mark.parametrize("waits_on_device", [False, True])
def test_what_a_failed_step_has_begun_is_forgotten(backend, waits_on_device, monkeypatch):
    monkeypatch.setattr(xpnn.layers.replica, "BUCKET", 20)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 6)).astype(np.float32), rng.integers(0, 3, 8).astype(np.int32)

    def fail(communicator):
        communicator = Overlapping(communicator)
        communicator.waits_on_device = waits_on_device
        network = Network([Dense(8), Failing(), Dense(9), Dense(3)], (6,), backend)
        optimizer = Adam(1e-2)
        step = make_flat_step(network, cross_entropy, optimizer, None, 1, False, communicator)
        given = network.asarray(x), backend.asarray(y), None, (LocalRows(0, 8, 16),)
        with pytest.raises(ZeroDivisionError, match="planted"):
            step(optimizer.init(network.params, backend), *given)
        with pytest.raises(KeyError):
            finish_begun(communicator, 0)
        return [verb for verb, _ in communicator.order]

    waits = ["wait"] * 2 if waits_on_device else []
    assert together(2, fail) == [["start", "start", *waits]] * 2
