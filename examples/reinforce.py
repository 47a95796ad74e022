"""Learn to balance a pole on a cart from rewards alone.

    python examples/reinforce.py --backends numpy torch

REINFORCE (Williams, 1992): what was done is made likelier by as much as the rewards behind it were
above average. There is no loss: the delta of the network is written down. Poles fall after 30 steps
at first, on average, and after 100 updates stand for 199 of 200. The cart and the pole are those of
Barto, Sutton and Anderson (1983, appendix).
"""

import argparse

import numpy as np

from xpnn import Adam, Dense, Network, Tanh, Updater

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--backends", nargs="+", default=["numpy"], metavar="BACKEND")
parser.add_argument("--updates", type=int, default=100)
options = parser.parse_args()
CARTS, LONGEST = 32, 200


def moved(state, right):
    """Carts and poles 0.02 s later, pushed by 10 N: place, speed, angle, speed of the angle."""
    v, angle, turning = state.T[1:]
    sin, cos = np.sin(angle), np.cos(angle)
    force = (np.where(right, 10.0, -10.0) + 0.05 * turning**2 * sin) / 1.1
    swing = (9.8 * sin - cos * force) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
    change = np.stack([v, force - 0.05 * swing * cos / 1.1, turning, swing], axis=1)
    return state + 0.02 * change


def play(network, rng):
    """States, pushes and whether the pole still stood before them, each (steps, carts, ...)."""
    state, up = rng.uniform(-0.05, 0.05, (CARTS, 4)), np.ones(CARTS, bool)
    seen = []
    while up.any() and len(seen) < LONGEST:
        likely = network.backend.to_numpy(network.predict(state))[:, 0]
        right = rng.random(CARTS) < 1 / (1 + np.exp(-likely))
        seen.append((state, right, up))
        state = np.where(up[:, None], moved(state, right), state)
        up = up & (np.abs(state[:, 0]) < 2.4) & (np.abs(state[:, 2]) < np.radians(12))
    return map(np.array, zip(*seen, strict=True))


def train(backend):
    """How long the poles stood, before each update."""
    network = Network([Dense(32), Tanh(), Dense(1)], (4,), backend, seed=0)
    updater, rng, curve = Updater(network, Adam(0.01)), np.random.default_rng(0), []
    for _ in range(options.updates):
        states, right, up = play(network, rng)
        curve.append(up.sum(axis=0).mean())
        left = np.cumsum(up[::-1], axis=0)[::-1]  # how long the pole stood from there on
        steps = left[up] - (left.sum(axis=1) / up.sum(axis=1))[up.nonzero()[0]]
        gain = steps / (steps.std() + 1e-8)

        score = network.forward(states[up], training=True)
        p = 1 / (1 + np.exp(-network.backend.to_numpy(score)[:, 0]))
        delta = (p - right[up]) * gain / len(gain)  # of -mean of gain times log p(push)
        network.backward(network.backend.asarray(delta[:, None], "float32"), to_input=False)
        updater.step()
    return np.array(curve)


curves = [train(backend) for backend in options.backends]
for backend, curve in zip(options.backends, curves, strict=True):
    first, last = curve[0], curve[-5:].mean()
    print(f"{backend}: poles stood for {first:.0f} steps at first, {last:.0f} at the end")
apart = max(np.max(np.abs(curve - curves[0])[:20]) for curve in curves)
print(f"the first 20 updates differ by at most {apart:.1e} steps")
