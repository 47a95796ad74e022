"""Training of graphs: several inputs, several outputs, a loss for each, terms that layers add."""

from functools import partial

import numpy as np
import pytest

from xpnn import (
    MAE,
    SGD,
    Accuracy,
    Adam,
    ByOutput,
    Checkpoint,
    Concatenate,
    Dense,
    Embedding,
    Flatten,
    Input,
    Layer,
    Network,
    Tanh,
    Trainer,
    cross_entropy,
    find_rate,
    mean_squared_error,
    minimize,
)
from xpnn.errors import DataError, ShapeError

LOSSES = {"price": mean_squared_error, "kind": partial(cross_entropy, class_weight=[1.0, 2.0, 5.0])}


def network(backend="numpy"):
    size, words = Input((3,), name="size"), Input((2,), takes="integers", name="words")
    joined = Concatenate()(size, Flatten()(Embedding(7, 2)(words)))
    hidden = Tanh()(Dense(4)(joined))
    return Network(
        inputs=[size, words],
        outputs={"price": Dense(1)(hidden), "kind": Dense(3)(hidden)},
        backend=backend,
    )


def samples(count=23):
    rng = np.random.default_rng(5)
    size = rng.standard_normal((count, 3)).astype(np.float32)
    words = rng.integers(0, 7, (count, 2))
    y = {"price": size[:, :1] * 2, "kind": words.sum(axis=1) % 3}
    return {"size": size, "words": words}, y


def trained(net, loss=None, fit=None, **options):
    trainer = Trainer(net, loss or LOSSES, SGD(0.1), loss_weights={"price": 0.5}, **options)
    history = trainer.fit(*samples(), epochs=2, batch_size=8, progress=False, **(fit or {}))
    return trainer, history


def test_the_sum_and_each_loss_are_listed(backend):
    trainer, history = trained(network(backend), fit={"validation": 0.2})
    both = np.array([history["price_loss"], history["kind_loss"]])
    np.testing.assert_allclose(history["loss"], [0.5, 1.0] @ both, rtol=1e-5)
    assert {"val_loss", "val_price_loss", "val_kind_loss"} <= {*history}
    predictions = trainer.predict(samples()[0])
    x, y = samples()
    found = trainer.evaluate(x, y)
    price = backend.to_numpy(predictions["price"])
    assert found["price_loss"] == pytest.approx(np.mean((price - y["price"]) ** 2), rel=1e-5)


@pytest.mark.host_only
def test_losses_stay_those_of_the_steps_beside_metrics_of_the_training_data():
    _, alone = trained(network())
    _, both = trained(network(), metrics={"price": [MAE()]}, fit={"train_metrics": True})
    assert both.names == ["epoch", "loss", "price_loss", "kind_loss", "price_mae", "rate"]
    for name in ("loss", "price_loss", "kind_loss"):
        assert both[name] == alone[name]


@pytest.mark.host_only
def test_metrics_go_with_an_output():
    for metrics in (["accuracy"], [Accuracy()]):
        with pytest.raises(ValueError, match=r"by the names of outputs, price, kind, got Accuracy"):
            Trainer(network(), LOSSES, SGD(0.1), metrics=metrics)
    trainer, _ = trained(network())
    x, y = samples()
    matrix = trainer.confusion_matrix(x, y, output="kind")
    chosen = trainer.predict(x)["kind"].argmax(axis=1)
    assert matrix.counts[1, 2] == np.sum((y["kind"] == 1) & (chosen == 2))
    assert matrix.counts.sum() == 23
    with pytest.raises(ValueError, match="wanted output to be one of price, kind, got None"):
        trainer.confusion_matrix(x, y)


@pytest.mark.host_only
def test_a_rate_is_found_by_the_sum_of_the_losses():
    trainer = Trainer(network(), LOSSES, SGD(0.1), loss_weights={"price": 0.5})
    before, (x, y) = trainer.network.numpy_arrays(), samples()
    curve = find_rate(trainer, x, y, batch_size=23)
    assert curve.losses[0] == pytest.approx(trainer.evaluate(x, y)["loss"], rel=1e-5)
    assert 1e-3 < curve.suggestion < 10
    assert all(np.array_equal(trainer.network.params[name], before[name]) for name in before)


def test_the_sum_is_minimized(backend):
    net, (x, y) = network(backend), samples()
    losses = {"price": "mse", "kind": partial(cross_entropy, class_weight="balanced")}
    first = trained(net, losses)[1]["loss"][0]
    assert minimize(net, losses, x, y, accumulate=2, by="xpnn").loss < first / 4
    with pytest.raises(DataError, match="wanted arrays x and y, got a list and no y"):
        minimize(net, losses, [(x, y)], None)


def test_gradients_are_those_of_the_weighted_sum():
    """One step of SGD against deltas that are put together by hand."""
    net, (x, y) = network(), samples(6)
    out = net.forward(x, training=True)
    _, price = mean_squared_error(out["price"], y["price"])
    _, kind = LOSSES["kind"](out["kind"], y["kind"])
    net.backward((0.5 * price, kind))
    wanted = {name: w - 0.1 * net.grads[name] for name, w in net.params.items()}
    trainer = Trainer(net, LOSSES, SGD(0.1), loss_weights={"price": 0.5})
    trainer.step(x, y)
    for name, value in wanted.items():
        np.testing.assert_allclose(net.params[name], value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("weights", [[0.5], (0.5,), {0: 0.5}])
def test_a_list_of_one_loss_has_a_weight_too(weights):
    net = Network([Dense(1, use_bias=False)], (1,))
    net.load({"0.dense.weight": [[2.0]]})
    trainer = Trainer(net, [mean_squared_error], SGD(0.1), loss_weights=weights)
    assert float(trainer.step([[1.0]], [[3.0]])) == pytest.approx(0.5)
    assert net.params["0.dense.weight"].tolist() == [[pytest.approx(2.1)]]
    with pytest.raises(ValueError, match="a loss weighs a finite number of at least 0"):
        Trainer(net, [mean_squared_error], SGD(0.1), loss_weights=[0.5, 0.5])


@pytest.mark.parametrize("rows", [4, 5])
def test_one_loss_by_name_and_a_batch_in_parts(backend, rows):
    found = []
    for parts in (1, 2):
        x = Input((3,))
        net = Network(inputs=x, outputs={"price": Dense(1)(x)}, backend=backend)
        losses, weights = {"price": mean_squared_error}, {"price": 0.5}
        trainer = Trainer(net, losses, SGD(0.1), loss_weights=weights, accumulate=parts)
        data = np.linspace(-1, 1, 3 * rows, dtype=np.float32).reshape(rows, 3)
        value = trainer.step(*map(backend.asarray, (data, data[:, :1])))
        found.append([backend.to_numpy(value), *net.numpy_arrays().values()])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{"accumulate": 3}, {"compile": False}])
def test_other_ways_to_the_same_weights(backend, options):
    one, first = trained(network(backend))
    other, second = trained(network(backend), **options)
    np.testing.assert_allclose(first["loss"], second["loss"], rtol=1e-5)
    np.testing.assert_allclose(first["kind_loss"], second["kind_loss"], rtol=1e-5)
    for name, value in other.network.params.items():
        pair = (backend.to_numpy(one.network.params[name]), backend.to_numpy(value))
        np.testing.assert_allclose(*pair, rtol=1e-4, atol=1e-6)


def test_losses_are_those_of_the_set_however_it_is_cut():
    """Though each output weighs its samples otherwise, and samples have weights."""
    trainer, (x, y) = Trainer(network(), LOSSES, SGD(0.1)), samples()
    weight = np.linspace(0.0, 1.0, 23)
    whole = trainer.evaluate(x, y, sample_weight=weight)
    for size in (1, 4, 22):
        cut = trainer.evaluate(x, y, sample_weight=weight, batch_size=size)
        assert cut == pytest.approx(whole, rel=1e-5)


def test_tuples_lists_and_streams():
    x, y = samples()
    parts = (x["size"], x["words"]), (y["price"], y["kind"])
    batches = [
        (tuple(one[k : k + 8] for one in parts[0]), {n: one[k : k + 8] for n, one in y.items()})
        for k in (0, 8, 16)
    ]
    _, wanted = trained(network(), fit={"shuffle": False})
    for given in (parts, (batches,)):
        trainer = Trainer(network(), LOSSES, SGD(0.1), loss_weights=[0.5, 1.0])
        options = {"batch_size": 8, "shuffle": False} if len(given) == 2 else {}
        history = trainer.fit(*given, epochs=2, progress=False, **options)
        assert history["loss"] == wanted["loss"]


def test_metrics_by_output():
    trainer, history = trained(
        network(), metrics={"kind": [Accuracy()], "price": [MAE()]}, fit={"validation": samples()}
    )
    x, y = samples()
    predictions = trainer.predict(x)
    right = np.mean(np.argmax(predictions["kind"], axis=1) == y["kind"])
    assert history["val_kind_accuracy"][-1] == pytest.approx(right)
    assert history["val_price_mae"][-1] == pytest.approx(
        np.mean(np.abs(predictions["price"] - y["price"])), rel=1e-5
    )


def test_probabilities_of_each_output():
    kinds = ByOutput({"price": partial(cross_entropy), "kind": cross_entropy})
    x = Input((2,))
    ends = {"price": Dense(2)(x), "kind": Dense(3)(x)}
    trainer = Trainer(Network(inputs=x, outputs=ends), kinds, SGD(0.1))
    found = trainer.predict(np.ones((4, 2)), probabilities=True)
    assert [float(np.sum(one)) for one in found.values()] == pytest.approx([4.0, 4.0])


def test_a_run_is_resumed_bit_for_bit(tmp_path):
    options = {"loss_weights": {"price": 0.5}, "metrics": {"kind": [Accuracy()]}}
    rows = {"batch_size": 8, "progress": False, "validation": 0.2}
    whole = Trainer(network(), LOSSES, Adam(0.01), **options)
    wanted = whole.fit(*samples(), epochs=4, **rows)
    first = Trainer(network(), LOSSES, Adam(0.01), **options)
    first.fit(*samples(), epochs=2, callbacks=[Checkpoint(tmp_path, every_steps=2)], **rows)
    again = Trainer(network(), LOSSES, Adam(0.01), **options)
    kept = Checkpoint(tmp_path, every_steps=2)
    history = again.fit(*samples(), epochs=4, resume=tmp_path, callbacks=[kept], **rows)
    assert history["price_loss"] == wanted["price_loss"]
    for name, value in whole.network.params.items():
        assert np.array_equal(again.network.params[name], value)


def test_a_step_says_how_much_memory_it_takes():
    trainer = Trainer(network(), LOSSES, Adam(0.01))
    assert trainer.summary(batch=4096).peak_bytes > trainer.summary(batch=512).peak_bytes
    trainer.step(*samples())
    assert "x['words']" in str(trainer.program)


# Terms that layers add ----------------------------------------------------------------------------


class Small(Layer):
    """Keeps what goes through small: t = mean over the batch of half the squares of a sample."""

    adds = "size"

    def forward(self, Z, training=False):
        self.cache["Z"] = Z
        self.cache["term"] = self.xp.sum(Z * Z) / (2 * Z.shape[0])
        return Z

    def backward(self, delta):
        Z = self.cache["Z"]
        own = self.term_factor * Z / Z.shape[0]
        return delta + self.xp.astype(own, delta.dtype, copy=False)


@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"compile": False}])
def test_a_layer_adds_to_the_loss(backend, options):
    """One layer, so by hand: dL/dW = Z^T (delta + S / n)."""
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((8, n)).astype(np.float32) for n in (3, 2))
    net = Network([Dense(2, use_bias=False), Small()], (3,), backend)
    (name,) = net.params
    weight = np.array(backend.to_numpy(net.params[name]))
    S = x @ weight
    value, delta = np.mean((S - y) ** 2), 2 * (S - y) / S.size
    term = np.sum(S * S) / 16
    trainer = Trainer(net, mean_squared_error, SGD(0.1), **options)
    history = trainer.fit(x, y, batch_size=8, shuffle=False, progress=False)
    assert history["loss"][0] == pytest.approx(value + term, rel=1e-5)
    assert history["own_loss"][0] == pytest.approx(value, rel=1e-5)
    assert history["1.small.size"][0] == pytest.approx(term, rel=1e-5)
    wanted = weight - 0.1 * x.T @ (delta + S / 8)
    np.testing.assert_allclose(backend.to_numpy(net.params[name]), wanted, rtol=1e-4, atol=1e-6)


# What is refused ----------------------------------------------------------------------------------


def test_losses_that_do_not_fit_the_outputs():
    with pytest.raises(DataError, match=r"a loss for each output .* for price, kind"):
        Trainer(network(), mean_squared_error, SGD())
    with pytest.raises(DataError, match="by the names price, kind, got price"):
        Trainer(network(), {"price": mean_squared_error}, SGD())
    with pytest.raises(ValueError, match="there is no loss for 'cost', which has a weight"):
        Trainer(network(), LOSSES, SGD(), loss_weights={"cost": 1.0})
    with pytest.raises(ValueError, match="a finite number of at least 0, got -1"):
        ByOutput(LOSSES, {"price": -1})
    with pytest.raises(TypeError, match="loss_weights go with a loss for each"):
        Trainer(Network([Dense(1)], (2,)), mean_squared_error, SGD(), loss_weights={"a": 1.0})
    alone = Network([Dense(1)], (3,))
    with pytest.raises(DataError, match="by the names output_0, got wrong name"):
        Trainer(alone, {"wrong name": mean_squared_error}, SGD(0.1))
    Trainer(alone, {"output_0": mean_squared_error}, SGD(0.1))
    with pytest.raises(DataError, match="a loss for the only output, output_0, got 2"):
        Trainer(alone, [mean_squared_error] * 2, SGD(0.1))
    with pytest.raises(TypeError, match="wanted a loss for each output, got 'mse'"):
        ByOutput({"price": "mse"})
    with pytest.raises(ValueError, match="metrics: wanted lists by the names of outputs"):
        Trainer(network(), LOSSES, SGD(), metrics={"cost": [MAE()]})


def test_targets_that_do_not_come():
    trainer, (x, y) = Trainer(network(), LOSSES, SGD()), samples()
    before = trainer.network.numpy_arrays()
    with pytest.raises(DataError, match="wanted y by the names price, kind, got price"):
        trainer.fit(x, {"price": y["price"]}, progress=False)
    with pytest.raises(ShapeError, match=r"y\['kind'\] has 22"):
        trainer.fit(x, {**y, "kind": y["kind"][1:]}, progress=False)
    price = np.where(np.arange(23)[:, None] == 3, np.nan, y["price"])
    with pytest.raises(DataError, match=r"1 of 23 in y\['price'\] are NaN"):
        trainer.fit(x, {**y, "price": price}, progress=False)
    with pytest.raises(DataError, match="batch 1: wanted x by the names size, words"):
        trainer.fit([({"size": x["size"]}, y)], progress=False)
    for name, value in trainer.network.numpy_arrays().items():
        assert np.array_equal(value, before[name])
