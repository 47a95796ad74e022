"""The table of callbacks: a line for each, and what it must have done after a small ``fit``."""

import csv
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from xpnn import SGD, Dense, Network, Trainer, XRay, mean_squared_error
from xpnn.errors import TrainingStopped
from xpnn.training import (
    EMA,
    SWA,
    BestWeights,
    Callback,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    GradualUnfreezing,
    History,
    JSONLines,
    MLflow,
    ProgressBar,
    StopOnNaN,
    TensorBoard,
    WandB,
)

STEPS, EPOCHS = 3, 4
LOSSES = [0.9, 0.4, 0.6, 0.5]  # of the validation, in each epoch


class Script(Callback):
    """Sets the validation loss, and writes down the weight, epoch by epoch."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.weights: list[float] = []

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, float]) -> None:
        logs["val_loss"] = LOSSES[trainer.epoch - 1]
        self.losses.append(logs["loss"])
        self.weights.append(float(trainer.network.params["0.dense.weight"][0, 0]))


@dataclass
class Fit:
    """What there is to see after a ``fit`` of 4 epochs of 3 steps.

    Attributes:
        callback: the one that was watching.
        trainer: after ``fit``.
        script: with the mean losses and the weights behind each epoch.
        shown: what stands on the terminal.
        folder: for the callback's files.
        error: what it raised, or None.
    """

    callback: Any
    trainer: Trainer
    script: Script
    shown: str
    folder: Path
    error: TrainingStopped | LookupError | None

    @property
    def weight(self) -> float:
        return float(self.trainer.network.params["0.dense.weight"][0, 0])


@dataclass
class Case:
    """One configuration of a callback.

    Attributes:
        kind: the class.
        make: makes one, which may write into a folder.
        did: asserts what it must have done.
        huge: the number of the sample, of 12, whose loss overflows; None for none.
    """

    kind: type[Callback]
    make: Callable[[Path], Callback]
    did: Callable[[Fit], None]
    huge: int | None = None


def small_fit(
    case: Case, folder: Path, capsys: pytest.CaptureFixture[str], *others: Callback
) -> Fit:
    """A weight that learns to be 3, from 12 samples, 4 at a time; other callbacks come first."""
    x = np.linspace(1.0, 2.0, 12, dtype=np.float32)[:, None]
    y = 3 * x
    if case.huge is not None:
        y[case.huge] = 1e30
    network = Network([Dense(1, use_bias=False)], (1,), seed=0)
    trainer = Trainer(network, mean_squared_error, SGD(0.05), log_every=2)
    callback, script, error = case.make(folder), Script(), None
    try:
        trainer.fit(
            *(x, y),
            epochs=EPOCHS,
            batch_size=4,
            shuffle=False,
            progress=False,
            callbacks=[*others, script, callback],
        )
    except (TrainingStopped, LookupError) as raised:
        error = raised
    return Fit(callback, trainer, script, capsys.readouterr().err, folder, error)


def kept_the_numbers(fit: Fit) -> None:
    assert fit.callback["epoch"] == [1, 2, 3, 4]
    assert fit.callback["loss"] == fit.script.losses
    assert fit.callback["val_loss"] == LOSSES
    assert fit.callback["rate"] == pytest.approx([0.05] * 4)


def showed_a_line_for_each_epoch(fit: Fit) -> None:
    lines = fit.shown.splitlines()
    assert len(lines) == EPOCHS
    for epoch, line in enumerate(lines, start=1):
        assert line.startswith(f"epoch {epoch}/4: 3 steps in ")
        loss, val_loss = fit.script.losses[epoch - 1], LOSSES[epoch - 1]
        assert line.endswith(f" s, loss={loss:.4g}, val_loss={val_loss:.4g}")


def stopped_after_two_epochs_without_a_gain(fit: Fit) -> None:
    assert fit.trainer.epoch == 4
    assert fit.trainer.stop_reason == "val_loss has not improved on 0.4 for 2 epochs"


def stopped_at_the_first_epoch_without_a_gain(fit: Fit) -> None:
    assert fit.trainer.epoch == len(fit.script.losses) == 3
    assert fit.trainer.stop_reason == "val_loss has not improved on 0.4 for 1 epochs"


def put_back_the_weights_of_epoch_2(fit: Fit) -> None:
    assert fit.callback.epoch == 2
    assert fit.weight == fit.script.weights[1]
    assert fit.script.weights[1] != fit.script.weights[3]


def wrote_a_line_for_each_epoch(fit: Fit) -> None:
    rows = list(csv.DictReader((fit.folder / "run.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [float(row["val_loss"]) for row in rows] == LOSSES
    assert [float(row["loss"]) for row in rows] == fit.script.losses


def wrote_a_line_for_each_log_point_and_epoch(fit: Fit) -> None:
    text = (fit.folder / "run.jsonl").read_text()
    begin, *lines = map(json.loads, text.splitlines())
    assert (begin["event"], begin["optimizer"], begin["rate"]) == ("begin", "SGD", 0.05)
    assert [line["step"] for line in lines] == [2, 3, 3, 5, 6, 6, 8, 9, 9, 11, 12, 12]
    assert [line["event"] for line in lines] == ["steps", "steps", "epoch"] * EPOCHS
    assert [line["val_loss"] for line in lines[2::3]] == LOSSES
    assert [line["loss"] for line in lines[2::3]] == fit.script.losses


def wrote_events_that_tensorboard_reads(fit: Fit) -> None:
    assert (fit.folder / "board").is_dir()
    found = scalars_in(fit.folder / "board")
    steps = [3, 6, 9, 12]
    assert found["train", "epoch/loss"] == pairs(steps, fit.script.losses)
    assert found["validation", "epoch/loss"] == pairs(steps, LOSSES)
    assert [step for step, _ in found["train", "steps/loss"]] == [2, 3, 5, 6, 8, 9, 11, 12]


def scalars_in(folder: Path) -> dict[tuple[str, str], list[Any]]:
    """(step, value) of each number that TensorBoard finds in a folder, by run and tag."""
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.util.tensor_util import make_ndarray

    runs = EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    return {
        (run, tag): [
            (one.step, pytest.approx(float(make_ndarray(one.tensor_proto)), rel=1e-6))
            for one in runs.Tensors(run, tag)
        ]
        for run in runs.Runs()
        for tag in runs.Runs()[run]["tensors"]
        if runs.SummaryMetadata(run, tag).plugin_data.plugin_name == "scalars"
    }


def pairs(steps: list[int], values: list[float]) -> list[Any]:
    return list(zip(steps, values, strict=True))


def wrote_a_run_of_mlflow(fit: Fit) -> None:
    assert fit.callback.run_id is not None
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=database(fit.folder))
    (run,) = client.search_runs([client.get_experiment_by_name("xpnn").experiment_id])
    assert run.info.run_id == fit.callback.run_id
    assert run.info.status == ("FINISHED" if fit.trainer.epoch == EPOCHS else "FAILED")
    assert (run.data.params["optimizer"], run.data.params["rate"]) == ("SGD", "0.05")
    for name, wanted in (("val_loss", LOSSES), ("loss", fit.script.losses)):
        there = client.get_metric_history(run.info.run_id, name)
        assert [(one.step, one.value) for one in there] == pairs([3, 6, 9, 12], wanted)


def database(folder: Path) -> str:
    return f"sqlite:///{folder / 'mlflow.db'}"


def wrote_a_run_of_wandb(fit: Fit) -> None:
    assert fit.callback.run_id is not None
    (written,) = fit.folder.glob(f"wandb/offline-run-*/run-{fit.callback.run_id}.wandb")
    wanted = [*(f"{loss}".encode() for loss in LOSSES), b"steps/loss", b"val_loss", b"SGD"]
    patience = time.monotonic() + 10
    while missing := [one for one in wanted if one not in written.read_bytes()]:
        assert time.monotonic() < patience, missing  # its own process writes a little later
        time.sleep(0.05)


def of_package(name: str, make: Callable[[Path], Callback]) -> Callable[[Path], Callback]:
    """Made where the package is installed; elsewhere the test is skipped."""

    def made(folder: Path) -> Callback:
        pytest.importorskip(name, reason=f"the callback writes by the package {name}")
        return make(folder)

    return made


def named_the_bad_step(fit: Fit) -> None:
    assert fit.error is not None
    assert "epoch 1, step 2: the loss" in str(fit.error)
    assert fit.trainer.steps == 1
    assert np.isfinite(fit.weight)


def saved_each_epoch_and_the_best(fit: Fit) -> None:
    files = {path.stem: load_file(path) for path in fit.folder.glob("*.safetensors")}
    steps = {name.rpartition("-")[2].lstrip("0") for name in files if name != "best"}
    assert steps == {"6", "9", "12"}  # the newest three
    found = {name: _values_in(arrays) for name, arrays in files.items()}
    assert fit.script.weights[1] in found["best"]
    assert fit.script.weights[3] not in found["best"]
    last = next(name for name in files if name.endswith("12"))
    assert fit.script.weights[3] in found[last]


def _values_in(arrays: dict[str, np.ndarray]) -> set[float]:
    return {float(value) for array in arrays.values() for value in np.ravel(array)}


def weights_by_hand() -> list[float]:
    """After each step: of the mean of (w x - 3 x)^2 the slope is the mean of 2 x^2 (w - 3)."""
    x = np.linspace(1.0, 2.0, 12)
    w = float(Network([Dense(1, use_bias=False)], (1,), seed=0).params["0.dense.weight"][0, 0])
    found = []
    for _ in range(EPOCHS):
        for part in np.split(x, STEPS):
            w -= 0.05 * np.mean(2 * part**2) * (w - 3)
            found.append(w)
    return found


def left_a_moving_average(fit: Fit) -> None:
    average, *others = weights_by_hand()
    for w in others:
        average = 0.8 * average + 0.2 * w
    assert fit.weight == pytest.approx(average, abs=1e-6)
    assert fit.weight == fit.script.weights[-1]  # what others see behind an epoch


def left_the_mean_of_epochs_2_to_4(fit: Fit) -> None:
    assert fit.weight == pytest.approx(np.mean(weights_by_hand()[5::3]), abs=1e-6)


def trained_from_epoch_3_on(fit: Fit) -> None:
    weights, free = fit.script.weights, weights_by_hand()
    start = float(Network([Dense(1, use_bias=False)], (1,), seed=0).params["0.dense.weight"][0, 0])
    assert weights[:2] == [start, start]
    assert weights[2:] == pytest.approx([free[2], free[5]], abs=1e-6)


def looked_into_each_fourth_step(fit: Fit) -> None:
    """What it saw of a step is what became of the weight in it."""
    weights = weights_by_hand()
    steps = fit.callback.explanation.steps
    assert [step.number for step in steps] == [1, 5, 9]
    for step in steps:
        view = step.layers["0.dense"]
        after = view.params["weight"] + view.updates["weight"]
        assert float(after[0, 0]) == pytest.approx(weights[step.number - 1], abs=1e-6)
    assert fit.script.weights == pytest.approx(weights[2::3], abs=1e-6)  # the run is as without


CALLBACKS = {  # a new callback joins by adding one line
    "history": Case(History, lambda folder: History(), kept_the_numbers),
    "progress-bar": Case(ProgressBar, lambda folder: ProgressBar(), showed_a_line_for_each_epoch),
    "early-stopping": Case(
        EarlyStopping,
        lambda folder: EarlyStopping(patience=1),
        stopped_at_the_first_epoch_without_a_gain,
    ),
    "early-stopping-patient": Case(
        EarlyStopping,
        lambda folder: EarlyStopping(patience=2),
        stopped_after_two_epochs_without_a_gain,
    ),
    "best-weights": Case(
        BestWeights, lambda folder: BestWeights(), put_back_the_weights_of_epoch_2
    ),
    "ema": Case(EMA, lambda folder: EMA(0.8), left_a_moving_average),
    "swa": Case(SWA, lambda folder: SWA(2), left_the_mean_of_epochs_2_to_4),
    "gradual-unfreezing": Case(
        GradualUnfreezing, lambda folder: GradualUnfreezing({3: "0.*"}), trained_from_epoch_3_on
    ),
    "csv-logger": Case(
        CSVLogger, lambda folder: CSVLogger(folder / "run.csv"), wrote_a_line_for_each_epoch
    ),
    "json-lines": Case(
        JSONLines,
        lambda folder: JSONLines(folder / "run.jsonl"),
        wrote_a_line_for_each_log_point_and_epoch,
    ),
    "tensorboard": Case(
        TensorBoard,
        of_package("tensorboard", lambda folder: TensorBoard(folder / "board", gradients=True)),
        wrote_events_that_tensorboard_reads,
    ),
    "mlflow": Case(
        MLflow,
        of_package("mlflow", lambda folder: MLflow(tracking_uri=database(folder))),
        wrote_a_run_of_mlflow,
    ),
    "wandb": Case(
        WandB,
        of_package("wandb", lambda folder: WandB(options={"mode": "offline", "dir": str(folder)})),
        wrote_a_run_of_wandb,
    ),
    "xray": Case(XRay, lambda folder: XRay(4), looked_into_each_fourth_step),
    "stop-on-nan": Case(StopOnNaN, lambda folder: StopOnNaN(), named_the_bad_step, huge=6),
    "checkpoint": Case(
        Checkpoint,
        lambda folder: Checkpoint(folder, best="val_loss"),
        saved_each_epoch_and_the_best,
    ),
}

each_callback = pytest.mark.parametrize("case", CALLBACKS.values(), ids=CALLBACKS)
