"""What one runs first on a new machine: does anything work at all? Takes seconds."""

import numpy as np

import xpnn
from xpnn.testing import check_gradients


def make(backend):
    layers = [xpnn.Dense(8), xpnn.Tanh(), xpnn.Dense(2)]
    return xpnn.Network(layers, input_shape=(4,), backend=backend)


def data(backend):
    x = np.random.default_rng(0).standard_normal((32, 4)).astype(np.float32)
    return backend.asarray(x), backend.asarray((x[:, 0] > x[:, 1]).astype(np.int64))


def test_the_backend_adds_and_multiplies(backend):
    a = backend.asarray([[1.0, 2.0], [3.0, 4.0]], "float32")
    np.testing.assert_array_equal(backend.to_numpy(a @ a + 1.0), [[8, 11], [16, 23]])


def test_one_forward_and_one_backward(backend):
    net, (x, y) = make(backend), data(backend)
    value, delta = xpnn.cross_entropy(net.forward(x, training=True), y)
    net.backward(delta)
    assert 0.1 < float(backend.to_numpy(value)) < 3
    assert net.grads.keys() == net.params.keys()
    assert all(np.all(np.isfinite(backend.to_numpy(grad))) for grad in net.grads.values())


def test_three_steps_lower_the_loss(backend):
    net, (x, y) = make(backend), data(backend)
    optimizer = xpnn.SGD(0.5)
    step = xpnn.training.make_train_step(net, xpnn.cross_entropy, optimizer)
    params, state, opt_state = net.params, net.state, optimizer.init(net.params, backend)
    losses = []
    for _ in range(4):
        params, state, opt_state, value = step(params, state, opt_state, x, y)
        losses.append(float(backend.to_numpy(value)))
    assert losses == sorted(losses, reverse=True)
    assert losses[3] < 0.9 * losses[0]


def test_the_gradients_are_right(backend):
    assert not check_gradients(make(backend)).wrong
