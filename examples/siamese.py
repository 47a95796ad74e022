"""Put digits into a few numbers such that those of one kind lie together.

    python examples/siamese.py --backends numpy torch

One encoder is called on three pictures: an anchor, another one of its kind, and one of another kind
(Schroff et al., 2015). Called three times, it has its weights once, and its gradients add up. By 3
numbers, 0.94 of new digits are of the kind of their nearest neighbour; by the best 3 of PCA, 0.73.
"""

import argparse

import numpy as np

import xpnn
from xpnn import Adam, Concatenate, Dense, Input, Network, ReLU, Reshape, Sequential, Trainer

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--backends", nargs="+", default=["numpy"], metavar="BACKEND")
parser.add_argument("--epochs", type=int, default=40)
parser.add_argument("--code", type=int, default=3, help="numbers of a digit")
options = parser.parse_args()

x, y = xpnn.datasets.digits()
x, x_test, y, y_test = xpnn.split(x, y, stratify=y)
NAMES = ("anchor", "same", "other")


def triplets(rng):
    """Each digit with one of its kind, and one of another kind, by name."""
    order = rng.permutation(len(x))
    weights = rng.random((2, len(x), len(x)))
    alike = y[order, None] == y
    same, other = np.argmax(weights[0] * alike, axis=1), np.argmax(weights[1] * ~alike, axis=1)
    return dict(zip(NAMES, (x[order], x[same], x[other]), strict=True))


def train(backend):
    """Codes of all digits, and the losses of all epochs."""
    pictures = [Input((64,), name=name) for name in NAMES]
    last = Dense(options.code, use_bias=False)  # which would move all codes alike
    encoder = Sequential([Dense(128), ReLU(), last, Reshape((1, options.code))])
    codes = Concatenate(0)(*map(encoder, pictures))  # (3, code) of each sample
    network = Network(inputs=pictures, outputs=codes, backend=backend, seed=0)
    trainer, rng, losses = Trainer(network, xpnn.triplet, Adam(5e-4)), np.random.default_rng(0), []
    for _ in range(options.epochs):  # each time with other triplets
        history = trainer.fit(triplets(rng), np.zeros((len(x), 1)), progress=False)
        losses += history["loss"]
    found = (network.predict(dict.fromkeys(NAMES, one)) for one in (x, x_test))
    return *(network.backend.to_numpy(one)[:, 0] for one in found), losses


def accuracy(codes, new):
    """Of how many new digits the nearest one is of their kind."""
    away = np.linalg.norm(new[:, None] - codes, axis=2)
    return np.mean(y[away.argmin(axis=1)] == y_test)


curves = []
for backend in options.backends:
    codes, new, losses = train(backend)
    print(f"{backend}: nearest neighbours in {options.code} numbers {accuracy(codes, new):.3f}")
    curves.append(np.array(losses))
_, axes_of_pca = np.linalg.eigh(np.cov(x.T))  # the last ones hold most of the variance
basis = axes_of_pca[:, -options.code :]
print(f"in {options.code} numbers of PCA {accuracy(x @ basis, x_test @ basis):.3f}")
apart = max(np.max(np.abs(curve - curves[0])[:5]) for curve in curves)
print(f"the first 5 losses differ by at most {apart:.1e}")
