"""HalfPasses: forward and backward in half precision, call by call, for loops of one's own."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from xpnn.errors import XpnnError
from xpnn.network import Network
from xpnn.numerics import widened
from xpnn.training.stepping.precision import MixedPrecision, is_floats
from xpnn.trees import tree_map
from xpnn.typing import Array, Namespace, Params, State


class HalfPasses:
    """What a step of ``Trainer`` does between a batch and its gradients, in two calls.

    ::

        forward     by copies of the parameters in half precision; outputs in float32
        backward    by the same copies; the delta times the loss scale s, in half precision
        gradients   s dL/dw in half precision, as the optimizer's sweep takes them
        returned    dL/d(input) in float32, without the scale

    Between the calls the network has its parameters in float32, as always.
    """

    def __init__(self, network: Network, precision: MixedPrecision):
        self.network, self.precision = network, precision
        self._lent: Params = {}  # by which the last forward computed
        self._last = -1  # the number of the last pass, among those of the network
        self._state_before: State | None = None  # before the first forward since a step
        half = network.backend.dtype(precision.dtype)

        def narrowed_delta(xp: Namespace, delta: Array, scale: Any) -> Array:
            return xp.astype(delta * scale, half)

        def unscaled(xp: Namespace, back: Array, scale: Any) -> Array:
            return widened(back, xp) / scale

        self._narrowed_delta = network.backend.elementwise(narrowed_delta)
        self._unscaled = network.backend.elementwise(unscaled)

    def forward(self, x: Any) -> Any:
        """The outputs for a batch of inputs, in training."""
        network, backend = self.network, self.network.backend
        room = backend.room_for("a forward pass", "take a smaller batch")
        with room, backend.on_device(), backend.overflowing(), network.in_training():
            network.check_ready()
            x = tree_map(lambda one: self.precision.narrowed(one, backend), network.asarray(x))
            lent = self.precision.lent(network.params, backend)
            before = self._floats_of_state()
            with self._lending(lent):
                outputs = network.run(x, training=True)
            if self._state_before is None:
                self._state_before = before
            self._lent, self._last = lent, network.passes
            return tree_map(lambda one: widened(one, backend.xp), outputs)

    def backward(self, delta: Any, to_input: bool, scale: Array | None) -> Any:
        """Hand a delta back, and leave the gradients in the network.

        Raises:
            XpnnError: the last pass of the network was no ``forward`` of this.
        """
        network, backend = self.network, self.network.backend
        kept = any(layer.cache for layer in network.all_layers)
        if not (kept and network.passes == self._last):
            raise XpnnError(
                f"backward in {self.precision.dtype} needs what forward in {self.precision.dtype} "
                f"has kept, and there is none since the last step or another pass; call "
                f"updater.forward(x) first"
            )
        factor: Any = 1.0 if scale is None else scale
        with backend.on_device(), backend.overflowing(), network.in_training(), ExitStack() as lent:
            deltas = network.as_deltas(delta)
            given = [tree_map(_where_any(self._narrowed_delta, factor), deltas)]
            del delta, deltas
            lent.enter_context(self._lending(self._lent))
            for layer in network.all_layers:
                if layer.adds:
                    vars(layer)["term_factor"] = factor
                    lent.callback(vars(layer).pop, "term_factor")
            back = network.run_back(given.pop(), to_input)
            self._last = network.passes
            return tree_map(_where_any(self._unscaled, factor), back)

    def check_grads(self, missing: Sequence[str]) -> None:
        """Whether the network's gradients are those of the last pass, a ``backward`` of this.

        Args:
            missing: names of parameters of which there are none.

        Raises:
            XpnnError: they are not.
        """
        network, half = self.network, self.precision.dtype
        if missing:
            raise XpnnError(
                f"there are no gradients of {', '.join(missing)}, which steps and predict forget; "
                f"call updater.forward(x) and updater.backward(delta) before each updater.step()"
            )
        if network.awaits_backward and network.passes == self._last:
            raise XpnnError(
                "the gradients are of a batch before the last updater.forward; call "
                "updater.backward(delta) between it and updater.step()"
            )
        if network.passes != self._last:
            raise XpnnError(
                f"the last pass was one of the network's own, which compute in float32 and know no "
                f"loss scale; for a step in {half} call updater.forward(x) and "
                f"updater.backward(delta) right before it"
            )

    def states(self) -> tuple[State, State]:
        """The floats among the network's state as it is now, and before the passes of a step."""
        now = self._floats_of_state()
        return now, now if self._state_before is None else self._state_before

    def forget(self) -> None:
        """Let nothing of a pass count for the next step."""
        self._lent, self._last, self._state_before = {}, -1, None

    def _floats_of_state(self) -> State:
        network = self.network
        return {k: one for k, one in network.state.items() if is_floats(one, network.backend)}

    @contextmanager
    def _lending(self, lent: Params) -> Iterator[None]:
        """Inside, the layers compute with copies of the parameters."""
        kept = self.network.params
        self.network.params = lent
        try:
            yield
        finally:
            self.network.params = kept


def _where_any(sweep: Callable[..., Array], factor: Any) -> Callable[[Any], Any]:
    """A sweep with a factor over a delta; what has none, such as an input of ids, stays None."""
    return lambda delta: None if delta is None else sweep(delta, factor)
