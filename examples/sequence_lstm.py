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
from xpnn.data import Vocabulary
from xpnn.layers import GlobalAveragePool

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--backend", default="numpy", help="numpy, cupy, torch, jax, ...")
parser.add_argument("--longest", type=int, default=40, help="letters of the longest sequence")
parser.add_argument("--samples", type=int, default=8000, help="sequences to learn from")
parser.add_argument("--epochs", type=int, default=12)
parser.add_argument("--seed", type=int, default=0, help="of the data and the weights")
options = parser.parse_args()

vocabulary = Vocabulary("abcdefghXY", specials=["padding"])


def sequences(count, rng):
    """Padded sequences, and 0 where the X comes first, 1 where the Y does."""
    answers, texts = rng.integers(0, 2, count), []
    for answer in answers:
        length = rng.integers(options.longest // 2, options.longest + 1)
        letters = rng.choice(list("abcdefgh"), length)
        first, second = np.sort(rng.choice(length, 2, replace=False))
        letters[first], letters[second] = "XY" if answer == 0 else "YX"
        texts.append("".join(letters))
    return vocabulary.batch(texts, options.longest), answers


def accuracy(layers):
    """Train a network of these layers; its share of right answers on new sequences."""
    masked = Masked(layers, padding=vocabulary.padding)
    network = Network([masked], (options.longest,), options.backend, seed=options.seed)
    optimizer = Adam(5e-3, clip=ClipByGlobalNorm(1.0))
    trainer = Trainer(network, xpnn.cross_entropy, optimizer, metrics=[Accuracy()])
    trainer.fit(*train, epochs=options.epochs, batch_size=64)
    return network, trainer.evaluate(*test)["accuracy"]


rng = np.random.default_rng(options.seed)
train, test = sequences(options.samples, rng), sequences(2000, rng)
_, without_order = accuracy([Embedding(len(vocabulary), 16), GlobalAveragePool(), Dense(2)])
network, with_order = accuracy([Embedding(len(vocabulary), 16), LSTM(32), Dense(2)])

ids, answers = (array[:4] for array in test)
texts, scores = vocabulary.decode(ids), network.backend.to_numpy(network(ids))
for text, answer, row in zip(texts, answers, scores, strict=True):
    said = "XY"[int(row.argmax())]
    print(f"{text:{options.longest}}  {'XY'[answer]} first, the LSTM says {said}")
print(f"test accuracy {with_order:.4f} with an LSTM, {without_order:.4f} without order")
