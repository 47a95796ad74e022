"""Callback and the hooks that the loop calls, at its seams.

A callback overrides the hooks that it needs. ``state`` gives it the network, the optimizer's state,
``state.stop(reason)`` and ``state.epoch``, the epochs done over all calls of ``fit``. Numbers reach
it at log points only, as Python floats that are already on the host.
"""

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, ClassVar

from xpnn.agreeing import acting_alone
from xpnn.arguments import as_written
from xpnn.training.state import TrainingState

Logs = dict[str, float]


def in_words(logs: Logs) -> str:
    """The numbers of an epoch in a line; what a callback has put among them may be anything."""
    shown = {name: f"{one:.4g}" if isinstance(one, Real) else one for name, one in logs.items()}
    return ", ".join(f"{name}={one}" for name, one in shown.items())


class Callback:
    """Base of all callbacks: hooks with nothing in them.

    Attributes:
        runs_first, runs_last: whether its hooks are called before those of all other callbacks, or
            behind them.
        replaces_weights: whether its ``on_fit_end`` puts other weights into the network.
        steers_trainable: whether it sets ``trainable`` of layers, which is then not looked at where
            a run goes on from a checkpoint: it has to look at that itself.
        steers: whether training may depend on what it was made with, which is then looked at where
            a run goes on from a checkpoint.
        first_process_only: whether its hooks are called in process 0 alone, where several train
            together, and as in ``Trainer.alone``: for what writes files and shows how far it is.
            All others are called in every process, with the same numbers, and have to do the same
            in each.
        in_all_processes: the hooks that are called in every process all the same.

    >>> from xpnn import SGD, Dense, Network, Trainer, mean_squared_error
    >>> class Printer(Callback):
    ...     def on_epoch_end(self, state, logs):
    ...         print(f"epoch {state.epoch}, loss {logs['loss']:.1f}")
    >>> net = Network([Dense(1, use_bias=False)], input_shape=(1,))
    >>> net.load({"0.dense.weight": [[2.0]]})
    >>> trainer = Trainer(net, mean_squared_error, SGD(0.1), callbacks=[Printer()])
    >>> history = trainer.fit([[1.0], [2.0]], [[3.0], [6.0]], epochs=1, progress=False)
    epoch 1, loss 2.5
    """

    runs_first: ClassVar[bool] = False
    runs_last: ClassVar[bool] = False
    replaces_weights: ClassVar[bool] = False
    steers_trainable: ClassVar[bool] = False
    steers: ClassVar[bool] = True
    first_process_only: ClassVar[bool] = False
    in_all_processes: ClassVar[tuple[str, ...]] = ()
    _is_open: ClassVar[bool] = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._is_open = not cls.__module__.startswith("xpnn.")  # a user's own keeps what it likes
        if "load_state" in vars(cls) and "check_state" not in vars(cls):  # it takes up another one
            cls.check_state = Callback.check_state  # type: ignore[method-assign]

    def __repr__(self) -> str:
        return as_written(self)

    def on_fit_check(self, state: TrainingState, steps: int) -> None:
        """``fit`` is about to go on after ``steps`` steps; raise here if it must not.

        Nothing was changed yet: what a checkpoint holds is not in ``state``.
        """

    def on_fit_begin(self, state: TrainingState, epochs: int) -> None:
        """``fit`` starts and will run for up to ``epochs`` epochs."""

    def on_resume(self, state: TrainingState) -> None:
        """``fit`` goes on from a checkpoint, of which all callbacks have taken up their part."""

    def on_epoch_begin(self, state: TrainingState, steps: int | None) -> None:
        """An epoch of ``steps`` steps starts; None where an iterable does not say how many.

        ``state.epoch`` is its number, counted from 0.
        """

    def on_step_begin(self, state: TrainingState, batch: tuple[Any, ...]) -> None:
        """The next step is taken on ``batch``, behind ``state.steps`` others.

        It is (x, y, sample_weight) of the backend, the last may be None.
        """

    def on_log_begin(self, state: TrainingState, batch: tuple[Any, ...]) -> None:
        """The next step is taken on ``batch``, and a log point comes behind it.

        ``batch`` is as in ``on_step_begin``, whose call comes before this one. Behind the last
        step of an iterable that does not say how many there are a log point comes unannounced.
        """

    def on_step_end(self, state: TrainingState, step: int) -> None:
        """Step number ``step`` of this epoch, counted from 1, has been issued to the device."""

    def on_steps_end(self, state: TrainingState) -> None:
        """All steps of an epoch are done; what is measured on validation data comes next."""

    def on_log(self, state: TrainingState, step: int, logs: Logs) -> None:
        """A log point: the epoch's mean loss up to step ``step``."""

    def on_epoch_end(self, state: TrainingState, logs: Logs) -> None:
        """An epoch ended: its loss, its validation results, the rate of its last step.

        ``state.epoch`` is its number, counted from 1. What is put into ``logs`` is a number of this
        epoch like all others, for the callbacks behind this one and for the history.
        """

    def on_interrupt(self, state: TrainingState) -> None:
        """Ctrl-C ends ``fit``, between two steps, when nothing is half done."""

    def on_fit_end(self, state: TrainingState) -> None:
        """``fit`` ends, whether all went well or not, in other callbacks too."""

    def known_by(self, state: TrainingState) -> str | None:
        """What tells it from others of its kind in a checkpoint, such as the number it watches."""
        return None

    def state(self) -> dict[str, Any] | None:
        """What a checkpoint keeps of it, by name; None if there is nothing to keep.

        Arrays, numbers, texts, None, and dicts and lists of such, which come back as NumPy arrays
        and as lists. What grows with the epochs is best an array: all else has to fit into the
        header of a file, which is of 10 MB at most.
        """
        return None

    def check_state(self, state: TrainingState, saved: dict[str, Any]) -> None:
        """Raise ValueError if ``load_state`` could not take this up; nothing was changed yet."""

    def load_state(self, saved: dict[str, Any]) -> None:
        """Take up what ``state`` once returned; after ``on_fit_begin`` of a resumed ``fit``."""


def acts_here(callback: Callback, state: TrainingState) -> bool:
    """Whether a callback is one of this process, where several train together."""
    return state.is_first or not callback.first_process_only


def is_of_first(callback: Callback, hook: str) -> bool:
    """Whether process 0 alone calls that hook."""
    return callback.first_process_only and hook not in callback.in_all_processes


class CallbackList:
    """Calls the hooks of several callbacks, and only of those that override them."""

    def __init__(self, callbacks: Sequence[Callback], state: TrainingState):
        callbacks = sorted(callbacks, key=lambda one: (not one.runs_first, one.runs_last))
        self.callbacks, self._state = callbacks, state
        self._hooks = {
            hook: [
                getattr(callback, hook)
                for callback in callbacks
                if getattr(type(callback), hook) is not getattr(Callback, hook)
                and (state.is_first or not is_of_first(callback, hook))
            ]
            for hook in vars(Callback)
            if hook.startswith("on_")
        }

    @property
    def replacing_weights(self) -> list[str]:
        """The kinds of those that put other weights into the network in the end."""
        return [type(one).__name__ for one in self.callbacks if one.replaces_weights]

    @property
    def steering_trainable(self) -> bool:
        """Whether one of them sets what is trained."""
        return any(one.steers_trainable for one in self.callbacks)

    def fit_check(self, steps: int) -> None:
        self._call("on_fit_check", steps)

    def fit_begin(self, epochs: int) -> None:
        self._call("on_fit_begin", epochs)

    def resume(self) -> None:
        self._call("on_resume")

    def epoch_begin(self, steps: int | None) -> None:
        self._call("on_epoch_begin", steps)

    def step_begin(self, batch: tuple[Any, ...]) -> None:
        self._call("on_step_begin", batch)

    def log_begin(self, batch: tuple[Any, ...]) -> None:
        self._call("on_log_begin", batch)

    def step_end(self, step: int) -> None:
        self._call("on_step_end", step)

    def steps_end(self) -> None:
        self._call("on_steps_end")

    def log(self, step: int, logs: Logs) -> None:
        self._call("on_log", step, logs)

    def epoch_end(self, logs: Logs) -> None:
        calls = self._hooks["on_epoch_end"]
        last = [call for call in calls if call.__self__.runs_last]
        for call in calls[: len(calls) - len(last)]:
            self._call_one("on_epoch_end", call, logs)
        self._state.agree_to_stop()
        for call in last:  # they know whether it was the last epoch
            self._call_one("on_epoch_end", call, logs)

    def interrupt(self, error: BaseException) -> None:
        """Call all, though some of them raise: what they raise is noted on ``error``."""
        self._call_all("on_interrupt", error)

    def fit_end(self, error: BaseException | None = None) -> None:
        """Call all, though some of them raise, and raise what was first; the others are its notes.

        Args:
            error: what has ended ``fit``, or None; it is first, and whoever calls this raises it.
        """
        first = self._call_all("on_fit_end", error)
        if error is None and first is not None:
            raise first

    def _call(self, hook: str, *arguments: Any) -> None:
        for call in self._hooks[hook]:
            self._call_one(hook, call, *arguments)

    def _call_one(self, hook: str, call: Callable[..., None], *arguments: Any) -> None:
        """Call a hook; what process 0 alone calls writes and measures by itself."""
        communicator, callback = self._state.communicator, call.__self__  # type: ignore[attr-defined]
        if communicator is None or not is_of_first(callback, hook):
            call(self._state, *arguments)
            return
        with acting_alone(communicator):
            call(self._state, *arguments)

    def _call_all(self, hook: str, first: BaseException | None) -> BaseException | None:
        """Call a hook that has to be called whatever others raise; returns the first error."""
        for call in self._hooks[hook]:
            try:
                self._call_one(hook, call)
            except BaseException as error:
                if first is None:
                    first = error
                elif error is not first:
                    where = f"{type(call.__self__).__name__}.{hook}"
                    first.add_note(f"{where} then raised {type(error).__name__}: {error}")
        return first
