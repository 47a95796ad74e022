"""xpnn as columns of a benchmark that times whole training steps of many libraries side by side.

The benchmark hands over its module: what it trains (``WORKS``), starting weights and batches
(``make_data``), and how it wants to be driven (``Runner``, ``FitRunner``). Here its eight works are
written as a user of xpnn would write them: a Network, a loss, an optimizer, ``Trainer.step``.
"""

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

import xpnn
from xpnn import SGD, Adam, AdamW, Dense, Flatten, Network, ReLU, Sigmoid, Trainer, every_parameter
from xpnn.layers import (
    LSTM,
    Conv2D,
    Embedding,
    Layer,
    LayerNorm,
    LearnedPositions,
    MaxPool2D,
    TransformerBlock,
)

STEPS = ["W1", "W2", "W3", "W4", "W5", "W6", "W7"]
ACTIVATIONS = {"relu": ReLU, "sigmoid": Sigmoid}
Work = dict[str, Any]
Weights = dict[str, np.ndarray]


def register(columns: dict[str, Any], lib: ModuleType) -> None:
    """Add columns for NumPy, numba, JAX, and PyTorch: compiled, call by call."""
    for name, backend, compiled, works, dists in (
        ("xpnn", "numpy", None, [*STEPS, "W8"], ["xpnn"]),
        ("xpnn_numba", "numpy:numba", None, [*STEPS, "W8"], ["xpnn", "numba"]),
        ("xpnn_jax", "jax", None, STEPS, ["xpnn", "jax"]),
        ("xpnn_torch_compile", "torch", True, STEPS, ["xpnn", "torch"]),
        ("xpnn_torch_eager", "torch", None, STEPS, ["xpnn", "torch"]),
    ):
        columns[name] = {
            "make": partial(column, lib=lib, backend=backend, compiled=compiled),
            "imp": f"import {', '.join(dists)}",
            "dists": dists,
            "works": works,
        }


def column(name: str, lib: ModuleType, backend: str, compiled: bool | None = None) -> Any:
    """One work on one backend, as the benchmark drives it."""
    work, weights, xs, ys = lib.make_data(name)
    if work["loss"] == "quad":
        ys = lib.one_hot(ys)
    make = partial(make_trainer, work, weights, backend, compiled)
    network = make().network
    read = network.backend.to_numpy

    if "fit" in work:

        def run() -> Callable[[np.ndarray], Any]:
            trainer = make()
            return lambda chosen: trainer.step(np.take(xs, chosen, axis=0), ys[chosen])

        return lib.FitRunner(work, run, float, network.backend.synchronize)

    trainer = make()
    batches = [
        (network.asarray(x), network.backend.asarray(y, None if y.dtype.kind == "f" else "int32"))
        for x, y in zip(xs, ys, strict=True)
    ]
    return lib.Runner(
        lambda i: trainer.step(*batches[i % len(batches)]),
        lambda value: float(read(value)),
        lambda: [read(param) for param in trainer.network.params.values()],
    )


def make_trainer(
    work: Work, weights: Weights, backend: str, compiled: bool | None = None
) -> Trainer:
    """The network of a work with those weights, its loss and its optimizer."""
    layers, input_shape, names = ARCHITECTURES[work["kind"]](work)
    network = Network(layers, input_shape, backend)
    network.load({**network.state, **{own: weights[name] for own, name in names.items()}})
    loss = xpnn.quadratic_cost if work["loss"] == "quad" else xpnn.cross_entropy
    return Trainer(network, loss, make_optimizer(work["opt"]), compile=compiled)


def make_optimizer(options: dict[str, Any]) -> xpnn.Optimizer:
    """The optimizer of a work."""
    if options["name"] == "sgd":
        return SGD(options["lr"], momentum=options["mu"])
    means = {"beta1": options["b1"], "beta2": options["b2"], "epsilon": options["eps"]}
    if options["name"] == "adam":
        return Adam(options["lr"], **means)
    return AdamW(options["lr"], weight_decay=options["wd"], decays=every_parameter, **means)


# Each returns layers, the input shape, and for each parameter of the network the benchmark's name.
Architecture = tuple[list[Layer], tuple[int, ...], dict[str, str]]


def mlp(work: Work) -> Architecture:
    """Dense layers with an activation between them, and behind the last for the quadratic cost."""
    inputs, *hidden, outputs = work["sizes"]
    activation = ACTIVATIONS[work["act"]]
    layers = [layer for units in hidden for layer in (Dense(units), activation())]
    layers += [Dense(outputs), *([activation()] if work["loss"] == "quad" else [])]
    return layers, (inputs,), dense_names({2 * k: k for k in range(len(work["sizes"]) - 1)})


def cnn(work: Work) -> Architecture:
    """Two convolutions with pooling, two Dense."""
    layers = [Conv2D(16, 3), ReLU(), MaxPool2D(2), Conv2D(32, 3), ReLU(), MaxPool2D(2)]
    layers += [Flatten(), Dense(128), ReLU(), Dense(10)]
    names = {"0.conv2d.weight": "C0", "0.conv2d.bias": "c0"}
    names |= {"3.conv2d.weight": "C1", "3.conv2d.bias": "c1"}
    return layers, (28, 28, 1), names | dense_names({7: 0, 9: 1})


def lstm(work: Work) -> Architecture:
    """One LSTM, its last output to a Dense."""
    names = {"0.lstm.weight": "Wx", "0.lstm.recurrent_weight": "Wh", "0.lstm.bias": "bh"}
    names |= {"1.dense.weight": "W", "1.dense.bias": "b"}
    return [LSTM(work["H"]), Dense(10)], (work["T"], work["I"]), names


def gpt(work: Work) -> Architecture:
    """A character transformer, pre-norm."""
    width, count = work["D"], work["blocks"]
    layers: list[Layer] = [Embedding(work["V"], width), LearnedPositions()]
    layers += [TransformerBlock(width, work["heads"], causal=True) for _ in range(count)]
    layers += [LayerNorm(), Dense(work["V"])]
    names = {"0.embedding.weight": "tok", "1.learnedpositions.weight": "pos"}
    for k in range(count):
        block = f"{k + 2}.transformerblock"
        look, think = f"{block}.0.residual.body", f"{block}.1.residual.body"
        names |= {
            f"{look}.0.layernorm.scale": f"g1_{k}",
            f"{look}.0.layernorm.shift": f"h1_{k}",
            f"{look}.1.multiheadattention.weight": f"Wqkv_{k}",
            f"{look}.1.multiheadattention.bias": f"bqkv_{k}",
            f"{look}.1.multiheadattention.output_weight": f"Wo_{k}",
            f"{look}.1.multiheadattention.output_bias": f"bo_{k}",
            f"{think}.0.layernorm.scale": f"g2_{k}",
            f"{think}.0.layernorm.shift": f"h2_{k}",
            f"{think}.1.dense.weight": f"Wu_{k}",
            f"{think}.1.dense.bias": f"bu_{k}",
            f"{think}.3.dense.weight": f"Wd_{k}",
            f"{think}.3.dense.bias": f"bd_{k}",
        }
    last = count + 2
    names |= {f"{last}.layernorm.scale": "gf", f"{last}.layernorm.shift": "hf"}
    return (
        layers,
        (work["T"],),
        names
        | {
            f"{last + 1}.dense.weight": "Wv",
            f"{last + 1}.dense.bias": "bv",
        },
    )


ARCHITECTURES: dict[str, Callable[[Work], Architecture]] = {
    "mlp": mlp,
    "cnn": cnn,
    "lstm": lstm,
    "gpt": gpt,
}


def dense_names(numbers: dict[int, int]) -> dict[str, str]:
    """The names of Dense layers, from their place in the network to their number."""
    return {
        f"{place}.dense.{kind}": f"{letter}{number}"
        for place, number in numbers.items()
        for kind, letter in (("weight", "W"), ("bias", "b"))
    }
