"""Train 784-128-10 on MNIST, on any backend: one argument, the same curve.

    python examples/02_mnist.py --data DIR --backend numpy

DIR holds the four original IDX files, packed with gzip or not.
"""

import argparse

import xpnn
from xpnn import Accuracy, Adam, Dense, Flatten, Network, ReLU, Trainer

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--data", required=True, help="folder of the four IDX files")
parser.add_argument("--backend", default="numpy", help="numpy, cupy, torch, jax, ...")
parser.add_argument("--epochs", type=int, default=5)
options = parser.parse_args()

x_train, y_train = xpnn.datasets.mnist(options.data, "train")
x_test, y_test = xpnn.datasets.mnist(options.data, "test")

network = Network(
    [Flatten(), Dense(128), ReLU(), Dense(10)],
    input_shape=(28, 28, 1),
    backend=options.backend,
    seed=1,
)
trainer = Trainer(network, xpnn.cross_entropy, Adam(1e-3), metrics=[Accuracy()])
history = trainer.fit(
    x_train, y_train, epochs=options.epochs, batch_size=64, validation=(x_test, y_test)
)
print("loss after each epoch:", " ".join(f"{loss:.5f}" for loss in history["loss"]))
print(f"test accuracy {history['val_accuracy'][-1]:.4f}")
