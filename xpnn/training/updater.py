"""Updater: the step behind ``network.backward``, for training loops of one's own."""

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from xpnn.arguments import KnownAttributes, checked
from xpnn.errors import ShapeError, XpnnError
from xpnn.network import Network
from xpnn.optimizers import Optimizer
from xpnn.saving.model import FREE_SOME
from xpnn.training.checkpointing.agreement import kind_of_optimizer
from xpnn.training.checkpointing.contents import write_contents
from xpnn.training.checkpointing.resuming import put_back, read_checkpoint, state_contents
from xpnn.training.names import optimizer_of_name
from xpnn.training.state import TrainingState
from xpnn.training.stepping.half_passes import HalfPasses
from xpnn.training.stepping.precision import MixedPrecision, as_precision
from xpnn.training.stepping.settings import Settings
from xpnn.training.stepping.step import make_update_step
from xpnn.trees import tree_map
from xpnn.typing import Array, OptState, Params


class Updater(KnownAttributes):
    """Updates a network by the gradients that ``network.backward`` has left.

    It is for loops that ``Trainer`` does not know: of several networks, of deltas that come from no
    loss. A step is that of a ``Trainer``: penalties of ``regularize`` are added to the gradients,
    then come clipping, weight decay and the optimizer's rule, by its schedules and factors, then
    constraints; frozen layers stay. The update is compiled where a ``Trainer`` compiles steps.
    Forward and backward run call by call, in the network's dtype.

    Behind a step the gradients are gone, as are the caches, so that no batch counts twice.

    With a ``precision``, ``updater.forward`` and ``updater.backward`` take the place of those of
    the network: layers compute in half precision beside float32 parameters, as in a ``Trainer``.
    The delta is multiplied by the loss scale there, and the step divides by it; where a gradient is
    not finite, it is skipped (see ``MixedPrecision``).

    Args:
        network: what is trained, in place.
        optimizer: such as ``Adam(1e-3)``, or a name, as for ``Trainer``. Its hyperparameters may be
            changed between steps.
        compile: whether the update is made one unit; None leaves it to the backend.
        precision: "float16", "bfloat16" or a ``MixedPrecision``, as for ``Trainer``.

    Attributes:
        state: what is trained and where it stands, as of a ``Trainer``.

    Raises:
        ValueError: there is a precision, and the network's own dtype is not float32.
        BackendUnavailable: its library has no such dtype.

    >>> import xpnn
    >>> net = xpnn.Network([xpnn.Dense(1, use_bias=False)], input_shape=(1,))
    >>> net.load({"0.dense.weight": [[2.0]]})
    >>> updater = Updater(net, xpnn.SGD(0.1))
    >>> predictions = net.forward([[1.0], [2.0]], training=True)
    >>> value, delta = xpnn.mean_squared_error(predictions, [[3.0], [6.0]])
    >>> back = net.backward(delta)  # dL/d(input), which another network may take for its delta
    >>> penalty = updater.step()
    >>> net.params["0.dense.weight"].tolist()
    [[2.5]]
    """

    fixed = ("network", "optimizer", "compile", "precision", "state")

    @checked
    def __init__(
        self,
        network: Network,
        optimizer: Optimizer | str,
        *,
        compile: bool | None = None,
        precision: str | MixedPrecision | None = None,
    ):
        rule = optimizer_of_name(optimizer)
        for name, value, kind, example in (
            ("network", network, Network, "Network([...], input_shape=...)"),
            ("optimizer", rule, Optimizer, "an object such as Adam(1e-3)"),
        ):
            if not isinstance(value, kind):
                raise TypeError(f"{name}: wanted {example}, got {value!r}")
        self.network, self.optimizer = network, rule
        self.compile, self.precision = compile, as_precision(precision, network)
        self._passes = None if self.precision is None else HalfPasses(network, self.precision)
        self.state = TrainingState(
            network, no_loss, rule, no_step, precision=self.precision, compile=compile
        )
        self._renew_step()

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return self.state.steps

    @property
    def opt_state(self) -> OptState | None:
        """The optimizer's state; set it to None, and the optimizer begins anew."""
        return self.state.opt_state

    @opt_state.setter
    def opt_state(self, value: OptState | None) -> None:
        backend = self.network.backend
        if value is not None and backend.devices > 1:  # a trainer may have shared it out
            value = tree_map(partial(backend.slot_between_steps, is_shared=False), value)
        self.state.opt_state, self.state.opt_state_of = value, None
        self._forget_passes()

    def _forget_passes(self) -> None:
        """What was multiplied by a loss scale that is gone counts for no step."""
        if self._passes is not None:
            self._passes.forget()

    def _renew_step(self) -> None:
        self._settings = Settings(self.state)
        self._update = make_update_step(self.network, self.optimizer, self.compile, self.precision)

    def forward(self, x: Any) -> Any:
        """The outputs for a batch in training, in the precision of this updater; see ``Network``.

        In half precision they are float32 all the same, as losses want them. Without a precision
        it is ``network.forward(x, training=True)``.
        """
        if self._passes is None:
            return self.network.forward(x, training=True)
        return self._passes.forward(x)

    def backward(self, delta: Any, to_input: bool = True) -> Any:
        """Hand dL/d(output) back through the layers, behind ``forward``; see ``Network.backward``.

        In half precision it is multiplied by the loss scale on the way in, and what is returned is
        divided by it. ``network.grads`` are then in half precision, and as large as the scale makes
        them; ``step`` takes it from them.

        Returns:
            dL/d(input), of the scale of ``delta``, or None.

        Raises:
            XpnnError: there was another pass since this updater's ``forward``, or none.
        """
        if self._passes is None:
            return self.network.backward(delta, to_input)
        state = self.state
        opt_state = state.opt_state or state.begin_opt_state()
        return self._passes.backward(delta, to_input, opt_state.get("loss_scale"))

    def step(self, grads: Mapping[str, Array] | None = None) -> Array:
        """Update the network by its gradients, which are gone then.

        Args:
            grads: in place of the network's own, by name, such as the sums of those of several
                passes: ``{name: first[name] + second[name] for name in first}``, where each is
                ``network.grads`` behind a ``backward``. Where there is a loss scale, they are
                multiplied by it, as ``updater.backward`` leaves them.

        Returns:
            What the penalties add to the loss, a 0-d array that stays on the device.

        Raises:
            XpnnError: there are no gradients, or there was another ``forward`` behind them; or
                another thread trains the network. Nothing was changed.
            ShapeError: gradients that were given are not those of what is trained; likewise.
        """
        network, state, passes = self.network, self.state, self._passes
        learned = self._own() if grads is None else self._given(grads)
        if not self._settings.hold():
            self._renew_step()
        backend = network.backend
        overflowing = nullcontext() if passes is None else backend.overflowing()
        room = backend.room_for("an update", "make the network smaller")
        with network.in_training(), room, backend.on_device(), overflowing:
            opt_state = state.opt_state or state.begin_opt_state()
            states = ({}, {}) if passes is None else passes.states()
            params, state.opt_state, floats, penalty = self._update(
                network.params, opt_state, learned, *states
            )
            network.params = params
            if floats:
                network.state = network.state | floats
        network.root.clear()
        self._forget_passes()
        state.steps += 1
        return penalty

    def _own(self) -> Params:
        """The gradients that ``backward`` has left, of all that is trained."""
        network, passes = self.network, self._passes
        grads, trained = network.grads, network.trainable()
        if not trained:
            raise XpnnError("all layers are frozen, so there is nothing to update")
        missing = sorted(trained - grads.keys())
        if missing and trained & grads.keys() and not network.awaits_backward:
            layer = missing[0].rpartition(".")[0]
            raise XpnnError(
                f"there are no gradients of {', '.join(missing)}, as nothing came back to them: a "
                f"delta was None, say; give zeros for it, as in np.zeros_like(output), or freeze "
                f"what is not to be trained, as in network.freeze({layer!r})"
            )
        if passes is not None:
            passes.check_grads(missing)
        if missing:
            raise XpnnError(
                f"there are no gradients of {', '.join(missing)}, which steps and predict forget; "
                f"call network.forward(x, training=True) and network.backward(delta) before each "
                f"updater.step()"
            )
        if network.awaits_backward:
            raise XpnnError(
                "the gradients are of a batch before the last network.forward; call "
                "network.backward(delta) between it and updater.step()"
            )
        return {name: grad for name, grad in grads.items() if name in trained}

    def _given(self, grads: Mapping[str, Array]) -> Params:
        """Gradients that were handed over, of all that is trained."""
        network, backend = self.network, self.network.backend
        params, trained = network.params, network.trainable()
        faults = [f"none of {name}" for name in sorted(trained - grads.keys())]
        faults += [
            f"one of {name}, which there is not" for name in sorted(grads.keys() - {*params})
        ]
        if faults:
            raise ShapeError(
                f"wanted a gradient of each of {', '.join(sorted(trained))}, got "
                f"{'; '.join(faults)}"
            )
        learned = {name: backend.asarray(grads[name]) for name in params if name in trained}
        for name, grad in learned.items():
            if tuple(grad.shape) != tuple(params[name].shape):
                raise ShapeError(
                    f"wanted a gradient of {name} in its shape, {tuple(params[name].shape)}, got "
                    f"{tuple(grad.shape)}"
                )
        return learned

    def observe(self, value: float) -> None:
        """Tell schedules that watch a value, such as ``ReduceOnPlateau``, how it is by now.

        ``fit`` tells them the loss of each epoch, on validation data if there are some.
        """
        state, backend = self.state, self.network.backend
        with backend.on_device():
            opt_state = state.opt_state or state.begin_opt_state()
            state.opt_state = self.optimizer.observe(opt_state, float(value), backend)

    def save(self, path: str | Path) -> None:
        """Write a checkpoint of network, optimizer state and count of steps, whole or not at all.

        Raises:
            OSError: it could not be written; an old file is unharmed.
        """
        backend = self.network.backend
        room = backend.room_for(f"copies to write into {path}", FREE_SOME)
        with room, self.network.at_rest(), backend.on_device():
            write_contents(Path(path), state_contents(self.state))

    def load(self, path: str | Path) -> None:
        """Take over network, optimizer state and count from a checkpoint, of any backend.

        Those that a ``Trainer`` has saved will do, too.

        Raises:
            FileError: it is no whole checkpoint, or a newer xpnn wrote it.
            ShapeError: it does not fit the network or the optimizer. Nothing is changed either way.
        """
        backend = self.network.backend
        with backend.room_for(f"the arrays of {path}", f"nothing was loaded; {FREE_SOME}"):
            tree = read_checkpoint(Path(path))
            there, kind = kind_of_optimizer(tree["must_agree"]), type(self.optimizer).__name__
            if there not in (None, kind):
                raise ShapeError(
                    f"{path} holds the numbers of {there}, which mean something else to {kind}; "
                    f"load it with Updater(network, {there}(...))"
                )
            put_back(self.state, tree, Path(path))
        self._forget_passes()

    def __repr__(self) -> str:
        return f"<Updater on {self.network.backend.spec}, {self.optimizer!r}, {self.steps} steps>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an Updater is not pickled or copied, as its update is compiled for its own network; "
            "save it with updater.save(path)"
        )


def no_loss(
    predictions: Any, targets: Any, *, sample_weight: Any = None, backend: Any = None
) -> Any:
    """Stands in the state of an ``Updater``, of which losses are the loop's own business."""
    raise XpnnError("an Updater knows no loss")


def no_step(x: Any, y: Any, weight: Any) -> Any:
    """Stands there, too: an ``Updater`` is given gradients."""
    raise XpnnError("an Updater takes no batches")
