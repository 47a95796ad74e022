"""Independent sources for what a layer should give: torch.nn with its autograd, and jax.grad."""

import numpy as np
import pytest

from tests.conftest import SPECS
from xpnn.network import Network


def _but_for(*names, slow=()):
    specs = [
        pytest.param(spec, marks=pytest.mark.slow_to_compile if spec.startswith(slow) else ())
        for spec in SPECS
        if not spec.startswith(names)
    ]
    return pytest.mark.parametrize("backend", specs or ["numpy"], indirect=True)


# Differences take thousands of passes. array-api-strict is too slow for them, JAX and CuPy compile
# them for 64 bits first; test_same_numbers_on_every_backend compares with NumPy's gradients there.
# PyTorch takes three times as long as NumPy for arrays of few numbers; what it does in another way,
# such as a convolution, is held to differences.
_COMPILED = "jax", "cupy"
by_differences = _but_for("array-api-strict", slow=_COMPILED)
by_differences_not_on_torch = _but_for("array-api-strict", "torch", slow=_COMPILED)
by_compiling = _but_for("array-api-strict")  # which compiles nothing


def host(network, arrays):
    return {name: np.array(network.backend.to_numpy(array)) for name, array in arrays.items()}


def passes(network, x, delta, training=True):
    """Output, dL/d(input) and all gradients of one forward and backward pass, on the host.

    Compiled on JAX, as in training: call by call it would compile each call by itself.
    """
    backend = network.backend

    def both(params, state, x, delta):
        with network.holding(params, state):
            output = network.root.forward(x, training)
            back = network.root.backward(delta)
            return {"output": output, **network.grads, "input": back}, network.state

    x, delta = network.asarray(x), backend.asarray(delta, network.dtype)
    with backend.on_device():
        found, network.state = backend.compiled(both)(network.params, network.state, x, delta)
    return host(network, {name: array for name, array in found.items() if array is not None})


def randomized(network, seed=5):
    """The network with every parameter drawn anew: a scale of 1 or a shift of 0 hides mistakes."""
    rng = np.random.default_rng(seed)
    params = {name: rng.standard_normal(array.shape) for name, array in network.params.items()}
    network.load({**network.numpy_arrays(), **params})
    return network


def torch_passes(module, x, delta, channels_first=False):
    """Output, dL/d(input) and parameter gradients of a torch module, under torch's names.

    With ``channels_first`` the module sees the last axis of ``x`` as its second.
    """
    import torch

    def turned(array, source, target):
        return np.moveaxis(array, source, target) if channels_first else array

    module.zero_grad()
    tensor = torch.tensor(np.ascontiguousarray(turned(x, -1, 1)))
    if tensor.is_floating_point():
        tensor.requires_grad_()
    output = module(tensor)
    output.backward(torch.tensor(np.ascontiguousarray(turned(delta, -1, 1))))
    found = {"output": turned(output.detach().numpy(), 1, -1)}
    if tensor.grad is not None:
        found["input"] = turned(tensor.grad.numpy(), 1, -1)
    return found | {name: param.grad.numpy() for name, param in module.named_parameters()}


def jax_passes(layers, input_shape, x, delta, training=True):
    """What ``passes`` gives, from hand-written backward and from jax.grad of the same forward.

    Integer inputs have no gradient and are left out.
    """
    import jax

    network = randomized(Network(layers(), input_shape, "jax"))
    x = network.asarray(x)
    delta, state, xp = (
        network.backend.asarray(delta, network.dtype),
        network.state,
        network.backend.xp,
    )

    def cost(params, x):
        with network.holding(params, state):
            output = network.root.forward(x, training)
        return xp.sum(output * delta), output

    wanted = (0,) if network.root.takes == "integers" else (0, 1)
    slopes = jax.jit(jax.grad(cost, argnums=wanted, has_aux=True))
    (grads, *back), output = slopes(network.params, x)
    oracle = {**grads, "output": output, **dict(zip(["input"], back, strict=False))}
    return passes(network, x, delta, training), host(network, oracle)


def assert_close(found, oracle, tolerance=1e-5):
    """Every array of ``oracle`` is in ``found``, and they differ by no more than the tolerance."""
    for name, array in oracle.items():
        np.testing.assert_allclose(found[name], array, rtol=tolerance, atol=tolerance, err_msg=name)
