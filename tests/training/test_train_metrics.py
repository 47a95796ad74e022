"""fit(..., train_metrics=True): metrics of the training data, named as those of validation data."""

import numpy as np
import pytest

from xpnn import (
    SGD,
    Accuracy,
    BatchNorm,
    Callback,
    Dense,
    Dropout,
    Network,
    Trainer,
    binary_cross_entropy,
    cross_entropy,
)
from xpnn.errors import DataError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 4)).astype(np.float32)
Y = (X[:, 0] + RNG.normal(size=70) > 0).astype(int)
WEIGHT = RNG.uniform(0.5, 2.0, 70).astype(np.float32)


def made(backend="numpy", loss=cross_entropy):
    layers = [Dense(8), BatchNorm(), Dropout(0.3), Dense(2)]
    return Trainer(Network(layers, (4,), backend, seed=1), loss, SGD(0.2), metrics=[Accuracy()])


class Shuffled:
    """Batches in an order of each epoch's own."""

    def batches(self, epoch, start):
        found = batches()
        return iter(
            [found[k] for k in np.random.default_rng(epoch).permutation(len(found))][start:]
        )

    def __iter__(self):
        raise AssertionError("it is asked for the batches of an epoch")


def test_they_are_those_of_evaluate_after_each_epoch(backend):
    class Measured(Callback):
        def on_epoch_end(self, trainer, logs):
            found.append(whole.evaluate(X, Y, sample_weight=WEIGHT)["accuracy"])

    found, whole = [], made(backend)
    options = {"epochs": 3, "sample_weight": WEIGHT, "progress": False}
    history = whole.fit(X, Y, train_metrics=True, callbacks=[Measured()], **options)
    assert history.names == ["epoch", "loss", "accuracy", "rate"]
    assert history["accuracy"] == pytest.approx(found, rel=1e-6)
    assert history["loss"] == made(backend).fit(X, Y, **options)["loss"]  # nothing else changes


@pytest.mark.host_only
def test_what_is_held_out_is_left_out():
    trainer = made()
    history = trainer.fit(X, Y, validation=0.3, train_metrics=True, progress=False)
    assert history.names == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "rate"]
    parts = 49 * history["accuracy"][0] + 21 * history["val_accuracy"][0]
    assert parts / 70 == pytest.approx(trainer.evaluate(X, Y)["accuracy"])


@pytest.mark.host_only
def test_a_run_is_resumed_with_the_same_numbers(tmp_path):
    options = {"train_metrics": True, "progress": False}
    whole = made().fit(X, Y, epochs=4, **options)
    first = made()
    first.fit(X, Y, epochs=2, **options)
    first.save(tmp_path / "half.xpnn")
    resumed = made().fit(X, Y, epochs=4, resume=tmp_path / "half.xpnn", **options)
    assert resumed["accuracy"][-2:] == whole["accuracy"][2:]


@pytest.mark.host_only
def test_targets_are_looked_at_before_the_first_step():
    tags = np.ones((70, 2), np.float32)
    trainer = made(loss=binary_cross_entropy)
    with pytest.raises(DataError, match=r"write Accuracy\(multilabel=True\)"):
        trainer.fit(X, tags, train_metrics=True, progress=False)
    assert trainer.steps == 0


def batches(weighted=True):
    return [
        (X[k : k + 16], Y[k : k + 16], *([WEIGHT[k : k + 16]] if weighted else []))
        for k in range(0, 70, 16)
    ]


@pytest.mark.parametrize("kind", [list, "function", Shuffled])
def test_batches_of_an_iterable_are_gone_through_once_more(backend, kind):
    """After each epoch, in prediction mode: the numbers are those of ``evaluate`` on all."""

    class Measured(Callback):
        def on_epoch_end(self, trainer, logs):
            found.append(trainer_of.evaluate(X, Y, sample_weight=WEIGHT)["accuracy"])

    found, trainer_of = [], made(backend)
    source = batches() if kind is list else batches if kind == "function" else Shuffled()
    options = {"epochs": 3, "progress": False}
    history = trainer_of.fit(source, train_metrics=True, callbacks=[Measured()], **options)
    assert history.names == ["epoch", "loss", "accuracy", "rate"]
    assert history["accuracy"] == pytest.approx(found, rel=1e-6)
    assert history["loss"] == made(backend).fit(source, **options)["loss"]  # nothing else changes


@pytest.mark.host_only
def test_a_run_on_batches_is_resumed_with_the_same_numbers(tmp_path):
    options = {"train_metrics": True, "progress": False}
    whole = made().fit(Shuffled(), epochs=4, **options)
    first = made()
    first.fit(Shuffled(), epochs=2, **options)
    first.save(tmp_path / "half.xpnn")
    resumed = made().fit(Shuffled(), epochs=4, resume=tmp_path / "half.xpnn", **options)
    assert resumed["accuracy"][-2:] == whole["accuracy"][2:]
    assert resumed["loss"][-2:] == whole["loss"][2:]


@pytest.mark.host_only
def test_batches_that_can_be_gone_through_once_are_not():
    trainer = made()
    with pytest.raises(DataError, match=r"once more beside train_metrics.*got a list_iterator"):
        trainer.fit(iter(batches()), train_metrics=True, progress=False)
    assert trainer.steps == 0
    trainer.fit(lambda: iter(batches()), train_metrics=True, progress=False)  # as it says


@pytest.mark.host_only
def test_targets_of_batches_are_looked_at_for_metrics():
    trainer = made(loss=binary_cross_entropy)
    tags = [(X, np.ones((70, 2), np.float32))]
    with pytest.raises(DataError, match=r"batch 1: .*write Accuracy\(multilabel=True\)"):
        trainer.fit(tags, train_metrics=True, progress=False)
    assert trainer.steps == 0
