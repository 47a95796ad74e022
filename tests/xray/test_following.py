"""XRay: the steps of a run that are looked into are those that the run takes."""

import json

import numpy as np
import pytest

from tests.distributed.threads import together
from xpnn import (
    Adam,
    BatchNorm,
    Cosine,
    Dense,
    Dropout,
    GaussianSample,
    MixedPrecision,
    Network,
    Residual,
    Tanh,
    Trainer,
    XRay,
    explain,
)
from xpnn.errors import XpnnError
from xpnn.training import Callback
from xpnn.xray import data
from xpnn.xray.page import as_json

X = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
Y = np.random.default_rng(1).standard_normal((20, 2)).astype(np.float32)


SCALED = MixedPrecision("float16", initial_scale=2.0**10)


class Weights(Callback):
    """The parameters before each step, and the losses."""

    def __init__(self):
        self.before, self.losses = [], []

    def on_step_begin(self, state, batch):
        self.before.append({k: np.array(v) for k, v in state.network.numpy_arrays().items()})

    def on_log(self, state, step, logs):
        self.losses.append(
            logs["loss"] * step - sum(self.losses[-(step - 1) :] if step > 1 else [])
        )


def fitted(*callbacks, backend="numpy", epochs=3, **options):
    layers = [Dense(4, use_bias=False), BatchNorm(), Dropout(0.4), Dense(2)]
    network = Network(layers, (3,), backend, seed=1)
    trainer = Trainer(network, "mse", Adam(Cosine(0.1, steps=15)), log_every=1, **options)
    trainer.fit(X, Y, epochs=epochs, batch_size=4, callbacks=callbacks, progress=False)
    return trainer


@pytest.mark.slow_to_compile  # where each call is compiled by itself
def test_steps_are_those_of_the_run(backend):
    weights, xray = Weights(), XRay(every=4)
    trainer = fitted(weights, xray, backend=backend)
    seen = xray.explanation
    assert [step.number for step in seen.steps] == [1, 5, 9, 13]
    after = [*weights.before[1:], trainer.network.numpy_arrays()]
    for step in seen.steps:
        assert step.loss == pytest.approx(weights.losses[step.number - 1], rel=1e-4)
        for name, view in step.layers.items():
            for key, update in view.updates.items():
                own = [when[step.number - 1][f"{name}.{key}"] for when in (weights.before, after)]
                np.testing.assert_array_equal(view.params[key], own[0])
                np.testing.assert_allclose(update, own[1] - own[0], rtol=1e-3, atol=1e-6)
    assert seen.optimizer.startswith("Adam(rate=Cosine(")
    assert (seen.backend, seen.loss_name) == (trainer.network.backend.spec, "mean_squared_error")


@pytest.mark.slow_to_compile  # where each call is compiled by itself
def test_a_run_is_as_without(backend):
    plain, followed = fitted(backend=backend), fitted(XRay(every=3), backend=backend)
    for name, value in plain.network.numpy_arrays().items():
        np.testing.assert_array_equal(followed.network.numpy_arrays()[name], value)


@pytest.mark.host_only
@pytest.mark.parametrize(
    ("every", "most", "numbers"),
    [
        (1, 15, [*range(1, 16)]),
        (1, 14, [1, 3, 5, 7, 9, 11, 13, 15]),
        (1, 4, [1, 5, 9, 13]),
        (2, 3, [1, 9]),
        (20, 50, [1]),
    ],
)
def test_at_most_so_many_are_kept_evenly(every, most, numbers):
    xray = XRay(every, most=most)
    fitted(xray)
    assert [step.number for step in xray.explanation.steps] == numbers


@pytest.mark.host_only
def test_a_second_fit_goes_on_and_another_training_begins_anew():
    xray = XRay(every=10)
    network = Network([Dense(2)], (3,))
    trainer = Trainer(network, "mse", "sgd", callbacks=[xray])
    trainer.fit(X, Y, epochs=2, batch_size=4, progress=False)
    trainer.fit(X, Y, epochs=3, batch_size=4, progress=False)
    assert [step.number for step in xray.explanation.steps] == [1, 11, 21]
    fitted(xray, epochs=1)
    assert [step.number for step in xray.explanation.steps] == [1]


@pytest.mark.host_only
def test_a_step_that_was_not_taken_after_all_is_there_once():
    class StopsOnce(Callback):
        stops = True

        def on_step_begin(self, state, batch):
            if state.steps == 2 and self.stops:
                self.stops = False
                raise KeyboardInterrupt

    xray = XRay(every=1)
    trainer = Trainer(Network([Dense(2)], (3,)), "mse", "sgd", callbacks=[xray, StopsOnce()])
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, Y, batch_size=4, progress=False)
    assert [step.number for step in xray.explanation.steps] == [1, 2, 3]
    trainer.fit(X, Y, batch_size=10, progress=False)
    assert [step.number for step in xray.explanation.steps] == [1, 2, 3, 4]


class OfNegatives(Residual):
    """Calls what is inside of it where the first number of a batch is below 0."""

    def forward(self, inputs, training=False):
        made = super().forward(inputs, training) if inputs[0, 0] < 0 else inputs
        self.cache["Z"] = inputs
        return made

    def backward(self, delta):
        return super().backward(delta) if self.cache["Z"][0, 0] < 0 else delta


@pytest.mark.host_only
def test_layers_need_not_be_called_in_each_step(tmp_path):
    """All are told of, and each form has those of its step: text, picture, page."""
    batches = [(np.full((2, 3), value, np.float32), Y[:2]) for value in (-1.0, 1.0)]
    network, xray = Network([OfNegatives([Tanh()]), Dense(2)], (3,)), XRay(1, folder=tmp_path)
    Trainer(network, "mse", "sgd").fit(batches, callbacks=[xray], progress=False)
    seen, inside = xray.explanation, "0.ofnegatives.body.0.tanh"
    own = ["0.ofnegatives", "1.dense"]
    assert [one.name for one in seen.layers] == [*own, "0.ofnegatives.body", inside]
    assert [sorted(step.layers) for step in seen.steps] == [
        sorted(one.name for one in seen.layers),
        own,
    ]
    assert inside not in str(seen)
    seen.to_svg(tmp_path / "a.svg", step=0, inside="0.ofnegatives.body")
    with pytest.raises(ValueError, match="wanted a layer that holds others"):
        seen.to_svg(tmp_path / "b.svg", step=1, inside="0.ofnegatives.body")
    held = json.loads((tmp_path / "xray.json").read_text())
    assert [inside in step["layers"] for step in held["steps"]] == [True, False]


@pytest.mark.host_only
def test_batches_of_an_iterable_and_weights_of_samples():
    batches = [(X[:5], Y[:5], np.ones(5)), (X[5:9], Y[5:9], np.zeros(4))]
    xray = XRay(every=1)
    Trainer(Network([Dense(2)], (3,)), "mse", "sgd").fit(batches, callbacks=[xray], progress=False)
    first, second = xray.explanation.steps
    np.testing.assert_array_equal(first.layers["0.dense"].inputs[0], X[:5])
    assert np.isnan(second.loss)
    assert not np.any(second.layers["0.dense"].grads["weight"])


@pytest.mark.slow_to_compile  # where each call is compiled by itself
@pytest.mark.parametrize(
    "precision", [MixedPrecision("float16", initial_scale=2.0**10), "bfloat16"]
)
def test_in_mixed_precision_the_scale_is_taken_out(backend, precision):
    layers = [Dense(4, activation="tanh"), GaussianSample(0.3), Dense(2)]
    network = Network(layers, (3,), backend, seed=2)
    try:
        trainer = Trainer(network, "mse", Adam(0.1), precision=precision)
    except XpnnError as error:
        pytest.skip(str(error))
    before, xray = {k: np.array(v) for k, v in network.numpy_arrays().items()}, XRay(every=2)
    trainer.fit(X[:8], Y[:8], batch_size=4, callbacks=[xray], shuffle=False, progress=False)
    (step,) = xray.explanation.steps
    last = step.layers["2.dense"]
    error = 2 * (last.output.astype(np.float32) - Y[:4]) / 8
    np.testing.assert_allclose(last.delta, error, rtol=0.02, atol=1e-3)
    found = last.inputs[0].astype(np.float32).T @ error
    np.testing.assert_allclose(last.grads["weight"], found, rtol=0.05, atol=5e-3)
    for name in ("0.dense", "2.dense"):
        own = step.layers[name].params["weight"].astype(np.float32)
        np.testing.assert_allclose(own, before[f"{name}.weight"], rtol=0.01)
        assert np.abs(step.layers[name].updates["weight"]).max() == pytest.approx(0.1, rel=0.01)


@pytest.mark.host_only
def test_a_page_may_follow_the_run(tmp_path):
    """The file is there, whole, behind each step that was looked into."""
    xray, seen = XRay(every=5, folder=tmp_path / "runs" / "a"), []

    class Reads(Callback):
        def on_step_end(self, state, step):
            held = json.loads((tmp_path / "runs" / "a" / "xray.json").read_text())
            seen.append([one["number"] for one in held["steps"]])

    fitted(xray, Reads())
    assert seen == [[1]] * 5 + [[1, 6]] * 5 + [[1, 6, 11]] * 5


@pytest.mark.host_only
@pytest.mark.parametrize(("arguments", "what"), [({"every": 0}, "every"), ({"most": 1}, "most")])
def test_what_is_wrong_is_told(arguments, what):
    with pytest.raises(ValueError, match=f"XRay wants {what} to be at least"):
        XRay(**arguments)


@pytest.mark.host_only
def test_without_a_fit_there_is_nothing():
    xray = XRay(5, most=20)
    with pytest.raises(XpnnError, match="wanted steps that were looked into, got none; pass this"):
        _ = xray.explanation
    assert repr(xray) == "XRay(every=5, most=20)"
    trainer = Trainer(Network([Dense(2)], input_shape=(3,)), "mse", Adam(0.1))
    trainer.fit(X, Y, callbacks=[xray], progress=False)
    assert len(xray.explanation.steps) == 1


@pytest.mark.host_only
def test_of_several_processes_none_is_followed():
    def refused(communicator):
        network = Network([Dense(2)], input_shape=(3,), seed=0)
        trainer = Trainer(network, "mse", Adam(0.1), distributed=communicator)
        with pytest.raises(ValueError, match="XRay: wanted a training in one process, got 2 that"):
            trainer.fit(X, Y, callbacks=[XRay()], progress=False)
        return len(explain(network, X, Y, "mse").steps)  # as it says

    assert together(2, refused) == [1, 1]


@pytest.mark.host_only
@pytest.mark.parametrize("numbers", [2_000_000, 500])
def test_what_is_written_is_what_would_be_told_at_once(tmp_path, monkeypatch, numbers):
    """Though it is told of a step but once, while as much is shown of each array as before."""
    monkeypatch.setattr(data, "WHOLE", 12)
    monkeypatch.setattr(data, "LEAST", 3)
    monkeypatch.setattr(data, "IN_ALL", numbers)  # with more steps, there are fewer of each
    xray = XRay(every=1, most=4, folder=tmp_path)
    fitted(xray)
    assert (tmp_path / "xray.json").read_text() == as_json(xray.explanation.data())
