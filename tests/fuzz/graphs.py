"""Random graphs of several inputs and outputs, each drawn from a seed, as source text.

``Case`` has graphs of one input and output among its layers, and trains them. Here deltas go back
from all outputs of a graph at once, by itself and compiled.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tests.fuzz.drawing import VOCABULARY, Draw, UnfitError, made
from tests.fuzz.networks import Drawn
from tests.fuzz.shrinking import smaller_codes
from tests.fuzz.twin import Twin
from tests.layers.table import one_pass
from xpnn import Network
from xpnn.trees import as_tuple, one_or_tuple


@dataclass(frozen=True)
class GraphCase(Drawn):
    """A graph, as source text.

    Attributes:
        graph: made of numbers, as a file has it.
        batch: samples.
        seed: of all numbers.
    """

    graph: str
    batch: int = 3
    seed: int = 0

    @classmethod
    def drawn(cls, seed):
        """The case of that number."""
        draw = Draw(np.random.default_rng([seed, 18]))
        while True:
            try:
                return cls(draw.whole_graph(), 300 if draw.flag(0.05) else draw.few(2, 5), seed)
            except UnfitError:
                continue

    @property
    def code(self):
        """A program that tries this case."""
        return (
            f"from tests.fuzz.graphs import GraphCase\n"
            f"print(GraphCase(\n"
            f"    {self.graph!r},\n"
            f"    batch={self.batch}, seed={self.seed},\n"
            f")"
        )

    def _made(self, backend):
        return Network(made(self.graph), backend=backend, dtype="float64")

    def samples(self, network, turn):
        """Inputs and deltas of outputs."""
        rng = np.random.default_rng([self.seed, 100 + turn])
        x = [
            rng.integers(0, VOCABULARY, (self.batch, *shape))
            if takes == "integers"
            else rng.normal(size=(self.batch, *shape))
            for shape, takes, _ in network.inputs
        ]
        return x, [rng.normal(size=(self.batch, *shape)) for shape, _ in network.outputs]

    def _pairs(self, network, backend) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        twin = Twin(network, None)
        batches = [self.samples(network, turn) for turn in range(2)]
        if backend.name != "jax":  # which would compile each call of each network by itself
            x, deltas = batches[0]
            with backend.on_device():
                out = network.forward(one_or_tuple(x), training=True)
                back = network.backward(one_or_tuple([backend.asarray(one) for one in deltas]))
                ours = named(network, {"output": out, "input": back, **network.grads})
            yield "eager pass", ours | state_of(network), twin.way_back(x, deltas)
            network.root.clear()
        step = backend.compiled(one_pass(network), known=True)
        for turn in (0, 1, 1):
            x, deltas = batches[turn]
            given = [one_or_tuple([backend.asarray(one) for one in many]) for many in (x, deltas)]
            with backend.on_device():
                found, network.state = step(network.params, network.state, *given)
                ours = named(network, found)
            yield "compiled pass", ours | state_of(network), twin.way_back(x, deltas)
        right = {f"output {k}": one for k, one in enumerate(twin.outputs(x))}
        yield "prediction", named(network, {"output": network.predict(one_or_tuple(x))}), right

    def _smaller(self) -> Iterator["GraphCase"]:
        if self.batch != 2:
            yield replace(self, batch=2)
        for code in smaller_codes(self.graph):
            yield replace(self, graph=code)


def state_of(network):
    return {name: one for name, one in network.numpy_arrays().items() if name in network.state}


def named(network, values):
    """Arrays on the host; those of several inputs and outputs by their numbers."""
    found = {}
    for name, one in values.items():
        if name in ("output", "input"):
            found |= {f"{name} {k}": part for k, part in enumerate(as_tuple(one))}
        else:
            found[name] = one
    to_host = network.backend.to_numpy
    return {k: np.array(to_host(one)) for k, one in found.items() if one is not None}
