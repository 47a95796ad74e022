"""Mixed precision: the curve of float32, a scale that adapts, and steps that are skipped whole."""

import functools
import shutil
from inspect import getclosurevars

import numpy as np
import pytest

import xpnn
from tests.conftest import needs
from xpnn import (
    GELU,
    L2,
    LSTM,
    SGD,
    Adam,
    AdamW,
    BatchNorm,
    ClipByGlobalNorm,
    ClipByValue,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Identity,
    LearnedPositions,
    Masked,
    MaxPool2D,
    MixedPrecision,
    Network,
    ReduceOnPlateau,
    ReLU,
    Reshape,
    StopOnNaN,
    Trainer,
    TrainingStopped,
    TransformerBlock,
    WarmUp,
)
from xpnn.errors import BackendUnavailable
from xpnn.optimizers import Clipping

HALVES = {"numpy": ["float16"], "array-api-strict": []}
BOTH = ["float16", "bfloat16"]
EXACT = {"float16": 0.01, "bfloat16": 0.05}  # how far a loss may be from that in float32


@pytest.fixture(params=BOTH)
def half(request, backend):
    """Each half precision that the backend has."""
    if request.param not in HALVES.get(backend.name, BOTH):
        pytest.skip(f"{backend.name} has no {request.param}")
    return request.param


@pytest.fixture
def float16(backend):
    """The backends that have float16."""
    if "float16" not in HALVES.get(backend.name, BOTH):
        pytest.skip(f"{backend.name} has no float16")
    return backend


def mlp():
    return [Dense(32), BatchNorm(), ReLU(), Dropout(0.1), Dense(10)], (64,)


def cnn():
    image = [Conv2D(8, 3, padding="same"), GELU(), MaxPool2D(2), Conv2D(8, 3), ReLU()]
    return [Reshape((8, 8, 1)), *image, Flatten(), Dense(10)], (64,)


def lstm():
    return [Reshape((8, 8)), Masked([LSTM(16)]), Dense(10)], (64,)


def transformer():
    block = TransformerBlock(16, 2, dropout=0.1)
    return [Embedding(17, 16), LearnedPositions(), block, Flatten(), Dense(10)], (64,)


NETWORKS = [mlp, cnn, lstm, transformer]
HALF_ON_JAX = {mlp: "float16", cnn: "bfloat16", lstm: "bfloat16", transformer: "float16"}


def digits(make, count=200):
    x, y = xpnn.datasets.digits()
    return (np.round(16 * x).astype(int) if make is transformer else x)[:count], y[:count]


def curve(make, spec, steps=50, rate=3e-3, **settings):
    """The losses of single steps."""
    size = 8 if make is transformer else 32  # NumPy multiplies halves number by number
    layers, shape = make()
    network = Network(layers, shape, spec, seed=3)
    trainer = Trainer(network, xpnn.cross_entropy, Adam(rate), **settings)
    backend, (x, y) = network.backend, digits(make)
    x, y, losses = network.asarray(x), backend.asarray(y, "int32"), []
    with backend.on_device():
        for start in np.arange(steps) * size % 160:
            losses.append(trainer.step(x[start : start + size, ...], y[start : start + size]))
        return np.asarray([float(backend.to_numpy(loss)) for loss in losses]), trainer


@functools.cache
def float32_curve(make):
    return curve(make, "numpy")[0]


@pytest.mark.parametrize("make", NETWORKS)
def test_the_curve_is_that_of_float32(backend, half, make):
    if backend.name == "jax" and half != HALF_ON_JAX[make]:
        pytest.skip("JAX compiles for a second each; one half shows how its steps convert")
    found, trainer = curve(make, backend, precision=MixedPrecision(half, initial_scale=1024.0))
    expected = float32_curve(make)
    assert np.max(np.abs(found - expected)) < EXACT[half] * expected[0]
    assert not np.array_equal(found, expected)
    assert set(map(dtype_of, trainer.network.params.values())) == {"float32"}
    assert scale_of(trainer) == {"loss_scale": 1024.0, "good_steps": 50, "skipped_steps": 0}


def test_the_float32_curves_fall():
    for make in NETWORKS:
        assert np.mean(float32_curve(make)[-5:]) < 0.8 * np.mean(float32_curve(make)[:5]), make


@pytest.mark.parametrize("make", [mlp, transformer])
def test_layers_compute_in_half_precision(backend, half, make):
    seen = set()

    def loss(predictions, targets, *, sample_weight=None, backend=None):
        seen.update(watch(network))
        assert predictions.dtype == backend.xp.float32
        return xpnn.cross_entropy(predictions, targets, backend=backend)

    layers, shape = make()
    network = Network(layers, shape, backend)
    x, y = digits(make, 32)
    Trainer(network, loss, SGD(), precision=half).fit(x, y, progress=False)
    floats = {(layer, dtype) for layer, dtype in seen if "float" in dtype}
    assert half in {dtype for _, dtype in floats}
    assert all(dtype == half or "norm" in layer for layer, dtype in floats)  # norms' statistics


def watch(network):
    for name, layer in network.walk():
        for key, kept in layer.cache.items():
            if hasattr(kept, "dtype"):
                yield f"{name}.{key}", dtype_of(kept)


def dtype_of(array):
    return str(array.dtype).rpartition(".")[2]


@pytest.mark.parametrize("compile", [False])
def test_compiled_or_not_the_numbers_are_alike(float16, compile):
    found, _ = curve(mlp, float16, steps=8, precision="float16", compile=compile)
    other, _ = curve(mlp, float16, steps=8, precision="float16")
    np.testing.assert_allclose(found, other, rtol=2e-3)


@needs("torch")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.parametrize("half", BOTH)
def test_torch_compiles_it(half, request):
    if half == "bfloat16":  # of one half, what PyTorch's compiler makes of the graph, too
        request.getfixturevalue("graphs_as_traced")
    found, trainer = curve(mlp, "torch", steps=6, precision=half, compile=True)
    plain, _ = curve(mlp, "torch", steps=6, precision=half)
    np.testing.assert_allclose(found, plain, rtol=0.02)
    compiled = getclosurevars(trainer._train_step.run).nonlocals["compiled"]
    assert compiled.refusal is None
    assert compiled.units


def test_numpy_replays_it(caplog):
    with caplog.at_level("INFO", logger="xpnn"):
        curve(mlp, "numpy", steps=3, precision="float16", accumulate=2)
    assert not caplog.records  # which would say why steps run call by call


# Skipped steps ------------------------------------------------------------------------------------


def scale_of(trainer):
    to_numpy = trainer.network.backend.to_numpy
    names = ("loss_scale", "good_steps", "skipped_steps")
    if "loss_scale" not in trainer.opt_state:
        return {"loss_scale": 1024.0, "good_steps": 50, "skipped_steps": 0}
    return {name: float(to_numpy(trainer.opt_state[name])) for name in names}


def everything(trainer):
    """All that a step may change, on the host."""
    backend, found = trainer.network.backend, {}

    def collect(name, value):
        if isinstance(value, dict):
            for key, one in value.items():
                collect(f"{name}.{key}", one)
        else:
            found[name] = np.array(
                value if isinstance(value, int | float) else backend.to_numpy(value)
            )

    collect("network", {**trainer.network.params, **trainer.network.state})
    collect("optimizer", trainer.opt_state)
    return found


OWN = {f"optimizer.{name}" for name in ("loss_scale", "good_steps", "skipped_steps")}


def bumpy(backend, **settings):
    """A network with all kinds of state, and an optimizer with all kinds of numbers."""
    layers = [Dense(8).regularize(L2(1e-3)), BatchNorm(), ReLU(), Dropout(0.3), Dense(10)]
    rate = WarmUp(10, ReduceOnPlateau(1e-2))
    optimizer = AdamW(rate, weight_decay=0.1, clip=ClipByGlobalNorm(0.5))
    trainer = Trainer(
        Network(layers, (64,), backend, seed=1), xpnn.cross_entropy, optimizer, **settings
    )
    x, y = digits(mlp, 64)
    return trainer, trainer.network.asarray(x), trainer.network.backend.asarray(y, "int32")


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("compile", [None, pytest.param(False, marks=pytest.mark.slow_to_compile)])
def test_an_overflow_skips_one_step_and_halves_the_scale(float16, accumulate, compile):
    trainer, x, y = bumpy(
        float16,
        precision=MixedPrecision(initial_scale=2.0**10),
        accumulate=accumulate,
        compile=compile,
    )
    for _ in range(3):
        trainer.step(x, y)
    before = everything(trainer)
    trainer.step(x * 1e6, y)  # 1e6 is more than float16 can hold
    after = everything(trainer)
    draws = {"network.3.dropout.draw"}
    for name in before.keys() - OWN - draws:
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)
        assert before[name].dtype == after[name].dtype, name
    assert after["network.3.dropout.draw"] == before["network.3.dropout.draw"] + accumulate
    assert after["optimizer.step"] == 3
    assert scale_of(trainer) == {"loss_scale": 512.0, "good_steps": 0, "skipped_steps": 1}
    trainer.step(x, y)
    again = everything(trainer)
    assert again["optimizer.step"] == 4
    for name in ("network.0.dense.weight", "network.1.batchnorm.running_mean", "optimizer.m.4"):
        for key in (one for one in again if one.startswith(name)):
            assert not np.array_equal(again[key], after[key]), key
    assert scale_of(trainer) == {"loss_scale": 512.0, "good_steps": 1, "skipped_steps": 1}


def test_a_scale_that_is_too_large_shrinks_until_steps_count(float16):
    trainer, x, y = bumpy(float16, precision=MixedPrecision(initial_scale=2.0**32))
    for _ in range(30):
        trainer.step(x, y)
    found = scale_of(trainer)
    assert found["skipped_steps"] > 5
    assert found["loss_scale"] == 2.0 ** (32 - found["skipped_steps"])
    assert everything(trainer)["optimizer.step"] == 30 - found["skipped_steps"]


def test_the_scale_grows_after_enough_good_steps(float16):
    precision = MixedPrecision(initial_scale=16.0, growth=4.0, patience=3)
    trainer, x, y = bumpy(float16, precision=precision)
    found = []
    for _ in range(7):
        trainer.step(x, y)
        found.append(scale_of(trainer)["loss_scale"])
    assert found == [16, 16, 64, 64, 64, 256, 256]
    assert scale_of(trainer)["good_steps"] == 1


def test_the_rate_of_an_epoch_is_that_of_the_steps_that_count(float16):
    trainer, x, y = bumpy(float16, precision=MixedPrecision(initial_scale=2.0**32))
    history = trainer.fit(x, y, batch_size=8, epochs=1, progress=False)
    taken = 8 - scale_of(trainer)["skipped_steps"]
    assert taken < 8
    assert history["rate"] == [pytest.approx(trainer.optimizer.hyper_at(taken)["rate"])]


def test_stop_on_nan_names_the_layer_that_overflows(float16):
    layers = [Dense(8), ReLU(), Dense(10)]
    network = Network(layers, (64,), float16)
    network.load({**network.numpy_arrays(), "2.dense.weight": np.full((8, 10), 6e4)})
    trainer = Trainer(
        network, xpnn.cross_entropy, SGD(), callbacks=[StopOnNaN()], precision="float16"
    )
    with pytest.raises(TrainingStopped, match=r"the output of layer 2.dense is NaN or infinite"):
        trainer.fit(*digits(mlp), progress=False)
    assert trainer.network.params["0.dense.weight"].dtype == float16.xp.float32


class Spoils(Identity):
    """Hands back infinities in half precision, whatever the scale."""

    def backward(self, delta):
        return delta * float("inf") if delta.dtype != self.xp.float32 else delta


@pytest.mark.parametrize("source", ["arrays", "batches"])
def test_where_no_step_is_taken_it_is_said_once(float16, caplog, source):
    network = Network([Dense(8), Spoils(), ReLU(), Dense(10)], (64,), float16)
    trainer = Trainer(network, xpnn.cross_entropy, SGD(), precision="float16", log_every=7)
    before = network.numpy_arrays()
    x, y = digits(mlp)
    data = (x, y) if source == "arrays" else ([(x[:32], y[:32])] * 10,)
    for epochs in (1, 2):
        with caplog.at_level("WARNING", logger="xpnn"):
            trainer.fit(*data, epochs=epochs, progress=False)
    told = [one.getMessage() for one in caplog.records if "no step was taken" in one.message]
    assert len(told) == 1  # while the scale was on its way down, in the first fit, not yet
    assert "precision='bfloat16' or without precision" in told[0]
    assert ("gradient of layer 1.spoils is the first" in told[0]) == (source == "arrays")
    for name, array in network.numpy_arrays().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_scale_on_its_way_down_is_no_reason_to_warn(float16, caplog):
    network = Network([Dense(8), ReLU(), Dense(10)], (64,), float16)
    precision = MixedPrecision("float16", initial_scale=2.0**32)
    trainer = Trainer(network, xpnn.cross_entropy, SGD(), precision=precision, log_every=1)
    x, y = digits(mlp)
    trainer.fit(x, y, batch_size=16, progress=False)
    assert scale_of(trainer)["skipped_steps"] > 9
    assert not [one for one in caplog.records if "no step was taken" in one.message]


# What the scale must not touch --------------------------------------------------------------------


class Halved(Clipping):
    """A limit of a user's, from the largest gradient."""

    def scale(self, xp, grads):
        largest = [xp.max(xp.abs(xp.astype(grad, xp.float32))) for grad in grads.values()]
        return 0.1 / functools.reduce(xp.maximum, largest)

    def apply(self, xp, grad, scale):
        return grad * scale


@pytest.mark.parametrize(
    "clip",
    [None, ClipByGlobalNorm(0.05), ClipByValue(0.01), Halved()],
    ids=lambda clip: type(clip).__name__,
)
@pytest.mark.parametrize("scale", [2.0, 4096.0])
def test_clipping_decay_and_penalties_are_free_of_the_scale(float16, clip, scale):
    def trained(precision):
        layers = [Dense(16).regularize(L2(0.5)), ReLU(), Dense(10)]
        optimizer = SGD(0.1, momentum=0.9, weight_decay=0.3, clip=clip)
        network = Network(layers, (64,), float16, seed=2)
        trainer = Trainer(network, xpnn.cross_entropy, optimizer, precision=precision)
        history = trainer.fit(*digits(mlp, 64), epochs=4, shuffle=False, progress=False)
        return network.numpy_arrays(), history["loss"]

    found, losses = trained(MixedPrecision(initial_scale=scale))
    expected, in_float32 = trained(None)
    np.testing.assert_allclose(losses, in_float32, rtol=2e-3)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=2e-3, err_msg=name)


@needs("torch")
def test_a_step_is_that_of_torch_amp():
    import torch

    x, y = digits(mlp, 32)
    network = Network([Dense(32), ReLU(), Dense(10)], (64,), "torch", seed=5)
    weights = {name: value.clone() for name, value in network.params.items()}
    precision = MixedPrecision("bfloat16", initial_scale=256.0, patience=2)
    trainer = Trainer(network, xpnn.cross_entropy, SGD(0.5), precision=precision)

    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    with torch.no_grad():
        for layer, name in ((model[0], "0.dense"), (model[2], "2.dense")):
            layer.weight.copy_(weights[f"{name}.weight"].T)
            layer.bias.copy_(weights[f"{name}.bias"])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=2)
    inputs, targets = torch.asarray(x, dtype=torch.float32), torch.asarray(y)
    for step in range(8):
        spoilt = 1e30 if step == 4 else 1.0  # in bfloat16 the next product is infinite
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(model(inputs * spoilt**1.3).float(), targets)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        value = trainer.step(inputs * spoilt**1.3, targets)
        if step != 4:
            assert float(value) == pytest.approx(loss.item(), abs=0.01)
    assert float(trainer.opt_state["loss_scale"]) == scaler.get_scale()
    assert int(trainer.opt_state["skipped_steps"]) == 1
    for layer, name in ((model[0], "0.dense"), (model[2], "2.dense")):
        np.testing.assert_allclose(
            network.params[f"{name}.weight"], layer.weight.detach().T, atol=4e-3
        )


# Sums in half precision ---------------------------------------------------------------------------


def test_long_sums_are_in_float32(half, backend):
    count = 70_000  # ones in float16 add up to 2048, then one more is too little to matter
    network = Network([Dense(3)], (1,), backend)
    scaled = MixedPrecision(half, initial_scale=1.0)

    def loss(predictions, targets, *, sample_weight=None, backend=None):
        delta = 0.0 * predictions + 1 / 128
        return backend.xp.sum(predictions), delta

    network.load({"0.dense.weight": [[0.0] * 3], "0.dense.bias": [0.0] * 3})
    trainer = Trainer(network, loss, SGD(1.0), precision=scaled)
    x = np.zeros((count, 1), dtype=np.float32)
    trainer.fit(x, np.zeros((count, 3)), batch_size=count, progress=False)
    np.testing.assert_allclose(network.numpy_arrays()["0.dense.bias"], -count / 128, rtol=4e-3)


# What is asked for --------------------------------------------------------------------------------


def test_what_a_backend_does_not_have_is_said_plainly(backend):
    missing = [half for half in BOTH if half not in HALVES.get(backend.name, BOTH)]
    for half in missing:
        network = Network([Dense(2)], (3,), backend)
        other = r".*precision='float16'" if backend.name != "array-api-strict" else ""
        with pytest.raises(BackendUnavailable, match=f"does not compute in {half}; choose{other}"):
            Trainer(network, xpnn.cross_entropy, SGD(), precision=half)


def test_wrong_arguments_are_refused():
    network = Network([Dense(2)], (3,), dtype="float16")
    with pytest.raises(ValueError, match=r"made with dtype='float16'; leave out one"):
        Trainer(network, xpnn.cross_entropy, SGD(), precision="float16")
    network = Network([Dense(2)], (3,))
    with pytest.raises(TypeError, match="precision is 'float16', 'bfloat16'"):
        Trainer(network, xpnn.cross_entropy, SGD(), precision=16)
    with pytest.raises(ValueError, match="in 'float16' or 'bfloat16', got 'float8'"):
        Trainer(network, xpnn.cross_entropy, SGD(), precision="float8")
    for wrong in ({"initial_scale": 0}, {"growth": 0.5}, {"shrink": 1.0}, {"patience": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            MixedPrecision(**wrong)
    for name, value in {"growth": 4.0, "shrink": 0.25, "patience": 5}.items():
        with pytest.raises(ValueError, match="those of a loss scale, and bfloat16 needs none"):
            MixedPrecision("bfloat16", **{name: value})
        MixedPrecision("bfloat16", initial_scale=4.0, **{name: value})


def test_the_backend_is_asked_nothing_between_log_points(float16, monkeypatch):
    trainer, x, y = bumpy(float16, precision="float16")
    trainer.step(x, y)
    monkeypatch.setattr(type(float16), "to_numpy", None)
    trainer.step(x, y)
