"""What a gradient check looks at: a layer or a loss, as functions of float64 arrays on the host."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from xpnn.backends import Backend
from xpnn.errors import CompileWarning
from xpnn.layers import Layer
from xpnn.layers.promises import outputs_watched
from xpnn.layers.tying import joined, ties
from xpnn.trees import tree_map
from xpnn.typing import Array, Loss, State

Values = dict[str, np.ndarray]
"""What the output is differentiated by: parameters by name, and what flows in."""


class Complaints:
    """What is wrong with a subject besides its gradients, each said once."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def complain(self, words: str) -> None:
        """Write it down."""
        if words not in self.faults:
            self.faults.append(words)


class LayerSubject(Complaints):
    """A layer of any depth, run on arrays that are lent to it.

    Where layers add terms to the loss, the output is one row: its numbers, and behind them the
    terms, whose parts of delta are the factors that the layers are told.

    Args:
        layer: built on ``backend``.
        training: the mode that it runs in.
    """

    flow = "(input)"

    def __init__(self, layer: Layer, backend: Backend, training: bool):
        super().__init__()
        self.layer, self.backend, self.training = layer, backend, training
        self.adding = [one for _, one in layer.walk() if one.adds]
        self.start = {id(one): self._snapshot(one.state) for _, one in layer.walk()}
        self._lent: dict[str, tuple[np.ndarray, Array]] = {}
        self._output = backend.compiled(self._forward)
        self._passes = backend.compiled(self._forward_and_backward)
        self._passes_in_a_step = backend.compiled(self._forward_and_backward_in_a_step)
        self._with_readers: list[Any] = [one for _, one in layer.walk() if "inspected" in vars(one)]

    def params(self) -> Values:
        """Copies of all parameters."""
        return {
            name: self._on_host(self.backend.asarray(array, "float64"))
            for name, (_, _, array) in self._places().items()
        }

    def outputs(self, values: Values) -> np.ndarray:
        """One forward pass, with every draw and every state as at the start."""
        lent = {name: self._lend_again(name, array) for name, array in values.items()}
        return self._on_host(self._output(lent))

    def _forward(self, lent: dict[str, Array]) -> Array:
        self._fill(lent)
        output = self.layer.forward(lent[self.flow], self.training)
        if not self.adding:
            return output
        self._shape = output.shape
        terms = [one.cache["term"] for one in self.adding]
        return self.backend.xp.concat(
            [self.backend.xp.reshape(one, (-1,)) for one in (output, *terms)]
        )

    def _backward(self, delta: Array) -> Array | None:
        if not self.adding:
            return self.layer.backward(delta)
        own = delta.shape[0] - len(self.adding)
        for number, one in enumerate(self.adding, start=own):
            vars(one)["term_factor"] = delta[number]
        return self.layer.backward(self.backend.xp.reshape(delta[:own], self._shape))

    def _forward_and_backward(
        self, lent: dict[str, Array], delta: Array
    ) -> tuple[Array, Array | None, dict[str, Array]]:
        with outputs_watched(self.layer):
            output = self._forward(lent)
        back = self._backward(delta)
        return output, back, self._grads()

    def gradients(self, values: Values, delta: np.ndarray) -> dict[str, np.ndarray | None]:
        """What ``backward`` says; looks on the way whether the layer minds its manners."""
        lent = {name: self._lend(array) for name, array in values.items()}
        lent_delta = self._lend(delta)
        output, back, grads = self._passes(lent, lent_delta)
        self._fill(lent)  # a compiler has left stand-ins in their place
        if output.dtype != lent_delta.dtype:
            self.complain(f"the output is {output.dtype} while all that goes in is float64")
        for name, array, was in (
            ("delta", lent_delta, delta),
            *((name.strip("()"), lent[name], was) for name, was in values.items()),
        ):
            if not np.array_equal(self._on_host(array), was):
                self.complain(f"the {name} array was written to; it belongs to somebody else")
        for name in sorted(grads.keys() - self._places().keys()):
            self.complain(f"grads has {name!r}, and there is no such parameter")
        found: dict[str, np.ndarray | None] = {
            name: self._on_host(grads[name]) if name in grads else None for name in self._places()
        }
        found[self.flow] = None if back is None else self._on_host(back)
        if self._with_readers:
            self._compare_in_a_step(lent, lent_delta, {**found, "(output)": self._on_host(output)})
        return found

    def _compare_in_a_step(
        self, lent: dict[str, Array], delta: Array, wanted: dict[str, np.ndarray | None]
    ) -> None:
        """Complain of what differs where layers keep nothing for readers, as in a step."""
        output, back, grads = self._passes_in_a_step(lent, delta)
        self._fill(lent)
        for name, array in {**grads, self.flow: back, "(output)": output}.items():
            one, other = wanted.get(name), None if array is None else self._on_host(array)
            if one is not None and other is not None:
                scale = 1e-6 * float(np.max(np.abs(one), initial=1e-6))
                if not np.allclose(other, one, rtol=0, atol=scale):
                    self.complain(f"in a training step, where nobody reads caches, {name} differs")

    def _forward_and_backward_in_a_step(
        self, lent: dict[str, Array], delta: Array
    ) -> tuple[Array, Array | None, dict[str, Array]]:
        backend, least = self.backend, self.backend.attention_from
        try:
            backend.attention_from = 0
            for one in self._with_readers:
                one.inspected = False
            return self._forward_and_backward(lent, delta)
        finally:
            backend.attention_from = least
            for one in self._with_readers:
                one.inspected = True

    def inside(self, values: Values) -> list[tuple[str, Layer, np.ndarray]]:
        """Every layer inside, by name, with the input that it sees; innermost last."""
        seen: dict[str, Array] = {}
        inner = [(name, one) for name, one in self.layer.walk() if one is not self.layer]
        for name, one in inner:
            one.forward = _recording(one.forward, seen, name)  # type: ignore[method-assign]
        try:
            self._forward({name: self._lend(array) for name, array in values.items()})
        finally:
            for _, one in inner:
                del one.forward  # the instance's, which hid the class's
        return [
            (name, one, tree_map(self._on_host, seen[name])) for name, one in inner if name in seen
        ]

    @contextmanager
    def lent(self) -> Iterator[None]:
        """For as long as arrays are lent; afterwards the layer has its own, as they were."""
        kinds = ("params", "grads", "state", "cache")
        layers = [one for _, one in self.layer.walk()]
        own = [{kind: dict(getattr(one, kind)) for kind in kinds} for one in layers]
        settings = [(one.passes_back, one.dtype) for one in layers]
        try:
            for one in layers:
                one.passes_back, vars(one)["dtype"] = True, "float64"
                one.grads.clear()
            with (
                self.backend.allow_float64(),
                self.backend.on_device(),
                warnings.catch_warnings(),
            ):
                # a layer that does not compile is checked as it stands
                warnings.simplefilter("ignore", CompileWarning)
                yield
        finally:
            for one in self.adding:
                vars(one).pop("term_factor", None)
            for one, kept, setting in zip(layers, own, settings, strict=True):
                one.passes_back, vars(one)["dtype"] = setting
                for kind in kinds:
                    getattr(one, kind).clear()
                    getattr(one, kind).update(kept[kind])

    def _places(self) -> dict[str, tuple[Layer, str, Array]]:
        """Each parameter's full name, its layer and its name there."""
        return {
            f"{prefix}.{key}" if prefix else key: (one, key, array)
            for prefix, one in self.layer.walk()
            for key, array in one.params.items()
        }

    def _grads(self) -> dict[str, Array]:
        """All gradients under the names of their parameters; those of tied ones are added up."""
        grads = {
            f"{prefix}.{key}" if prefix else key: array
            for prefix, one in self.layer.walk()
            for key, array in one.grads.items()
        }
        return joined(grads, ties(self.layer, strict=False))

    def _fill(self, lent: dict[str, Array]) -> None:
        for name, (owner, key, _) in self._places().items():
            owner.params[key] = lent[name]
        for _, one in self.layer.walk():
            one.state.update({k: self._thaw(v) for k, v in self.start[id(one)].items()})

    def _snapshot(self, state: State) -> State:
        return {k: v if isinstance(v, int | float) else self._on_host(v) for k, v in state.items()}

    def _thaw(self, value: Any) -> Any:
        if isinstance(value, int | float):
            return value
        return self._lend(value.astype(np.float64) if value.dtype.kind == "f" else value)

    def _lend(self, array: np.ndarray) -> Array:
        return self.backend.asarray(array.copy())

    def _lend_again(self, name: str, array: np.ndarray) -> Array:
        """What was lent the last time, where the array is the same: all but one are, each time."""
        if name not in self._lent or self._lent[name][0] is not array:
            self._lent[name] = array, self._lend(array)
        return self._lent[name][1]

    def _on_host(self, array: Array) -> np.ndarray:
        return np.array(self.backend.to_numpy(array))


class LossSubject(Complaints):
    """A loss with its targets, as a function of the predictions."""

    flow = "(predictions)"

    def __init__(self, loss: Loss, backend: Backend, targets: np.ndarray):
        super().__init__()
        self.loss, self.backend, self.targets = loss, backend, targets

    def params(self) -> Values:
        """A loss has none."""
        return {}

    def outputs(self, values: Values) -> np.ndarray:
        """The value."""
        return np.array(self.backend.to_numpy(self._call(values)[0]))

    def gradients(self, values: Values, delta: np.ndarray) -> dict[str, np.ndarray | None]:
        """The loss's own delta."""
        value, found = self._call(values)
        if tuple(value.shape) != ():
            self.complain(f"the value has the shape {tuple(value.shape)}, wanted a 0-d array")
        return {self.flow: np.array(self.backend.to_numpy(found))}

    @contextmanager
    def lent(self) -> Iterator[None]:
        """A context in which float64 works."""
        with self.backend.allow_float64(), self.backend.on_device():
            yield

    def _call(self, values: Values) -> tuple[Array, Array]:
        predictions = self.backend.asarray(values[self.flow].copy())
        targets = self.backend.asarray(self.targets.copy())
        return self.loss(predictions, targets, backend=self.backend)


Subject = LayerSubject | LossSubject


def _recording(
    forward: Callable[..., Array], seen: dict[str, Array], name: str
) -> Callable[..., Array]:
    """``forward``, which also writes down its input, unless that is not all it is given."""

    def recorded(Z: Array, *rest: Any, **named: Any) -> Array:  # noqa: N803
        if len(rest) < 2 and named.keys() <= {"training"}:
            seen[name] = Z
        return forward(Z, *rest, **named)

    return recorded
