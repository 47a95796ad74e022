"""GaussianSample against torch's distributions and autograd, and in training."""

import numpy as np
import pytest

from tests.conftest import needs
from tests.layers.table import build, draw, run
from xpnn import (
    SGD,
    Dense,
    GaussianSample,
    MixedPrecision,
    Network,
    Recompute,
    Trainer,
    mean_squared_error,
)
from xpnn.errors import ShapeError
from xpnn.layers.dropout import Disturbance


@needs("torch")
@pytest.mark.parametrize("training", [True, False])
def test_equals_torch(backend, training):
    import torch
    from torch.distributions import Normal, kl_divergence

    beta, shape = 0.3, (2, 6)
    network, x = build(lambda: GaussianSample(beta), shape, backend), 2 * draw(shape)
    x[0, 0] = [3.0, -2.0, 0.0, 25.0, -40.0, 1.0]  # of which two variances are out of bounds
    delta = draw((2, 3), seed=2)
    found = run(network, x, backend.asarray(delta), training)
    Z = torch.tensor(x, requires_grad=True)
    mean, spread = Z[..., :3], (Z[..., 3:].clamp(-30, 20) / 2).exp()
    drawn = torch.tensor(np.array(found["output"])) - mean.detach()
    S = Normal(mean, spread)
    output = mean + spread * (drawn / spread).detach()
    term = beta * kl_divergence(S, Normal(0.0, 1.0)).sum() / len(x)
    (torch.sum(output * torch.tensor(delta)) + term).backward()
    np.testing.assert_allclose(found["input"], Z.grad, rtol=1e-4, atol=1e-5)
    if not training:
        np.testing.assert_array_equal(found["output"], x[..., :3])
        network.forward(x)
        (layer,) = network.layers
        assert float(backend.to_numpy(layer.cache["term"])) == pytest.approx(term.item(), rel=1e-5)


def test_draws_have_the_mean_and_the_variance_that_came_in(backend):
    network = build(GaussianSample, (2,), backend)
    x = np.tile(np.array([[3.0, np.log(0.25)]], np.float32), (20_000, 1))
    found = backend.to_numpy(network.forward(x, training=True))
    assert np.mean(found) == pytest.approx(3.0, abs=0.02)
    assert np.std(found) == pytest.approx(0.5, abs=0.02)
    assert issubclass(GaussianSample, Disturbance)  # the same draws everywhere, counted in state


@pytest.mark.parametrize("wrap", [list, lambda layers: [Recompute(layers)]])
def test_the_term_is_listed_and_made_small(backend, wrap):
    """With nothing else to learn, means go to 0 and variances to 1, where KL is 0."""
    network = Network([*wrap([Dense(4), GaussianSample()]), Dense(2)], (3,), backend)
    trainer = Trainer(network, nothing, SGD(0.3), compile=False)
    x = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    history = trainer.fit(x, x[:, :2], epochs=40, progress=False, batch_size=8)
    (kl,) = (name for name in history if name.endswith("gaussiansample.kl"))
    assert history[kl][-1] < 0.05 * history[kl][0]
    np.testing.assert_allclose(history["loss"], history[kl], rtol=1e-6)


def nothing(predictions, targets, *, sample_weight=None, backend):
    value, delta = mean_squared_error(predictions, targets, backend=backend)
    return 0.0 * value, 0.0 * delta


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_in_half_precision(backend, precision):
    weights = []
    for chosen in (None, precision):
        network = Network([Dense(8), GaussianSample(0.1), Dense(2)], (3,), backend)
        if chosen and precision not in backend_halves(backend):
            pytest.skip(f"{backend.name} has no {precision}")
        half = chosen and MixedPrecision(chosen, initial_scale=256.0)  # at which no step is skipped
        trainer = Trainer(network, mean_squared_error, SGD(0.1), precision=half)
        for _ in range(3):
            trainer.step(draw((3,)), draw((2,), seed=2))
        weights.append(network.numpy_arrays())
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name], value, atol=3e-2)


def backend_halves(backend):
    from tests.layers.test_contract import MISSING

    return {"float16", "bfloat16"} - {*MISSING.get(backend.name, ())}


def test_what_it_cannot_take_is_refused():
    with pytest.raises(ShapeError, match="as many logarithms of variances"):
        Network([GaussianSample()], (3,))
    with pytest.raises(ValueError, match="beta of at least 0, got beta=-1"):
        GaussianSample(-1)
