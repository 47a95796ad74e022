"""Limits on gradients: the lengths of torch.nn.utils, and what half precision can bear."""

import numpy as np
import pytest

from tests.conftest import needs
from tests.optimizers.table import gradients, moved, on_host, start
from xpnn.errors import BackendUnavailable
from xpnn.optimizers import SGD, ClipByGlobalNorm, ClipByValue, Clipping

pytestmark = pytest.mark.width


def clipped(clip, backend, grads):
    """What SGD with a rate of 1 takes from parameters of zero."""
    sgd = SGD(1.0, clip=clip)
    with backend.on_device():
        params = moved({name: 0 * array for name, array in grads.items()}, backend)
        update = sgd.make_update(backend)
        after, _ = update(params, moved(grads, backend), sgd.init(params, backend))
        return {name: -array for name, array in on_host(after, backend).items()}


@needs("torch")
@pytest.mark.parametrize("limit", [0.01, 1.0, 1e3])
@pytest.mark.parametrize(
    ("kind", "theirs"),
    [(ClipByGlobalNorm, "clip_grad_norm_"), (ClipByValue, "clip_grad_value_")],
)
def test_gradients_are_those_of_torch(backend, kind, theirs, limit):
    import torch

    for grads in gradients("float32", 5):
        params = {k: torch.nn.Parameter(torch.from_numpy(v)) for k, v in start("float32").items()}
        for name, param in params.items():
            param.grad = torch.from_numpy(grads[name].copy())
        getattr(torch.nn.utils, theirs)(params.values(), limit)
        for name, array in clipped(kind(limit), backend, grads).items():
            # torch divides by norm + 1e-6, which is 1e-6 of the smallest norms here, about 1
            np.testing.assert_allclose(array, params[name].grad.numpy(), rtol=2e-6, atol=1e-7)


def test_a_length_by_hand(backend):
    grads = {"a": np.array([3.0], np.float32), "b": np.array([[0.0, -4.0]], np.float32)}
    after = clipped(ClipByGlobalNorm(1.0), backend, grads)
    np.testing.assert_allclose(after["a"], [0.6], rtol=1e-6)
    np.testing.assert_allclose(after["b"], [[0.0, -0.8]], rtol=1e-6)


def test_short_gradients_pass_bit_for_bit(backend):
    grads = gradients("float32", 1)[0]
    after = clipped(ClipByGlobalNorm(1e3), backend, grads)
    for name, array in after.items():
        np.testing.assert_array_equal(array, grads[name])


def test_gradients_of_zero_stay_zero(backend):
    grads = {"w": np.zeros(3, np.float32)}
    np.testing.assert_array_equal(clipped(ClipByGlobalNorm(1.0), backend, grads)["w"], 0)


def test_half_precision_gradients_do_not_overflow(backend):
    try:
        backend.dtype("float16")
    except BackendUnavailable:
        pytest.skip(f"{backend.name} has no float16")
    grads = {"w": np.full(64, 1000.0, np.float16)}  # whose squares are above 65504
    after = clipped(ClipByGlobalNorm(8.0), backend, grads)
    np.testing.assert_array_equal(after["w"], np.ones(64, np.float16))


class ByLargest(Clipping):
    """A limit of a user's: all gradients over the largest number in them."""

    def scale(self, xp, grads):
        return 1.0 / max(xp.max(xp.abs(grad)) for grad in grads.values())

    def apply(self, xp, grad, scale):
        return grad * scale


@pytest.mark.parametrize("share", [None, 0.25])
def test_a_limit_of_ones_own_looks_at_the_gradients_of_the_loss(backend, share):
    """Where these were scaled against underflow, ``share`` is one over that scale."""
    grads = {"a": np.array([1.0, -8.0], np.float32), "b": np.array([[2.0]], np.float32)}
    with backend.on_device():
        found = ByLargest().scale_of(backend.xp, moved(grads, backend), share)
        assert float(found) == 1 / (8 * (share or 1))
        assert ClipByValue(1.0).scale_of(backend.xp, moved(grads, backend), share) == 1.0


@pytest.mark.parametrize(
    ("kind", "limit"),
    [
        *((kind, bad) for kind in (ClipByGlobalNorm, ClipByValue) for bad in (0.0, -1.0, np.nan)),
        (ClipByGlobalNorm, np.inf),  # inf / inf
    ],
)
def test_limits_are_above_zero(kind, limit):
    with pytest.raises(ValueError, match=f"{kind.__name__} needs a limit above 0, got {limit}"):
        kind(limit)
