"""Teach a small transformer a text, and let onnxruntime write with it, a character at a time.

    pip install 'xpnn[onnx]' onnxruntime
    python examples/onnx_writer.py --data FILE

What is exported is one step: it reads a character, beside what the layers remember of those before,
and gives scores for the next one, and what they remember then. No character is read twice, and xpnn
is not needed where the file is used.
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime

import xpnn
from xpnn import Dense, Embedding, LearnedPositions, Network, Trainer, TransformerBlock, generate

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--data", required=True, help="a text file")
parser.add_argument("--context", type=int, default=64, help="characters that are looked at")
parser.add_argument("--width", type=int, default=64, help="features of every character")
parser.add_argument("--epochs", type=int, default=20)
parser.add_argument("--out", default="writer.onnx", help="the model")
options = parser.parse_args()

text = Path(options.data).read_text(encoding="utf-8")
characters = sorted(set(text))
ids = np.array([characters.index(character) for character in text])
windows = ids[: len(ids) // (options.context + 1) * (options.context + 1)]
windows = windows.reshape(-1, options.context + 1)

network = Network(
    [
        Embedding(len(characters), options.width),
        LearnedPositions(),
        TransformerBlock(options.width, 4, causal=True),
        Dense(len(characters)),
    ],
    input_shape=(options.context,),
)
trainer = Trainer(network, xpnn.cross_entropy, xpnn.Adam(3e-3))
history = trainer.fit(windows[:, :-1], windows[:, 1:], epochs=options.epochs, progress=False)
network.to_onnx(options.out, past=options.context, names={"x": "id", "output_0": "scores"})


class Writer:
    """Reads and writes with the exported step; of xpnn it knows nothing."""

    def __init__(self, path):
        self.session = onnxruntime.InferenceSession(path)
        self.names = [one.name for one in self.session.get_outputs()]
        types = {"tensor(float)": np.float32, "tensor(int32)": np.int32}
        self.past = {
            one.name: np.zeros([n if isinstance(n, int) else 1 for n in one.shape], types[one.type])
            for one in self.session.get_inputs()
            if one.name != "id"
        }

    def scores_after(self, number):
        """Of every character, to be the next one."""
        made = self.session.run(self.names, {"id": np.array([[number]]), **self.past})
        found = dict(zip(self.names, made, strict=True))
        self.past = {name: found[f"{name}.after"] for name in self.past}
        return found["scores"][0, 0]


writer, written = Writer(options.out), list(ids[:4])
for number in written[:-1]:
    writer.scores_after(number)
while len(written) < options.context:
    written.append(int(np.argmax(writer.scores_after(written[-1]))))

print(f"loss {history['loss'][-1]:.4f}; onnxruntime writes:")
print("".join(characters[number] for number in written))
count = options.context - 4
same = np.array_equal(written, generate(network, ids[:4], count, temperature=0))
print(f"{'the same' if same else 'otherwise than'} as generate, {count} characters one by one")
