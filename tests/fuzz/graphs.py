"""Random graphs of several inputs and outputs, each drawn from a seed, as source text.

``Case`` has graphs of one input and output among its layers. Here deltas go back from all outputs
of a graph at once, by itself and compiled, and it is trained by the sum of a loss for each.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import xpnn
from tests.fuzz.drawing import VOCABULARY, Draw, UnfitError, made
from tests.fuzz.losses import losses_by_torch, targets_of
from tests.fuzz.networks import Drawn
from tests.fuzz.shrinking import smaller_codes
from tests.fuzz.twin import Twin, as_tensor
from tests.layers.table import one_pass
from xpnn import Network, Trainer
from xpnn.trees import as_tuple, one_or_tuple, tree_map

LIMITS = (", clip=ClipByGlobalNorm(0.5)", ", clip=ClipByValue(0.05)")


@dataclass(frozen=True)
class GraphCase(Drawn):
    """A graph, and what it is trained with; as source text, so that it can be made at any time.

    Attributes:
        graph: made of numbers, as a file has it.
        losses: of the outputs in their order, each by name, and what it counts for in their sum;
            there may be more than outputs. Where there are none, it is not trained.
        optimizer: an optimizer.
        weighed: whether samples have weights.
        accumulate: in how many parts a batch is gone through.
        batch: samples.
        seed: of all numbers.
    """

    graph: str
    losses: tuple[tuple[str, float], ...] = ()
    optimizer: str = "SGD(0.1)"
    weighed: bool = False
    accumulate: int = 1
    batch: int = 3
    seed: int = 0

    @classmethod
    def drawn(cls, seed):
        """The case of that number."""
        draw = Draw(np.random.default_rng([seed, 18]))
        while True:
            try:
                graph = draw.whole_graph()
            except UnfitError:
                continue
            losses = tuple(draw.losses_of_outputs(made(graph)))
            return cls(
                *(graph, losses, draw.optimizer(LIMITS)),  # what grows as a product stays small
                weighed=draw.flag(0.4),
                accumulate=1 if "BatchNorm" in graph else draw.one_of(1, 1, 2, 3),
                batch=300 if draw.flag(0.05) else draw.few(2, 5),
                seed=seed,
            )

    @property
    def code(self):
        """A program that tries this case."""
        return (
            f"from tests.fuzz.graphs import GraphCase\n"
            f"print(GraphCase(\n"
            f"    {self.graph!r},\n"
            f"    {self.losses}, {self.optimizer!r},\n"
            f"    weighed={self.weighed}, accumulate={self.accumulate}, batch={self.batch}, "
            f"seed={self.seed},\n"
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

    def targets(self, network, turn):
        """Targets of the outputs, and weights of samples."""
        rng = np.random.default_rng([self.seed, 200 + turn])
        y = [
            targets_of(name, (self.batch, *shape), rng, self.seed % 2 == 1)
            for (shape, _), (name, _) in zip(network.outputs, self.losses, strict=False)
        ]
        return y, rng.uniform(0.1, 2, self.batch) if self.weighed else None

    def _pairs(self, network, backend) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        losses = self.losses[: len(network.outputs)]
        optimizer = made(self.optimizer)
        by_torch = functools.partial(losses_by_torch, losses)
        twin = Twin(network, lambda *given: by_torch(*given)[1], optimizer)
        yield from self._passes(network, backend, twin)
        if losses:
            functions = [getattr(xpnn, name) for name, _ in losses]
            weights = [count for _, count in losses]
            options = {"loss_weights": weights, "accumulate": self.accumulate}
            trainer = Trainer(network, functions, optimizer, **options)
            yield from self._steps(trainer, twin, by_torch)
        x, _ = self.samples(network, 1)
        right = {f"output {k}": one for k, one in enumerate(twin.outputs(x))}
        yield "prediction", named(network, {"output": network.predict(one_or_tuple(x))}), right

    def _passes(self, network, backend, twin):
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

    def _steps(self, trainer, twin, by_torch):
        """Steps by the sum of the losses, and then each of them by itself."""
        network = trainer.network
        for count, turn in enumerate((0, 1, 1, 0)):
            x, (y, weight) = self.samples(network, turn)[0], self.targets(network, turn)
            x, y = one_or_tuple(x), one_or_tuple(y)
            value = trainer.step(*tree_map(network.backend.asarray, (x, y)), weight)
            theirs = {"loss": twin.step(x, y, weight)}
            theirs |= {k: v.detach().numpy() for k, v in (twin.params | twin.state).items()}
            ours = {"loss": network.backend.to_numpy(value), **network.numpy_arrays()}
            yield f"step {count + 1}", ours, theirs
        if network.backend.name != "jax":
            found = trainer.evaluate(x, y, sample_weight=weight, batch_size=2)
            given = one_or_tuple(twin.outputs(as_tuple(x))), y, weight
            each, total = by_torch(*tree_map(as_tensor, given))
            right = {"loss": total.item()}
            if len(each) > 1:
                pairs = zip(network.outputs, each, strict=True)
                right |= {f"{name}_loss": one.item() for (_, name), one in pairs}
            yield "evaluation", found, right

    def _smaller(self) -> Iterator["GraphCase"]:
        plain = {"losses": (), "optimizer": "SGD(0.1)", "weighed": False, "accumulate": 1}
        for name, value in {**plain, "batch": 2}.items():
            if getattr(self, name) != value:
                yield replace(self, **{name: value})
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
