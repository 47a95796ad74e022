"""A transformer learns to write like a text, character by character.

    python examples/char_lm.py --data FILE --backend torch

FILE is plain text, packed with gzip or not: the first 90 % to learn from, the last 10 % to measure
on. In each epoch the text is cut into windows at other places. At the end the network writes.
"""

import argparse
import time

import numpy as np

import xpnn
from xpnn import AdamW, ClipByGlobalNorm, Cosine, Network, Trainer, WarmUp, matrices_only
from xpnn.data import Vocabulary, next_ids
from xpnn.generation import generate
from xpnn.layers import Dense, Dropout, Embedding, LayerNorm, LearnedPositions, TransformerBlock

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--data", required=True, help="a text file, packed with gzip or not")
parser.add_argument("--backend", default="numpy", help="numpy, cupy, torch, jax, ...")
parser.add_argument("--context", type=int, default=128, help="characters that are looked at")
parser.add_argument("--width", type=int, default=128, help="features of every character")
parser.add_argument("--heads", type=int, default=4, help="heads of every block")
parser.add_argument("--blocks", type=int, default=4, help="transformer blocks")
parser.add_argument("--dropout", type=float, default=0.1)
parser.add_argument("--batch", type=int, default=32, help="windows a step")
parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
parser.add_argument("--epochs", type=int, default=15)
parser.add_argument("--seed", type=int, default=0, help="of the weights, the cuts and the sample")
parser.add_argument("--sample", type=int, default=600, help="characters to write")
parser.add_argument("--temperature", type=float, default=0.8)
parser.add_argument("--top-k", type=int, default=20, help="likeliest characters to draw from")
options = parser.parse_args()

text = xpnn.datasets.text(options.data)
vocabulary = Vocabulary.of(text, specials=())
ids = vocabulary.encode(text)
cut = len(ids) * 9 // 10
train, held_out = ids[:cut], ids[cut:]

network = Network(
    [
        Embedding(len(vocabulary), options.width),
        LearnedPositions(),
        Dropout(options.dropout),
        *(
            TransformerBlock(options.width, options.heads, causal=True, dropout=options.dropout)
            for _ in range(options.blocks)
        ),
        LayerNorm(),
        Dense(len(vocabulary)),
    ],
    input_shape=(options.context,),
    backend=options.backend,
    seed=options.seed,
)
steps = options.epochs * -(-len(next_ids(train, options.context)[0]) // options.batch)
rate = WarmUp(min(100, steps // 10), Cosine(options.rate, steps=steps, end=options.rate / 20))
optimizer = AdamW(rate, weight_decay=0.1, decays=matrices_only, clip=ClipByGlobalNorm(1.0))
trainer = Trainer(network, xpnn.cross_entropy, optimizer)

rng, began = np.random.default_rng(options.seed), time.perf_counter()
for epoch in range(1, options.epochs + 1):
    x, y = next_ids(train, options.context, start=rng.integers(options.context))
    history = trainer.fit(x, y, batch_size=options.batch, progress=False)
    measured = next_ids(held_out, options.context)
    loss = trainer.evaluate(*measured, batch_size=options.batch)["loss"]
    print(
        f"epoch {epoch}: training loss {history['loss'][-1]:.4f}, validation loss {loss:.4f}, "
        f"{time.perf_counter() - began:.0f} s",
        flush=True,
    )

prompt = vocabulary.encode("\n") if "\n" in vocabulary else ids[:1]
drawn = generate(
    network,
    prompt,
    options.sample,
    temperature=options.temperature,
    top_k=options.top_k,
    seed=options.seed,
)
print(f"validation loss {loss:.4f} nats a character; the network writes:")
print(vocabulary.decode(drawn))
