"""Updater: its step is a Trainer's, and it says what a loop has forgotten."""

import math

import numpy as np
import pytest

from tests.optimizers.table import CASES
from xpnn import (
    L1,
    L2,
    SGD,
    Adam,
    ClipByGlobalNorm,
    Cosine,
    Dense,
    Dropout,
    GaussianSample,
    MaxNorm,
    Network,
    ReduceOnPlateau,
    Tanh,
    Trainer,
    Updater,
    mean_squared_error,
)
from xpnn.errors import ShapeError, XpnnError

rng = np.random.default_rng(3)
X, Y = (
    rng.standard_normal((8, 5)).astype(np.float32),
    rng.standard_normal((8, 2)).astype(np.float32),
)


def network(backend="numpy", **options):
    layers = [
        *(Dense(6).regularize(L2(0.1)), Dropout(0.3), Dense(8).regularize(MaxNorm(0.5))),
        *(GaussianSample(0.2), Dense(4), Tanh(), Dense(2).regularize(L1(0.05), L2(0.02))),
    ]
    made = Network(layers, (5,), backend, **options)
    made.freeze("4.*")
    return made


def one_pass(net, part=slice(None)):
    backend = net.backend
    x, y = backend.asarray(X[part]), backend.asarray(Y[part])
    value, delta = mean_squared_error(net.forward(x, training=True), y, backend=backend)
    net.backward(delta)
    return value


def same(one, other, **tolerance):
    for name, value in one.numpy_arrays().items():
        np.testing.assert_allclose(other.numpy_arrays()[name], value, err_msg=name, **tolerance)


@pytest.mark.parametrize("name", ["momentum", "adam", "adafactor", "muon"])
def test_steps_are_those_of_a_trainer(backend, name):
    """With all that a step has: penalties, clipping, decay, schedules, factors, constraints."""
    optimizer = CASES[name].make(
        rate=Cosine(0.05, steps=4),
        weight_decay=0.1,
        clip=ClipByGlobalNorm(0.3),
        factors={"0.*": 0.5, "*.bias": {"weight_decay": 0.0}},
    )
    ours, theirs = network(backend), network(backend)
    # NumPy's replayed products may round otherwise; call by call they are the same
    compile = False if backend.spec == "numpy" else None
    updater = Updater(ours, optimizer, compile=compile)
    trainer = Trainer(theirs, mean_squared_error, optimizer, compile=compile)
    for _ in range(4):
        value, term = one_pass(ours), ours.layers[3].cache["term"]
        found = value + term + updater.step()
        loss = trainer.step(backend.asarray(X), backend.asarray(Y))
        assert float(backend.to_numpy(found)) == pytest.approx(float(backend.to_numpy(loss)), 1e-5)
    assert updater.steps == 4
    # Adam divides by the root of squares: of small gradients it makes the rounding larger
    same(theirs, ours, rtol=2e-5, atol=2e-5 if name == "adam" else 2e-6)
    if compile is False:
        same(theirs, ours, rtol=0, atol=0)


def test_the_update_is_compiled_where_steps_are(backend):
    weights = []
    for compile in (False, None):
        net = network(backend)
        updater = Updater(net, Adam(0.01), compile=compile)
        for _ in range(3):
            one_pass(net)
            updater.step()
        weights.append(net)
    same(*weights, rtol=1e-5, atol=1e-6)


def test_changes_act_from_the_next_step_on():
    net, optimizer = network(), SGD(0.1)
    updater = Updater(net, optimizer)
    one_pass(net)
    updater.step()
    optimizer.rate = 0.0
    before = net.numpy_arrays()
    one_pass(net)
    updater.step()
    for name, value in net.params.items():  # MaxNorm rounds once more
        np.testing.assert_allclose(value, before[name], rtol=1e-6)
    optimizer.rate, before = 0.1, net.numpy_arrays()
    net.freeze("0.*")
    net.unfreeze("4.*")
    one_pass(net)
    updater.step()
    changed = {name for name in net.params if not np.array_equal(net.params[name], before[name])}
    assert changed == {f"{name}.{kind}" for name in ("2.dense", "4.dense", "6.dense")
                       for kind in ("weight", "bias")}  # fmt: skip


def test_gradients_of_several_passes(backend):
    """Those of two halves of a batch, each half a mean, are those of the batch."""
    layers = lambda: [Dense(4), Tanh(), Dense(2)]  # noqa: E731
    whole, parts = (Network(layers(), (5,), backend) for _ in range(2))
    one_pass(whole)
    Updater(whole, SGD(0.1)).step()
    found = []
    for part in (slice(0, 4), slice(4, 8)):
        one_pass(parts, part)
        found.append(parts.grads)
    Updater(parts, SGD(0.1)).step({k: 0.5 * (found[0][k] + found[1][k]) for k in found[0]})
    same(whole, parts, rtol=1e-5, atol=1e-7)


def test_it_goes_on_from_a_file(backend, tmp_path):
    """Bit for bit, and a Trainer reads the file, too."""
    straight, first, again = (network(backend) for _ in range(3))
    file = tmp_path / "run.safetensors"
    optimizers = [Adam(Cosine(0.05, steps=4)) for _ in range(3)]
    updaters = [Updater(*pair) for pair in zip((straight, first, again), optimizers, strict=True)]
    for k in range(4):
        one_pass(straight)
        updaters[0].step()
        if k < 2:
            one_pass(first)
            updaters[1].step()
    updaters[1].save(file)
    updaters[2].load(file)
    assert updaters[2].steps == 2
    for _ in range(2):
        one_pass(again)
        updaters[2].step()
    same(straight, again, rtol=0, atol=0)
    trainer = Trainer(network(backend), mean_squared_error, Adam(0.05))
    trainer.load(file)
    assert trainer.steps == 2
    with pytest.raises(
        ShapeError, match="holds the numbers of Adam, which mean something else to SGD"
    ):
        Updater(network(backend), SGD(0.1)).load(file)


def test_schedules_that_watch_a_value_are_told():
    net = Network([Dense(2)], (5,))
    updater = Updater(net, SGD(ReduceOnPlateau(0.1, factor=0.5, patience=1)))
    for value in (1.0, 1.0, 1.0):
        one_pass(net)
        updater.step()
        updater.observe(value)
    assert updater.optimizer.hyper_at(4, updater.opt_state)["rate"] < 0.1
    updater.optimizer.weight_decay = ReduceOnPlateau(0.1)
    one_pass(net)
    with pytest.raises(ValueError, match=r"or updater\.opt_state = None"):
        updater.step()
    updater.opt_state = None  # as it says
    updater.step()
    updater.optimizer.weight_decay = 0.0
    assert "SGD" in repr(updater)
    assert "4 steps" in repr(updater)


def test_what_a_loop_has_forgotten():
    net = network()
    updater, before = Updater(net, SGD(0.1)), net.numpy_arrays()
    with pytest.raises(XpnnError, match=r"no gradients of 0.dense.bias, .* and network.backward"):
        updater.step()
    one_pass(net)
    net.forward(X, training=True)
    with pytest.raises(XpnnError, match=r"of a batch before the last network\.forward"):
        updater.step()
    grads = net.grads
    for name, value in net.params.items():
        assert np.array_equal(value, before[name])
    with pytest.raises(
        ShapeError, match=r"none of 0\.dense\.bias; one of bias, which there is not"
    ):
        updater.step({"bias" if n == "0.dense.bias" else n: grad for n, grad in grads.items()})
    with pytest.raises(ShapeError, match=r"0.dense.bias in its shape, \(6,\), got \(1,\)"):
        updater.step({**grads, "0.dense.bias": np.ones(1, np.float32)})
    updater.step(grads)
    with pytest.raises(XpnnError, match="no gradients"):
        updater.step()
    net.freeze()
    one_pass(net)
    with pytest.raises(XpnnError, match="all layers are frozen"):
        updater.step()


def test_what_it_is_not_made_of():
    net = network()
    with pytest.raises(TypeError, match="optimizer: wanted an object such as Adam"):
        Updater(net, Adam)
    with pytest.raises(TypeError, match="network: wanted Network"):
        Updater([Dense(2)], SGD(0.1))
    half = Network([Dense(2)], (5,), dtype="float16")
    with pytest.raises(ValueError, match="made with dtype='float16'; leave out one of the two"):
        Updater(half, SGD(0.1), precision="float16")
    with pytest.raises(ValueError, match="in 'float16' or 'bfloat16', got 'float8'"):
        Updater(net, SGD(0.1), precision="float8")
    with pytest.raises(TypeError, match="precision is 'float16', 'bfloat16'"):
        Updater(net, SGD(0.1), precision=16)
    with pytest.raises(TypeError, match="wants compile to be"):
        Updater(net, SGD(0.1), compile="fused")
    with pytest.raises(ValueError, match="matches no parameter"):
        Updater(net, SGD(0.1, factors={"9.*": 0.1}))
    assert math.isfinite(float(one_pass(net)))
