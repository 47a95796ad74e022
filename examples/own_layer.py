"""Write a layer, check its gradient, and train it on two backends.

    python examples/own_layer.py --backends numpy torch

The layer is snake, an activation that learns how fast it swings (Ziyin et al., 2020). A network of
the usual activations fits a wave where it has seen one and goes straight on from there; with snake
it goes on waving.
"""

import argparse

import numpy as np

import xpnn
from xpnn import Adam, Cosine, Dense, Layer, Network, Tanh, Trainer
from xpnn.testing import check_gradients

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--backends", nargs="+", default=["numpy", "torch"], metavar="BACKEND")
parser.add_argument("--epochs", type=int, default=300)
options = parser.parse_args()


class Snake(Layer):
    """``S = Z + sin^2(a Z) / a``, with one a for each feature.

    Backward, given delta = dL/dS::

        dL/dZ = delta (1 + sin(2 a Z))
        dL/da = sum over the batch of delta (Z sin(2 a Z) / a - sin^2(a Z) / a^2)
    """

    def init_params(self, input_shape, rng):
        return {"a": rng.uniform(0.5, 1.5, input_shape)}

    def forward(self, Z, training=False):
        self.cache["Z"] = Z
        a = self.params["a"]
        return Z + self.xp.sin(a * Z) ** 2 / a

    def backward(self, delta):
        xp, Z, a = self.xp, self.cache["Z"], self.params["a"]
        swing = xp.sin(2 * a * Z)
        slope = Z * swing / a - (xp.sin(a * Z) / a) ** 2
        self.grads["a"] = xp.sum(delta * slope, axis=0)
        return delta * (1 + swing)


for backend in options.backends:
    print(check_gradients(Snake(), (3,), backend), end="\n\n")

seen = np.random.default_rng(0).uniform(-10, 10, (1000, 1))
beyond = np.linspace(10, 15, 200)[:, None]


def train(activation, backend):
    """The curve of the losses, and the error on what lies beyond the data."""
    network = Network([Dense(64), activation(), Dense(1)], (1,), backend, seed=0)
    optimizer = Adam(Cosine(0.02, steps=options.epochs * 20))
    trainer = Trainer(network, xpnn.mean_squared_error, optimizer)
    history = trainer.fit(seen, np.sin(seen), epochs=options.epochs, batch_size=50, progress=False)
    return np.array(history["loss"]), trainer.evaluate(beyond, np.sin(beyond))["loss"]


curves = []
for backend in options.backends:
    for activation in (Tanh, Snake):
        curve, error = train(activation, backend)
        print(f"{backend} {activation.__name__}: loss {curve[-1]:.1e}, beyond the data {error:.1e}")
    curves.append(curve)
apart = max(np.max(np.abs(curve - curves[0])) for curve in curves)
print(f"the loss curves of snake differ by at most {apart:.1e}")
