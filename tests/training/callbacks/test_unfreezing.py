"""GradualUnfreezing: what is trained in which epoch, in runs that are resumed, too."""

import numpy as np
import pytest

import xpnn
from xpnn import (
    Adam,
    BatchNorm,
    Callback,
    Checkpoint,
    Dense,
    GradualUnfreezing,
    Network,
    ReLU,
    Trainer,
    mean_squared_error,
)

SCHEDULE = {2: "2.*", 3: ["0.dense", "1.*"]}
X = np.random.default_rng(3).normal(size=(24, 3)).astype(np.float32)
Y = np.sin(X[:, :1])


def trainer_of(backend, *callbacks):
    network = Network([Dense(4), BatchNorm(), Dense(4), ReLU(), Dense(1)], (3,), backend, seed=1)
    return Trainer(network, mean_squared_error, Adam(0.05), callbacks=callbacks)


def fit(trainer, epochs=4, **options):
    return trainer.fit(X, Y, epochs=epochs, batch_size=8, progress=False, **options)


class Changes(Callback):
    """Which layers change in each epoch, by their numbers."""

    def __init__(self):
        self.found = []

    def on_fit_begin(self, state, epochs):
        self._before = state.network.numpy_arrays()

    def on_epoch_end(self, state, logs):
        now = state.network.numpy_arrays()
        self.found.append(
            {n[0] for n in state.network.params if not np.array_equal(now[n], self._before[n])}
        )
        self._before = now


class Killed(Callback):
    """Ends a run as the end of its process would."""

    def __init__(self, steps):
        self.steps = steps

    def on_step_end(self, state, step):
        if state.steps == self.steps:
            raise RuntimeError


def test_layers_join_one_after_another_over_all_calls_of_fit(backend):
    changes = Changes()
    trainer = trainer_of(backend, GradualUnfreezing(SCHEDULE), changes)
    fit(trainer, 1)
    fit(trainer, 3)
    assert changes.found == [{"4"}, {"2", "4"}, {*"0124"}, {*"0124"}]


@pytest.mark.slow_to_compile  # what is kept is on the host; test_resume compiles such runs
@pytest.mark.parametrize("at", [2, 7], ids=["in the first epoch", "in the third, of two done"])
def test_a_run_that_is_resumed_is_the_same(backend, at, tmp_path):
    whole = trainer_of(backend, GradualUnfreezing(SCHEDULE))
    expected = fit(whole)
    checkpoint = Checkpoint(tmp_path, every_steps=1 if at == 2 else None, every_epochs=1)
    with pytest.raises(RuntimeError):
        fit(trainer_of(backend, GradualUnfreezing(SCHEDULE), checkpoint, Killed(at)))
    resumed = trainer_of(backend, GradualUnfreezing(SCHEDULE))
    history = fit(resumed, resume=tmp_path)
    # CuPy's graphs are captured at another step then, and their products round otherwise
    close = {"rtol": 1e-5, "atol": 1e-6} if backend.name == "cupy" else {"rtol": 0}
    np.testing.assert_allclose(history["loss"], expected["loss"], **close)
    for name, value in whole.network.numpy_arrays().items():
        np.testing.assert_allclose(resumed.network.numpy_arrays()[name], value, **close)


@pytest.mark.host_only
def test_a_run_that_trained_something_else_is_not_resumed(tmp_path, caplog):
    fit(trainer_of("numpy", GradualUnfreezing(SCHEDULE), Checkpoint(tmp_path)), 2)
    other = trainer_of("numpy", GradualUnfreezing({2: "0.*", 3: "2.*"}))
    with pytest.raises(
        xpnn.FileError, match=r"in epoch 2 it trained 2\.dense\.bias, .*be 0\.dense"
    ):
        fit(other, resume=tmp_path)
    other = trainer_of("numpy", GradualUnfreezing(SCHEDULE))
    other.network.freeze("4.*")
    with pytest.raises(xpnn.FileError, match=r"it trained 2\.dense\.bias, .*would be 2\.dense\.b"):
        fit(other, resume=tmp_path)
    with pytest.raises(xpnn.FileError, match=r"trainable is True here and False in"):
        fit(trainer_of("numpy"), resume=tmp_path)
    later = trainer_of("numpy", GradualUnfreezing({2: "2.*", 9: ["0.dense", "1.*"]}))
    fit(later, resume=tmp_path)
    assert "GradualUnfreezing.schedule" in caplog.text
    assert later.network.trainable() == {n for n in later.network.params if n[0] in "24"}


@pytest.mark.host_only
def test_what_cannot_be_followed_is_refused_before_anything_changes():
    for schedule, error, words in [
        ({}, TypeError, r"wants patterns by epochs, such as \{4: '2.\*'\}, got \{\}"),
        (["0.*"], TypeError, "wants patterns by epochs"),
        ({0: "0.*"}, ValueError, "counts epochs from 1, got 0"),
        ({"2": "0.*"}, ValueError, "counts epochs from 1, got '2'"),
    ]:
        with pytest.raises(error, match=words):
            GradualUnfreezing(schedule)
    for schedule, words in [
        ({2: "9.*"}, r"'9\.\*' matches no parameter"),
        ({2: "0.*", 3: "*.bias"}, r"of '2\.dense' 2\.dense\.bias would be frozen"),
    ]:
        trainer = trainer_of("numpy", GradualUnfreezing(schedule))
        with pytest.raises(ValueError, match=words):
            fit(trainer)
        assert trainer.network.trainable() == {*trainer.network.params}
        assert trainer.steps == 0
