"""Tell two spirals apart, and draw where the network changes its mind.

    python examples/decision_boundary.py --backend numpy --picture spirals.png

Two arms of points wind around each other, one and a half turns each (a task of Lang and Witbrock,
1988, who took three). No straight line gets much more than half of them right; a network of two
hidden layers bends its line along the arms. The picture needs matplotlib: pip install 'xpnn[plot]'.
"""

import argparse

import numpy as np
from matplotlib.figure import Figure

import xpnn
from xpnn import Accuracy, Adam, Dense, Network, Tanh, Trainer

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--backend", default="numpy", help="numpy, cupy, torch, jax, ...")
parser.add_argument("--epochs", type=int, default=100)
parser.add_argument("--picture", default="spirals.png", help="where to save the picture")
options = parser.parse_args()


def spirals(count, rng):
    """Points (count, 2) on two arms, with a little noise, and the number of each point's arm."""
    arm = np.arange(count) % 2
    way = np.sqrt(rng.uniform(0.01, 1, count))  # from the middle to the end, evenly spread
    angle = 3 * np.pi * way + np.pi * arm
    points = 3 * way[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points + 0.06 * rng.standard_normal((count, 2)), arm


rng = np.random.default_rng(0)
x, y = spirals(1000, rng)
x_test, y_test = spirals(1000, rng)

network = Network(
    [Dense(32), Tanh(), Dense(32), Tanh(), Dense(2)],
    input_shape=(2,),
    backend=options.backend,
    seed=0,
)
trainer = Trainer(network, xpnn.cross_entropy, Adam(0.01), metrics=[Accuracy()])
trainer.fit(x, y, epochs=options.epochs)
accuracy = trainer.evaluate(x_test, y_test)["accuracy"]

# The scores of both arms for every point of a grid; where they are equal runs the boundary.
side = np.linspace(-3.5, 3.5, 300)
grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
scores = network.backend.to_numpy(network.predict(grid, batch_size=10_000))
lead = (scores[:, 1] - scores[:, 0]).reshape(300, 300)

figure = Figure(figsize=(6, 6), layout="constrained")
axes = figure.add_subplot()
axes.contourf(side, side, 1 / (1 + np.exp(-lead)), levels=20, cmap="RdBu", alpha=0.7)
axes.contour(side, side, lead, levels=[0], colors="black")
for arm, color in enumerate(["darkred", "navy"]):
    axes.scatter(*x_test[y_test == arm].T, s=8, color=color, label=f"arm {arm}")
axes.set(title=f"two spirals, test accuracy {accuracy:.3f}", aspect="equal")
axes.legend(loc="upper right")
figure.savefig(options.picture, dpi=100)
print(f"saved {options.picture}")
print(f"test accuracy {accuracy:.4f}")
