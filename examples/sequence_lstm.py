"""An LSTM tells which of two marks came first, in sequences of many lengths.

    python examples/sequence_lstm.py --backend numpy

Every sequence is noise, the letters a to h, in which an X and a Y are hidden, in this order or the
other. Short sequences are padded. The same letters in another order have another answer, so that a
network which only sums up what it saw can do no better than chance; one is trained beside.
"""

import argparse

import numpy as np

import xpnn
from xpnn import LSTM, Accuracy, Adam, ClipByGlobalNorm, Dense, Embedding, Masked, Network, Trainer
from xpnn.layers import GlobalAveragePool

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--backend", default="numpy", help="numpy, cupy, torch, jax, ...")
parser.add_argument("--longest", type=int, default=40, help="letters of the longest sequence")
parser.add_argument("--samples", type=int, default=8000, help="sequences to learn from")
parser.add_argument("--epochs", type=int, default=12)
parser.add_argument("--seed", type=int, default=0, help="of the data and the weights")
options = parser.parse_args()

LETTERS = ".abcdefghXY"  # number 0 fills up short sequences
X, Y = LETTERS.index("X"), LETTERS.index("Y")


def sequences(count, rng):
    """Padded sequences, and 0 where the X comes first, 1 where the Y does."""
    ids = np.zeros((count, options.longest), dtype=np.int64)
    answers = rng.integers(0, 2, count)
    for row, answer in zip(ids, answers, strict=True):
        length = rng.integers(options.longest // 2, options.longest + 1)
        row[:length] = rng.integers(1, X, length)
        first, second = np.sort(rng.choice(length, 2, replace=False))
        row[first], row[second] = (X, Y) if answer == 0 else (Y, X)
    return ids, answers


def accuracy(layers):
    """Train a network of these layers; its share of right answers on new sequences."""
    network = Network(
        [Masked(layers, padding=0)], (options.longest,), options.backend, seed=options.seed
    )
    optimizer = Adam(5e-3, clip=ClipByGlobalNorm(1.0))
    trainer = Trainer(network, xpnn.cross_entropy, optimizer, metrics=[Accuracy()])
    trainer.fit(*train, epochs=options.epochs, batch_size=64)
    return network, trainer.evaluate(*test)["accuracy"]


rng = np.random.default_rng(options.seed)
train, test = sequences(options.samples, rng), sequences(2000, rng)
_, without_order = accuracy([Embedding(len(LETTERS), 16), GlobalAveragePool(), Dense(2)])
network, with_order = accuracy([Embedding(len(LETTERS), 16), LSTM(32), Dense(2)])

ids, answers = (array[:4] for array in test)
for row, answer, scores in zip(ids, answers, network.backend.to_numpy(network(ids)), strict=True):
    letters = "".join(LETTERS[i] for i in row)
    print(f"{letters}  {'XY'[answer]} first, the LSTM says {'XY'[int(scores.argmax())]}")
print(f"test accuracy {with_order:.4f} with an LSTM, {without_order:.4f} without order")
