"""Penalties and constraints, inside of the pure step, against sums done by hand and torch.optim."""

import numpy as np
import pytest

from tests.conftest import needs
from tests.layers.oracles import host, randomized
from xpnn import (
    L1,
    L2,
    SGD,
    Adam,
    BatchNorm,
    ClipByGlobalNorm,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    LayerNorm,
    MaxNorm,
    Network,
    ReLU,
    Residual,
    Sequential,
    Tanh,
    TiedDense,
    Trainer,
    make_train_step,
    mean_squared_error,
)
from xpnn.errors import ShapeError

RATE = 0.01


def data(rng, batch=8):
    return (
        rng.standard_normal((batch, 4)).astype(np.float32),
        rng.standard_normal((batch, 2)).astype(np.float32),
    )


def stepped(network, x, y, optimizer=None, steps=1):
    """The losses of some steps; the network is changed."""
    trainer, backend = Trainer(network, mean_squared_error, optimizer or SGD(RATE)), network.backend
    lent = backend.asarray(x, network.dtype), backend.asarray(y, network.dtype)
    return [float(backend.to_numpy(trainer.step(*lent))) for _ in range(steps)]


def mlp(backend, *rules, dtype="float32"):
    layers = [Dense(3).regularize(*rules), Tanh(), Dense(2)]
    return randomized(Network(layers, (4,), backend, dtype=dtype))


@pytest.mark.parametrize(
    ("rule", "cost", "slope"),
    [
        pytest.param(
            L1(0.3), lambda w: 0.3 * np.sum(np.abs(w)), lambda w: 0.3 * np.sign(w), id="l1"
        ),
        pytest.param(L2(0.3), lambda w: 0.15 * np.sum(w**2), lambda w: 0.3 * w, id="l2"),
    ],
)
def test_a_penalty_enters_the_value_and_the_gradient(backend, rng, rule, cost, slope):
    x, y = data(rng)
    plain, ruled = mlp(backend), mlp(backend, rule)
    start = plain.numpy_arrays()
    w = start["0.dense.weight"]
    (value,), (ruled_value,) = stepped(plain, x, y), stepped(ruled, x, y)
    assert ruled_value - value == pytest.approx(cost(w), rel=1e-5)
    there = plain.numpy_arrays()
    for name, array in ruled.numpy_arrays().items():
        pull = RATE * slope(w) if name == "0.dense.weight" else 0.0  # the bias is left alone
        np.testing.assert_allclose(array, there[name] - pull, rtol=1e-5, atol=1e-6, err_msg=name)


def test_the_step_descends_the_value_that_it_reports(backend, rng):
    """Finite differences of the step's value against the gradient that its update shows."""
    x, y = data(rng)
    with backend.allow_float64():
        network = mlp(backend, L1(0.2), L2(0.5), dtype="float64")
        lent, start = (
            (backend.asarray(x, "float64"), backend.asarray(y, "float64")),
            network.numpy_arrays(),
        )
        optimizer = SGD(1.0)
        step = make_train_step(network, mean_squared_error, optimizer)

        def run(arrays):
            network.load(arrays)
            params = network.params
            after, _, _, value = step(params, {}, optimizer.init(params, backend), *lent)
            return host(network, after), float(backend.to_numpy(value))

        after, _ = run(start)
        for name in start:
            for index in np.ndindex(start[name].shape):
                nudged = []
                for h in (1e-6, -1e-6):
                    arrays = {key: array.copy() for key, array in start.items()}
                    arrays[name][index] += h
                    nudged.append(run(arrays)[1])
                slope = (nudged[0] - nudged[1]) / 2e-6
                assert start[name][index] - after[name][index] == pytest.approx(slope, abs=1e-7)


@needs("torch")
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_l2_is_the_weight_decay_of_torch(backend, rng, kind):
    import torch

    x, y = data(rng)
    network = randomized(Network([Dense(2, use_bias=False).regularize(L2(0.1))], (4,), backend))
    weight = torch.tensor(network.numpy_arrays()["0.dense.weight"], requires_grad=True)
    theirs = getattr(torch.optim, kind)([weight], lr=RATE, weight_decay=0.1)
    stepped(network, x, y, SGD(RATE) if kind == "SGD" else Adam(RATE), steps=20)
    for _ in range(20):
        theirs.zero_grad()
        torch.nn.functional.mse_loss(torch.tensor(x) @ weight, torch.tensor(y)).backward()
        theirs.step()
    found = network.numpy_arrays()["0.dense.weight"]
    np.testing.assert_allclose(found, weight.detach().numpy(), rtol=1e-5, atol=1e-5)


def test_l1_makes_weights_that_are_not_needed_vanish(backend, rng):
    x = rng.standard_normal((64, 4)).astype(np.float32)
    y = x[:, :1] @ [[1.0, -1.0]]  # the other three inputs say nothing
    network = randomized(Network([Dense(2).regularize(L1(0.05))], (4,), backend))
    stepped(network, x, y, SGD(0.05), steps=300)
    weight = network.numpy_arrays()["0.dense.weight"]
    assert np.min(np.abs(weight[0])) > 0.8
    assert np.max(np.abs(weight[1:])) < 0.01


@pytest.mark.parametrize("axis", [-1, 0])
def test_max_norm_holds_after_every_step(backend, rng, axis):
    x, y = data(rng)
    free, held = mlp(backend), mlp(backend, MaxNorm(1.5, axis=axis))
    start = held.numpy_arrays()
    stepped(free, x, y)
    stepped(held, x, y)
    over = 0 if axis == -1 else 1
    weight = free.numpy_arrays()["0.dense.weight"]
    lengths = np.sqrt(np.sum(weight**2, axis=over, keepdims=True))
    assert (lengths > 1.5).any()
    assert (lengths < 1.5).any()
    found = held.numpy_arrays()["0.dense.weight"]
    np.testing.assert_allclose(found, weight * np.minimum(1, 1.5 / lengths), rtol=1e-5)
    assert not np.allclose(found, start["0.dense.weight"])
    for name in start.keys() - {"0.dense.weight"}:
        np.testing.assert_array_equal(held.numpy_arrays()[name], free.numpy_arrays()[name])


def test_max_norm_of_a_kernel_is_that_of_each_output():
    kernel = np.random.default_rng(0).standard_normal((3, 3, 4, 5))
    held = MaxNorm(2.0).apply(np, kernel)
    lengths = np.sqrt(np.sum(held**2, axis=(0, 1, 2)))
    np.testing.assert_allclose(lengths, 2.0)
    small = kernel / 100
    np.testing.assert_array_equal(MaxNorm(2.0).apply(np, small), small)


def test_penalties_are_clipped_with_the_gradients(backend, rng):
    x, y = data(rng)
    network = mlp(backend, L2(1000.0))
    before = network.numpy_arrays()
    stepped(network, x, y, SGD(1.0, clip=ClipByGlobalNorm(0.5)))
    after = network.numpy_arrays()
    moved = np.sqrt(sum(np.sum((after[name] - before[name]) ** 2) for name in before))
    assert moved == pytest.approx(0.5, rel=1e-4)


def test_a_container_hands_rules_to_all_inside(backend):
    rule = L2(0.1)
    inner = Residual([Dense(4), LayerNorm()])
    network = Network([Sequential([inner, Tanh()]).regularize(rule), Dense(2)], (4,), backend)
    assert network.regularizers() == {"0.sequential.0.residual.body.0.dense.weight": (rule,)}


def test_frozen_layers_are_left_alone(backend, rng):
    x, y = data(rng)
    plain, ruled = mlp(backend), mlp(backend, L2(0.5), MaxNorm(0.1))
    for network in (plain, ruled):
        network.layers[0].trainable = False
    assert stepped(plain, x, y) == stepped(ruled, x, y)
    for name, array in ruled.numpy_arrays().items():
        np.testing.assert_array_equal(array, plain.numpy_arrays()[name])


def test_losses_in_prediction_are_those_of_the_data(backend, rng):
    x, y = data(rng)
    plain, ruled = mlp(backend), mlp(backend, L2(10.0))
    losses = [
        Trainer(net, mean_squared_error, SGD()).evaluate(x, y)["loss"] for net in (plain, ruled)
    ]
    assert losses[0] == losses[1]


def test_training_with_rules_follows_numpy(backend, rng):
    x, y = data(rng, 32)

    def curve(place):
        return stepped(mlp(place, L1(1e-2), L2(1e-2), MaxNorm(1.0)), x, y, Adam(0.02), steps=30)

    reference = curve("numpy")
    assert reference[-1] < 0.8 * reference[0]
    np.testing.assert_allclose(curve(backend), reference, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_dtypes_are_kept(backend, rng, dtype):
    if backend.name == "array-api-strict" and dtype == "float16":
        pytest.skip("the standard has no float16")
    x, y = data(rng)
    with backend.allow_float64():
        network = mlp(backend, L1(0.1), L2(0.1), MaxNorm(300.0), dtype=dtype)
        big = np.full((4, 3), 200.0)  # squares of these add up to more than float16 holds
        network.load({**network.numpy_arrays(), "0.dense.weight": big})
        values = stepped(network, x, y, SGD(1e-6))
        assert {str(a.dtype) for a in network.numpy_arrays().values()} == {dtype}
    assert np.isfinite(network.numpy_arrays()["0.dense.weight"]).all()
    length = np.sqrt(np.sum(network.numpy_arrays()["0.dense.weight"].astype(float) ** 2, axis=0))
    np.testing.assert_allclose(length, 300.0, rtol=2e-3)
    cost = 0.1 * 12 * 200 + 0.05 * 12 * 200**2  # beside which the loss of the data is small
    assert values[0] == pytest.approx(cost, rel=2e-3)


def test_rules_of_an_embedding(backend):
    ids, y = np.array([[0], [1]]), np.ones((2, 1, 3))
    rule = MaxNorm(0.5, axis=0)
    network = randomized(Network([Embedding(4, 3).regularize(rule)], (1,), backend))
    backend = network.backend
    trainer = Trainer(network, mean_squared_error, SGD(RATE))
    trainer.step(backend.asarray(ids), backend.asarray(y, "float32"))
    lengths = np.linalg.norm(network.numpy_arrays()["0.embedding.weight"], axis=1)
    assert np.max(lengths) == pytest.approx(0.5, rel=1e-5)


def test_bad_rules_are_explained():
    with pytest.raises(TypeError, match=r"takes rules such as L2\(1e-4\), got 0.1"):
        Dense(3).regularize(0.1)
    with pytest.raises(ValueError, match="L2 needs a strength of 0 or more, got -1"):
        L2(-1)
    with pytest.raises(ValueError, match="limit above 0, got 0"):
        MaxNorm(0)


def test_a_strength_of_0_does_nothing(backend, rng):
    x, y = data(rng)
    plain, ruled = mlp(backend), mlp(backend, L1(0), L2(0.0))
    assert stepped(plain, x, y) == stepped(ruled, x, y)
    for name, array in plain.numpy_arrays().items():
        np.testing.assert_array_equal(ruled.numpy_arrays()[name], array)


@pytest.mark.parametrize("axis", [2, -3])
def test_max_norm_of_an_axis_that_there_is_not(rng, axis):
    x, y = data(rng)
    with pytest.raises(ShapeError, match=rf"MaxNorm\(1\.0, axis={axis}\) wants an axis of the w"):
        stepped(mlp("numpy", MaxNorm(1.0, axis=axis)), x, y)


@pytest.mark.parametrize(
    "make", [ReLU, Dropout, BatchNorm, Flatten, lambda: Sequential([LayerNorm(), ReLU()])]
)
def test_rules_that_act_on_nothing_are_refused(make):
    layers = [Dense(3), make().regularize(L2(0.1)), Dense(2)]
    with pytest.raises(ValueError, match=r"L2\(0\.1\) would act on nothing, as"):
        Network(layers, (4,))
    network = Network([Dense(3), make()], (4,))
    with pytest.raises(ValueError, match=r"L2\(0\.1\) would act on nothing"):
        network.layers[1].regularize(L2(0.1))
    assert network.layers[1].regularizers == ()
    rule = L2(0.1)  # on all of a block, as a container hands it on
    Network([Sequential([Dense(3), make()]).regularize(rule), make().regularize(rule)], (4,))


def test_rules_of_tied_weights_belong_to_the_layer_that_has_them():
    embedding = Embedding(5, 3)
    with pytest.raises(ValueError, match=r"regularize Embedding\(5, 3\), whose weights it shares"):
        Network([embedding, TiedDense(5, embedding).regularize(L2(0.1))], (4,))
    embedding = Embedding(5, 3)
    block = Sequential([embedding, TiedDense(5, embedding)]).regularize(L2(0.1))
    assert Network([block], (4,)).regularizers().keys() == {"0.sequential.0.embedding.weight"}
