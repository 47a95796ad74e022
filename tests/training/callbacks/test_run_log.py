"""What is written down of a run: the right numbers, at the right steps, once."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import needs
from tests.training.callbacks.table import database, scalars_in
from xpnn import (
    L2,
    SGD,
    Accuracy,
    Adam,
    BatchNorm,
    Callback,
    Checkpoint,
    ClipByGlobalNorm,
    CosineRestarts,
    Dense,
    Dropout,
    Input,
    JSONLines,
    MLflow,
    Network,
    ReLU,
    TensorBoard,
    Trainer,
    WandB,
    cross_entropy,
    mean_squared_error,
)
from xpnn.errors import BackendUnavailable, FileError
from xpnn.training.stepping.precision import MixedPrecision

RNG = np.random.default_rng(0)
X = RNG.normal(size=(22, 4)).astype(np.float32)
Y = (X[:, 0] + 0.3 * RNG.normal(size=22) > 0).astype(int)
LINE = (X @ np.array([[1.0], [-2.0], [0.5], [0.0]], np.float32) + 0.1).astype(np.float32)
HALF = MixedPrecision("float16", initial_scale=128.0)
TIMED = ("seconds", "steps_per_second")
host_only = pytest.mark.host_only


def lines_of(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def untimed(lines):
    return [{k: v for k, v in line.items() if k not in TIMED} for line in lines]


def of_event(lines, event):
    return [line for line in lines if line["event"] == event]


def classifier(backend="numpy", **options):
    layers = [Dense(8), BatchNorm(), ReLU(), Dropout(0.3), Dense(2)]
    network = Network(layers, (4,), backend, seed=1)
    return Trainer(network, cross_entropy, Adam(0.05), metrics=[Accuracy()], log_every=2, **options)


def fit(trainer, *callbacks, **options):
    options = {"epochs": 3, "batch_size": 4, "validation": 0.2, "progress": False} | options
    return trainer.fit(X, Y, callbacks=callbacks, **options)


# Norms of gradients -------------------------------------------------------------------------------


def line_trainer(backend, dtype="float32", **options):
    layer = Dense(1).regularize(L2(0.1))
    network = Network([layer], (4,), backend, seed=1, dtype=dtype)
    clip = ClipByGlobalNorm(0.01)
    return Trainer(network, mean_squared_error, SGD(0.1, clip=clip), log_every=1, **options)


def by_hand(weights, bias, rows, penalty=0.1):
    """Of ``mean (x w + b - y)^2 + penalty / 2 |w|^2``, in float64."""
    x, y = X[rows].astype(np.float64), LINE[rows].astype(np.float64)
    delta = 2 * (x @ weights + bias - y) / len(x)
    return np.linalg.norm(x.T @ delta + penalty * weights), abs(delta.sum())


class Weights(Callback):
    """The parameters that each step begins with."""

    def __init__(self):
        self.found = []

    def on_log_begin(self, state, batch):
        backend = state.network.backend
        named = {n: backend.to_numpy(one) for n, one in state.network.params.items()}
        self.found.append((named["0.dense.weight"] + 0.0, named["0.dense.bias"] + 0.0))


@pytest.mark.parametrize("options", [{}, {"accumulate": 3}, {"precision": HALF}], ids=str)
def test_norms_are_those_of_the_step_before_any_limit(backend, options, tmp_path):
    try:
        trainer = line_trainer(backend.spec, **options)
    except BackendUnavailable as error:
        pytest.skip(str(error))
    seen, log = Weights(), JSONLines(tmp_path / "run.jsonl", gradients=True)
    data = {"epochs": 1, "batch_size": 6, "shuffle": False, "progress": False}
    trainer.fit(X, LINE, callbacks=[seen, log], **data)
    found = of_event(lines_of(tmp_path / "run.jsonl"), "steps")
    assert len(found) == 4
    tolerance = 4e-3 if "precision" in options else 1e-5
    penalty = penalty_factor(trainer)
    for k, (line, (weight, bias)) in enumerate(zip(found, seen.found, strict=True)):
        rows = slice(6 * k, 6 * k + 6)
        of_weight, of_bias = by_hand(weight.astype(np.float64), bias, rows, penalty)
        assert line["gradient_norm/0.dense.weight"] == pytest.approx(of_weight, rel=tolerance)
        assert line["gradient_norm/0.dense.bias"] == pytest.approx(of_bias, rel=tolerance)
        wanted = math.hypot(of_weight, of_bias)
        assert line["gradient_norm"] == pytest.approx(wanted, rel=tolerance)


def penalty_factor(trainer):
    """The slope of the penalty at w, divided by w."""
    (rule,) = trainer.network.regularizers()["0.dense.weight"]
    return float(np.asarray(rule.slope(np, np.float64(1.0), np.float64(0.0))))


@pytest.mark.slow_to_compile  # what is trained is found on the host, and as for NumPy
def test_frozen_parameters_have_none(backend, tmp_path):
    trainer = classifier(backend.spec)
    trainer.network.freeze("0.*")
    fit(trainer, JSONLines(tmp_path / "run.jsonl", gradients=True), epochs=1)
    (first, *_) = of_event(lines_of(tmp_path / "run.jsonl"), "steps")
    named = sorted(name for name in first if name.startswith("gradient_norm/"))
    assert named == [
        *("gradient_norm/1.batchnorm.scale", "gradient_norm/1.batchnorm.shift"),
        *("gradient_norm/4.dense.bias", "gradient_norm/4.dense.weight"),
    ]


@host_only
def test_a_rule_that_changes_between_steps_counts(tmp_path):
    class Free(Callback):
        def on_step_end(self, state, step):
            if state.steps == 3:
                state.network.unfreeze("0.*")

    trainer = classifier()
    trainer.network.freeze("0.*")
    fit(trainer, Free(), JSONLines(tmp_path / "run.jsonl", gradients=True), epochs=2)
    found = of_event(lines_of(tmp_path / "run.jsonl"), "steps")
    assert [f"gradient_norm/{NAME}" in line for line in found] == [False, *[True] * 5]


NAME = "0.dense.weight"


SLOW = pytest.mark.slow_to_compile  # the pass beside the step is compiled there as with no options
OPTIONS = [
    {},
    *(pytest.param(one, marks=SLOW) for one in ({"compile": False}, {"precision": HALF})),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_steps_are_what_they_are_without(backend, options, tmp_path):
    """To the bit: weights, running statistics, masks of dropout, losses."""
    try:
        plain = classifier(backend.spec, **options)
    except BackendUnavailable as error:
        pytest.skip(str(error))
    wanted = fit(plain)
    logged = classifier(backend.spec, **options)
    log = JSONLines(tmp_path / "run.jsonl", gradients=True, batch_metrics=True)
    found = fit(logged, log)
    assert found.epochs == wanted.epochs
    theirs = plain.network.numpy_arrays()
    for name, values in logged.network.numpy_arrays().items():
        np.testing.assert_array_equal(values, theirs[name])


@needs("cupy")
def test_fused_steps_are_what_they_are_without(tmp_path):
    options = {"compile": "fused"}
    wanted = fit(classifier("cupy", **options))
    log = JSONLines(tmp_path / "run.jsonl", gradients=True)
    assert fit(classifier("cupy", **options), log).epochs == wanted.epochs


# Metrics of training batches ----------------------------------------------------------------------


@pytest.mark.slow_to_compile  # the step that measures is that of evaluate
def test_metrics_are_those_of_the_batch_before_its_step(backend, tmp_path):
    class Counted(Callback):
        def __init__(self):
            self.found = []

        def on_log_begin(self, state, batch):
            x, y = (state.network.backend.to_numpy(one) for one in batch[:2])
            outputs = state.network.backend.to_numpy(state.network.predict(x))
            self.found.append(np.mean(outputs.argmax(axis=1) == y))

    seen, log = Counted(), JSONLines(tmp_path / "run.jsonl", batch_metrics=True)
    fit(classifier(backend.spec), seen, log)
    found = of_event(lines_of(tmp_path / "run.jsonl"), "steps")
    assert [line["accuracy"] for line in found] == pytest.approx(seen.found, rel=1e-6)
    assert len({*seen.found}) > 1
    assert "gradient_norm" not in found[0]


# Losses and rates ---------------------------------------------------------------------------------


@pytest.mark.slow_to_compile  # sums of losses are on the host
def test_losses_are_the_means_of_the_steps_between_log_points(backend, tmp_path):
    trainer = classifier(backend.spec)
    trainer.optimizer = SGD(CosineRestarts(0.1, steps=5))
    options = {"batch_size": 4, "shuffle": False, "validation": None, "epochs": 2}
    history = fit(trainer, JSONLines(tmp_path / "run.jsonl"), **options)
    alone = classifier(backend.spec)
    alone.optimizer = SGD(CosineRestarts(0.1, steps=5))
    sizes, losses = [4, 4, 4, 4, 4, 2], []
    for _ in range(2):
        for start in range(0, 22, 4):
            x, y = (alone.network.backend.asarray(a[start : start + 4]) for a in (X, Y))
            losses.append(float(alone.network.backend.to_numpy(alone.step(x, y))))
    found = of_event(lines_of(tmp_path / "run.jsonl"), "steps")
    assert [line["step"] for line in found] == [2, 4, 6, 8, 10, 12]
    for line in found:
        last = line["step"]
        two = slice(last - 2, last)
        weights = (sizes * 2)[two]
        assert line["loss"] == pytest.approx(np.average(losses[two], weights=weights), rel=1e-5)
        assert line["rate"] == alone.optimizer.hyper_at(last)["rate"]
    epochs = of_event(lines_of(tmp_path / "run.jsonl"), "epoch")
    assert [line["loss"] for line in epochs] == history["loss"]


@host_only
def test_each_output_has_its_loss(tmp_path):
    x = Input((4,), name="x")
    outputs = {"price": Dense(1)(x), "kind": Dense(2)(x)}
    network = Network(inputs=x, outputs=outputs)
    loss = {"price": "mean_squared_error", "kind": "cross_entropy"}
    trainer = Trainer(network, loss, SGD(0.1), log_every=2)
    log = JSONLines(tmp_path / "run.jsonl", gradients=True)
    options = {"batch_size": 6, "progress": False, "callbacks": [log]}
    history = trainer.fit(X, {"price": LINE, "kind": Y}, **options)
    begin, *lines = lines_of(tmp_path / "run.jsonl")
    assert begin["loss"] == "mean_squared_error, cross_entropy"
    first, second = of_event(lines, "steps")
    for name in ("loss", "price_loss", "kind_loss"):
        mean = (12 * first[name] + 10 * second[name]) / 22
        assert mean == pytest.approx(history[name][0], rel=1e-12)


@host_only
def test_what_no_number_can_be_is_json_all_the_same(tmp_path):
    class Odd(Callback):
        def on_epoch_end(self, state, logs):
            logs |= {
                "a": math.nan,
                "b": math.inf,
                "c": -math.inf,
                "d": "text",
                "e": np.float32(0.5),
            }

    fit(classifier(), Odd(), JSONLines(tmp_path / "run.jsonl"), epochs=1)
    (line,) = of_event(lines_of(tmp_path / "run.jsonl"), "epoch")
    assert (line["a"], line["b"], line["c"], line["e"]) == (None, "Infinity", "-Infinity", 0.5)
    assert "d" not in line


@host_only
def test_hyperparameters_are_plain_and_the_users_own_are_among_them(tmp_path):
    own = {"width": np.int64(8), "note": None, "layers": (8, 2)}
    fit(classifier(), JSONLines(tmp_path / "run.jsonl", hyperparameters=own))
    begin = lines_of(tmp_path / "run.jsonl")[0]
    assert begin.items() >= {"width": 8, "layers": "(8, 2)", "batch_size": 4, "epochs": 3}.items()
    assert begin["parameters"] == 4 * 8 + 8 + 16 + 8 * 2 + 2
    assert "note" not in begin


# Runs that go on ----------------------------------------------------------------------------------


class KilledError(Exception):
    pass


class KilledAt(Callback):
    def __init__(self, steps):
        self.steps = steps

    def on_step_end(self, state, step):
        if state.steps == self.steps:
            raise KilledError


def killed_and_resumed(folder, make_log, at, **saved):
    """A run of 3 epochs of 5 steps, killed at a step, and resumed by another process."""
    options = {"epochs": 3}
    with pytest.raises(KilledError):
        fit(classifier(), make_log(), Checkpoint(folder, **saved), KilledAt(at), **options)
    return fit(classifier(), make_log(), Checkpoint(folder, **saved), resume=folder, **options)


CUTS = [  # killed behind a log point that comes again, behind the end of an epoch, in the middle
    {"at": 5, "every_steps": 2},
    {"at": 7, "every_steps": 3},
    {"at": 9, "every_steps": None},
    {"at": 6, "every_steps": 4},
]


@host_only
@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_a_resumed_run_has_the_lines_of_one_that_was_never_killed(cut, tmp_path):
    everything = {"gradients": True, "batch_metrics": True}
    fit(classifier(), JSONLines(tmp_path / "whole.jsonl", **everything))
    killed_and_resumed(
        tmp_path / "saved", lambda: JSONLines(tmp_path / "cut.jsonl", **everything), **cut
    )
    assert untimed(lines_of(tmp_path / "cut.jsonl")) == untimed(lines_of(tmp_path / "whole.jsonl"))
    seconds = [line["seconds"] for line in lines_of(tmp_path / "cut.jsonl")]
    assert seconds == sorted(seconds)


@host_only
@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_tensorboard_shows_a_resumed_run_as_one_that_was_never_killed(cut, tmp_path):
    pytest.importorskip("tensorboard", reason="it writes by that package")
    fit(classifier(), TensorBoard(tmp_path / "whole", gradients=True))
    killed_and_resumed(
        tmp_path / "saved", lambda: TensorBoard(tmp_path / "cut", gradients=True), **cut
    )
    whole, cut = scalars_in(tmp_path / "whole"), scalars_in(tmp_path / "cut")
    assert whole.keys() == cut.keys()
    timed = ("train", "steps/steps_per_second")
    for name, numbers in cut.items():
        if name == timed:
            assert {step for step, _ in numbers} <= {step for step, _ in whole[name]}
        else:
            assert [(step, one.expected) for step, one in numbers] == [
                (step, one.expected) for step, one in whole[name]
            ]


@host_only
def test_a_second_fit_goes_on_behind_the_first(tmp_path):
    trainer, log = classifier(), JSONLines(tmp_path / "run.jsonl", gradients=True)
    fit(trainer, log, epochs=1)
    fit(trainer, log, epochs=1)
    fit(classifier(), JSONLines(tmp_path / "whole.jsonl", gradients=True), epochs=2)
    begin, *found = untimed(lines_of(tmp_path / "run.jsonl"))
    wanted, *whole = untimed(lines_of(tmp_path / "whole.jsonl"))
    assert found == whole
    assert begin == {**wanted, "epochs": 1}
    fit(classifier(), log, epochs=1)  # of another training, which begins anew
    assert len(lines_of(tmp_path / "run.jsonl")) == 1 + 3 + 1


@host_only
def test_lines_are_written_behind_those_of_others_where_that_is_asked_for(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text('{"event": "mine"}')
    fit(classifier(), JSONLines(path, append=True), epochs=1)
    assert [line["event"] for line in lines_of(path)][:3] == ["mine", "begin", "steps"]
    fit(classifier(), JSONLines(path), epochs=1)
    assert lines_of(path)[0]["event"] == "begin"


@host_only
def test_what_a_checkpoint_says_of_it_is_looked_at(tmp_path):
    log, state = JSONLines(tmp_path / "run.jsonl", gradients=True), classifier().state
    whole = {"seconds": 1.0, "total": 0.0, "weight": 0.0, "pending": None}
    whole["lines"] = np.zeros(0, np.uint8)
    log.check_state(state, whole)
    log.check_state(state, whole | {"pending": {"gradient_norm": 1.0}, "total": [1.0, 2.0]})
    for name, wrong in {
        "seconds": "long",
        "total": None,
        "pending": [1.0],
        "lines": "text",
        "weight": "heavy",
    }.items():
        with pytest.raises(ValueError, match=f"wanted its '{name}' to be"):
            log.check_state(state, whole | {name: wrong})
    with pytest.raises(ValueError, match="wanted its 'pending' to be"):
        log.check_state(state, whole | {"pending": {"gradient_norm": "steep"}})


@host_only
def test_a_place_that_cannot_be_written_to_is_found_before_the_first_step(tmp_path):
    trainer = classifier()
    with pytest.raises(FileError, match=r"wanted a file, but .* is a folder"):
        fit(trainer, JSONLines(tmp_path))
    assert trainer.steps == 0


# TensorBoard --------------------------------------------------------------------------------------


@pytest.fixture
def board(tmp_path):
    pytest.importorskip("tensorboard", reason="it writes by that package")
    return tmp_path / "board"


def events_in(folder):
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    return [
        one for path in sorted(folder.glob("events*")) for one in EventFileLoader(str(path)).Load()
    ]


@host_only
def test_another_run_takes_the_place_of_the_one_in_its_folder(board):
    fit(classifier(), TensorBoard(board), epochs=3)
    fit(classifier(), TensorBoard(board), epochs=1)
    assert [step for step, _ in scalars_in(board)["train", "epoch/loss"]] == [5]
    assert [step for step, _ in scalars_in(board)["validation", "epoch/accuracy"]] == [5]


@host_only
def test_short_fits_one_behind_the_other_are_one_run(board):
    trainer, log = classifier(), TensorBoard(board)
    for _ in range(12):
        fit(trainer, log, epochs=1)
    found = [step for step, _ in scalars_in(board)["train", "epoch/loss"]]
    assert found == [*range(5, 65, 5)]


@host_only
def test_weights_that_are_not_finite_are_left_out(board):
    trainer = classifier()
    params = trainer.network.params
    trainer.network.params = {**params, NAME: np.full((4, 8), np.nan, np.float32)}
    fit(trainer, TensorBoard(board, weights=True), epochs=1)
    assert trainer.epoch == 1


@host_only
def test_the_graph_is_that_of_the_network(board):
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    x = Input((4,), name="x")
    shared = Dense(4)
    network = Network(inputs=x, outputs={"y": shared(ReLU()(shared(x)))})
    trainer = Trainer(network, mean_squared_error, SGD(0.1))
    log = TensorBoard(board)
    trainer.fit(X, X, batch_size=11, progress=False, callbacks=[log])
    (text,) = (one.graph_def for one in events_in(board / "train") if one.graph_def)
    nodes = {node.name: (node.op, [*node.input]) for node in GraphDef.FromString(text).node}
    assert nodes == {
        "x": ("input", []),
        "0.dense__call_1": ("Dense", ["x"]),
        "1.relu": ("ReLU", ["0.dense__call_1"]),
        "0.dense__call_2": ("Dense", ["1.relu"]),
        "y": ("output", ["0.dense__call_2"]),
    }


@host_only
def test_histograms_count_all_weights(board):
    from tensorboard.util.tensor_util import make_ndarray

    trainer = classifier()
    fit(trainer, TensorBoard(board, weights=True, graph=False), epochs=1)
    found = {
        value.tag: make_ndarray(value.tensor)
        for event in events_in(board / "train")
        for value in event.summary.value
        if value.tag.startswith("weights/")
    }
    for name, values in trainer.network.numpy_arrays().items():
        if name in trainer.network.params:
            low, high, counts = found.pop(f"weights/{name}").T
            assert counts.sum() == values.size
            assert (low[0], high[-1]) == pytest.approx((values.min(), values.max()), rel=1e-6)
    assert not found
    assert not any(event.graph_def for event in events_in(board / "train"))


@host_only
def test_hyperparameters_are_found_by_their_page(board):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    fit(classifier(), TensorBoard(board, hyperparameters={"width": 8}))
    (content,) = (
        value.metadata.plugin_data.content
        for event in events_in(board)
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "hparams"
    )
    said = HParamsPluginData.FromString(content).session_start_info.hparams
    assert (said["width"].number_value, said["optimizer"].string_value) == (8, "Adam")
    assert said["rate"].number_value == 0.05


@host_only
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("tensorboard", lambda: TensorBoard("runs")),
        ("mlflow", lambda: MLflow()),
        ("wandb", lambda: WandB()),
    ],
)
def test_a_package_that_is_missing_is_named_at_once(name, make, monkeypatch):
    for module in (name, f"{name}.summary", f"{name}.summary.writer"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'xpnn\[{name}\]'"):
        make()


# MLflow and W&B -----------------------------------------------------------------------------------


def history_of(client, run_id):
    keys = client.get_run(run_id).data.metrics
    return {
        key: [(one.step, one.value) for one in client.get_metric_history(run_id, key)]
        for key in keys
        if key != "steps/steps_per_second"
    }


@host_only
def test_mlflow_has_a_resumed_run_as_one_that_was_never_killed(tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="it writes by that package")
    client = mlflow.MlflowClient(tracking_uri=database(tmp_path))
    logs = []

    def make_log():
        logs.append(MLflow("cut", gradients=True, tracking_uri=database(tmp_path)))
        return logs[-1]

    fit(classifier(), make_log())
    for number, cut in enumerate(CUTS):
        killed_and_resumed(tmp_path / f"saved{number}", make_log, **cut)
        assert logs[-1].run_id == logs[-2].run_id
        found = history_of(client, logs[-1].run_id)
        assert found == history_of(client, logs[0].run_id)
        assert client.get_run(logs[-1].run_id).info.status == "FINISHED"
    with pytest.raises(KilledError):
        fit(classifier(), make_log(), KilledAt(4))
    assert client.get_run(logs[-1].run_id).info.status == "FAILED"


@host_only
def test_mlflow_writes_into_the_run_that_is_active(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="it writes by that package")
    mlflow.set_tracking_uri(database(tmp_path))
    log = MLflow()
    with mlflow.start_run() as run:
        fit(classifier(), log, epochs=1)
        assert mlflow.active_run().info.run_id == log.run_id == run.info.run_id
        assert mlflow.get_run(log.run_id).info.status == "RUNNING"
    assert mlflow.get_run(log.run_id).data.metrics["epoch"] == 1


@host_only
def test_wandb_is_given_each_number_once_at_its_step(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="it writes by that package")
    monkeypatch.setenv("WANDB_SILENT", "true")
    options = {"mode": "offline", "dir": str(tmp_path)}

    class Server:
        """What of a run has come to the server, of which offline nobody can ask."""

        def __init__(self, run, told):
            self.run, self.told, self.there = run, told, max(told, default=-1) + 1

        step = property(lambda self: max(self.there, self.run.step))

        def log(self, found, step, commit):
            self.run.log(found, step=step, commit=commit)
            self.told.setdefault(step, {}).update(found)

        def __getattr__(self, name):
            return getattr(self.run, name)

    told, ids, begin = {}, [], wandb.init

    def init(**given):
        run = begin(**given)
        ids.append((run.id, given.get("id"), given.get("resume")))
        return Server(run, told)

    monkeypatch.setattr(wandb, "init", init)
    fit(classifier(), WandB(options=options, gradients=True, weights=True))
    whole, told = told, {}
    killed_and_resumed(
        tmp_path / "saved", lambda: WandB(options=options, gradients=True), **CUTS[0]
    )
    assert whole.keys() == told.keys() == {2, 4, 5, 7, 9, 10, 12, 14, 15}
    for step, numbers in told.items():
        for name, value in numbers.items():
            if not name.endswith("steps_per_second"):
                assert whole[step][name] == value
    assert ids[2][0] == ids[1][0] == ids[2][1]
    assert ids[2][2] == "allow"
    assert sum(whole[5][f"weights/{NAME}"].histogram) == 32


@host_only
def test_wandb_writes_into_the_run_that_is_open(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="it writes by that package")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with wandb.init(mode="offline", dir=str(tmp_path)) as run:
        log = WandB(hyperparameters={"width": 8})
        fit(classifier(), log, epochs=1)
        assert wandb.run is run
        assert log.run_id == run.id
        assert run.config["width"] == 8
        assert run.summary["epoch"] == 1
