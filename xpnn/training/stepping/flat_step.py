"""FlatStep: a step on the arrays where they lie, handed over as one list."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from xpnn.backends import Backend
from xpnn.backends.portable.compiled_step import CompiledStep
from xpnn.backends.recording.text import Listing
from xpnn.local_rows import LocalRows
from xpnn.network import Network
from xpnn.trees import Structure
from xpnn.typing import Array, OptState, Params, State


class FlatStep:
    """Changes the arrays of a network, and the state of its optimizer, by one step at each call.

    A step knows its arrays by name, in dictionaries. To take these apart and put them together at
    every call takes JAX as long as a small layer. So what is compiled is given one list, in an
    order that is settled once, and gives one back.

    Args:
        network: whose layers hold the parameters and the state.
        step: ``(params, state, opt_state, x, y, weight) -> (params, state, opt_state, value)``,
            whose value is handed on as it is.
        finish: ``(step, donate, recorded) -> compiled``, which may write over the donated
            arguments.
        recorded: the network and the step once more, on the backend that it is given, which
            records; None where nothing is recorded.
        shares_out: whether each device of the network's backend keeps a part of every slot.
    """

    def __init__(
        self,
        network: Network,
        step: Callable[..., tuple[Params, State, OptState, Any]],
        finish: Callable[..., Callable[..., Any]],
        recorded: Callable[[Backend], tuple[Network, Callable[..., Any]]] | None = None,
        shares_out: bool = False,
    ):
        self.network, self.step, self.finish, self.recorded = network, step, finish, recorded
        self.shares_out = shares_out
        self._form: Structure | None = None  # of the optimizer's state
        self._opt_state: OptState | None = None

    def __call__(
        self,
        opt_state: OptState,
        x: Array,
        y: Array,
        weight: Array | None = None,
        rows: tuple[LocalRows, ...] | None = None,
    ) -> Any:
        """Take a step, which changes the optimizer's state, too, in place; returns its value.

        Args:
            rows: which of a batch these are, where other processes have the others.
        """
        if opt_state is not self._opt_state:
            self._settle(opt_state)
        for holder, key, inner in self._nested:
            if holder[key] is not inner:  # somebody has put in another dictionary
                self._settle(opt_state)
                break
        refs = self._refs
        values, value = self.run([holder[key] for holder, key in refs], x, y, weight, rows)
        left = iter(values)
        for holder, key in refs:
            holder[key] = next(left)
        return value

    def arguments(self, opt_state: OptState, x: Array, y: Array) -> tuple[Any, ...]:
        """What a step on a batch calls ``run`` with."""
        self._settle(opt_state)
        return [holder[key] for holder, key in self._refs], x, y, None, None

    @property
    def refusal(self) -> str | None:
        """Why the backend did not compile the step, if it was tried."""
        return getattr(self.compiled, "refusal", None)

    @property
    def program(self) -> Listing | None:
        """The calls of the step that was taken last, if it was recorded."""
        units = getattr(self.compiled, "units", [])
        recording = getattr(units[0], "recording", None) if units else None
        if recording is None:
            return None
        own = {k: name for k, name in enumerate(self._names)}
        given: dict[Any, str] = {(0, k): name for k, name in own.items()}
        returned = {(0, 0, k): name for k, name in own.items()}
        given |= {(1,): "x", (2,): "y", (3,): "weight"}
        given |= {(1, k): f"x[{name!r}]" for k, (*_, name) in enumerate(self.network.inputs)}
        given |= {(2, k): f"y[{name!r}]" for k, name in enumerate(self.network.output_names)}
        return Listing(
            recording,
            given,
            returned | {(0, 1, 0): "loss", (0, 1, 1): "batch weight"},
        )

    @property
    def compiled(self) -> CompiledStep | None:
        """What the backend made of the step, if it did; nothing before the first one."""
        run = getattr(self, "run", None)
        found = run and inspect.unwrap(run, stop=lambda one: isinstance(one, CompiledStep))
        return found if isinstance(found, CompiledStep) else None

    @property
    def _names(self) -> list[str]:
        """Of what the step changes, in the order of its list."""
        assert self._form is not None
        network = self.network
        own = [name for name, _, _ in (*network.param_refs, *network.state_refs)]
        return own + [".".join(map(str, path)) for path in self._form.paths]

    def _settle(self, opt_state: OptState) -> None:
        """Find who holds which array; make the step anew if the slots have other names."""
        form = self._form
        if form is None or not form.matches(opt_state):
            form = Structure(opt_state)
            on_a_list = _on_a_list(self.network, self.step, form)
            recorded = None if self.recorded is None else partial(_recorded, self.recorded, form)
            self.run, self._form = self.finish(on_a_list, donate=(0,), recorded=recorded), form
        own = (*self.network.param_refs, *self.network.state_refs)
        self._refs = [(holder, key) for _, holder, key in own] + form.holders(opt_state)
        self._opt_state, self._nested = opt_state, form.nested(opt_state)
        backend = self.network.backend
        if backend.devices > 1:
            is_shared = self.shares_out and self.compiled is not None
            for holder, key in form.holders(opt_state):
                holder[key] = backend.slot_between_steps(holder[key], is_shared)


def _recorded(
    recorded: Callable[[Backend], tuple[Network, Callable[..., Any]]],
    form: Structure,
    recorder: Backend,
) -> Callable[..., Any]:
    """The step on a list, of the network that records; nothing here holds a ``FlatStep``."""
    return _on_a_list(*recorded(recorder), form)


def _on_a_list(
    network: Network,
    step: Callable[..., tuple[Params, State, OptState, Any]],
    form: Structure,
) -> Callable[..., tuple[list[Any], Any]]:
    """The step on a list: parameters, state, slots of the optimizer in that form."""

    def on_a_list(
        values: list[Any],
        x: Array,
        y: Array,
        weight: Array | None,
        rows: tuple[LocalRows, ...] | None,
    ) -> tuple[list[Any], Any]:
        left = iter(values)
        params = {name: next(left) for name, _, _ in network.param_refs}
        state = {name: next(left) for name, _, _ in network.state_refs}
        opt_state = form.rebuild(left)
        params, state, opt_state, value = step(params, state, opt_state, x, y, weight, rows)
        if not form.matches(opt_state):
            changed = {
                ".".join(map(str, path)) for path in {*form.paths} ^ {*Structure(opt_state).paths}
            }
            raise ValueError(
                f"wanted the slots of the optimizer's state that it began with, but its update "
                f"added or left out {', '.join(sorted(changed))}; return every slot that init makes"
            )
        return [
            *(params[name] for name, _, _ in network.param_refs),
            *(state[name] for name, _, _ in network.state_refs),
            *form.flatten(opt_state),
        ], value

    return on_a_list
