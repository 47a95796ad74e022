"""Callbacks: each does what it says, and says what it needs."""

import csv

import numpy as np
import pytest

import xpnn
from xpnn import (
    SGD,
    Accuracy,
    BestWeights,
    Callback,
    CSVLogger,
    Dense,
    EarlyStopping,
    Layer,
    Network,
    ReLU,
    StopOnNaN,
    Trainer,
)
from xpnn.errors import TrainingStopped


def trainer_with(
    *callbacks, rate=0.1, backend="numpy", layers=None, loss=xpnn.cross_entropy, **settings
):
    network = Network(layers or [Dense(8), ReLU(), Dense(10)], (64,), backend)
    return Trainer(
        network,
        loss,
        SGD(rate),
        metrics=[Accuracy()],
        callbacks=callbacks,
        **settings,
    )


def data(count=120):
    x, y = xpnn.datasets.digits()
    return x[:count], y[:count]


class Scripted(Callback):
    """Replaces the validation loss by a given series."""

    def __init__(self, values):
        self.values = iter(values)

    def on_epoch_end(self, trainer, logs):
        logs["val_loss"] = next(self.values)


class Recorder(Callback):
    def __init__(self):
        self.calls = []

    def on_fit_begin(self, trainer, epochs):
        self.calls.append(("fit", epochs))

    def on_epoch_begin(self, trainer, steps):
        self.calls.append(("epoch", steps))

    def on_step_end(self, trainer, step):
        self.calls.append(("step", step))

    def on_log(self, trainer, step, logs):
        self.calls.append(("log", step))

    def on_epoch_end(self, trainer, logs):
        self.calls.append(("epoch end", sorted(logs)))

    def on_fit_end(self, trainer):
        self.calls.append(("fit end",))


def test_hooks_are_called_in_order():
    recorder = Recorder()
    trainer_with(recorder, log_every=2).fit(*data(80), batch_size=32, progress=False)
    assert recorder.calls == [
        ("fit", 1),
        ("epoch", 3),
        ("step", 1),
        ("step", 2),
        ("log", 2),
        ("step", 3),
        ("log", 3),
        ("epoch end", ["loss", "rate"]),
        ("fit end",),
    ]


def test_history_lists_what_was_measured():
    history = trainer_with().fit(*data(), epochs=3, validation=0.25, progress=False)
    assert history.names == ["epoch", "loss", "val_loss", "val_accuracy", "rate"]
    assert history["epoch"] == [1, 2, 3]
    assert history["rate"] == [pytest.approx(0.1)] * 3
    assert "val_accuracy" in history
    with pytest.raises(
        KeyError, match=r"only epoch, loss.*, rate; to measure it, give the trainer"
    ):
        history["accuracy"]
    with pytest.raises(KeyError, match=r"there is no 'val_r2' in .*; .* give fit validation=0"):
        history["val_r2"]


@pytest.mark.parametrize(
    ("monitor", "message"),
    [
        ("val_los", r"did you mean 'val_loss'\? To watch it, say whether more of it is better"),
        (
            "val_r2",
            r"one of .* \(accuracy\)\. To watch it, give it to .*, metrics=\['r2'\]; or say",
        ),
    ],
)
def test_a_number_that_is_not_measured_is_told_with_how_to_measure_it(monitor, message):
    with pytest.raises(ValueError, match=message):
        trainer_with(EarlyStopping(monitor)).fit(*data(), validation=0.25, progress=False)


def test_a_loss_that_is_not_finite_is_warned_of_once(caplog):
    trainer = trainer_with()
    trainer.network.load({name: one * np.nan for name, one in trainer.network.params.items()})
    trainer.fit(*data(), epochs=3, progress=False)
    (told,) = [
        one.getMessage() for one in caplog.records if "the loss of epoch" in one.getMessage()
    ]
    assert told.startswith("the loss of epoch 1 is nan: bring inputs and targets to mean 0")
    assert "StopOnNaN() among the callbacks" in told


class Late(Callback):
    """Measures a number in the second epoch only."""

    def on_epoch_end(self, state, logs):
        if state.epoch == 2:
            logs["auc"] = 0.75


def test_history_has_a_number_that_comes_later():
    history = trainer_with(Late()).fit(*data(), epochs=3, progress=False)
    assert history.names == ["epoch", "loss", "rate", "auc"]
    np.testing.assert_equal(history["auc"], [np.nan, 0.75, np.nan])


def test_a_history_is_gone_through_as_a_dictionary_is():
    history = trainer_with().fit(*data(), epochs=2, progress=False)
    assert list(history) == list(history.keys()) == ["epoch", "loss", "rate"]
    assert dict(history) == dict(history.items()) == {name: history[name] for name in history}
    assert {**history}["epoch"] == [1, 2]
    assert len(history) == 2


def test_all_callbacks_end_and_the_first_error_comes_out():
    ended = []

    class Ends(Callback):
        def __init__(self, error=None):
            self.error = error

        def on_fit_end(self, state):
            ended.append(self)
            if self.error is not None:
                raise self.error

    one, other = LookupError("no picture"), OSError("no disk")
    callbacks = [Ends(), Ends(one), Ends(), Ends(other), Ends()]
    with pytest.raises(LookupError, match="no picture") as caught:
        trainer_with(*callbacks).fit(*data(), progress=False)
    assert ended == callbacks
    assert caught.value.__notes__ == ["Ends.on_fit_end then raised OSError: no disk"]


def test_what_a_callback_puts_among_the_numbers_ends_nothing(capsys):
    class Notes(Callback):
        def on_epoch_end(self, state, logs):
            logs |= {"note": "even", "nothing": None, "width": np.float32(0.5)}

    history = trainer_with(Notes()).fit(*data(), epochs=2)
    assert history["note"] == ["even", "even"]
    assert repr(history).endswith("note=even, nothing=None, width=0.5>")
    assert capsys.readouterr().err.count("note=even, nothing=None, width=0.5") == 2


def test_what_ended_training_comes_out_before_what_callbacks_raise():
    class Fails(Callback):
        def on_step_end(self, state, step):
            raise ArithmeticError("the step")

        def on_fit_end(self, state):
            raise LookupError("the end")

    with pytest.raises(ArithmeticError, match="the step") as caught:
        trainer_with(Fails()).fit(*data(), progress=False)
    assert caught.value.__notes__ == ["Fails.on_fit_end then raised LookupError: the end"]


def test_early_stopping_waits_for_patience():
    losses = [1.0, 0.8, 0.9, 0.85, 0.81, 0.5]
    trainer = trainer_with(Scripted(losses), EarlyStopping(patience=3))
    history = trainer.fit(*data(), epochs=6, validation=0.2, progress=False)
    assert len(history) == 5
    assert trainer.stop_reason == "val_loss has not improved on 0.8 for 3 epochs"


def test_early_stopping_counts_gains_below_the_least_as_none():
    losses = [1.0, 0.99, 0.98, 0.97]
    trainer = trainer_with(Scripted(losses), EarlyStopping(patience=2, min_gain=0.1))
    assert len(trainer.fit(*data(), epochs=4, validation=0.2, progress=False)) == 3


def test_early_stopping_knows_that_accuracy_rises():
    stopping = EarlyStopping("val_accuracy", patience=1)
    trainer_with(stopping).fit(*data(), epochs=1, validation=0.2, progress=False)
    assert stopping.higher_is_better is True


def test_watching_what_is_not_measured_says_what_is():
    with pytest.raises(ValueError, match=r"watches 'val_loss', which is not measured, only loss"):
        trainer_with(EarlyStopping()).fit(*data(), progress=False)


def test_best_weights_are_put_back(backend):
    kept = {}

    class Keep(Callback):
        def on_epoch_end(self, trainer, logs):
            kept[trainer.epoch] = trainer.network.numpy_arrays()

    best = BestWeights()
    trainer = trainer_with(Keep(), Scripted([0.9, 0.3, 0.5]), best, backend=backend)
    trainer.fit(*data(), epochs=3, validation=0.2, progress=False)
    assert best.epoch == 2
    for name, value in trainer.network.numpy_arrays().items():
        np.testing.assert_array_equal(value, kept[2][name])
    assert not np.array_equal(kept[2]["0.dense.weight"], kept[3]["0.dense.weight"])


def test_csv_logger_writes_each_epoch(tmp_path):
    path = tmp_path / "deep" / "history.csv"
    trainer = trainer_with(CSVLogger(path))
    history = trainer.fit(*data(), epochs=2, progress=False)
    trainer.callbacks = (CSVLogger(path, append=True),)
    trainer.fit(*data(), progress=False)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [float(row["loss"]) for row in rows[:2]] == history["loss"]


def test_progress_bar_shows_epoch_and_results(capsys):
    trainer_with().fit(*data(), epochs=2, validation=0.2)
    shown = capsys.readouterr().err
    assert "epoch 2/2" in shown
    assert "val_accuracy=" in shown


class Explodes(Layer):
    """The identity, until the given step; then its output or its input gradient is infinite."""

    def __init__(self, step, in_backward=False):
        super().__init__()
        self.step, self.in_backward = step, in_backward

    def init_state(self, input_shape):
        return {"draw": self.backend.counter()}

    def forward(self, Z, training=False):
        self.state["draw"] = self.state["draw"] + 1
        bad = self.state["draw"] == self.step
        self.cache["scale"] = np.inf if bad else 1.0
        return Z if self.in_backward else Z * self.cache["scale"]

    def backward(self, delta):
        return delta * self.cache["scale"] if self.in_backward else delta


@pytest.mark.parametrize(
    ("in_backward", "culprit"),
    [(False, "the output of layer 1.explodes"), (True, "the input gradient of layer 1.explodes")],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_stop_on_nan_names_the_first_bad_layer(in_backward, culprit):
    layers = [Dense(8), Explodes(7, in_backward), ReLU(), Dense(10)]
    trainer = trainer_with(StopOnNaN(), layers=layers, log_every=4)
    before = trainer_with(layers=[Dense(8), Explodes(99), ReLU(), Dense(10)], log_every=4)
    with pytest.raises(TrainingStopped, match=f"epoch 1, step 7: {culprit} is NaN or infinite"):
        trainer.fit(*data(), batch_size=12, progress=False)

    # the network is as it was after six good steps
    class Stop(Callback):
        def on_step_end(self, trainer, step):
            if step == 6:
                raise InterruptedError

    with pytest.raises(InterruptedError):
        before.fit(*data(), batch_size=12, progress=False, callbacks=[Stop()])
    np.testing.assert_array_equal(
        trainer.network.params["0.dense.weight"], before.network.params["0.dense.weight"]
    )
    assert trainer.steps == 6
    assert trainer.opt_state["step"] == 6


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_stop_on_nan_finds_a_rate_that_is_too_large(backend):
    trainer = trainer_with(StopOnNaN(), rate=1e30, backend=backend, log_every=3)
    with pytest.raises(TrainingStopped, match="is NaN or infinite"):
        trainer.fit(*data(), batch_size=12, epochs=3, progress=False)
    for value in trainer.network.numpy_arrays().values():
        assert np.isfinite(value).all()


class Logs(Callback):
    def __init__(self):
        self.seen = []

    def on_log(self, trainer, step, logs):
        self.seen.append((trainer.epoch, step, logs["loss"]))


def test_after_stop_on_nan_the_run_goes_on_from_before_the_bad_step(backend, tmp_path):
    """Saved and resumed with a loss that is fine again, it is the run that never went bad."""
    x, y = data(96)
    y = np.where(np.arange(96) == 64, 9, y % 9)  # one of its kind, in step 5
    spoils = []

    def loss(predictions, targets, *, sample_weight=None, backend):
        value, delta = xpnn.cross_entropy(
            predictions, targets, sample_weight=sample_weight, backend=backend
        )
        bad = spoils and (backend.to_numpy(targets) == 9).any()
        return (value * float("nan"), delta * float("nan")) if bad else (value, delta)

    def run(trainer, *callbacks, resume=None):
        settings = {"epochs": 2, "batch_size": 16, "shuffle": False, "progress": False}
        return trainer.fit(x, y, callbacks=callbacks, resume=resume, **settings)

    def make():
        return trainer_with(backend=backend, loss=loss, log_every=3, compile=False)

    logs, before, after = Logs(), Logs(), Logs()
    expected, trainer = run(make(), logs), make()
    spoils.append(True)
    with np.errstate(all="ignore"), pytest.raises(TrainingStopped, match="epoch 1, step 5: the"):
        run(trainer, StopOnNaN(), before)
    assert (trainer.steps, trainer.epoch_steps, trainer.state.logged) == (4, 4, 3)
    spoils.clear()
    trainer.save(tmp_path / "stopped.safetensors")
    history = run(make(), after, resume=tmp_path / "stopped.safetensors")
    assert history.epochs == expected.epochs
    assert before.seen + after.seen == logs.seen


def test_a_callback_of_the_wrong_kind_is_refused():
    with pytest.raises(TypeError, match=r"callbacks: wanted objects such as \[EarlyStopping"):
        trainer_with(EarlyStopping)
