"""A batch gone through in parts gives the step of the whole batch."""

import functools

import numpy as np
import pytest

import xpnn
from tests.conftest import needs
from xpnn import (
    L1,
    L2,
    LSTM,
    SGD,
    Adam,
    BatchNorm,
    ClipByGlobalNorm,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    LayerNorm,
    MixedPrecision,
    Network,
    ReLU,
    Reshape,
    ShapeError,
    Tanh,
    TiedDense,
    Trainer,
)
from xpnn.losses import total_weight
from xpnn.training.stepping.accumulation import part_sizes

CLASSES = 10


def data(count=50):
    x, y = xpnn.datasets.digits()
    return x[:count], y[:count]


def plain():
    return [Dense(16).regularize(L2(1e-2), L1(1e-3)), Tanh(), LayerNorm(), Dense(CLASSES)]


def images():
    return [Reshape((8, 8, 1)), Conv2D(4, 3), ReLU(), Flatten(), Dense(CLASSES)]


def sequences():
    return [Reshape((8, 8)), LSTM(6), Dense(CLASSES)]


def trained(backend, parts, make=plain, loss=xpnn.cross_entropy, targets=None, **settings):
    x, y = data()
    y = y if targets is None else targets(y)
    network = Network(make(), (64,), backend, seed=4)
    optimizer = SGD(0.2, momentum=0.9, weight_decay=1e-2, clip=ClipByGlobalNorm(0.7))
    trainer = Trainer(network, loss, optimizer, accumulate=parts)
    options = {"batch_size": 24, "epochs": 3, "progress": False} | settings
    history = trainer.fit(x, y, **options)  # batches of 24, 24 and 2
    return network.numpy_arrays(), history["loss"]


def check(backend, parts, **settings):
    whole, losses = trained(backend, 1, **settings)
    found, in_parts = trained(backend, parts, **settings)
    np.testing.assert_allclose(in_parts, losses, rtol=2e-6)
    for name, array in whole.items():
        np.testing.assert_allclose(found[name], array, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(2, marks=pytest.mark.slow_to_compile),
        5,
        24,
        pytest.param(100, marks=pytest.mark.slow_to_compile),
    ],
)
def test_parts_are_the_whole(backend, parts):
    check(backend, parts)


@pytest.mark.parametrize("make", [images, sequences])
def test_for_other_layers_too(backend, make):
    check(backend, 3, make=make, batch_size=25)  # parts of 9, 9 and 7


WEIGHTS = np.random.default_rng(0).choice([0.0, 0.5, 1.0, 7.0], 50)
WEIGHTS[:30] *= 10.0  # so that parts weigh differently
FEW = [5.0, 0.0, 1.0, 0.2, 30.0, 1.0, 1.0, 1.0, 2.0, 9.0]


def one_hot(y):
    return np.eye(CLASSES, dtype=np.float32)[y]


def signs(y):
    return 2.0 * one_hot(y) - 1.0


LOSSES = {
    "labels": (xpnn.cross_entropy, None, FEW),
    "rows": (functools.partial(xpnn.cross_entropy, label_smoothing=0.1), one_hot, FEW),
    "integer rows": (xpnn.cross_entropy, lambda y: one_hot(y).astype(int), FEW),
    "binary": (xpnn.binary_cross_entropy, one_hot, [1.0, 9.0]),
    "hinge": (xpnn.hinge, signs, [1.0, 9.0]),
    "divergence": (xpnn.kl_divergence, one_hot, None),
    "squares": (xpnn.mean_squared_error, one_hot, None),
    "guide": (xpnn.quadratic_cost, one_hot, None),
}


@pytest.mark.parametrize("weighted", [pytest.param(False, marks=pytest.mark.slow_to_compile), True])
@pytest.mark.parametrize(("loss", "targets", "classes"), LOSSES.values(), ids=LOSSES)
def test_weights_of_samples_and_classes(backend, loss, targets, classes, weighted):
    if classes is not None:
        loss = functools.partial(loss, class_weight=classes)
    weight = WEIGHTS if weighted else None
    settings = {"batch_size": 25, "sample_weight": weight}  # parts of 7, 7, 7 and 4
    check(backend, 4, loss=loss, targets=targets, **settings)


def test_weights_of_the_steps_of_a_sequence(backend):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 5, (20, 6))
    weight = rng.choice([0.0, 1.0, 4.0], (20, 6))
    results = []
    for parts in (1, 3):
        table = Embedding(5, 4)
        network = Network([table, Tanh(), TiedDense(5, table)], (6,), backend)
        loss = functools.partial(xpnn.cross_entropy, class_weight=[1.0, 2.0, 0.0, 4.0, 1.0])
        trainer = Trainer(network, loss, SGD(0.5), accumulate=parts)
        x, y = network.asarray(ids), backend.asarray(ids[:, ::-1].copy(), "int32")
        trainer.step(x, y, backend.asarray(weight, "float32"))
        results.append(network.numpy_arrays())
    for name, array in results[0].items():
        np.testing.assert_allclose(results[1][name], array, atol=1e-6)


def test_parts_without_any_weight_are_no_trouble(backend):
    weight = np.zeros(50)
    weight[:20] = 1.0
    check(backend, 4, sample_weight=weight, shuffle=False, batch_size=25)
    with pytest.warns(xpnn.EmptyMeanWarning, match="loss: NaN"):
        found, losses = trained(backend, 4, sample_weight=np.zeros(50), batch_size=25)
    assert all(np.isnan(losses))
    assert all(np.isfinite(array).all() for array in found.values())


def test_a_loss_of_ones_own_says_what_its_items_weigh(backend):
    def late(predictions, targets, *, sample_weight=None, backend=None):
        return xpnn.cross_entropy(
            predictions, targets, class_weight=FEW, sample_weight=sample_weight, backend=backend
        )

    weights = functools.partial(xpnn.cross_entropy, class_weight=FEW)
    with pytest.raises(AssertionError):
        check(backend, 4, loss=late, batch_size=25)
    late.total_weight = lambda targets, sample_weight, backend: total_weight(
        weights, targets, sample_weight, (CLASSES,), backend
    )
    check(backend, 4, loss=late, batch_size=25)


@pytest.mark.width
@pytest.mark.parametrize("compile", [None, False])
@pytest.mark.parametrize("classes", [None, [0.3, 1.7]])
def test_in_float64_it_is_the_step_worked_out_by_hand(backend, classes, compile):
    """One step of a linear classifier: W - 0.5 X^T (p - q) s, with s the shares of the samples."""
    if backend.name == "jax" and compile is False:
        pytest.skip("JAX takes seconds, call by call")
    x, y = np.arange(15.0).reshape(5, 3) / 10, np.array([0, 1, 1, 0, 1])
    weight = np.array([0.1, 0.1, 0.2, 0.8, 0.9])
    share = weight * np.array(classes or [1.0, 1.0])[y]
    share = (share / share.sum())[:, None]
    loss = functools.partial(xpnn.cross_entropy, class_weight=classes)
    for parts in (1, 3, 5):
        with backend.allow_float64():
            network = Network([Dense(2)], (3,), backend, seed=0, dtype="float64")
            before = network.numpy_arrays()["0.dense.weight"]
            trainer = Trainer(network, loss, SGD(0.5), accumulate=parts, compile=compile)
            value = float(backend.to_numpy(trainer.step(x, y, weight)))
            after = network.numpy_arrays()["0.dense.weight"]
        p = np.exp(x @ before)
        p /= p.sum(axis=1, keepdims=True)
        q = np.eye(2)[y]
        assert value == pytest.approx(-(share * q * np.log(p)).sum(), rel=1e-14)
        np.testing.assert_allclose(after, before - 0.5 * x.T @ ((p - q) * share), rtol=1e-13)


@pytest.mark.parametrize("kind", [float, np.float64, np.float32, int, np.asarray])
def test_a_loss_of_ones_own_may_tell_weights_as_any_number(kind):
    of_class = np.arange(1.0, 1.0 + CLASSES)  # whole numbers, for int

    def own(predictions, targets, *, sample_weight=None, backend=None):
        return xpnn.cross_entropy(predictions, targets, class_weight=of_class, backend=backend)

    own.total_weight = lambda targets, sample_weight, backend: kind(of_class[targets].sum())
    x, y = data(20)
    steps = []
    for parts in (1, 3, 20):
        network = Network([Dense(CLASSES)], (64,), seed=1)
        trainer = Trainer(network, own, SGD(0.5), accumulate=parts, compile=False)
        value = trainer.step(network.asarray(x), y)
        steps.append((float(value), network.numpy_arrays()["0.dense.weight"]))
        found = trainer.evaluate(x, y, batch_size=3)["loss"]
        assert found == pytest.approx(trainer.evaluate(x, y)["loss"], rel=1e-6)
    for value, weight in steps[1:]:
        assert value == pytest.approx(steps[0][0], rel=1e-6)
        np.testing.assert_allclose(weight, steps[0][1], atol=1e-6)


def test_dropout_draws_and_statistics_move_once_for_each_part(backend):
    layers = [BatchNorm(), Dropout(0.5), Dense(CLASSES)]
    network = Network(layers, (64,), backend)
    x, y = data(50)
    Trainer(network, xpnn.cross_entropy, Adam(), accumulate=4).fit(
        x, y, batch_size=50, shuffle=False, progress=False
    )
    assert network.numpy_arrays()["1.dropout.draw"] == 4
    expected = Network([BatchNorm()], (64,), backend)
    for start in (0, 13, 26, 39):
        expected.forward(x[start : start + 13], training=True)
    for name, array in expected.numpy_arrays().items():
        if "running" in name:
            np.testing.assert_allclose(network.numpy_arrays()[name], array, rtol=1e-5)


def test_it_goes_with_mixed_precision(backend):
    if backend.name == "array-api-strict":
        pytest.skip("the standard has no half precision")
    results = []
    for parts in (1, 4):
        network = Network(plain(), (64,), backend, seed=4)
        precision = MixedPrecision(initial_scale=256.0)  # too small for a step to be skipped
        trainer = Trainer(
            network, xpnn.cross_entropy, SGD(0.2), accumulate=parts, precision=precision
        )
        trainer.fit(*data(), batch_size=25, epochs=3, progress=False)
        results.append(network.numpy_arrays())
    for name, array in results[0].items():
        np.testing.assert_allclose(results[1][name], array, atol=2e-3, err_msg=name)


@pytest.mark.parametrize("wrong", [0, -1, 2.0])
def test_a_wrong_number_of_parts_is_refused(wrong):
    network = Network([Dense(1)], (1,))
    text = (
        r"accumulate counts the parts of a batch, at least 1|accumulate to be an integer, got 2.0"
    )
    with pytest.raises((ValueError, TypeError), match=text):
        Trainer(network, xpnn.mean_squared_error, SGD(), accumulate=wrong)


def test_layers_see_the_size_of_a_part():
    network = Network([LSTM(4, stateful=6)], (3, 2))
    x = np.zeros((12, 3, 2))
    trainer = Trainer(network, xpnn.mean_squared_error, SGD(), accumulate=2)
    trainer.fit(x, np.zeros((12, 4)), batch_size=12, progress=False)
    with pytest.raises(ShapeError, match="got a batch of 3"):
        trainer.fit(x, np.zeros((12, 4)), batch_size=6, progress=False)


def test_part_sizes():
    for size in range(1, 30):
        for parts in range(1, 12):
            found = part_sizes(size, parts)
            assert sum(found) == size
            assert len(found) <= parts
            assert len({*found[:-1]}) <= 1
            assert 0 < found[-1] <= found[0]


@needs("jax")
def test_parts_take_the_memory_of_a_part_on_jax():
    def bytes_of(parts):
        network = Network([Dense(64), Tanh(), Dense(64), Tanh(), Dense(CLASSES)], (64,), "jax")
        backend, optimizer = network.backend, SGD(0.1)
        step = xpnn.make_train_step(network, xpnn.cross_entropy, optimizer, accumulate=parts)
        x, y = backend.zeros((1024, 64), "float32"), backend.zeros((1024,), "int32")
        opt_state = optimizer.init(network.params, backend)
        compiled = step.lower(network.params, network.state, opt_state, x, y).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert bytes_of(8) < 0.5 * bytes_of(1)


def test_parts_take_the_memory_of_a_part_on_numpy():
    def bytes_of(parts):
        network = Network([Dense(64), Tanh(), Dense(64), Tanh(), Dense(CLASSES)], (64,))
        trainer = Trainer(network, xpnn.cross_entropy, SGD(0.1), accumulate=parts)
        trainer.step(np.zeros((1024, 64), np.float32), np.zeros(1024, np.int32))
        return trainer._train_step.run.arena.nbytes

    assert bytes_of(8) < 0.4 * bytes_of(1)
