"""Two networks against each other: one draws points, the other tells them from real ones.

    python examples/gan.py --backends numpy torch

Real points lie around eight places on a circle (Goodfellow et al., 2014; the data are those of
Metz et al., 2017). The discriminator's dL/d(input) is what its ``backward`` returns, and the
generator's delta. 3000 steps find 8 of 8 places, and 0.86 of the points lie within 0.3 of one.
"""

import argparse

import numpy as np

import xpnn
from xpnn import Adam, Dense, LeakyReLU, Network, Updater

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--backends", nargs="+", default=["numpy"], metavar="BACKEND")
parser.add_argument("--steps", type=int, default=3000)
parser.add_argument("--batch", type=int, default=256)
options = parser.parse_args()

angles = 2 * np.pi * np.arange(8) / 8
PLACES = 2.0 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
NOISE = 8


def real(count, rng):
    """Points around the places."""
    chosen = PLACES[rng.integers(0, len(PLACES), count)]
    return chosen + 0.1 * rng.standard_normal((count, 2))


def chain(outputs, inputs, backend, seed):
    """A network of two hidden layers."""
    hidden = [Dense(128), LeakyReLU(0.2), Dense(128), LeakyReLU(0.2)]
    return Network([*hidden, Dense(outputs)], (inputs,), backend, seed=seed)


def train(backend):
    """The generator, and the losses of the discriminator."""
    rng, losses = np.random.default_rng(0), []
    generator, discriminator = chain(2, NOISE, backend, 1), chain(1, 2, backend, 2)
    draws, tells = (Updater(one, Adam(1e-3, beta1=0.5)) for one in (generator, discriminator))
    backend, count = generator.backend, options.batch
    genuine = backend.asarray(np.repeat([[1.0], [0.0]], count, axis=0))
    for _ in range(options.steps):
        points = generator.forward(rng.standard_normal((count, NOISE)), training=True)

        both = backend.xp.concat([discriminator.asarray(real(count, rng)), points])
        loss, delta = xpnn.binary_cross_entropy(discriminator.forward(both, training=True), genuine)
        discriminator.backward(delta, to_input=False)
        tells.step()
        losses.append(loss)

        scores = discriminator.forward(points, training=True)
        _, delta = xpnn.binary_cross_entropy(scores, genuine[:count, ...])  # to pass for real
        generator.backward(discriminator.backward(delta), to_input=False)
        draws.step()
    return generator, np.array([float(backend.to_numpy(loss)) for loss in losses])


curves = []
for backend in options.backends:
    generator, curve = train(backend)
    noise = np.random.default_rng(9).standard_normal((2000, NOISE))
    points = generator.backend.to_numpy(generator.predict(noise))
    away = np.linalg.norm(points[:, None] - PLACES, axis=2)
    near = away.min(axis=1) < 0.3
    found = np.bincount(away.argmin(axis=1)[near], minlength=8) > 20
    print(f"{backend}: {found.sum()} of 8 places found, {near.mean():.2f} of the points near one")
    curves.append(curve[:100])
apart = max(np.max(np.abs(curve - curves[0])) for curve in curves)
print(f"the first 100 losses differ by at most {apart:.1e}")
