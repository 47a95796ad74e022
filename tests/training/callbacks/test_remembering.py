"""What a callback knows from one ``fit`` to the next, and how it is told to forget."""

import math

import numpy as np
import pytest

from tests.training.callbacks.table import CALLBACKS
from xpnn import (
    SGD,
    Accuracy,
    BestWeights,
    Callback,
    Checkpoint,
    Dense,
    EarlyStopping,
    Network,
    Trainer,
    cross_entropy,
)
from xpnn.training.callbacks.shipped import Watching

pytestmark = [pytest.mark.host_only, pytest.mark.fault("a second fit with the same callbacks")]
WATCHING = {name: case for name, case in CALLBACKS.items() if issubclass(case.kind, Watching)}
each_that_watches = pytest.mark.parametrize("case", WATCHING.values(), ids=WATCHING)


class Says(Callback):
    """Puts numbers of its own into the place of what was measured, and keeps all weights."""

    def __init__(self, *numbers, name="val_loss"):
        self.name, self.numbers, self.weights = name, iter(numbers), []

    def on_epoch_end(self, state, logs):
        logs[self.name] = next(self.numbers)
        self.weights.append(state.network.numpy_arrays()["0.dense.weight"])


def make_trainer(seed=1):
    return Trainer(
        Network([Dense(3)], (4,), seed=seed), cross_entropy, SGD(0.1), metrics=[Accuracy()]
    )


def fit(trainer, *callbacks, **settings):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(24, 4)), np.arange(24) % 3
    return trainer.fit(x, y, batch_size=8, progress=False, callbacks=callbacks, **settings)


@each_that_watches
def test_the_best_counts_in_a_second_fit(case, tmp_path):
    trainer, callback = make_trainer(), case.make(tmp_path)
    for numbers in ([3.0, 1.0], [5.0, 4.0, 3.5]):
        fit(trainer, Says(*numbers), callback, epochs=len(numbers))
        assert callback.best == 1.0
    fit(trainer, Says(0.5), callback)
    assert callback.best == 0.5


@each_that_watches
def test_it_forgets_when_it_is_told_to(case, tmp_path):
    trainer, callback = make_trainer(), case.make(tmp_path)
    fit(trainer, Says(3.0, 1.0), callback, epochs=2)
    callback.forget()
    assert math.isnan(callback.best)
    if isinstance(callback, Checkpoint):
        callback.best_path.unlink()
    fit(trainer, Says(5.0), callback)
    assert callback.best == 5.0


@each_that_watches
def test_another_training_has_a_best_of_its_own(case, tmp_path):
    callback = case.make(tmp_path)
    fit(make_trainer(), Says(3.0, 1.0), callback, epochs=2)
    if isinstance(callback, Checkpoint):
        callback = case.make(tmp_path / "other")
    fit(make_trainer(seed=2), Says(5.0), callback)
    assert callback.best == 5.0


@each_that_watches
def test_another_number_has_a_best_of_its_own(case, tmp_path):
    trainer, callback = make_trainer(), case.make(tmp_path)
    fit(trainer, Says(3.0, 1.0), callback, epochs=2)
    callback.monitor = "val_accuracy"
    fit(trainer, Says(0.5, 0.75, name="val_accuracy"), callback, epochs=2)
    assert callback.best == 0.75
    assert callback.higher_is_better is True


@each_that_watches
def test_a_trainer_that_was_moved_goes_on_with_the_training(case, tmp_path):
    trainer, callback = make_trainer(), case.make(tmp_path)
    fit(trainer, Says(3.0, 1.0), callback, epochs=2)
    fit(trainer.to("numpy"), Says(5.0), callback)
    assert callback.best == 1.0


@each_that_watches
def test_which_way_an_unknown_number_goes_has_to_be_said(case, tmp_path):
    trainer, callback = make_trainer(), case.make(tmp_path)
    callback.monitor = "val_auc"
    with pytest.raises(ValueError, match=r"watches 'val_auc', .* \(accuracy\).*=True"):
        fit(trainer, Says(0.5, name="val_auc"), callback)
    assert trainer.steps == 0
    callback.higher_is_better = True
    fit(trainer, Says(0.5, 0.9, 0.7, name="val_auc"), callback, epochs=3)
    assert callback.best == 0.9


@pytest.mark.parametrize("name", ["loss", "val_loss", "val_own_loss", "val_error", "max_error"])
def test_losses_and_errors_fall(name):
    stop = EarlyStopping(name)
    fit(make_trainer(), Says(3.0, 1.0, 2.0, name=name), stop, epochs=3, validation=0.25)
    assert (stop.best, stop.higher_is_better) == (1.0, False)


def test_the_best_weights_are_those_of_the_first_fit():
    trainer, best = make_trainer(), BestWeights()
    first, second = Says(1.0, 2.0), Says(5.0, 4.0)
    fit(trainer, first, best, epochs=2)
    fit(trainer, second, best, epochs=2)
    weight = trainer.network.numpy_arrays()["0.dense.weight"]
    np.testing.assert_array_equal(weight, first.weights[0])
    assert best.epoch == 1


def test_weights_of_one_network_are_not_put_into_another():
    """Not even if a callback before it fails, so that it never hears that another fit begins."""

    class Fails(Callback):
        def on_fit_begin(self, state, epochs):
            raise LookupError

    best, other = BestWeights(), make_trainer(seed=2)
    fit(make_trainer(), Says(1.0), best)
    before = other.network.numpy_arrays()["0.dense.weight"]
    with pytest.raises(LookupError):
        fit(other, Fails(), best)
    np.testing.assert_array_equal(other.network.numpy_arrays()["0.dense.weight"], before)


def test_early_stopping_waits_anew_in_a_second_fit():
    trainer, stop = make_trainer(), EarlyStopping(patience=2)
    fit(trainer, Says(1.0, 2.0), stop, epochs=2)
    fit(trainer, Says(5.0, 4.0, 3.0, 2.5), stop, epochs=4)
    assert trainer.epoch == 4
    assert trainer.stop_reason == "val_loss has not improved on 1 for 2 epochs"


def test_the_best_file_is_not_written_over_by_a_worse_one(tmp_path):
    trainer, first = make_trainer(), Checkpoint(tmp_path, best="val_loss")
    fit(trainer, Says(1.0, 2.0), first, epochs=2)
    fit(trainer, Says(5.0, 4.0), first, epochs=2)
    again = make_trainer()
    again.load(first.best_path)
    assert again.epoch == 1


def test_another_checkpoint_for_the_folder_knows_its_best(tmp_path):
    trainer = make_trainer()
    for numbers in ([1.0, 2.0], [5.0, 4.0]):
        fit(trainer, Says(*numbers), Checkpoint(tmp_path, best="val_loss"), epochs=2)
    again, other = make_trainer(), Checkpoint(tmp_path, best="val_accuracy")
    again.load(other.best_path)
    assert again.epoch == 1
    fit(trainer, Says(0.5, name="val_accuracy"), other)  # of which that file knows nothing
    assert other.best == 0.5


# Resumed ------------------------------------------------------------------------------------------


def stopped_run(folder, patience, epochs, *numbers):
    trainer = make_trainer()
    callbacks = [Says(*numbers), EarlyStopping(patience=patience), Checkpoint(folder)]
    history = fit(trainer, *callbacks, epochs=epochs, resume=folder)
    return trainer, history["epoch"]


def test_with_more_patience_a_run_that_was_stopped_goes_on(tmp_path):
    assert stopped_run(tmp_path, 2, 9, 1.0, 2.0, 3.0)[1] == [1, 2, 3]
    trainer, epochs = stopped_run(tmp_path, 4, 9, 4.0, 5.0)
    assert epochs == [1, 2, 3, 4, 5]
    assert trainer.stop_reason == "val_loss has not improved on 1 for 4 epochs"


def test_where_nothing_is_left_to_train_that_is_said(tmp_path, caplog):
    stopped_run(tmp_path / "a", 2, 9, 1.0, 2.0, 3.0)
    stopped_run(tmp_path / "b", 2, 2, 1.0, 2.0)
    assert "nothing is trained" not in caplog.text
    trainer, _ = stopped_run(tmp_path / "a", 2, 9)
    assert "this run ended after epoch 3: val_loss has not improved on 1 for 2" in caplog.text
    trainer.load(max((tmp_path / "a").glob("checkpoint-*")))  # as it says
    assert fit(trainer)["epoch"] == [4]
    stopped_run(tmp_path / "b", 2, 2)
    assert "as 2 epochs of this run are done and epochs=2 were asked for" in caplog.text
    assert stopped_run(tmp_path / "b", 2, 3, 0.5)[1] == [1, 2, 3]


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_folder_that_nobody_writes_to_may_be_misspelt(tmp_path, caplog, elsewhere):
    callbacks = [Checkpoint(tmp_path / "run")] if elsewhere else []
    fit(make_trainer(), *callbacks, resume=tmp_path / "rnu")
    assert "there is no checkpoint in" in caplog.text
    assert (f", but to {tmp_path / 'run'}: training begins" in caplog.text) == elsewhere
    caplog.clear()
    fit(make_trainer(), Checkpoint(tmp_path / "new"), resume=tmp_path / "new")
    assert "there is no checkpoint" not in caplog.text
