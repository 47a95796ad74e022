"""Squeeze pictures of digits through a few numbers, and draw what comes out again.

    python examples/autoencoder.py --backend numpy --picture digits.png
    python examples/autoencoder.py --data DIR

The network learns to give back its input, which on the way passes a layer of only ``--code`` units.
The best that a linear code of that size can do is principal component analysis (PCA); the bends in
the network make a better one (Hinton and Salakhutdinov, 2006). Without ``--data``, a folder of the
four IDX files of MNIST, it uses the 8x8 digits inside of xpnn. The picture needs matplotlib: pip
install 'xpnn[plot]'.
"""

import argparse

import numpy as np
from matplotlib.figure import Figure

import xpnn
from xpnn import Adam, Cosine, Dense, Network, ReLU, Sequential, Sigmoid, Trainer

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--backend", default="numpy", help="numpy, cupy, torch, jax, ...")
parser.add_argument("--data", help="folder of the four IDX files of MNIST")
parser.add_argument("--code", type=int, default=8, help="numbers that a picture passes through")
parser.add_argument("--epochs", type=int, help="100 unless given, or 20 with --data")
parser.add_argument("--picture", default="autoencoder.png", help="where to save the picture")
options = parser.parse_args()

if options.data:
    images, held_out = (xpnn.datasets.mnist(options.data, part)[0] for part in ("train", "test"))
    x, x_test = images.reshape(len(images), -1), held_out.reshape(len(held_out), -1)
    epochs, batch_size, widths = options.epochs or 20, 100, (512, 128)
else:
    x, x_test = xpnn.split(xpnn.datasets.digits()[0])
    epochs, batch_size, widths = options.epochs or 100, 32, (256, 64)
pixels, (wide, narrow) = x.shape[1], widths

encoder = Sequential([Dense(wide), ReLU(), Dense(narrow), ReLU(), Dense(options.code)])
decoder = Sequential([Dense(narrow), ReLU(), Dense(wide), ReLU(), Dense(pixels), Sigmoid()])
network = Network([encoder, decoder], (pixels,), options.backend, seed=0)
rate = Cosine(2e-3, steps=epochs * -(-len(x) // batch_size))
trainer = Trainer(network, xpnn.mean_squared_error, Adam(rate))
trainer.fit(x, x, epochs=epochs, batch_size=batch_size)

mean = x.mean(axis=0)
_, axes_of_pca = np.linalg.eigh(np.cov((x - mean).T))  # the last ones hold most of the variance
basis = axes_of_pca[:, -options.code :]
rows = {
    "digit": x_test,
    "network": network.backend.to_numpy(network.predict(x_test)),
    "PCA": mean + (x_test - mean) @ basis @ basis.T,
}
errors = {name: float(np.mean((row - x_test) ** 2)) for name, row in rows.items()}

shown, side = 10, int(pixels**0.5)
figure = Figure(figsize=(shown, 3.3), layout="constrained")
panels = figure.subplots(len(rows), shown)
for line, (name, row) in zip(panels, rows.items(), strict=True):
    for panel, picture in zip(line, row[:shown], strict=True):
        panel.imshow(picture.reshape(side, side), cmap="gray_r", vmin=0, vmax=1)
        panel.set(xticks=[], yticks=[])
    line[0].set_ylabel(name)
figure.suptitle(f"{pixels} pixels through {options.code} numbers")
figure.savefig(options.picture, dpi=100)
print(f"saved {options.picture}")
print(f"mean squared error on new digits: network {errors['network']:.5f}, PCA {errors['PCA']:.5f}")
