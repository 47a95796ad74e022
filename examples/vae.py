"""Learn how digits are distributed, and draw new ones.

    python examples/vae.py --backends numpy torch

A variational autoencoder (Kingma and Welling, 2014): the encoder gives a normal distribution for
each digit, ``GaussianSample`` draws from it and adds its divergence from N(0, 1) to the loss, and
the decoder makes a digit of the draw. So draws from N(0, 1) become new digits. Of new digits, 8
numbers give back the pixels with a mean squared error of 0.0145; that of the mean digit is 0.0735.
"""

import argparse

import numpy as np

import xpnn
from xpnn import Adam, Cosine, Dense, GaussianSample, Network, ReLU, Sigmoid, Trainer

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--backends", nargs="+", default=["numpy"], metavar="BACKEND")
parser.add_argument("--epochs", type=int, default=60)
parser.add_argument("--code", type=int, default=8, help="numbers that a digit is drawn from")
parser.add_argument("--beta", type=float, default=0.1 / 64, help="what the divergence is times")
options = parser.parse_args()

x, x_test = xpnn.split(xpnn.datasets.digits()[0])
KL = "3.gaussiansample.kl"


def train(backend):
    """The network, and its history."""
    encoder = [Dense(256), ReLU(), Dense(2 * options.code)]
    decoder = [Dense(256), ReLU(), Dense(64), Sigmoid()]
    layers = [*encoder, GaussianSample(options.beta), *decoder]
    network = Network(layers, (64,), backend, seed=0)
    rate = Cosine(2e-3, steps=options.epochs * -(-len(x) // 32))
    trainer = Trainer(network, xpnn.mean_squared_error, Adam(rate))
    return network, trainer.fit(x, x, epochs=options.epochs, progress=False)


def decoded(network, code):
    """What the decoder makes of codes."""
    for layer in network[4:]:
        code = layer.forward(code)
    return network.backend.to_numpy(code)


curves = []
for backend in options.backends:
    network, history = train(backend)
    curves.append(np.array([history[name] for name in ("loss", "own_loss", KL)]))
    error = np.mean((network.backend.to_numpy(network.predict(x_test)) - x_test) ** 2)
    apart = history[KL][-1] / options.beta
    print(f"{backend}: error on new digits {error:.4f}, divergence {apart:.1f} nats a digit")
print(f"error of the mean digit {np.mean((x.mean(axis=0) - x_test) ** 2):.4f}")
draws = network.backend.asarray(
    np.random.default_rng(5).standard_normal((8, options.code)), "float32"
)
digits = decoded(network, draws).reshape(8, 8, 8)
for row in range(8):
    print(
        "  ".join("".join(" .:*#"[int(4.99 * one)] * 2 for one in digit[row]) for digit in digits)
    )
apart = max(np.max(np.abs(curve - curves[0])) for curve in curves)
print(f"the curves differ by at most {apart:.1e}")
