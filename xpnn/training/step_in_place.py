"""StepInPlace: a step that takes what it carries from where it lies, and puts it back there."""

from collections.abc import Callable, Iterator
from typing import Any

from xpnn.network import Network
from xpnn.typing import Array, OptState, Params, State

Path = tuple[str, ...]
"""The keys that lead to a slot of an optimizer's state, such as ("m", "0.dense.weight")."""


class StepInPlace:
    """Changes the arrays of a network and the state of its optimizer, step by step.

    A step knows its arrays by name, in dictionaries. To take these apart and put them together at
    every call takes a compiled step of a small network as long as a layer. So what is compiled is
    given one list, in an order that is settled once, and gives one back.

    Args:
        network: whose layers hold the parameters and the state.
        step: ``(params, state, opt_state, x, y, weight) -> (params, state, opt_state, value)``.
        finish: ``(step, donate) -> compiled``, which may write over the donated arguments.
    """

    def __init__(
        self,
        network: Network,
        step: Callable[..., tuple[Params, State, OptState, Array]],
        finish: Callable[..., Callable[..., Any]],
    ):
        self.network, self.step, self.finish = network, step, finish
        self._form: dict[str, Any] | None = None  # the optimizer's state without its arrays
        self._paths: list[Path] = []

    def go_on_from(self, opt_state: OptState) -> None:
        """Take steps from that state of the optimizer, which is changed in place from now on."""
        self._opt_state, self._nested = opt_state, list(_nested(opt_state))
        slots = {path: (holder, key) for path, holder, key in _slots(opt_state)}
        form = _emptied(opt_state)
        if form != self._form:
            self._form, self._paths = form, list(slots)
            self.run = self.finish(self._of_list, donate=(0,))
        own = (*self.network.param_places, *self.network.state_places)
        self._places = [(holder, key) for _, holder, key in own]
        self._places += [slots[path] for path in self._paths]

    def __call__(self, x: Array, y: Array, weight: Array | None) -> Array:
        """Take one step; returns the loss."""
        for holder, key, inner in self._nested:
            if holder[key] is not inner:  # somebody has put in another dictionary
                self.go_on_from(self._opt_state)
                break
        places = self._places
        values, loss = self.run([holder[key] for holder, key in places], x, y, weight)
        left = iter(values)
        for holder, key in places:
            holder[key] = next(left)
        return loss

    def _of_list(
        self, values: list[Any], x: Array, y: Array, weight: Array | None
    ) -> tuple[list[Any], Array]:
        """The step on a list: parameters, state, slots of the optimizer."""
        left = iter(values)
        params = {name: next(left) for name, _, _ in self.network.param_places}
        state = {name: next(left) for name, _, _ in self.network.state_places}
        opt_state = _filled(self._form, dict(zip(self._paths, left, strict=True)))
        params, state, opt_state, loss = self.step(params, state, opt_state, x, y, weight)
        slots = {path: holder[key] for path, holder, key in _slots(opt_state)}
        if slots.keys() != set(self._paths):
            changed = sorted(".".join(path) for path in slots.keys() ^ set(self._paths))
            raise ValueError(
                f"wanted the slots of the optimizer's state that it began with, but its update "
                f"added or left out {', '.join(changed)}; return every slot that init makes"
            )
        return [
            *(params[name] for name, _, _ in self.network.param_places),
            *(state[name] for name, _, _ in self.network.state_places),
            *(slots[path] for path in self._paths),
        ], loss


def _slots(tree: dict[str, Any], path: Path = ()) -> Iterator[tuple[Path, dict[str, Any], str]]:
    """Each slot by its path, with the dictionary that holds it and its key there."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _slots(value, (*path, key))
        else:
            yield (*path, key), tree, key


def _nested(tree: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, dict[str, Any]]]:
    """Each dictionary inside, with the one that holds it and its key there."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield tree, key, value
            yield from _nested(value)


def _emptied(tree: dict[str, Any]) -> dict[str, Any]:
    return {key: _emptied(one) if isinstance(one, dict) else None for key, one in tree.items()}


def _filled(form: Any, slots: dict[Path, Any], path: Path = ()) -> Any:
    """The nesting of that form, with the slots in it."""
    if form is None:
        return slots[path]
    return {key: _filled(part, slots, (*path, key)) for key, part in form.items()}
