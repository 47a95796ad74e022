"""An encoder and a decoder learn to sort: letters go in, and come out in alphabetical order.

    python examples/sort_sequences.py --backend numpy

The decoder learns to say the next letter after those before, and looks at what the encoder makes of
the unsorted ones. Then the network, loaded from its file, writes by itself: the encoder runs once,
and every letter is read once.

Of 1000 sequences of 10 letters that it has never seen it sorts 998 without a mistake, on NumPy and
on PyTorch, in 12 and 35 s of processor time.
"""

import argparse

import numpy as np

import xpnn
from xpnn import Dense, Embedding, Input, LayerNorm, LearnedPositions, Network, Trainer
from xpnn.data import Vocabulary

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--backend", default="numpy", help="numpy, cupy, torch, jax, ...")
parser.add_argument("--length", type=int, default=10, help="letters of a sequence")
parser.add_argument("--samples", type=int, default=10_000, help="sequences to learn from")
parser.add_argument("--epochs", type=int, default=12)
options = parser.parse_args()

letters = Vocabulary("abcdefghijklmnop", specials=["begin"])  # number 0 begins an answer
WIDTH, LENGTH = 32, options.length
unsorted, answer = (Input((LENGTH,), takes="integers", name=name) for name in ("x", "answer"))
vectors = Embedding(len(letters), WIDTH)  # of the letters on both sides
encoded = LayerNorm()(xpnn.TransformerBlock(WIDTH, 4)(LearnedPositions()(vectors(unsorted))))
decoded = xpnn.TransformerDecoderBlock(WIDTH, 4)(LearnedPositions()(vectors(answer)), encoded)
scores = Dense(len(letters))(LayerNorm()(decoded))
network = Network(inputs=[unsorted, answer], outputs=scores, backend=options.backend)

x = np.random.default_rng(0).integers(1, len(letters), (options.samples + 1000, LENGTH))
x, unseen = x[:-1000], x[-1000:]
y = np.sort(x)
before = np.pad(y[:, :-1], ((0, 0), (1, 0)), constant_values=letters.begin)
steps = options.epochs * (len(x) // 64 + 1)
trainer = Trainer(network, xpnn.cross_entropy, xpnn.Adam(xpnn.Cosine(3e-3, steps=steps)))
trainer.fit({"x": x, "answer": before}, y, epochs=options.epochs, batch_size=64)

network.attachments["letters"] = letters
network.save("sorter.safetensors")
sorter = xpnn.load("sorter.safetensors", options.backend)
letters = sorter.attachments["letters"]
begin = np.full((1000, 1), letters.begin)
written = xpnn.generate(sorter, begin, LENGTH, context={"x": unseen}, temperature=0)[:, 1:]
for given, answer in zip(letters.decode(unseen[:3]), letters.decode(written[:3]), strict=True):
    print(given, "->", answer)
print(f"{np.mean(np.all(written == np.sort(unseen), axis=1)):.4f} of 1000 sorted without a mistake")
