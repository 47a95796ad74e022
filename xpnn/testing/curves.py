"""training_curve: the losses of a short training run, for comparing backends."""

from collections.abc import Callable, Sequence

import numpy as np

from xpnn.backends import Backend
from xpnn.layers import Layer
from xpnn.losses import mean_squared_error
from xpnn.network import Network
from xpnn.optimizers import SGD, Optimizer
from xpnn.training.stepping.step import make_train_step
from xpnn.typing import Loss, Shape


def training_curve(
    layers: Callable[[], Sequence[Layer]],
    input_shape: Shape,
    backend: str | Backend = "numpy",
    *,
    steps: int = 20,
    loss: Loss = mean_squared_error,
    optimizer: Optimizer | None = None,
    batch: int = 16,
    seed: int = 0,
    compile: bool | None = None,
) -> np.ndarray:
    """The loss at each of ``steps`` training steps on one random batch, as float64 on the host.

    Data, starting weights and dropout's masks depend on ``seed`` alone, so that two backends (or a
    layer and its rewrite) that do the same give curves that are equal to rounding.

    Args:
        layers: makes the layers of the network; called once.
        input_shape: of one sample.
        backend: where to train.
        steps: how many.
        loss: for targets of the output's shape; they are random rows that sum to 1.
        optimizer: ``SGD(0.1)`` unless given.
        batch: samples in the batch.
        seed: of everything random.
        compile: whether steps are made one unit (see ``Trainer``).

    Returns:
        (steps,).

    >>> from xpnn.layers import Dense, Tanh
    >>> curve = training_curve(lambda: [Dense(3), Tanh(), Dense(2)], (4,), steps=5)
    >>> bool(curve[-1] < curve[0])
    True
    """
    network = Network(layers(), input_shape, backend, seed=seed)
    rng, backend = np.random.default_rng(seed), network.backend
    x = backend.asarray(rng.standard_normal((batch, *network.input_shape)), network.dtype)
    rows = rng.exponential(size=(batch, *network.output_shape))
    y = backend.asarray(rows / np.sum(rows, axis=-1, keepdims=True), network.dtype)
    optimizer = optimizer or SGD(0.1)
    step = make_train_step(network, loss, optimizer, compile=compile)
    params, state = network.params, network.state
    opt_state, values = optimizer.init(params, backend), []
    with backend.on_device():
        for _ in range(steps):
            params, state, opt_state, value = step(params, state, opt_state, x, y)
            values.append(float(backend.to_numpy(value)))
    network.params, network.state = params, state
    return np.array(values)
