"""Before the first step, processes find out in what they differ; and they stop together."""

import re

import numpy as np
import pytest

from tests.distributed.threads import together
from xpnn import (
    SGD,
    Adam,
    Callback,
    Dense,
    Layer,
    Network,
    ReLU,
    Tanh,
    Trainer,
    XpnnError,
    cross_entropy,
)
from xpnn.errors import TrainingStopped
from xpnn.training import EarlyStopping, GradualUnfreezing, JSONLines, StopOnNaN
from xpnn.training.rate_finder import find_rate

RNG = np.random.default_rng(0)
X = RNG.normal(size=(43, 6)).astype(np.float32)
Y = RNG.integers(0, 3, 43).astype(np.int32)


def make(communicator, *, activation=Tanh, loss=cross_entropy, weights=1, rate=0.1, **settings):
    network = Network([Dense(8), activation(), Dense(3)], (6,), seed=1)
    if weights != 1:
        network.load({name: one * weights for name, one in network.params.items()})
    return Trainer(network, loss, SGD(rate), distributed=communicator, **settings)


def fit(trainer, x=X, y=Y, **settings):
    return trainer.fit(x, y, **{"epochs": 2, "batch_size": 10, "progress": False, **settings})


def own_loss(scale):
    def loss(predictions, targets, *, sample_weight=None, backend=None):
        value, delta = cross_entropy(
            predictions, targets, sample_weight=sample_weight, backend=backend
        )
        return value * scale, delta * scale

    return loss


def of_program(rank):
    """A loss of one name, written otherwise in another process."""
    code = "value * 2, delta * 2" if rank else "value, delta"
    names = {"cross_entropy": cross_entropy}
    exec(
        "def loss(predictions, targets, *, sample_weight=None, backend=None):\n"
        "    value, delta = cross_entropy(\n"
        "        predictions, targets, sample_weight=sample_weight, backend=backend)\n"
        f"    return {code}\n",
        names,
    )
    return names["loss"]


MADE = {
    "trainer.seed (3, 4)": lambda rank: {"seed": 3 + rank},
    "layers.2 ": lambda rank: {"activation": ReLU if rank else Tanh},
    "optimizer.rate (0.1, 0.2)": lambda rank: {"rate": 0.1 * (1 + rank)},
    "weights.0.dense.weight.checksum (": lambda rank: {"weights": 1 + rank},
    "loss.closure.scale (1.0, 2.0)": lambda rank: {"loss": own_loss(1.0 + rank)},
    "loss.code (": lambda rank: {"loss": of_program(rank)},
    "trainer.accumulate (1, 2)": lambda rank: {"accumulate": 1 + rank},
    "fit.log_every (5, 6)": lambda rank: {"log_every": 5 + rank},
}
FITTED = {
    "fit.epochs (2, 3)": lambda rank: {"epochs": 2 + rank},
    "data.x (numbers, other numbers)": lambda rank: {"x": X + rank},
    "data.y.checksum (": lambda rank: {"y": Y if rank else Y[::-1].copy()},
    "data.batch_size (10, 11)": lambda rank: {"batch_size": 10 + rank},
    "fit.callbacks.0 EarlyStopping.patience (1, 2)": lambda rank: {
        "callbacks": [EarlyStopping("loss", patience=1 + rank)]
    },
}


@pytest.mark.parametrize(
    ("told", "made", "fitted"),
    [(told, made, None) for told, made in MADE.items()]
    + [(told, None, fitted) for told, fitted in FITTED.items()],
)
def test_what_differs_is_named_in_all_processes(told, made, fitted):
    def work(communicator):
        rank = int(communicator.rank == 1)
        trainer = make(communicator, **(made(rank) if made else {}))
        before = trainer.network.numpy_arrays()
        if made and "fit." not in told and "data" not in told:
            with pytest.raises(XpnnError, match="process 1 differs from process 0"):
                trainer.step(X, Y)
        with pytest.raises(XpnnError) as caught:
            fit(trainer, **(fitted(rank) if fitted else {}))
        assert trainer.steps == 0
        after = trainer.network.numpy_arrays()
        assert all(np.array_equal(before[name], after[name]) for name in before)
        return str(caught.value)

    for text in together(3, work):
        assert f"process 1 differs from process 0 in: {told}" in text or f", {told}" in text, text
        assert "process 2" not in text


def test_processes_that_are_alike_train():
    def work(communicator):
        trainer = make(communicator, loss=own_loss(1.0))
        return fit(trainer, callbacks=[EarlyStopping("loss")])["loss"]

    first, second = together(2, work)
    assert first == second == pytest.approx(fit(make(None))["loss"], rel=1e-6)


def test_batches_that_each_process_draws_otherwise_are_found():
    def work(communicator):
        order = np.random.default_rng(communicator.rank).permutation(40)
        batches = [(X[rows], Y[rows]) for rows in np.split(order, 4)]
        with pytest.raises(XpnnError, match=r"the first batch.part 1 \(numbers, other"):
            make(communicator).fit(lambda: iter(batches), epochs=1, progress=False)

    together(2, work)


def test_what_each_process_measures_in_an_order_of_its_own_is_found():
    def work(communicator):
        order = np.random.default_rng(communicator.rank).permutation(40)
        batches = [(X[rows], Y[rows]) for rows in np.split(order, 4)]
        trainer = make(communicator)
        with pytest.raises(XpnnError, match=r"the first batch.part 1 \(numbers, other"):
            trainer.evaluate(lambda: iter(batches))
        with pytest.raises(XpnnError, match=r"the first batch.part 1 \(numbers, other"):
            fit(trainer, validation=lambda: iter(batches))

    together(2, work)


@pytest.mark.parametrize("told", ["samples (20, 23)", "part 1 (numbers, other"])
def test_a_step_on_a_batch_of_each_process_is_found(told):
    def work(communicator):
        more = 3 if "samples" in told and communicator.rank else 0
        rows = np.arange(20 + more) + 20 * communicator.rank
        with pytest.raises(XpnnError, match=re.escape(f"the first batch.{told}")):
            make(communicator).step(X[rows], Y[rows])

    together(2, work)


def steps_taken(trainer, x, y, count):
    for _ in range(count):
        trainer.step(x, y)


@pytest.mark.parametrize(("differs", "steps"), [("samples", 15), ("numbers", 31)])
def test_a_later_step_on_a_batch_of_each_process_is_found(differs, steps):
    def work(communicator):
        trainer = make(communicator)
        steps_taken(trainer, X, Y, 9)
        more = communicator.rank
        x, y = (X[: 30 + more], Y[: 30 + more]) if differs == "samples" else (X + more, Y)
        with pytest.raises(XpnnError, match="got others in process 1 than in process 0, up to ste"):
            steps_taken(trainer, x, y, 60)
        return trainer.steps

    assert together(2, work) == [steps, steps]


EVALUATED = {
    "data.rows (30, 31)": lambda rank: {"x": X[: 30 + rank], "y": Y[: 30 + rank]},
    "data.part 1 (numbers, other numbers)": lambda rank: {"x": X + rank},
    "batch_size (10, 11)": lambda rank: {"batch_size": 10 + rank},
}


@pytest.mark.parametrize("told", EVALUATED)
def test_what_is_measured_is_the_same_in_all_processes(told):
    def work(communicator):
        trainer = make(communicator)
        given = {"x": X, "y": Y, **EVALUATED[told](communicator.rank)}
        for call in (trainer.evaluate, trainer.confusion_matrix):
            with pytest.raises(XpnnError, match=re.escape(f"from process 0 in: {told}")):
                call(**given)
        return trainer.evaluate(X, Y)

    first, second = together(2, work)
    assert first == second


def test_metrics_of_one_process_alone_are_found():
    def work(communicator):
        trainer = make(communicator, metrics=["accuracy"] if communicator.rank else [])
        with pytest.raises(XpnnError, match=r"process 1 differs from process 0 in: metrics \("):
            trainer.evaluate(X, Y)

    together(2, work)


def test_an_optimizer_that_begins_anew_in_one_process_is_found():
    def work(communicator):
        trainer = make(communicator)
        trainer.step(X, Y)
        if communicator.rank:
            trainer.opt_state = None
        trainer.step(X, Y)

    with pytest.raises(AssertionError, match="ask for different things"):  # as an engine finds
        together(2, work)


def test_logs_may_be_called_by_the_time_in_each_process(tmp_path):
    def work(communicator, gradients):
        log = JSONLines(tmp_path / f"{communicator.rank}.jsonl", gradients=gradients)
        return fit(make(communicator), callbacks=[log])["loss"]

    first, second = together(2, lambda one: work(one, True))
    assert first == second
    assert [one.name for one in tmp_path.iterdir()] == ["0.jsonl"]
    with pytest.raises(XpnnError, match=r"0 JSONLines.gradients \(True, False\)"):
        together(2, lambda one: work(one, one.is_first))


class StopsByItsClock(Callback):
    """Stops in one process alone, as the clocks of machines may differ."""

    def __init__(self, rank, reason="an hour is over"):
        self.rank, self.reason = rank, reason

    def on_epoch_end(self, state, logs):
        if state.communicator.rank == self.rank and state.epoch == 2:
            state.stop(self.reason)


@pytest.mark.parametrize("reason", ["an hour is over", ""])
def test_one_that_stops_stops_all(reason):
    def work(communicator):
        trainer = make(communicator)
        history = fit(trainer, epochs=5, callbacks=[StopsByItsClock(1, reason)])
        return len(history), trainer.stop_reason

    found = together(2, work)
    assert found == [(2, f"{reason} (in process 1)"), (2, reason)]


def test_callbacks_that_decide_are_of_one_mind():
    def work(communicator):
        trainer = make(communicator, rate=0.5, metrics=["accuracy"])
        history = fit(
            trainer,
            epochs=60,
            validation=(X[:17], np.zeros(17, dtype=np.int32)),
            callbacks=[EarlyStopping("val_loss", patience=2), GradualUnfreezing({2: "0.*"})],
        )
        return history["val_loss"], trainer.stop_reason

    first, second = together(2, work)
    assert first == second
    losses, reason = work(None)
    assert reason == first[1] is not None
    assert first[0] == pytest.approx(losses, rel=1e-5)


def test_the_bad_step_is_found_in_the_process_that_has_the_row():
    x = X.copy()
    x[25] = 3e38  # in the second half of the third batch

    def work(communicator):
        trainer = make(communicator, activation=ReLU, log_every=4)
        with np.errstate(all="ignore"), pytest.raises(TrainingStopped) as caught:
            fit(trainer, x, shuffle=False, callbacks=[StopOnNaN()])
        return str(caught.value), trainer.steps, trainer.network.numpy_arrays()

    (text, steps, arrays), other = together(2, work)
    assert (text, steps) == other[:2]
    assert steps == 2
    assert "epoch 1, step 3: the output of layer 0.dense, in process 1, is NaN" in text
    assert all(np.array_equal(arrays[name], other[2][name]) for name in arrays)


def test_rates_are_found_together():
    def work(communicator):
        network = Network([Dense(8), Tanh(), Dense(3)], (6,), seed=1)
        trainer = Trainer(network, cross_entropy, Adam(), distributed=communicator)
        return find_rate(trainer, X, Y, batch_size=10, steps=40).losses

    first, second = together(2, work)
    assert first == second
    assert first == pytest.approx(work(None), rel=1e-3)


class Counts(Layer):
    """Keeps count of its calls, of which each process has others where it measures."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor, self.calls, self.seen = factor, 0, []

    def forward(self, inputs, training=False):
        self.calls += 1
        self.seen.append(inputs.shape)
        return inputs * self.factor

    def backward(self, delta):
        return delta * self.factor


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_what_a_layer_counts_is_its_own_and_what_it_was_made_with_is_not(factor):
    def work(communicator):
        layers = [Dense(3), Counts(factor if communicator.rank else 1.0)]
        trainer = Trainer(
            Network(layers, (6,), seed=1), cross_entropy, SGD(0.1), distributed=communicator
        )
        for _ in range(2):
            fit(trainer, epochs=1, validation=(X[:9], Y[:9]))
        return layers[1].calls

    if factor == 1.0:
        first, second = together(2, work)
        assert first != second
    else:
        with pytest.raises(XpnnError, match=r"layers.2 Counts.factor \(1.0, 2.0\)"):
            together(2, work)


class ChangesRate(Callback):
    """Changes the rate in one process alone."""

    def __init__(self, rank):
        self.rank, self.epochs = rank, 0

    def on_epoch_end(self, state, logs):
        self.epochs += 1
        if self.rank == 1:
            state.optimizer.rate = 0.5


class Freezes(ChangesRate):
    def on_epoch_begin(self, state, steps):
        if self.rank == 1 and state.epoch == 1:
            state.network.freeze("0.*")

    def on_epoch_end(self, state, logs):
        self.epochs += 1


class ChangesWeights(Freezes):
    def on_epoch_begin(self, state, steps):
        if self.rank == 1 and state.epoch == 1:
            state.network.load({n: one * 2 for n, one in state.network.params.items()})


@pytest.mark.parametrize(
    ("kind", "told", "epochs"),
    [
        (ChangesRate, r"process 1 differs from process 0 in: optimizer.rate \(0.1, 0.5\)", 1),
        (
            Freezes,
            r"process 1 differs from process 0 in: layers.1 Dense.trainable \(True, False",
            1,
        ),
        (ChangesWeights, r"others for 0.dense.\w+ in process 1 than in process 0", 1),
    ],
)
def test_what_one_process_changes_alone_is_found_within_an_epoch(kind, told, epochs):
    callbacks = {}

    def train(communicator):
        own = callbacks[communicator.rank] = kind(communicator.rank)
        with pytest.raises(XpnnError, match=told):
            fit(make(communicator), epochs=5, callbacks=[own])

    together(3, train)
    assert [one.epochs for one in callbacks.values()] == [epochs] * 3
