"""Ctrl-C ends training between two steps, keeps what was trained, and says how to go on."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import xpnn
from tests.backends.process import PYTHON_PATH
from xpnn import (
    Adam,
    BestWeights,
    Callback,
    Checkpoint,
    Dense,
    Dropout,
    Network,
    ReLU,
    Trainer,
)
from xpnn.cli import main
from xpnn.training.checkpointing.resuming import numbered
from xpnn.training.interrupts import Interrupts


def data(count=96):
    x, y = xpnn.datasets.digits()
    return x[:count], y[:count]


def make_trainer(backend="numpy", loss=xpnn.cross_entropy, **settings):
    network = Network([Dense(16), ReLU(), Dropout(0.2), Dense(10)], (64,), backend, seed=1)
    return Trainer(network, loss, Adam(1e-2), **settings)


def fit(trainer, *callbacks, resume=None, **settings):
    settings = {"epochs": 3, "batch_size": 16, "progress": False} | settings
    return trainer.fit(*data(), callbacks=callbacks, resume=resume, **settings)


class PressCtrlC(Callback):
    """Interrupts while step ``step`` is not over yet."""

    def __init__(self, step, times=1):
        self.step, self.times, self.ended = step, times, False

    def on_step_end(self, trainer, step):
        if trainer.steps == self.step:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)

    def on_fit_end(self, trainer):
        self.ended = True


@pytest.mark.fault("Ctrl-C in training")
@pytest.mark.parametrize("step", [1, 4, 6, 15])
def test_an_interrupt_saves_and_the_run_goes_on(backend, tmp_path, step, caplog):
    whole = make_trainer(backend)
    expected = fit(whole)
    trainer, press = make_trainer(backend), PressCtrlC(step)
    with caplog.at_level(logging.WARNING, "xpnn"), pytest.raises(KeyboardInterrupt):
        fit(trainer, press, Checkpoint(tmp_path))
    assert press.ended
    assert trainer.steps == step
    assert f"go on from here with fit(..., resume={str(tmp_path)!r})" in caplog.text
    assert f"epoch {step // 6 + 1}, after {step % 6} of its steps" in caplog.text or step % 6 == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = make_trainer(backend)
    history = fit(resumed, Checkpoint(tmp_path), resume=tmp_path)
    assert history.epochs == expected.epochs
    for name, value in whole.network.numpy_arrays().items():
        np.testing.assert_array_equal(resumed.network.numpy_arrays()[name], value)


@pytest.mark.fault("Ctrl-C in training")
def test_a_step_is_never_left_half_done():
    def interrupting(predictions, targets, *, sample_weight=None, backend=None):
        signal.raise_signal(signal.SIGINT)
        return xpnn.cross_entropy(
            predictions, targets, sample_weight=sample_weight, backend=backend
        )

    trainer, other = make_trainer(loss=interrupting, compile=False), make_trainer(compile=False)
    with pytest.raises(KeyboardInterrupt):
        fit(trainer)
    with pytest.raises(KeyboardInterrupt):
        fit(other, PressCtrlC(1))
    assert trainer.steps == trainer.opt_state["step"] == 1
    for name, value in other.network.numpy_arrays().items():
        np.testing.assert_array_equal(trainer.network.numpy_arrays()[name], value)


@pytest.mark.fault("Ctrl-C in training")
def test_a_callback_that_fails_then_keeps_no_other_from_saving(tmp_path):
    class Fails(Callback):
        def on_interrupt(self, state):
            raise OSError("no disk")

    with pytest.raises(KeyboardInterrupt) as caught:
        fit(make_trainer(), Fails(), PressCtrlC(4), Checkpoint(tmp_path))
    assert caught.value.__notes__ == ["Fails.on_interrupt then raised OSError: no disk"]
    assert [int(path.stem[-9:]) for path in numbered(tmp_path)] == [4]


def test_the_second_one_does_not_wait(tmp_path, caplog):
    press = PressCtrlC(4, times=2)
    with caplog.at_level(logging.WARNING, "xpnn"), pytest.raises(KeyboardInterrupt):
        fit(make_trainer(), press, Checkpoint(tmp_path))
    assert press.ended
    assert numbered(tmp_path) == []  # as it is not known what the step has changed
    assert "inside of a step, which may have changed some parameters" in caplog.text


@pytest.mark.fault("Ctrl-C in training")
def test_waiting_for_a_batch_is_interrupted_at_once(tmp_path):
    x, y = data()

    def slow():
        yield x[:16], y[:16]
        yield x[:16], y[:16]
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it went on")

    trainer = make_trainer()
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(slow, progress=False, callbacks=[Checkpoint(tmp_path)])
    assert [path.name for path in numbered(tmp_path)] == ["checkpoint-000000002.safetensors"]


@pytest.mark.fault("Ctrl-C in training")
def test_validation_is_interrupted_between_batches(tmp_path):
    class Press(Callback):
        def on_log(self, trainer, step, logs):
            if step == 6:
                signal.raise_signal(signal.SIGINT)

    trainer, whole = make_trainer(), make_trainer()
    expected = fit(whole, validation=data(64))
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, Press(), Checkpoint(tmp_path), validation=data(64))
    assert (trainer.epoch, trainer.epoch_steps) == (0, 6)
    again = make_trainer()
    assert fit(again, resume=tmp_path, validation=data(64)).epochs == expected.epochs


def test_without_a_checkpoint_the_trainer_can_still_be_saved(tmp_path):
    expected = fit(make_trainer())
    trainer = make_trainer()
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, PressCtrlC(8))
    trainer.save(tmp_path / "saved.safetensors")
    assert fit(make_trainer(), resume=tmp_path / "saved.safetensors").epochs == expected.epochs


@pytest.mark.parametrize("saved", [False, True])
def test_where_weights_are_put_back_only_a_checkpoint_helps(tmp_path, caplog, saved):
    callbacks = [BestWeights("loss"), *([Checkpoint(tmp_path)] if saved else []), PressCtrlC(8)]
    with caplog.at_level(logging.WARNING, "xpnn"), pytest.raises(KeyboardInterrupt):
        fit(make_trainer(), *callbacks)
    assert "BestWeights now puts other weights in place of those" in caplog.text
    assert "trainer.save(path) comes too late" in caplog.text
    assert "trainer.save(path) now" not in caplog.text
    if saved:
        expected, again = fit(make_trainer(), BestWeights("loss")), make_trainer()
        assert fit(again, BestWeights("loss"), resume=tmp_path).epochs == expected.epochs


def test_a_handler_of_the_user_is_called_and_put_back():
    seen = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    own = signal.getsignal(signal.SIGINT)
    try:
        history = fit(make_trainer(), PressCtrlC(2))
        assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT]
    assert len(history) == 3  # it was the user's to decide


def test_other_threads_and_ignored_signals_are_left_alone():
    results = []
    thread = threading.Thread(target=lambda: results.append(fit(make_trainer())))
    thread.start()
    thread.join()
    assert len(results[0]) == 3
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert len(fit(make_trainer(), PressCtrlC(2))) == 3
    finally:
        signal.signal(signal.SIGINT, before)


def test_one_that_comes_after_the_last_check_is_not_lost():
    with pytest.raises(KeyboardInterrupt), Interrupts():
        signal.raise_signal(signal.SIGINT)


@pytest.mark.skipif(os.name == "nt", reason="Windows has another way to interrupt a process")
def test_xpnn_train_exits_with_130_and_resumes(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="the picture of the curves needs matplotlib")
    command = ["train", "--epochs", "4", "--quiet", "--batch-size", "16", "--out"]
    assert main([*command, str(tmp_path / "whole")]) == 0
    out = tmp_path / "run"
    child = subprocess.Popen(
        [sys.executable, "-m", "xpnn", *command, str(out)],
        env={**os.environ, "PYTHONPATH": PYTHON_PATH},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not numbered(out / "checkpoints"):
        time.sleep(0.001)
        assert child.poll() is None, child.communicate()[1]
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate()
    assert child.returncode == 130, errors
    assert "xpnn: interrupted; the same command with --resume goes on" in errors
    assert "Traceback" not in errors
    assert main([*command, str(out), "--resume"]) == 0
    assert main([*command, str(out), "--resume"]) == 0  # it has ended: nothing is left to do
    capsys.readouterr()
    first, second = (tmp_path / name / "history.csv" for name in ("whole", "run"))
    rows = [
        [line.split(",")[:1] + line.split(",")[2:] for line in path.read_text().splitlines()]
        for path in (first, second)
    ]
    assert rows[0] == rows[1]
    assert main([*command, str(out)]) == 0  # and without it, all begins anew
    assert main(["train", "--epochs", "5", "--quiet", "--out", str(out), "--resume"]) == 1
    assert "data.batch_size is 32 here and 16 in the checkpoint" in capsys.readouterr().err
