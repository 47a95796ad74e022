"""RAdam against its equations, from all gradients so far: nothing is carried on."""

import math

import numpy as np
import pytest

from xpnn import Linear, RAdam

RATE, BETA1, EPSILON, STEPS = 0.05, 0.9, 1e-8, 25
GRADS = np.random.default_rng(2).standard_normal((STEPS, 7)) + 0.3


def weights_of(betas):
    """What each gradient weighs in a running mean whose betas those were, the first one first."""
    return np.array([(1 - one) * math.prod(betas[i + 1 :]) for i, one in enumerate(betas)])


def length_of(betas):
    """2 A - 1, with A the mean age of the gradients in the mean of squares, the last one's 1."""
    shares = weights_of(betas)
    return 2 * np.sum(shares * np.arange(len(betas), 0, -1)) / np.sum(shares) - 1


def oracle(betas):
    w, path = np.ones(GRADS.shape[1]), []
    for t in range(1, STEPS + 1):
        grads, of_means, of_squares = GRADS[:t], weights_of([BETA1] * t), weights_of(betas[:t])
        m_hat = of_means @ grads / np.sum(of_means)
        length, limit = length_of(betas[:t]), 2 / (1 - betas[t - 1]) - 1
        if length <= 5:
            w = w - RATE * m_hat
        else:
            share = (length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length)
            root = np.sqrt(of_squares @ grads**2) + EPSILON
            w = w - RATE * math.sqrt(share) * m_hat * math.sqrt(np.sum(of_squares)) / root
        path.append(w)
    return path


@pytest.mark.parametrize("beta2", [0.7, 0.95, 0.999])
def test_the_mean_age_is_the_length_of_the_paper(beta2):
    """Liu et al. (2020), algorithm 2."""
    for t in range(1, STEPS + 1):
        paper = 2 / (1 - beta2) - 1 - 2 * t * beta2**t / (1 - beta2**t)
        assert length_of([beta2] * t) == pytest.approx(paper, rel=1e-9)


@pytest.mark.parametrize("beta2", [0.6, 0.95, 0.999, Linear(0.6, end=0.97, steps=20)])
def test_steps_are_those_of_the_equations(backend, beta2):
    """On both sides of the step from which the root is divided by; of a changing beta2, too."""
    betas = [RAdam(beta2=beta2).hyper_at(t)["beta2"] for t in range(1, STEPS + 1)]
    behind = [length_of(betas[:t]) > 5 for t in range(1, STEPS + 1)]
    assert any(behind) == (beta2 != 0.6)  # which never goes far enough back
    assert not behind[0]
    optimizer = RAdam(RATE, beta1=BETA1, beta2=beta2, epsilon=EPSILON)
    update = optimizer.make_update(backend)
    with backend.on_device():
        params = {"w": backend.asarray(np.ones(GRADS.shape[1]), "float32")}
        state = optimizer.init(params, backend)
        for grad, wanted in zip(GRADS, oracle(betas), strict=True):
            params, state = update(params, {"w": backend.asarray(grad, "float32")}, state)
            np.testing.assert_allclose(backend.to_numpy(params["w"]), wanted, rtol=2e-5, atol=2e-5)
