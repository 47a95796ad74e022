"""Averages of weights: their numbers, who sees them, and that training goes on from its own."""

import numpy as np
import pytest

import xpnn
from tests.conftest import needs
from xpnn import (
    EMA,
    SWA,
    Adam,
    BatchNorm,
    BestWeights,
    Callback,
    Checkpoint,
    Dense,
    Dropout,
    Network,
    ReLU,
    Trainer,
    mean_squared_error,
)
from xpnn.errors import BackendUnavailable
from xpnn.training import History

EPOCHS, STEPS = 4, 3
each_average = pytest.mark.parametrize(
    "make", [lambda: EMA(0.8), lambda: SWA(2)], ids=["ema", "swa"]
)


def data():
    x = np.random.default_rng(3).normal(size=(24, 3)).astype(np.float32)
    return x, np.sin(x[:, :1])


def trainer_of(backend, *callbacks, dtype="float32", use_bias=True):
    layers = [Dense(4, use_bias=use_bias), BatchNorm(), ReLU(), Dropout(0.2), Dense(1)]
    network = Network(layers, (3,), backend, seed=1, dtype=dtype)
    return Trainer(network, mean_squared_error, Adam(0.05), callbacks=callbacks)


def fit(trainer, epochs=EPOCHS, **options):
    x, y = data()
    held_out = (x[:6], y[:6])
    options = {"validation": held_out, "progress": False, "batch_size": 8, **options}
    return trainer.fit(x, y, epochs=epochs, **options)


class Weights(Callback):
    """Keeps the weights after each step."""

    def __init__(self):
        self.found = []

    def on_step_end(self, state, step):
        self.found.append(state.network.numpy_arrays())


def floats(arrays):
    return {k: v for k, v in arrays.items() if np.asarray(v).dtype.kind == "f"}


def assert_same(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], err_msg=name, **tolerance)


@each_average
def test_its_numbers_are_those_of_the_formula_and_training_is_as_without_it(backend, make):
    weights, average = Weights(), make()
    trainer = trainer_of(backend, average, weights)
    history = fit(trainer)
    without = fit(trainer_of(backend))
    np.testing.assert_array_equal(history["loss"], without["loss"])
    assert not np.allclose(history["val_loss"], without["val_loss"], rtol=1e-3)
    if isinstance(average, EMA):
        expected, *others = map(floats, weights.found)
        for one in others:
            expected = {k: 0.8 * v + 0.2 * one[k] for k, v in expected.items()}
    else:
        ends = [floats(one) for one in weights.found[2 * STEPS - 1 :: STEPS]]
        expected = {k: np.mean([one[k] for one in ends], axis=0) for k in ends[0]}
    found = floats(trainer.network.numpy_arrays())
    assert any(name.endswith("mean") for name in found)  # of BatchNorm
    assert_same(found, expected, rtol=1e-5, atol=1e-6)
    measured = trainer.evaluate(data()[0][:6], data()[1][:6])["loss"]
    assert measured == pytest.approx(history["val_loss"][-1], rel=1e-6)


@needs("torch")
@each_average
def test_they_are_those_of_torch(make):
    from torch import nn, tensor
    from torch.optim import swa_utils

    weights, average = Weights(), make()
    trainer = trainer_of("numpy", average, weights)
    fit(trainer)
    linear = nn.Linear(4, 1)
    ema = isinstance(average, EMA)
    theirs = swa_utils.AveragedModel(
        linear, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.8) if ema else None
    )
    for one in weights.found if ema else weights.found[2 * STEPS - 1 :: STEPS]:
        linear.weight.data = tensor(one["4.dense.weight"].T)
        theirs.update_parameters(linear)
    found = trainer.network.numpy_arrays()["4.dense.weight"].T
    np.testing.assert_allclose(found, theirs.module.weight.detach().numpy(), rtol=1e-5)


class LightsOut(Callback):
    """Fails after a step; or behind those of an epoch, which it saves."""

    def __init__(self, step=None, behind=None, path=None):
        self.step, self.behind, self.path = step, behind, path

    def on_step_end(self, state, step):
        if state.steps == self.step:
            raise RuntimeError

    def on_steps_end(self, state):
        if state.epoch + 1 == self.behind:
            self.trainer.save(self.path)
            raise RuntimeError


@pytest.mark.slow_to_compile  # what is kept is on the host; test_resume compiles such runs
@each_average
@pytest.mark.parametrize("at", [{"step": 10}, {"behind": 3}], ids=["in an epoch", "behind it"])
def test_a_run_that_is_resumed_is_the_same(backend, make, at, tmp_path):
    whole = trainer_of(backend, make(), BestWeights())
    expected = fit(whole)
    folder = tmp_path / "run"
    lost = LightsOut(**at, path=folder / "by-hand.safetensors")
    first = trainer_of(backend, make(), BestWeights(), Checkpoint(folder, every_steps=4), lost)
    lost.trainer = first
    with pytest.raises(RuntimeError):
        fit(first)
    resumed = trainer_of(backend, make(), BestWeights())
    history = fit(resumed, resume=lost.path if "behind" in at else folder)
    # CuPy's graphs are captured at another step then, and their products round otherwise
    close = {"rtol": 1e-5, "atol": 1e-6} if backend.name == "cupy" else {"rtol": 0}
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(history[name], expected[name], **close)
    assert_same(resumed.network.numpy_arrays(), whole.network.numpy_arrays(), **close)


@each_average
def test_a_second_fit_goes_on_from_where_training_stood(backend, make):
    whole, halves = trainer_of(backend, make()), trainer_of(backend, make())
    expected = fit(whole)
    found = [value for _ in range(2) for value in fit(halves, EPOCHS // 2)["loss"]]
    np.testing.assert_allclose(found, expected["loss"], rtol=1e-6)
    assert_same(halves.network.numpy_arrays(), whole.network.numpy_arrays(), rtol=1e-5, atol=1e-6)


@each_average
def test_a_trainer_that_is_moved_goes_on_from_where_training_stood(backend, make):
    """Without a bias before the norm, whose gradient is rounding alone, which Adam enlarges."""
    whole = fit(trainer_of(backend, make(), use_bias=False))
    for there in ("numpy", backend):
        first = trainer_of(backend, make(), use_bias=False)
        fit(first, epochs=2)
        found = fit(first.to(there), epochs=2)
        for name in ("loss", "val_loss"):  # of its own weights, and of the average
            assert found[name] == pytest.approx(whole[name][2:], rel=1e-4)


@pytest.mark.host_only
@pytest.mark.parametrize("first_on", ["here", "there"])
def test_of_two_trainers_that_train_on_one_has_the_average(first_on):
    """The one that went on first; the other is refused before it changes anything."""
    average = EMA(0.8)
    here = trainer_of("numpy", average)
    fit(here, 1)
    there = here.to("numpy")
    one, other = (here, there) if first_on == "here" else (there, here)
    fit(one, 1)
    before, kept = other.network.numpy_arrays(), one.network.numpy_arrays()
    with pytest.raises(ValueError, match=r"average of another trainer.*call its forget\(\)"):
        fit(other, 1)
    assert_same(other.network.numpy_arrays(), before, rtol=0)
    fit(one, 1)  # which goes on
    assert not np.array_equal(one.network.numpy_arrays()["0.dense.weight"], kept["0.dense.weight"])
    average.forget()
    fit(other, 1)
    fit(trainer_of("numpy", EMA(0.8)).to("numpy"), 1)


def test_steps_that_follow_do_not_write_over_the_average(backend):
    average = EMA(0.8)
    trainer = trainer_of(backend, average)
    fit(trainer)
    kept = {name: backend.to_numpy(one).copy() for name, one in average.state()["average"].items()}
    for _ in range(3):
        trainer.step(*data())
    for name, one in average.state()["average"].items():
        np.testing.assert_array_equal(backend.to_numpy(one), kept[name])


class Begins(Callback):
    """Keeps the weights before each epoch."""

    def __init__(self):
        self.found = []

    def on_epoch_begin(self, state, steps):
        self.found.append(state.network.numpy_arrays()["0.dense.weight"])


@pytest.mark.host_only
def test_weights_that_were_loaded_in_between_are_trained_on():
    begins = Begins()
    trainer = trainer_of("numpy", EMA(0.8), begins)
    start = trainer.network.numpy_arrays()
    fit(trainer, 1)
    trainer.network.load(start)
    fit(trainer, 1)
    np.testing.assert_array_equal(begins.found[1], start["0.dense.weight"])
    average = trainer.network.numpy_arrays()["0.dense.weight"]
    trainer.callbacks[0].forget()
    fit(trainer, 1)
    np.testing.assert_array_equal(begins.found[2], average)


@pytest.mark.host_only
def test_the_best_weights_are_the_best_average(tmp_path):
    best, history = BestWeights(), History()
    trainer = trainer_of("numpy", best, EMA(0.8), history, Checkpoint(tmp_path, best="val_loss"))
    fit(trainer)
    measured = trainer.evaluate(data()[0][:6], data()[1][:6])["loss"]
    assert measured == pytest.approx(min(history["val_loss"]), rel=1e-6)


def test_half_precision_is_averaged_in_float32(backend):
    try:
        trainer = trainer_of(backend, average := EMA(0.99), dtype="float16")
    except BackendUnavailable:
        pytest.skip(f"{backend.name} has no float16")
    before = floats(trainer.network.numpy_arrays())
    fit(trainer)
    for name, one in floats(trainer.network.numpy_arrays()).items():
        assert one.dtype == before[name].dtype
    kept = [backend.to_numpy(one) for one in average.state()["average"].values()]
    assert {one.dtype.name for one in kept} == {"float32"}


@pytest.mark.host_only
def test_bad_ones_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"EMA needs a decay in \[0, 1\), got 1"):
        EMA(1.0)
    with pytest.raises(ValueError, match="SWA needs a start of at least 1, the first epoch, got 0"):
        SWA(0)
    with pytest.raises(ValueError, match="one average at a time, got EMA and SWA; leave out"):
        fit(trainer_of("numpy", EMA(), SWA(1)))
    fit(trainer_of("numpy", EMA(), Checkpoint(tmp_path)), 1)
    other = Trainer(Network([Dense(1)], (3,)), mean_squared_error, Adam(0.05), callbacks=[EMA()])
    with pytest.raises(xpnn.FileError):
        fit(other, resume=tmp_path)
