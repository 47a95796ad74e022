"""What layers and losses do in a step that several processes take together.

Each layer and each loss of the tables gives a process what one process alone would give its rows,
or is refused; and the curves of networks are those of one process. JAX is not among the backends:
it has no communicator, as it cuts batches over devices by itself.
"""

from functools import partial

import numpy as np
import pytest

import xpnn.layers.replica
from tests.conftest import SPECS
from tests.distributed.test_overlap import Overlapping
from tests.distributed.threads import together
from tests.layers.table import BATCH, BY_KIND, OVER_BLOCKS, draw
from tests.losses.table import each_loss
from xpnn import (
    GRU,
    Adam,
    AlphaDropout,
    BatchNorm,
    Conv2D,
    Cutout,
    Dense,
    Dropout,
    Flatten,
    GaussianNoise,
    GaussianSample,
    Layer,
    MaxPool2D,
    Network,
    RandomCrop,
    RandomFlip,
    RandomShift,
    ReLU,
    SpatialDropout,
    Tanh,
    Trainer,
    contrastive,
    get_backend,
    mean_squared_error,
)
from xpnn.errors import ShapeError
from xpnn.layers.replica import Replica
from xpnn.local_rows import Portion
from xpnn.losses.weights import total_weight, unbound
from xpnn.training import MixedPrecision

OURS = [one for one in SPECS if one.partition(":")[0] != "jax"]
each_spec = pytest.mark.parametrize("spec", OURS)
each_library = pytest.mark.parametrize("spec", [one for one in OURS if one != "numpy:numba"])
"""For what is done call by call, which numba has no part in."""


def host(backend, array):
    return np.array(backend.to_numpy(array))


# Layers by themselves -----------------------------------------------------------------------------


def one_pass(network, x, delta, communicator=None):
    """Forward and backward on the rows of a process: outputs, dL/dZ, gradients, state."""
    backend, rows, share, replica = network.backend, slice(None), 1.0, None
    if communicator is not None:
        portion = Portion(communicator.rank, communicator.size)
        rows, replica = portion.chosen(len(x)), Replica(communicator, backend, {})
        replica.begin(portion.of(len(x)))
        share = len(x[rows]) / len(x)
    with network.holding(network.params, network.state, replica):
        out, terms = network.root.forward(network.asarray(x[rows]), training=True), {}
        for name, layer in network.walk():
            if layer.adds:
                vars(layer)["term_factor"] = share
                terms[f"{name}.term"] = share * host(backend, layer.cache["term"])
        back = network.root.backward(backend.asarray(delta[rows], network.dtype))
        grads = {name: host(backend, grad) for name, grad in network.grads.items()}
        found = {"output": out} if back is None else {"output": out, "input": back}
        return {
            "rows": {name: host(backend, one) for name, one in found.items()},
            "sums": grads | terms,
            "state": {
                name: host(backend, one) if hasattr(one, "shape") else np.array(one)
                for name, one in network.state.items()
            },
        }


def check_rows(spec, make, shape, size, within=1e-12):
    """That processes have the rows, and parts of the sums, of one process, and its state."""
    x = draw(shape)

    def found(communicator=None):
        network = Network([make()], shape, spec, seed=4, dtype="float64")
        delta = np.random.default_rng(2).normal(size=(BATCH, *network.output_shape))
        return one_pass(network, x, delta, communicator)

    alone, others = found(), together(size, found)
    close = partial(np.testing.assert_allclose, rtol=within, atol=within)
    for name, whole in alone["rows"].items():
        close(np.concatenate([one["rows"][name] for one in others]), whole, err_msg=name)
    for name, whole in alone["sums"].items():
        close(sum(one["sums"][name] for one in others), whole, err_msg=name)
    for name, whole in alone["state"].items():
        close(others[0]["state"][name], whole, err_msg=name)
        for one in others:
            np.testing.assert_array_equal(one["state"][name], others[0]["state"][name])


def goes_by_process(make):
    """Whether a layer is one that each process has by itself, on purpose."""
    return any(not getattr(layer, "synchronized", True) for _, layer in make().walk())


@pytest.mark.slow_to_compile  # curves of whole networks show it on CuPy
@each_library
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize(
    ("make", "input_shape"),
    [
        row
        for row in BY_KIND
        if row.id not in {one.id for one in OVER_BLOCKS} and not goes_by_process(row.values[0])
    ],
)
def test_each_process_has_its_rows_of_every_layer(spec, make, input_shape, size):
    """Of a batch of three: one and two rows; or one each, and one process without any."""
    if spec.startswith(("array-api-strict", "cupy")) and size == 4:
        pytest.skip("the calls are those of two processes")
    check_rows(spec, make, input_shape, size)


class OneMaskForAll(Dropout):
    def mask_shape(self, shape):
        return (1, *shape[1:])


class MaskOfFeatures(Dropout):
    def mask_shape(self, shape):
        return shape[1:]


@each_library
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("kind", [OneMaskForAll, MaskOfFeatures])
def test_masks_that_samples_share_are_those_of_all(spec, kind, size):
    check_rows(spec, lambda: kind(0.5), (3, 7), size)


class Centred(Layer):
    """Features less their means over the batch: of the rows of one process, as it does not ask."""

    def means(self, values):
        return self.xp.mean(values, axis=0)

    def forward(self, values, training=False):
        return values - self.means(values)

    def backward(self, delta):
        return delta - self.means(delta)


class CentredTogether(Centred):
    def means(self, values):
        if self.replica is None:
            return super().means(values)
        return self.replica.all_sum(self.xp.sum(values, axis=0)) / self.replica.rows.total


class DrawsByItself(Dropout):
    def random_mask(self, keep, shape, axis=0):
        return self.backend.random_mask(keep, self.seed, self.next_draw(), shape)


class SumsTwice(BatchNorm):
    """Whose gradients are sums over all processes already."""

    def learn(self, delta, normalized):
        sums = super().learn(delta, normalized)
        if self.replica is not None:
            self.grads["shift"] = self.replica.all_sum(self.grads["shift"])
        return sums


@each_library
def test_layers_of_ones_own_sum_by_the_replica(spec):
    check_rows(spec, CentredTogether, (5,), 2)


@each_library
@pytest.mark.parametrize(
    "make",
    [Centred, lambda: DrawsByItself(0.5), SumsTwice, lambda: BatchNorm(synchronized=False)],
)
def test_layers_that_do_not_are_caught(spec, make):
    with pytest.raises(AssertionError, match="Mismatched elements"):
        check_rows(spec, make, (5,), 2)


@each_library
@pytest.mark.parametrize("size", [2, 3, 5])
def test_batches_of_each_process_by_itself(spec, size):
    """Outputs of its own rows; running statistics follow what all have found, by what it is of."""
    x, delta = np.random.default_rng(3).normal(size=(2, 4, 6, 2))
    backend = get_backend(spec)

    def found(communicator):
        layer = BatchNorm(0.25, synchronized=False)
        network = Network([layer], (6, 2), spec, dtype="float64")
        return one_pass(network, x, delta, communicator)

    means, variances, weights = [], [], []
    for rank, one in enumerate(together(size, found)):
        rows = Portion(rank, size).chosen(len(x))
        alone = Network([BatchNorm()], (6, 2), spec, dtype="float64")
        wanted = alone.forward(alone.asarray(x[rows]), training=True)
        np.testing.assert_allclose(one["rows"]["output"], host(backend, wanted), atol=1e-12)
        wanted = alone.backward(backend.asarray(delta[rows], "float64"))
        np.testing.assert_allclose(one["rows"]["input"], host(backend, wanted), atol=1e-12)
        own = x[rows].reshape(-1, 2)
        if len(own):
            means.append(own.mean(axis=0))
            variances.append(own.var(axis=0, ddof=1))
            weights.append(len(own))
        state = one["state"]
    mean, variance = (np.average(each, 0, weights) for each in (means, variances))
    np.testing.assert_allclose(state["0.batchnorm.running_mean"], 0.25 * mean)
    np.testing.assert_allclose(state["0.batchnorm.running_variance"], 0.75 + 0.25 * variance)


def test_processes_of_one_value_each_leave_the_running_statistics_alone():
    x = np.ones((2, 3))

    def found(communicator):
        network = Network([BatchNorm(synchronized=False)], (3,), dtype="float64")
        return one_pass(network, x, x, communicator)["state"]

    for state in together(2, found):
        assert state["0.batchnorm.running_mean"].tolist() == [0.0] * 3
        assert state["0.batchnorm.running_variance"].tolist() == [1.0] * 3


def steps_as_samples(kind):
    """A layer of that kind that is shown all steps of all samples as one batch."""

    class StepsAsSamples(kind):
        def apart(self, function, values, *options):
            rows = self.xp.reshape(values, (-1, values.shape[-1]))
            return self.xp.reshape(function(rows, *options), values.shape)

        def forward(self, values, training=False):
            return self.apart(super().forward, values, training)

        def backward(self, delta):
            return self.apart(super().backward, delta)

    return StepsAsSamples


@each_library
def test_rows_of_several_entries_each_draw_as_in_one_process(spec):
    check_rows(spec, lambda: steps_as_samples(Dropout)(0.5), (4, 5), 2)


def test_rows_of_several_entries_each_are_no_batch_of_all():
    norm = steps_as_samples(BatchNorm)
    with pytest.raises(ShapeError, match=r"rows that this process has .* set synchronized=False"):
        check_rows("numpy", norm, (4, 5), 2)

    def found(communicator):
        network = Network([norm(synchronized=False)], (4, 5), dtype="float64")
        return one_pass(network, draw((4, 5)), draw((4, 5)), communicator)["state"]

    one, other = together(2, found)
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])


# Losses by themselves -----------------------------------------------------------------------------


@pytest.mark.slow_to_compile  # a loss is the same sum on CuPy
@each_library
@pytest.mark.parametrize("size", [2, 7])
@each_loss
def test_each_process_has_its_share_of_every_loss(spec, case, size):
    """Or the loss says that it compares samples."""
    assert unbound(case.loss)[0].across_samples is not case.apart
    if not case.apart:
        return
    backend = get_backend(spec)
    predictions, targets = case.arrays()
    parts = []
    for rows in (slice(None), *(Portion(k, size).chosen(len(targets)) for k in range(size))):
        p, y = (backend.asarray(one[rows]) for one in (predictions, targets))
        weight = total_weight(case.loss, y, None, case.shape[1:], backend, "float64")
        value, delta = case.loss(p, y, backend=backend)
        weight = float(host(backend, weight) if hasattr(weight, "shape") else weight)
        parts.append((weight, float(host(backend, value)), host(backend, delta)))
    (whole, value, delta), *others = parts
    assert sum(weight for weight, _, _ in others) == pytest.approx(whole, rel=1e-12)
    shares = [(weight / whole, *rest) for weight, *rest in others]
    assert sum(w * v for w, v, _ in shares if w) == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(np.concatenate([w * d for w, _, d in shares]), delta, atol=1e-12)


# What is refused ----------------------------------------------------------------------------------


class Compares(Layer):
    across_samples = True


def own_loss(predictions, targets, *, sample_weight=None, backend=None):
    return mean_squared_error(predictions, targets, backend=backend)


own_loss.across_samples = True


@pytest.mark.parametrize(
    ("make", "shape", "loss", "message"),
    [
        (lambda: [GRU(4, stateful=6)], (3, 2), "mse", r"'0.gru', GRU\(4, stateful=6\), which goes"),
        (lambda: [Compares(), Dense(1)], (2,), "mse", r"'0.compares', Compares\(\), which goes"),
        (lambda: [Dense(4)], (2, 3), partial(contrastive, temperature=0.5), "contrastive for"),
        (lambda: [Dense(4)], (2,), own_loss, "own_loss for"),
    ],
    ids=["memory", "layer", "contrastive", "loss"],
)
def test_what_goes_across_samples_is_refused(make, shape, loss, message):
    wanted = f"distributed: wanted .* as every process has some samples of a batch, got .*{message}"

    def train(communicator):
        network = Network(make(), shape)
        Trainer(network, loss, "adam")
        with pytest.raises(ValueError, match=wanted):
            Trainer(network, loss, "adam", distributed=communicator)

    together(2, train)


# Curves -------------------------------------------------------------------------------------------


def mlp():
    noise = GaussianNoise(0.1), AlphaDropout(0.2)
    return [Dense(16), Tanh(), Dropout(0.3), noise[0], Dense(8), noise[1], Dense(2)], (5,)


def cnn():
    """No bias in front of BatchNorm: its gradient is 0 but for rounding, which Adam blows up."""
    return [
        *(RandomFlip(), RandomShift(1), RandomCrop(6, padding=1), Cutout(3, rate=0.5)),
        *(Conv2D(4, 3, use_bias=False), BatchNorm(), ReLU(), MaxPool2D(2)),
        *(SpatialDropout(0.2), Flatten(), Dense(8, use_bias=False), BatchNorm(0.3), Dense(2)),
    ], (6, 6, 2)


def autoencoder():
    return [Dense(8), Tanh(), Dense(6), GaussianSample(0.1), Dense(8), Tanh(), Dense(2)], (5,)


SAMPLES = 43  # batches of 12, and a last one of 7


def trained(spec, make, communicator=None, *, steps=24, batch=12, dtype="float64", **options):
    """The losses of so many steps, and the arrays of the network behind the last."""
    layers, shape = make()
    network = Network(layers, shape, spec, seed=3, dtype=dtype)
    trainer = Trainer(
        *(network, mean_squared_error, Adam(1e-2)), seed=5, distributed=communicator, **options
    )
    rng, backend, losses = np.random.default_rng(1), network.backend, []
    x, y = (rng.normal(size=(SAMPLES, *one)).astype(dtype) for one in (shape, (2,)))
    starts = range(0, SAMPLES, batch)
    for step in range(steps):
        rows = slice(starts[step % len(starts)], starts[step % len(starts)] + batch)
        value = trainer.step(backend.asarray(x[rows]), backend.asarray(y[rows]))
        losses.append(float(backend.to_numpy(value)))
    assert trainer.compiled == (backend.name == "numpy" and options.get("compile") is not False)
    return np.array(losses), network.numpy_arrays()


def check_curve(spec, make, size, within, **options):
    """The largest relative difference of the losses is small; arrays are the same in all."""
    if spec.startswith("cupy"):  # a graph of CUDA holds no sums of threads
        options["compile"] = False
    losses, arrays = trained(spec, make, **options)
    found = together(size, lambda one: trained(spec, make, one, **options))
    for others, others_arrays in found:
        np.testing.assert_array_equal(others, found[0][0])
        for name, array in others_arrays.items():
            np.testing.assert_array_equal(array, found[0][1][name], err_msg=name)
    np.testing.assert_allclose(found[0][0], losses, rtol=within)
    assert arrays.keys() == found[0][1].keys()


CURVES = [
    pytest.param(mlp, 2, {}, id="mlp"),
    pytest.param(mlp, 3, {"accumulate": 3, "steps": 16}, id="mlp in parts"),
    pytest.param(mlp, 3, {"batch": 2}, id="mlp of few rows"),
    pytest.param(cnn, 3, {}, id="cnn"),
    pytest.param(cnn, 2, {"accumulate": 3, "steps": 8}, id="cnn in parts"),
    pytest.param(cnn, 3, {"compile": False, "steps": 8}, id="cnn call by call"),
    pytest.param(autoencoder, 3, {}, id="autoencoder"),
    pytest.param(autoencoder, 2, {"accumulate": 3, "steps": 16}, id="autoencoder in parts"),
]
each_curve = pytest.mark.parametrize(("make", "size", "options"), CURVES)


@each_spec
@each_curve
def test_the_curve_is_that_of_one_process(spec, make, size, options):
    if not spec.startswith("numpy"):  # call by call: an epoch makes all the calls that there are
        options = options | {"steps": 4}
    check_curve(spec, make, size, 1e-12, **options)


@each_spec
@pytest.mark.parametrize(("make", "size"), [(mlp, 3), (cnn, 2), (autoencoder, 3)])
def test_the_curve_in_float32_is_that_of_one_process(spec, make, size):
    if spec.startswith("array-api-strict"):
        pytest.skip("the calls are those in float64, and NumPy's arithmetic is looked at")
    steps = 24 if spec.startswith("numpy") else 8
    check_curve(spec, make, size, 5e-6, dtype="float32", steps=steps)


@pytest.mark.slow_to_compile  # what halves do to sums is shown on NumPy and PyTorch
@each_spec
@pytest.mark.parametrize(("make", "options"), [(mlp, {}), (cnn, {}), (cnn, {"accumulate": 3})])
def test_the_curve_in_half_precision_is_near_that_of_one_process(spec, make, options):
    """Nearer than to float32, which is 2e-3 away, by a scale at which no gradient overflows.

    At a larger one a sum over a batch may overflow where its shares, which are added up in float32,
    do not: that step is skipped by one process alone, and taken by several.
    """
    if spec.startswith("array-api-strict"):
        pytest.skip("the standard has no float16")
    precision = MixedPrecision("float16", initial_scale=2.0**6)
    check_curve(spec, make, 3, 5e-3, dtype="float32", steps=8, precision=precision, **options)


def test_sums_of_layers_go_between_those_that_begin_early(monkeypatch):
    """In one order, as all processes have to ask for the same."""
    monkeypatch.setattr(xpnn.layers.replica, "BUCKET", 20)
    losses, _ = trained("numpy", cnn, steps=8)
    orders = []

    def train(communicator):
        communicator = Overlapping(communicator)
        found = trained("numpy", cnn, communicator, steps=8)[0]
        orders.append(communicator.order)
        return found

    for found in together(3, train):
        np.testing.assert_allclose(found, losses, rtol=1e-12)
    assert orders[0] == orders[1] == orders[2]
    assert {verb for verb, _ in orders[0]} == {"sum", "start", "wait"}
