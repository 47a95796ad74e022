"""Averages of weights over the steps of a training, which stand in for the last ones."""

import weakref
from typing import Any, ClassVar

import numpy as np

from xpnn.arguments import KnownAttributes, checked
from xpnn.backends import Backend
from xpnn.moving import moved
from xpnn.network import Network
from xpnn.training.callbacks.hooks import Callback
from xpnn.training.checkpointing.fields import COUNT, DICTIONARY, check_fields
from xpnn.training.state import TrainingState
from xpnn.typing import Array, Namespace


class WeightAverage(KnownAttributes, Callback):
    """Base of callbacks that average the parameters, and the running statistics of norms.

    The average lies on the device, in at least float32, and nobody waits for it. Validation, what
    ``on_epoch_end`` of other callbacks sees, and the network that ``fit`` leaves behind, however it
    ends, have the average; so ``BestWeights`` keeps the best average. Training itself goes on from
    its own weights, in a second ``fit``, too, and a ``Checkpoint`` holds both, so that a run that
    is resumed is the same. After ``forget``, training stands at what the network has.
    """

    replaces_weights: ClassVar[bool] = True
    runs_first: ClassVar[bool] = True

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Let the next ``fit`` begin a new average."""
        self.count, self._averaged_at = 0, 0
        self._average: dict[str, Any] = {}
        self._own: dict[str, Any] = {}  # what training stands at
        self._put_in: dict[str, Any] = {}
        self._put_into = 0  # the id of the network that was given it
        self._training: object = None
        self._networks: list[weakref.ref[Network]] = []  # averaged one after another, moved
        self._steps = 0  # where the training of the last one stood

    # What it does --------------------------------------------------------------------------------

    def _add(self, state: TrainingState, share: float) -> None:
        """``a <- a + share (w - a)``; the first time, ``a <- w``."""
        backend, values = state.network.backend, _averaged(state)
        if not self._average:
            wide = {name: _at_least_float32(one, backend) for name, one in values.items()}
            self._average = {name: _copy(one, wide[name], backend) for name, one in values.items()}
        else:
            sweep = backend.elementwise(_toward, donate=(0,))
            old = self._average
            self._average = {name: sweep(old[name], one, share) for name, one in values.items()}
        self.count, self._averaged_at = self.count + 1, state.steps

    def _swap_in(self, state: TrainingState) -> None:
        """Let the network have the average; what it had is what training stands at."""
        if not self._average or state.set_aside is not None:
            return
        network = state.network
        self._own = {**network.params, **network.state}
        copies = {  # as later steps may write over what a network has
            name: _copy(one, self._own[name].dtype, network.backend)
            for name, one in self._average.items()
        }
        self._put_in = {**self._own, **copies}
        network.params = network.state = self._put_in
        self._put_into = id(network)
        state.set_aside = self._own

    def _swap_out(self, state: TrainingState) -> None:
        """Let the network have again what training stands at, if it has the average still."""
        now = {**state.network.params, **state.network.state}
        if self._put_in and all(now[name] is one for name, one in self._put_in.items()):
            state.network.params = state.network.state = self._own
        self._own, self._put_in, state.set_aside = {}, {}, None

    # When ----------------------------------------------------------------------------------------

    def on_fit_check(self, state: TrainingState, steps: int) -> None:
        if self._training is state.training:
            self._check_that_it_follows(state)

    def on_fit_begin(self, state: TrainingState, epochs: int) -> None:
        if self._training is not state.training:
            self.forget()
            self._training = state.training
        averages = [type(one).__name__ for one in state.callbacks if isinstance(one, WeightAverage)]
        if len(averages) > 1:
            raise ValueError(
                f"a network has one average at a time, got {' and '.join(averages)}; leave out all "
                f"but one"
            )
        self._bring_to(state.network)
        self._swap_out(state)
        if not self._networks or self._networks[-1]() is not state.network:
            self._networks.append(weakref.ref(state.network))

    def _check_that_it_follows(self, state: TrainingState) -> None:
        """Refuse a second training, beside one that ``Trainer.to`` has moved, in one average."""
        seen = [one() for one in self._networks]
        if not seen or seen[-1] is state.network:
            return
        if state.network in seen or state.steps < self._steps:
            kind = type(self).__name__
            raise ValueError(
                f"this {kind} is the average of another trainer, which Trainer.to has made of this "
                f"one, or this one of it, and both train on; make one trainer with a {kind} of its "
                f"own among its callbacks, or let this one begin a new average: call its forget()"
            )

    def _bring_to(self, network: Network) -> None:
        """Have all where the network lies: that of a trainer which was moved by ``Trainer.to``."""
        backend, now = network.backend, {**network.params, **network.state}
        if not all(map(backend.owns, self._average.values())):
            self._average = {
                name: backend.asarray(backend.move(one), str(one.dtype).rpartition(".")[2])
                for name, one in self._average.items()
            }
        if not self._put_in or self._put_into == id(network):
            return
        put_in = moved(self._put_in, now, backend)
        if all(_is_same(now[name], one, backend) for name, one in put_in.items()):
            self._own, self._put_in = moved(self._own, now, backend), now

    def on_resume(self, state: TrainingState) -> None:
        """Bring what a checkpoint had to the device."""
        backend = state.network.backend
        self._average = {
            name: backend.asarray(one, str(one.dtype)) for name, one in self._average.items()
        }

    def on_epoch_begin(self, state: TrainingState, steps: int | None) -> None:
        self._swap_out(state)

    def on_steps_end(self, state: TrainingState) -> None:
        self._swap_in(state)

    def on_fit_end(self, state: TrainingState) -> None:
        self._swap_in(state)
        state.set_aside, self._steps = None, state.steps

    # In a checkpoint -----------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {"count": self.count, "averaged_at": self._averaged_at, "average": self._average}

    def check_state(self, state: TrainingState, saved: dict[str, Any]) -> None:
        kind = type(self).__name__
        wanted = {"count": COUNT, "averaged_at": COUNT, "average": DICTIONARY}
        check_fields(saved, wanted, kind)
        own = {name: tuple(one.shape) for name, one in _averaged(state).items()}
        found = {name: np.shape(one) for name, one in saved["average"].items()}
        if found and found != own:
            raise ValueError(f"its {kind!r} averaged weights of another network")

    def load_state(self, saved: dict[str, Any]) -> None:
        self.count, self._averaged_at = saved["count"], saved["averaged_at"]
        self._average = {name: np.asarray(one) for name, one in saved["average"].items()}


class EMA(WeightAverage):
    """An exponential moving average of the weights, which is often better than the last of them.

    After the first step the average is the weights w, and after each of the others::

        a <- decay a + (1 - decay) w

    (Polyak and Juditsky, 1992, with weights that fade.) Validation, the best weights and the
    network that ``fit`` leaves behind have the average; training itself goes on from its own.

    Args:
        decay: how much of the average survives a step, in [0, 1); it goes back over about
            1 / (1 - decay) steps.

    >>> from xpnn import SGD, Dense, Network, Trainer, mean_squared_error
    >>> net = Network([Dense(1)], input_shape=(1,), seed=1)
    >>> trainer = Trainer(net, mean_squared_error, SGD(0.1), callbacks=[EMA(0.9)])
    >>> history = trainer.fit([[1.0], [2.0]], [[1.0], [0.0]], epochs=5, progress=False)
    """

    @checked
    def __init__(self, decay: float = 0.999):
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"EMA needs a decay in [0, 1), got {decay}")
        self.decay = decay

    def on_step_end(self, state: TrainingState, step: int) -> None:
        self._add(state, 1.0 - self.decay)


class SWA(WeightAverage):
    """The mean of the weights at the end of epochs, from one on (Izmailov et al., 2018).

    After each epoch from ``start`` on, with a the average of n weights so far, and w those of now::

        a <- (n a + w) / (n + 1)

    The rate is best constant or cyclic over these epochs, and not small. Before ``start`` all is as
    without it. What has the average is as for ``EMA``.

    Args:
        start: the first epoch whose end is averaged, counted from 1 over all calls of ``fit``.

    >>> from xpnn import SGD, Dense, Network, Trainer, mean_squared_error
    >>> net = Network([Dense(1)], input_shape=(1,), seed=1)
    >>> trainer = Trainer(net, mean_squared_error, SGD(0.1), callbacks=[SWA(start=3)])
    >>> history = trainer.fit([[1.0], [2.0]], [[1.0], [0.0]], epochs=5, progress=False)
    >>> trainer.callbacks[0].count
    3
    """

    @checked
    def __init__(self, start: int):
        super().__init__()
        if start < 1:
            raise ValueError(f"SWA needs a start of at least 1, the first epoch, got {start}")
        self.start = start

    def on_steps_end(self, state: TrainingState) -> None:
        # where a run was saved behind the steps of an epoch, it was averaged already
        if state.epoch + 1 >= self.start and self._averaged_at != state.steps:
            self._add(state, 1.0 / (self.count + 1))
        super().on_steps_end(state)


def _averaged(state: TrainingState) -> dict[str, Array]:
    """What is averaged: parameters, and what of the state are floats."""
    xp, network = state.network.backend.xp, state.network
    floats = {
        name: one
        for name, one in network.state.items()
        if hasattr(one, "dtype") and xp.isdtype(one.dtype, "real floating")
    }
    return {**network.params, **floats}


def _is_same(one: Any, other: Any, backend: Backend) -> bool:
    """Whether two counters, or the numbers in two arrays, are equal."""
    if isinstance(one, int | float):
        return bool(one == other)
    return np.array_equal(backend.to_numpy(one), backend.to_numpy(other))


def _toward(xp: Namespace, average: Array, value: Array, share: float) -> Array:
    return average + share * (xp.astype(value, average.dtype) - average)


def _copy(value: Array, dtype: Any, backend: Backend) -> Array:
    """Its numbers in another array, of another dtype: an array library may hand on what it has."""
    zeros = backend.xp.zeros(value.shape, dtype=dtype, device=backend.device)
    copied: Array = backend.elementwise(_toward, donate=(0,))(zeros, value, 1.0)
    return copied


def _at_least_float32(value: Array, backend: Backend) -> Any:
    return backend.xp.float32 if backend.xp.finfo(value.dtype).bits < 32 else value.dtype
