"""The first network of Nielsen's book: 784-30-10, sigmoid, quadratic cost, plain SGD.

    python examples/03_nielsen.py --data DIR

Neural Networks and Deep Learning, chapter 1: thirty epochs, batches of 10, a rate of 3.0. DIR holds
the four original IDX files of MNIST, packed with gzip or not. Nielsen trains on the first 50,000
images and measures on the 10,000 of the test set; so does this.
"""

import argparse

import numpy as np

import xpnn
from xpnn import SGD, Accuracy, Dense, Flatten, Network, Sigmoid, Trainer
from xpnn.initializers import normal

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--data", required=True, help="folder of the four IDX files")
parser.add_argument("--backend", default="numpy", help="numpy, cupy, torch, jax, ...")
parser.add_argument("--epochs", type=int, default=30)
options = parser.parse_args()

x_train, y_train = xpnn.datasets.mnist(options.data, "train")
x_test, y_test = xpnn.datasets.mnist(options.data, "test")
one_hot = np.eye(10, dtype=np.float32)

network = Network(
    [
        Flatten(),
        Dense(30, weight_init=normal(), bias_init=normal()),
        Sigmoid(),
        Dense(10, weight_init=normal(), bias_init=normal()),
        Sigmoid(),
    ],
    input_shape=(28, 28, 1),
    backend=options.backend,
    seed=1,
)
trainer = Trainer(network, xpnn.quadratic_cost, SGD(3.0), metrics=[Accuracy()])
history = trainer.fit(
    x_train[:50_000],
    one_hot[y_train[:50_000]],
    epochs=options.epochs,
    batch_size=10,
    validation=(x_test, one_hot[y_test]),
)
print(f"test accuracy {history['val_accuracy'][-1]:.4f}")
