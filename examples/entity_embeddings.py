"""What shops sell: embeddings of shop and weekday beside numeric columns.

    python examples/entity_embeddings.py --backend numpy

Which shop it is says more than any number, but its id is no quantity: shop 12 is not twice shop 6.
So each id is looked up in a table of vectors that are learned with the rest (Guo and Berkhahn,
2016), and these stand beside price and temperature. The sales are made up here: each shop has a
size of its own, customers who mind prices more or less, and busy days by its kind. The same layers
with the ids as numbers are trained beside.

Of what sold on days that are new to it, embeddings explain R2 0.960, on NumPy as on JAX; ids as
numbers 0.262 and 0.268.
"""

import argparse

import numpy as np

import xpnn
from xpnn import R2, Adam, Concatenate, Dense, Embedding, Flatten, Input, Network

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--backend", default="numpy", help="numpy, cupy, torch, jax, ...")
parser.add_argument("--epochs", type=int, default=15)
parser.add_argument("--save", default="sales.safetensors", help="where to save the network")
options = parser.parse_args()

SHOPS, DAYS, COUNT = 60, 7, 10_000
rng = np.random.default_rng(0)
shop, day = rng.integers(0, SHOPS, (COUNT, 1)), rng.integers(0, DAYS, (COUNT, 1))
numbers = rng.standard_normal((COUNT, 2))  # price and temperature, standardized
size, minds_price = rng.standard_normal(SHOPS), rng.uniform(0, 1.5, SHOPS)
busy = rng.standard_normal((3, DAYS))[rng.integers(0, 3, SHOPS)]  # by offices, malls, stations
sales = size[shop] - minds_price[shop] * numbers[:, :1] + 0.3 * numbers[:, 1:] + busy[shop, day]
sales += 0.3 * rng.standard_normal((COUNT, 1))  # what nobody can know
*columns, sold, new_sold = xpnn.split(numbers, shop, day, sales)
days, new_days = tuple(columns[::2]), tuple(columns[1::2])


def explained(inputs, node, x, x_test):
    """Train a network from inputs through a node; it, and its R2 on days that are new to it."""
    hidden = Dense(64, activation="relu")(Dense(64, activation="relu")(node))
    network = Network(inputs=inputs, outputs=Dense(1)(hidden), backend=options.backend)
    trainer = xpnn.Trainer(network, xpnn.mean_squared_error, Adam(2e-3), metrics=[R2()])
    trainer.fit(x, sold, epochs=options.epochs, batch_size=64)
    return network, trainer.evaluate(x_test, new_sold)["r2"]


numeric, *ids = inputs = [Input((2,)), *(Input((1,), takes="integers") for _ in range(2))]
vectors = [Flatten()(Embedding(n, 8)(x)) for n, x in zip((SHOPS, DAYS), ids, strict=True)]
network, embedded = explained(inputs, Concatenate()(numeric, *vectors), days, new_days)
network.save(options.save)
again = xpnn.load(options.save, options.backend)
kept = [one.backend.to_numpy(one.predict(new_days)) for one in (network, again)]
assert np.array_equal(*kept), "the file predicts otherwise"

four = Input((4,))
plain = [np.concatenate([n, s / SHOPS, d / DAYS], axis=1) for n, s, d in (days, new_days)]
_, as_numbers = explained(four, four, *plain)
print(f"R2 on new days {embedded:.3f} with embeddings, {as_numbers:.3f} with ids as numbers")
