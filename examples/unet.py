"""A U-Net finds the disks among squares in noisy pictures, pixel by pixel.

    python examples/unet.py --backend numpy

A picture is made smaller step by step, so that a pixel sees far, and larger again; skips carry over
where things lie exactly, which is lost on the way down (Ronneberger et al., 2015). Overlap is the
intersection of found and true pixels over their union.

Of new pictures the overlap is 0.85 after 8 epochs, on NumPy and on JAX.
"""

import argparse

import numpy as np

import xpnn
from xpnn import Adam, BatchNorm, Concatenate, Conv2D, Input, MaxPool2D, Network, ReLU, UpSampling

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--backend", default="numpy", help="numpy, cupy, torch, jax, ...")
parser.add_argument("--pictures", type=int, default=800, help="to learn from")
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--save", default="unet.safetensors", help="where to save the network")
options = parser.parse_args()


def pictures(count, rng, side=24):
    """Pictures of a disk and a square in noise, and which pixels are the disk's."""
    places = np.arange(side)
    (x, y), (u, v) = rng.uniform(6, side - 6, (2, 2, count, 1, 1))
    radius = rng.uniform(3, 6, (count, 1, 1))
    across, down = places[None, None, :], places[None, :, None]
    disk = (across - x) ** 2 + (down - y) ** 2 < radius**2
    square = np.maximum(abs(across - u), abs(down - v)) < 0.9 * radius
    images = (disk | square) + 0.2 * rng.standard_normal(disk.shape)
    return images[..., None].astype("float32"), disk.astype("int64")


def convolved(node, channels):
    return ReLU()(BatchNorm()(Conv2D(channels, 3, padding="same")(node)))


inputs, skips = Input((24, 24, 1)), []
node = convolved(inputs, 8)
for channels in (16, 32):
    skips.append(node)
    node = convolved(MaxPool2D(2)(node), channels)
for channels in (16, 8):
    node = convolved(Concatenate()(UpSampling(2)(node), skips.pop()), channels)
network = Network(inputs=inputs, outputs=Conv2D(2, 1)(node), backend=options.backend)

rng = np.random.default_rng(0)
train, test = pictures(options.pictures, rng), pictures(200, rng)
trainer = xpnn.Trainer(network, xpnn.cross_entropy, Adam(5e-3), metrics=[xpnn.IoU()])
trainer.fit(*train, epochs=options.epochs, batch_size=32)

network.save(options.save)
again = xpnn.load(options.save, options.backend)
kept = [one.backend.to_numpy(one.predict(test[0][:5])) for one in (network, again)]
assert np.array_equal(*kept), "the file predicts otherwise"
print(f"overlap on new pictures {trainer.evaluate(*test)['iou']:.3f}")
