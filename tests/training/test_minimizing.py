"""L-BFGS: its steps are those of torch and of dense matrices, its minima those of SciPy."""

import numpy as np
import pytest

import xpnn
from tests.conftest import needs
from xpnn import (
    L2,
    BatchNorm,
    Dense,
    Input,
    MaxNorm,
    Network,
    Tanh,
    binary_cross_entropy,
    cross_entropy,
    mean_squared_error,
    minimize,
)
from xpnn.optimizers.quasi_newton import LBFGS, Point, strong_wolfe

each_kind = pytest.mark.parametrize("by", ["xpnn", "scipy"])


def classes():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(40, 3)).astype(np.float32)
    return x, np.argmax(x @ rng.normal(size=(3, 3)) + rng.normal(size=(40, 3)), axis=1)


def logistic(backend, dtype="float32"):
    network = Network([Dense(3)], (3,), backend, seed=1, dtype=dtype)
    network.layers[0].regularize(L2(0.05))  # of weights: all biases are as good by a constant
    return network


@needs("torch")
def test_twenty_steps_are_those_of_torch(backend):
    import torch

    x = np.random.default_rng(5).normal(size=(30, 2))
    y = np.sin(2 * x[:, :1]) * x[:, 1:]
    with backend.allow_float64():
        network = Network([Dense(5), Tanh(), Dense(1)], (2,), backend, seed=1, dtype="float64")
        params = {
            k: torch.nn.Parameter(torch.from_numpy(v)) for k, v in network.numpy_arrays().items()
        }
        theirs = torch.optim.LBFGS(
            params.values(),
            max_iter=1,
            max_eval=1000,  # of a step
            history_size=5,
            line_search_fn="strong_wolfe",
            tolerance_grad=0,
            tolerance_change=0,
        )

        def closure():
            theirs.zero_grad()
            w1, b1, w2, b2 = params.values()
            hidden = torch.tanh(torch.from_numpy(x) @ w1 + b1)
            loss = torch.nn.functional.mse_loss(hidden @ w2 + b2, torch.from_numpy(y))
            loss.backward()
            return loss

        expected = [theirs.step(closure).item() for _ in range(20)]
        found = minimize(
            network, mean_squared_error, x, y, steps=20, memory=5, tolerance=0, by="xpnn"
        )
        assert len(found.losses) == 21
        np.testing.assert_allclose(found.losses[:20], expected, rtol=1e-9)
        for name, array in network.numpy_arrays().items():
            np.testing.assert_allclose(array, params[name].detach().numpy(), rtol=1e-6, atol=1e-8)


@each_kind
def test_it_ends_at_the_minimum(backend, by):
    """Where the gradients of a logistic regression are zero, which only one point has."""
    if by == "scipy":
        pytest.importorskip("scipy")
    x, y = classes()
    network = logistic(backend)
    found = minimize(network, cross_entropy, x, y, tolerance=1e-4, by=by)
    assert len(found.losses) < 40
    assert found.losses == sorted(found.losses, reverse=True)
    w, b = (network.numpy_arrays()[f"0.dense.{k}"].astype(np.float64) for k in ("weight", "bias"))
    scores = np.exp(x @ w + b)
    delta = scores / scores.sum(axis=1, keepdims=True) - np.eye(3)[y]
    np.testing.assert_allclose(x.T @ delta / 40 + 0.05 * w, 0, atol=2e-4)
    np.testing.assert_allclose(delta.mean(axis=0), 0, atol=2e-4)


def test_parts_frozen_layers_and_weights_are_those_of_a_trainer(backend):
    x, y = classes()
    weight = np.linspace(0.0, 2.0, 40).astype(np.float32)
    losses = []
    for parts in (1, 3):
        network = Network([Dense(4), Tanh(), Dense(3)], (3,), backend, seed=1)
        network.layers[0].trainable = False
        before = network.numpy_arrays()
        given = {"sample_weight": weight, "accumulate": parts, "steps": 8, "by": "xpnn"}
        losses.append(minimize(network, cross_entropy, x, y, **given).losses)
        after = network.numpy_arrays()
        np.testing.assert_array_equal(after["0.dense.weight"], before["0.dense.weight"])
        trainer = xpnn.Trainer(network, cross_entropy, xpnn.SGD())
        measured = trainer.evaluate(x, y, sample_weight=weight)["loss"]
        assert measured == pytest.approx(losses[-1][-1], rel=1e-5)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


def test_directions_are_those_of_dense_matrices():
    """Nocedal and Wright, 2006, equation 7.16, over the last pairs."""
    rng = np.random.default_rng(4)
    root = rng.normal(size=(6, 6))
    a, centre = root @ root.T + np.eye(6), rng.normal(size=6)
    search = LBFGS(
        lambda w: (0.5 * (w - centre) @ a @ (w - centre), a @ (w - centre)), 3, np, float
    )
    points = [here for _, here in zip(range(6), search.steps(np.zeros(6)), strict=False)]
    pairs = [
        (new.w - old.w, new.gradient - old.gradient)
        for old, new in zip(points[-4:], points[-3:], strict=False)
    ]
    s, y = pairs[-1]
    h = (s @ y) / (y @ y) * np.eye(6)
    for s, y in pairs:
        v = np.eye(6) - np.outer(y, s) / (s @ y)
        h = v.T @ h @ v + np.outer(s, s) / (s @ y)
    gradient = points[-1].gradient
    np.testing.assert_allclose(search.direction(gradient), -h @ gradient, rtol=1e-8)


@pytest.mark.parametrize("first", [1e-3, 0.1, 1.0, 30.0])
@pytest.mark.parametrize(
    ("value", "slope"),
    [
        (lambda t: (t - 2) ** 2, lambda t: 2 * (t - 2)),
        (lambda t: -t / (t * t + 2), lambda t: (t * t - 2) / (t * t + 2) ** 2),
        (lambda t: (t - 3) ** 4 - t, lambda t: 4 * (t - 3) ** 3 - 1),
        (lambda t: -np.log(t + 0.1) + t if t < 20 else np.nan, lambda t: 1 - 1 / (t + 0.1)),
    ],
    ids=["parabola", "moré-thuente", "quartic", "nan"],
)
def test_a_search_meets_the_strong_wolfe_conditions(value, slope, first):
    def along(t):
        return Point(t, value(t), slope(t), None)

    start = along(0.0)
    found = strong_wolfe(along, start, first)
    assert found.value <= start.value + 1e-4 * found.t * start.slope
    assert abs(found.slope) <= 0.9 * abs(start.slope)


def test_a_loss_that_is_not_finite_far_out_stays_finite(backend):
    x = np.linspace(-1, 1, 16, dtype=np.float32)[:, None]
    network = Network([Dense(8), Tanh(), Dense(1)], (1,), backend, seed=3)
    found = minimize(network, mean_squared_error, x, np.sin(3 * x), steps=60, by="xpnn")
    assert found.loss < 0.01 * found.losses[0]
    assert all(np.isfinite(found.losses))
    assert found.evaluations >= len(found.losses)


@pytest.mark.host_only
@pytest.mark.parametrize(
    ("layers", "options", "kind", "text"),
    [
        ([BatchNorm(), Dense(1)], {}, ValueError, "leave Dropout, BatchNorm and the like out"),
        ([Tanh()], {}, ValueError, "the network has none; add a layer with some"),
        ([Dense(1)], {"steps": 0}, ValueError, "minimize needs steps of at least 1, got 0"),
        ([Dense(1)], {"tolerance": -1.0}, ValueError, "a tolerance of at least 0, got -1"),
        ([Dense(1)], {"by": "torch"}, ValueError, "by is 'scipy', 'xpnn' or None, got 'torch'"),
    ],
)
def test_what_it_cannot_do_is_refused(layers, options, kind, text):
    x = np.ones((4, 2), np.float32)
    with pytest.raises(kind, match=text):
        minimize(Network(layers, (2,)), mean_squared_error, x, x[:, :1], **options)


@each_kind
def test_losses_are_named_and_one_for_each_output_as_for_a_trainer(backend, by):
    if by == "scipy":
        pytest.importorskip("scipy")
    x = np.random.default_rng(1).normal(size=(20, 2)).astype(np.float32)
    inputs = Input((2,))
    heads = {"sum": Dense(1)(inputs), "sign": Dense(1)(inputs)}
    network = Network(inputs=inputs, outputs=heads, backend=backend)
    targets = {"sum": x[:, :1] + x[:, 1:], "sign": (x[:, :1] > x[:, 1:]).astype(np.float32)}
    found = minimize(network, {"sum": "mse", "sign": "hinge"}, x, targets, steps=20, by=by)
    assert found.loss < 0.1 * found.losses[0]


@needs("torch")
@pytest.mark.host_only
def test_scipy_minimizes_in_bfloat16():
    pytest.importorskip("scipy")
    x = np.linspace(-1, 1, 16)[:, None]
    network = Network([Dense(1)], (1,), "torch", seed=1, dtype="bfloat16")
    assert minimize(network, "mse", x, 2 * x, by="scipy").loss < 1e-3


@pytest.mark.host_only
def test_constraints_are_refused_and_bad_data_change_nothing():
    network = Network([Dense(1)], (2,))
    network.layers[0].regularize(MaxNorm(1.0))
    x = np.ones((4, 2), np.float32)
    with pytest.raises(ValueError, match="knows penalties and no constraints, got"):
        minimize(network, mean_squared_error, x, x[:, :1])
    with pytest.raises(TypeError, match="minimize wants a Network, got 'net'"):
        minimize("net", mean_squared_error, x, x)
    network = Network([Dense(1)], (2,))
    before = network.numpy_arrays()
    with pytest.raises(xpnn.DataError):
        minimize(network, binary_cross_entropy, x, 5 * x[:, :1])
    np.testing.assert_array_equal(
        network.numpy_arrays()["0.dense.weight"], before["0.dense.weight"]
    )
