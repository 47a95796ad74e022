"""Learn the NAND gate with linked layers, and show what backprop computed.

    python examples/01_nand_gate.py --backend numpy

NAND is 1 unless both inputs are 1. The net has two inputs, one hidden layer of sigmoids and one
sigmoid output, as in the guide; the four rows of the truth table are its only batch.
"""

import argparse

from xpnn.guide import HiddenLayer, InputLayer, OutputLayer

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--backend", default="numpy", help="numpy, cupy, torch, jax, ...")
parser.add_argument("--steps", type=int, default=1000, help="times through the truth table")
parser.add_argument("--units", type=int, default=4, help="width of the hidden layer")
parser.add_argument("--rate", type=float, default=5.0, help="learning rate")
parser.add_argument("--seed", type=int, default=0, help="of the starting weights")
options = parser.parse_args()

X = [[0, 0], [0, 1], [1, 0], [1, 1]]
Y = [[1], [1], [1], [0]]

i = InputLayer(X, backend=options.backend, seed=options.seed)
h = HiddenLayer(options.units, upper_layer=i)
o = OutputLayer(1, upper_layer=h, learning_rate=options.rate)

for _ in range(options.steps):
    h.feedforward()
    o.feedforward()
    o.backprop(Y)

print("inputs  NAND  o.z    o.delta  h.delta")
z, o_delta, h_delta = map(o.backend.to_numpy, (o.z, o.delta, h.delta))
for (a, b), (y,), prediction, error, passed_up in zip(X, Y, z, o_delta, h_delta, strict=True):
    deltas = " ".join(f"{delta:+.4f}" for delta in passed_up)
    print(f"{a} {b}     {y}     {prediction[0]:.3f}  {error[0]:+.4f}  {deltas}")

right = sum((prediction[0] > 0.5) == y for prediction, (y,) in zip(z, Y, strict=True))
print(f"{right} of 4 right after {options.steps} steps")
