"""Random networks of all layers, losses and optimizers, each drawn from a seed, as source text.

::

    Case.drawn(7).difference("numpy")      where network 7 differs from PyTorch's, or None
    case.shrunken("numpy")                 a smaller one with the same fault
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import xpnn
from tests.fuzz.drawing import VOCABULARY, Draw, UnfitError, made
from tests.fuzz.losses import loss_by_torch, targets_of
from tests.fuzz.shrinking import smaller_codes
from tests.fuzz.twin import Twin
from xpnn import Network, Trainer
from xpnn.backends import get_backend
from xpnn.errors import XpnnError

CLOSE = 1e-8  # of the largest number of an array; all is worked out in float64
SMALLEST = 0.1  # below, the difference is measured beside this
MOST_TRIES = 400  # smaller networks to try
OF_SAMPLES = ("quadratic_cost", "dice", "triplet", "contrastive", "ctc")  # they have no other items
BY_BATCH = ("contrastive",)  # what one sample costs depends on those beside it


class Drawn:
    """A network that is drawn, and made at any time; what is compared, a kind of case says."""

    def network(self, spec):
        """The network on a backend, its numbers drawn by the seed.

        Raises:
            UnfitError: its layers do not fit each other.
        """
        try:
            network = self._made(spec)
        except (XpnnError, ValueError, TypeError) as error:
            raise UnfitError(str(error)) from error
        network.load(self._numbers(network, 1))
        return network

    def _numbers(self, network, turn):
        """Parameters of a size that neither swells nor fades; the state as it is."""
        rng = np.random.default_rng([self.seed, turn])
        params = {}
        for name, array in network.params.items():
            shape = tuple(array.shape)
            spread = 1 / math.sqrt(math.prod(shape[:-1])) if len(shape) > 1 else 0.5
            params[name] = rng.normal(size=shape) * spread + 1.0 * name.endswith(".scale")
        return {**network.numpy_arrays(), **params}

    def difference(self, spec):
        """Where the network on this backend differs from its twin, in words; None if nowhere.

        Raises:
            UnfitError: the layers do not fit each other.
        """
        backend = get_backend(spec)
        with backend.allow_float64():
            network = self.network(backend)
            for what, ours, theirs in self._pairs(network, backend):
                for name, right in theirs.items():
                    own = (
                        ours.get(name, np.zeros(right.shape))
                        if name in network.params
                        else ours[name]
                    )
                    if words := _differ(own, right):
                        return f"{what}: {name} {words}"
        return None

    def fault(self, spec):
        """What is wrong with it: where it differs first, or what it raises; None if nothing."""
        try:
            difference = self.difference(spec)
        except UnfitError:
            return None
        except Exception as error:  # whatever breaks is what is looked for
            return type(error)
        return difference and difference.partition(":")[0]

    def shrunken(self, spec):
        """A smaller case with the same fault; this one, if none is found."""
        case, tries, fault = self, 0, self.fault(spec)
        while True:
            for smaller in case._smaller():
                tries += 1
                if tries > MOST_TRIES:
                    return case
                if smaller.fault(spec) == fault:
                    case = smaller
                    break
            else:
                return case


@dataclass(frozen=True)
class Case(Drawn):
    """A network, and what it is trained with; as source text, so that it can be made at any time.

    Attributes:
        layers: a list of layers.
        input_shape: of one sample; of ids, if the first layer looks them up.
        loss, options: of the loss.
        optimizer: an optimizer.
        weighed: how many axes the sample weights have; 0 for none.
        accumulate: in how many parts a batch is gone through.
        batch: samples.
        seed: of all numbers.
    """

    layers: str
    input_shape: tuple[int, ...]
    loss: str = "mean_squared_error"
    options: dict[str, Any] = field(default_factory=dict)
    optimizer: str = "SGD(0.1)"
    weighed: int = 0
    accumulate: int = 1
    batch: int = 3
    seed: int = 0

    @classmethod
    def drawn(cls, seed):
        """The case of that number."""
        draw = Draw(np.random.default_rng([seed, 17]))
        pieces, inputs, shape = draw.network()
        loss, options = draw.loss(pieces, shape)
        several = len(shape) > 1 and loss not in OF_SAMPLES
        layers, optimizer = f"[{', '.join(pieces)}]", draw.optimizer()
        return cls(
            *(layers, inputs, loss, options, optimizer),
            weighed=draw.one_of(0, 0, 1, 2 if several else 1),
            # BatchNorm goes by the parts of a batch, and so do negatives
            accumulate=1 if "BatchNorm" in layers or loss in BY_BATCH else draw.one_of(1, 1, 2, 3),
            batch=300 if draw.flag(0.1) else draw.few(2, 5),  # many items go other ways
            seed=seed,
        )

    @property
    def code(self):
        """A program that tries this case."""
        return (
            f"from tests.fuzz.networks import Case\n"
            f"print(Case(\n"
            f"    {self.layers!r},\n"
            f"    {self.input_shape}, {self.loss!r}, {self.options}, {self.optimizer!r},\n"
            f"    weighed={self.weighed}, accumulate={self.accumulate}, batch={self.batch}, "
            f"seed={self.seed},\n"
            f")"
        )

    def _made(self, backend):
        return Network(made(self.layers), self.input_shape, backend, dtype="float64")

    def samples(self, network, turn):
        """Inputs, targets and weights."""
        rng = np.random.default_rng([self.seed, 100 + turn])
        shape, outputs = (self.batch, *self.input_shape), (self.batch, *network.output_shape)
        if network.root.takes == "integers":
            x = rng.integers(0, VOCABULARY, shape)
            x[:, 0] = np.maximum(x[:, 0], 1)  # a sequence is not all padding
        else:
            x = rng.normal(size=shape)
        if "Masked" in self.layers:
            for row, length in zip(x, rng.integers(1, shape[1] + 1, self.batch), strict=True):
                row[length:] = 0
        ignored = "ignore_index" in self.options
        y = targets_of(self.loss, outputs, rng, self.seed % 2 == 1, ignored)
        weight = rng.uniform(0.1, 2, outputs[: self.weighed]) if self.weighed else None
        return x, y, weight

    # Comparing ------------------------------------------------------------------------------------

    def _pairs(self, network, backend) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        """What was worked out, by xpnn and by PyTorch, both by name."""
        loss = functools.partial(getattr(xpnn, self.loss), **self.options)
        by_torch = functools.partial(loss_by_torch, self.loss, self.options)
        optimizer = made(self.optimizer)
        twin = Twin(network, by_torch, optimizer)
        batches = [self.samples(network, turn) for turn in range(2)]
        if backend.name != "jax":  # which would compile each call of each network by itself
            x, y, weight = batches[0]
            yield "eager pass", self._passes(network, loss, x, y, weight), twin.passes(x, y, weight)
        trainer = Trainer(network, loss, optimizer, accumulate=self.accumulate)
        for count, turn in enumerate((0, 1, 1, 0)):
            if count == 2:  # what was kept of the weights would now be stale
                numbers = self._numbers(network, 2)
                network.load(numbers)
                twin.load(numbers)
            value = trainer.step(*(_moved(one, backend) for one in batches[turn]))
            theirs = {"loss": twin.step(*batches[turn])}
            theirs |= {k: v.detach().numpy() for k, v in (twin.params | twin.state).items()}
            ours = {"loss": backend.to_numpy(value), **network.numpy_arrays()}
            yield f"step {count + 1}", ours, theirs
        x, y, weight = batches[1]
        right = twin.measure(x, y, weight)
        yield "prediction", {"output": backend.to_numpy(network.predict(x))}, right[0]
        if self.weighed < 2 and self.loss not in BY_BATCH and backend.name != "jax":
            yield "evaluation", trainer.evaluate(x, y, sample_weight=weight, batch_size=2), right[1]

    def _passes(self, network, loss, x, y, weight):
        backend = network.backend
        with backend.on_device():
            output = network.forward(x, training=True)
            arrays = {"output": backend.xp.asarray(output, copy=True)}
            given = [_moved(one, backend) for one in (y, weight)]
            value, delta = loss(output, given[0], sample_weight=given[1], backend=backend)
            back = network.backward(delta)
        arrays |= {**network.grads, "loss": value, **({} if back is None else {"input": back})}
        return {name: np.array(backend.to_numpy(array)) for name, array in arrays.items()}

    def _smaller(self) -> Iterator["Case"]:
        plain = {"loss": "mean_squared_error", "options": {}, "optimizer": "SGD(0.1)"}
        for name, value in {**plain, "weighed": 0, "accumulate": 1, "batch": 2}.items():
            if getattr(self, name) != value:
                more = {"options": {}} if name == "loss" else {}
                yield replace(self, **{name: value, **more})
        for code in smaller_codes(self.layers):
            yield replace(self, layers=code)


def _moved(array, backend):
    return None if array is None else backend.asarray(array)


def _differ(ours, right):
    """How two arrays differ, in words, or None."""
    ours, right = np.asarray(ours), np.asarray(right)
    if ours.shape != right.shape:
        return f"has the shape {ours.shape}, and PyTorch's {right.shape}"
    scale = max(SMALLEST, float(np.max(np.abs(right), initial=0.0)))
    if not (np.isfinite(ours) == np.isfinite(right)).all():
        return f"is {ours!r}, and PyTorch's {right!r}"
    apart = float(np.max(np.abs(ours - right), initial=0.0)) / scale
    return None if apart <= CLOSE else f"is off by {apart:.2g} of {scale:.3g}"
