"""Normalisation: against torch.nn, against jax.grad, and against sums done by hand."""

import numpy as np
import pytest

from tests.conftest import needs
from tests.layers.oracles import (
    assert_close,
    by_differences,
    jax_passes,
    passes,
    randomized,
    torch_passes,
)
from xpnn import (
    BatchNorm,
    Dense,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Network,
    ReLU,
    RMSNorm,
    Trainer,
)
from xpnn.errors import GradientError, ShapeError
from xpnn.losses import mean_squared_error
from xpnn.optimizers import SGD
from xpnn.saving import load_weights, save_weights
from xpnn.testing import check_gradients, training_curve

PAIRS = [  # ours, the input shape, torch's, and whether torch's has the features on the second axis
    pytest.param(BatchNorm, (5,), lambda nn: nn.BatchNorm1d(5), False, id="batch"),
    pytest.param(
        lambda: BatchNorm(0.3, epsilon=1e-3),
        (4, 3, 2),
        lambda nn: nn.BatchNorm2d(2, eps=1e-3, momentum=0.3),
        True,
        id="batch-images",
    ),
    pytest.param(LayerNorm, (6,), lambda nn: nn.LayerNorm(6), False, id="layer"),
    pytest.param(
        lambda: LayerNorm(epsilon=0.1),
        (3, 6),
        lambda nn: nn.LayerNorm(6, eps=0.1),
        False,
        id="layer-over-time",
    ),
    pytest.param(RMSNorm, (6,), lambda nn: nn.RMSNorm(6, eps=1e-6), False, id="rms"),
    pytest.param(
        lambda: RMSNorm(epsilon=0.1),
        (3, 6),
        lambda nn: nn.RMSNorm(6, eps=0.1),
        False,
        id="rms-over-time",
    ),
    pytest.param(lambda: GroupNorm(2), (6,), lambda nn: nn.GroupNorm(2, 6), True, id="group"),
    pytest.param(
        lambda: GroupNorm(3), (4, 3, 6), lambda nn: nn.GroupNorm(3, 6), True, id="group-images"
    ),
    pytest.param(
        lambda: InstanceNorm(epsilon=1e-3),
        (4, 3, 5),
        lambda nn: nn.InstanceNorm2d(5, affine=True, eps=1e-3),
        True,
        id="instance",
    ),
    pytest.param(
        lambda: GroupNorm(4),
        (4, 3, 4),
        lambda nn: nn.InstanceNorm2d(4, affine=True),
        True,
        id="group-of-one-is-instance",
    ),
]
each_pair = pytest.mark.parametrize(("make", "shape", "make_torch", "channels_first"), PAIRS)
KINDS = {"batch": BatchNorm, "layer": LayerNorm, "rms": RMSNorm, "group": lambda: GroupNorm(2)}
each_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


def batches(shape, count, size=7):
    """Batches whose features have means and spreads of their own, so that statistics matter."""
    rng = np.random.default_rng(3)
    means, spreads = 3 * rng.standard_normal(shape[-1]), rng.uniform(0.5, 2.0, shape[-1])
    for number in range(count):
        x = means + number + spreads * rng.standard_normal((size, *shape))
        yield x.astype(np.float32), rng.standard_normal((size, *shape)).astype(np.float32)


@needs("torch")
@each_pair
def test_equals_torch(backend, make, shape, make_torch, channels_first):
    import torch

    network, module = randomized(Network([make()], shape, backend)), make_torch(torch.nn)
    prefix = "0." + type(network.layers[0]).__name__.lower()
    names = {"weight": f"{prefix}.scale", "bias": f"{prefix}.shift"}
    state = network.numpy_arrays()
    for name, param in module.named_parameters():
        param.data = torch.tensor(state[names[name]])
    for training in (True, True, True, False):  # in the end, by the running statistics
        module.train(training)
        for x, delta in batches(shape, 2):
            oracle = torch_passes(module, x, delta, channels_first)
            oracle = {names.get(name, name): array for name, array in oracle.items()}
            assert_close(passes(network, x, delta, training), oracle)
    running = {"running_mean": "running_mean", "running_var": "running_variance"}
    for theirs, ours in running.items():
        if hasattr(module, theirs) and getattr(module, theirs) is not None:
            array = network.backend.to_numpy(network.state[f"{prefix}.{ours}"])
            np.testing.assert_allclose(array, getattr(module, theirs).numpy(), rtol=1e-5)


@needs("jax")
@each_pair
@pytest.mark.parametrize("training", [True, False])
def test_equals_jax_grad(make, shape, make_torch, channels_first, training):
    x, delta = next(batches(shape, 1))
    found, oracle = jax_passes(lambda: [make()], shape, x, delta, training)
    assert_close(found, oracle)


@each_kind
def test_output_has_mean_0_and_variance_1_over_its_axes(backend, make):
    x, _ = next(batches((3, 4), 1, size=5))
    output = backend.to_numpy(Network([make()], (3, 4), backend).forward(x, training=True))
    axes, groups = {
        "BatchNorm": ((0, 1), output),
        "LayerNorm": (-1, output),
        "GroupNorm": ((1, 3), output.reshape(5, 3, 2, 2)),
        "RMSNorm": (-1, output),
    }[type(make()).__name__]
    if make is RMSNorm:
        np.testing.assert_allclose(np.mean(groups**2, axis=axes), 1, atol=1e-5)
    else:
        np.testing.assert_allclose(np.mean(groups, axis=axes), 0, atol=1e-5)
        np.testing.assert_allclose(np.var(groups, axis=axes), 1, atol=1e-3)


def test_running_statistics_of_one_batch_by_hand(backend):
    network = Network([BatchNorm(0.25)], (1,), backend)
    network.forward([[1.0], [2.0], [6.0]], training=True)
    # mean 3, unbiased variance (4 + 1 + 9) / 2 = 7; from (0, 1) a quarter of the way to them
    state = network.numpy_arrays()
    np.testing.assert_allclose(state["0.batchnorm.running_mean"], [0.75], rtol=1e-6)
    np.testing.assert_allclose(state["0.batchnorm.running_variance"], [2.5], rtol=1e-6)


def test_a_batch_of_one_value_is_the_shift_and_teaches_nothing(backend):
    network = randomized(Network([BatchNorm()], (3,), backend))
    before = network.numpy_arrays()
    found = passes(network, np.ones((1, 3)), np.ones((1, 3)))
    np.testing.assert_array_equal(found["output"][0], before["0.batchnorm.shift"])
    np.testing.assert_array_equal(found["input"], 0)
    assert {k: v.tolist() for k, v in network.numpy_arrays().items()} == {
        k: v.tolist() for k, v in before.items()
    }


@each_kind
def test_half_precision_statistics_are_those_of_float32(backend, make):
    if backend.name == "array-api-strict":
        pytest.skip("the standard has no float16")
    rng = np.random.default_rng(0)  # squares of these numbers overflow float16, which ends at 65504
    x = (600 + 300 * rng.standard_normal((64, 8))).astype(np.float16)
    delta = rng.standard_normal((64, 8)).astype(np.float16)
    half = randomized(Network([make()], (8,), backend, dtype="float16"))
    dtypes = {name: array.dtype for name, array in half.state.items()}
    wide = Network([make()], (8,), "numpy", dtype="float64")
    wide.load(half.numpy_arrays())
    found = passes(half, x, delta)
    assert {name: array.dtype for name, array in found.items()} == dict.fromkeys(found, np.float16)
    for name, array in passes(wide, x, delta).items():
        # float16 keeps 3 digits; the output is rounded once, sums over the batch of rounded X more
        np.testing.assert_allclose(found[name], array, rtol=4e-3, atol=4e-3, err_msg=name)
    assert dtypes == {name: array.dtype for name, array in half.state.items()}
    for name, array in half.numpy_arrays().items():
        if "running" in name:
            assert array.dtype == np.float32
            np.testing.assert_allclose(array, wide.numpy_arrays()[name], rtol=1e-5)


def test_means_far_from_zero_lose_no_digits(backend):
    rng = np.random.default_rng(0)  # E[Z^2] - E[Z]^2 would be off by a tenth here
    x = (1000 + rng.standard_normal((512, 3))).astype(np.float32)
    output = backend.to_numpy(Network([BatchNorm()], (3,), backend).forward(x, training=True))
    exact = (x - np.mean(x, axis=0, dtype=np.float64)) / np.std(x, axis=0, dtype=np.float64)
    # x itself is rounded at 6e-5, and NumPy adds up 512 float32 numbers one after another
    np.testing.assert_allclose(output, exact, atol=5e-4)


@each_kind
def test_training_follows_numpy(backend, make):
    def layers():
        return [Dense(8), make(), ReLU(), Dense(2)]

    curve, reference = training_curve(layers, (4,), backend), training_curve(layers, (4,))
    assert reference[-1] < 0.7 * reference[0]
    np.testing.assert_allclose(curve, reference, rtol=1e-4)


def test_running_statistics_reach_those_of_the_data(backend, tmp_path):
    rng = np.random.default_rng(0)
    x = (5 + 3 * rng.standard_normal((256, 2))).astype(np.float32)
    network = Network([BatchNorm(), Dense(1)], (2,), backend)
    trainer = Trainer(network, mean_squared_error, SGD(0.01))
    trainer.fit(x, x[:, :1], epochs=8, batch_size=32, progress=False)
    arrays = network.numpy_arrays()
    np.testing.assert_allclose(arrays["0.batchnorm.running_mean"], x.mean(axis=0), atol=0.3)
    np.testing.assert_allclose(arrays["0.batchnorm.running_variance"], x.var(axis=0), rtol=0.15)
    save_weights(network, tmp_path / "weights.safetensors")
    other = Network([BatchNorm(), Dense(1)], (2,), backend, seed=1)
    load_weights(other, tmp_path / "weights.safetensors")
    for name, array in arrays.items():
        np.testing.assert_array_equal(other.numpy_arrays()[name], array)


# Mistakes that a hand-written backward of this kind is prone to ----------------------------------


class ForgetsTheMean(BatchNorm):
    def learn(self, delta, X):
        sums = super().learn(delta, X)
        return sums[0], 0.0 * sums[1]


class ForgetsTheVariance(LayerNorm):
    def backward(self, delta):
        self.learn(delta, self.cache["X"])
        G = delta * self.params["scale"]
        return self.cache["inverse"] * (G - self.xp.mean(G, axis=-1, keepdims=True))


class ForgetsTheScale(GroupNorm):
    def backward(self, delta):
        return super().backward(delta) / self.params["scale"]


class SumsTheBatchOnly(LayerNorm):
    def learn(self, delta, X):
        super().learn(delta, X)
        self.grads["shift"] = self.xp.sum(delta[:, 0, ...], axis=0)


class UsesTheInput(RMSNorm):
    def forward(self, Z, training=False):
        S = super().forward(Z, training)
        self.cache["X"] = Z
        return S


@pytest.mark.parametrize(
    "broken",
    [
        ForgetsTheMean,
        ForgetsTheVariance,
        lambda: ForgetsTheScale(2),
        SumsTheBatchOnly,
        UsesTheInput,
    ],
)
@by_differences
def test_planted_mistakes_are_caught(backend, broken):
    with pytest.raises(GradientError, match="WRONG"):
        check_gradients(broken(), (3, 4), backend)


# What it says no to ------------------------------------------------------------------------------


def test_bad_arguments_are_explained():
    with pytest.raises(ShapeError, match=r"cannot cut 6 features into 4 groups.*divisor of 6"):
        Network([GroupNorm(4)], (2, 6))
    with pytest.raises(ShapeError, match="wants inputs of shape"):
        Network([LayerNorm()], ())
    for shape in ((), (4,), (1, 4)):
        with pytest.raises(ShapeError, match=r"goes over the positions of a sample.*BatchNorm or"):
            Network([InstanceNorm()], shape)
    with pytest.raises(ValueError, match="at least one group, got groups=0"):
        GroupNorm(0)
    with pytest.raises(ValueError, match=r"momentum in \(0, 1\], got momentum=0"):
        BatchNorm(0)
    with pytest.raises(ValueError, match="epsilon above 0, got epsilon=0"):
        LayerNorm(epsilon=0)
