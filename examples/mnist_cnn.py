"""Train a small convolutional network on MNIST: 99 % in a few epochs, on any backend.

    python examples/mnist_cnn.py --data DIR --backend numpy

The shape is LeNet-5's (LeCun et al., 1998): two convolutions with pooling, then two dense layers.
Pooling comes before ReLU: as the two commute, that changes nothing but the work. DIR holds the four
original IDX files, packed with gzip or not.
"""

import argparse
import time

import xpnn
from xpnn import (
    Accuracy,
    Adam,
    Conv2D,
    Cosine,
    Dense,
    Dropout,
    Flatten,
    MaxPool2D,
    Network,
    ReLU,
    Trainer,
)

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--data", required=True, help="folder of the four IDX files")
parser.add_argument("--backend", default="numpy", help="numpy, cupy, torch, jax, ...")
parser.add_argument("--epochs", type=int, default=5)
options = parser.parse_args()

x_train, y_train = xpnn.datasets.mnist(options.data, "train")
x_test, y_test = xpnn.datasets.mnist(options.data, "test")
BATCH = 64

network = Network(
    [
        Conv2D(16, 5),
        MaxPool2D(2),
        ReLU(),
        Conv2D(32, 5),
        MaxPool2D(2),
        ReLU(),
        Flatten(),
        Dropout(0.3),
        Dense(128),
        ReLU(),
        Dense(10),
    ],
    input_shape=(28, 28, 1),
    backend=options.backend,
    seed=1,
)
print(network.summary())

steps = options.epochs * -(-len(x_train) // BATCH)
trainer = Trainer(
    network, xpnn.cross_entropy, Adam(Cosine(2e-3, steps=steps)), metrics=[Accuracy()]
)
start = time.perf_counter()
history = trainer.fit(
    x_train, y_train, epochs=options.epochs, batch_size=BATCH, validation=(x_test, y_test)
)
print("loss after each epoch:", " ".join(f"{loss:.5f}" for loss in history["loss"]))
print("test accuracy after each epoch:", " ".join(f"{a:.4f}" for a in history["val_accuracy"]))
print(f"test accuracy {history['val_accuracy'][-1]:.4f} after {time.perf_counter() - start:.0f} s")
