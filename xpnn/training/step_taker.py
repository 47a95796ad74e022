"""The steps of a trainer: made for its settings, taken, and made anew when these have changed."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from xpnn.agreeing import STEP, told_by_all
from xpnn.arguments import KnownAttributes
from xpnn.backends.advice import reword, rewording
from xpnn.backends.recording.text import Listing
from xpnn.data.first_batch import FirstBatch
from xpnn.data.seen_batches import SeenBatches
from xpnn.errors import CompileError
from xpnn.layers.nodes import is_several
from xpnn.local_rows import LocalRows
from xpnn.training.checkpointing.agreement import MOST_NAMED, differing, what_must_agree
from xpnn.training.checkpointing.processes import (
    check_processes,
    check_same_batches,
    known_of,
    values_of,
)
from xpnn.training.intake.single_batch import check_single_batch
from xpnn.training.state import TrainingState
from xpnn.training.stepping.batch_weight import Weighed
from xpnn.training.stepping.compiling import why_not_compiled
from xpnn.training.stepping.conversion import BatchForm
from xpnn.training.stepping.memory import Needs, with_more_memory
from xpnn.training.stepping.objective import Objective
from xpnn.training.stepping.settings import Settings, hyperparameters, options_by_value
from xpnn.training.stepping.step import make_flat_step, make_weighing_eval_step
from xpnn.training.trainer_arguments import as_parts, check_parts, check_samples_alone
from xpnn.typing import Array, Arrays, OptState

FEWER = "take smaller batches, hand the data over batch by batch, or make the network smaller"


def _of_state(name: str) -> Any:
    """An attribute of the trainer that is one of its state."""

    def get(trainer: "StepTaker") -> Any:
        return getattr(trainer.state, name)

    def put(trainer: "StepTaker", value: Any) -> None:
        setattr(trainer.state, name, value)

    return property(get, put)


class StepTaker(KnownAttributes):
    """The part of a trainer that takes steps on the network of its state."""

    state: TrainingState
    callbacks: Sequence[Any]
    _made_for: Any = None
    _seen: SeenBatches | None = None  # of the batches of ``step``
    _agreed: Any = None  # what steps were made for when all processes had agreed on it

    network = _of_state("network")
    loss = _of_state("loss")
    optimizer = _of_state("optimizer")
    metrics = _of_state("metrics")
    precision = _of_state("precision")
    accumulate = _of_state("accumulate")
    compile = _of_state("compile")
    seed = _of_state("seed")
    epoch = _of_state("epoch")
    steps = _of_state("steps")
    epoch_steps = _of_state("epoch_steps")
    stop_reason = _of_state("stop_reason")

    @property
    def opt_state(self) -> OptState | None:
        """The optimizer's state; set it to None, and the optimizer begins anew."""
        return self.state.opt_state

    @opt_state.setter
    def opt_state(self, value: OptState | None) -> None:
        self.state.opt_state, self.state.opt_state_of = value, None

    @property
    def compiled(self) -> bool:
        """Whether training steps are compiled; ``repr(trainer)`` says why, if they are not.

        A step that the backend refuses is known as such when it was taken.
        """
        return self._why_not_compiled() is None

    @property
    def program(self) -> Listing:
        """The array calls of the step that was taken last, as it was recorded: ``print`` it.

        NumPy's steps are, and those of CuPy with ``compile="fused"`` from the third of a shape on.

        Raises:
            CompileError: no step was recorded.
        """
        found = self._train_step.program
        if found is None:
            raise CompileError(
                f"wanted a step that was recorded, got none: {self._why_no_program()}"
            )
        return found

    def _why_no_program(self) -> str:
        reason, backend = self._why_not_compiled(), self.network.backend
        if reason is not None:
            return f"steps run call by call: {reason}"
        if backend.name != "numpy":
            return (
                f"{backend.name!r} writes down no steps, but for those of CuPy with "
                f"compile='fused', from the third of a shape on; backend='numpy' writes down each"
            )
        return "train on a batch first, as by trainer.step(x, y)"

    def _why_not_compiled(self) -> str | None:
        reason = why_not_compiled(self.network, self.loss, self.optimizer, self.compile)
        return reason or self._train_step.refusal

    def step(self, x: Arrays, y: Arrays, weight: Array | None = None) -> Array:
        """Train on one batch of arrays of the network's backend; returns the loss, a 0-d array.

        Where several processes train together, each is given the whole batch, and takes its rows.

        Where all weights are 0 the loss is NaN, as a mean of nothing, and the gradients are 0.
        Arrays of another library are moved. The value stays on the device;
        ``float(network.backend.to_numpy(value))`` waits for it. Targets that the loss cannot use,
        such as a class number that is too large, and ids that are not looked up, are refused before
        the first step, where no device is waited for to see them: in lists, and in arrays on the
        host. Later ones, and NaN, are for ``fit`` to find, and so is what has changed inside of a
        list that the loss was given.

        Raises:
            ShapeError, DataError: shapes, dtypes or targets do not fit; nothing was changed.
            DeviceError: an array is of the network's library, but on another device.
            XpnnError: a layer does not know yet what it goes by, before the first step; or the
                processes of this training differ in their programs, seeds or first batches.
            OutOfMemory: the step does not fit into the device's memory; nothing was changed.
        """
        if self.state.opt_state is None:  # each time, a small network's step would take longer
            check_single_batch(self.network, self.loss, x, y)
        if self.state.by_rows is None:
            value = self._take_step(x, y, weight)[0]
        else:
            value = self._take_step(*self._own_rows(x, y, weight))[0]
        return value if self._objective.is_single else self._objective.total(value)

    def _own_rows(self, x: Any, y: Any, weight: Any) -> tuple[Any, ...]:
        """What this process takes of a batch, and which rows these are."""
        form, backend = BatchForm(self.network), self.network.backend
        given = dict(zip(form.names, form.parts(x, y, weight), strict=True))
        with rewording(**given):
            taken: list[Any] = [
                one if one is None else self._taken(n, one) for n, one in given.items()
            ]
        self._agree(taken)
        portion, total = self.state.portion, int(taken[0].shape[0])
        assert portion is not None
        chosen = portion.chosen(total)
        if isinstance(chosen, slice):
            parts = [None if one is None else one[chosen, ...] for one in taken]
        else:
            rows, take = backend.from_numpy(chosen), backend.xp.take
            parts = [None if one is None else take(one, rows, axis=0) for one in taken]
        return *form.whole(parts), portion.of(total)

    def _agree(self, batch: Sequence[Any]) -> None:
        """Whether all processes are to take the same steps: before the first, and now and then."""
        state = self.state
        assert state.communicator is not None
        if self._seen is None:
            self._seen = SeenBatches(FirstBatch(state.network.backend))
        self._seen.note(batch)
        if self._agreed is None:
            told_by_all(state.communicator, STEP)
            first = FirstBatch(state.network.backend)
            first.note(batch)
            agreed = what_must_agree(state, None, None, dict) | {"data": known_of(first)}
            check_processes(state.communicator, {**agreed, **values_of(state)})
            self._note_agreed()
        elif state.communicator.acts_alone or self._seen.is_due:
            told = told_by_all(state.communicator, "batches of steps", self._seen.checksum)
            check_same_batches(told[:, 0].tolist(), f"step {state.steps + 1}")

    def _note_agreed(self) -> None:
        """All processes have the same settings."""
        if self.state.communicator is not None:
            found = what_must_agree(self.state, None, None, dict)
            self._agreed, self._agreed_on = self._made_for, found

    def _agree_on_settings(self) -> None:
        """At the begin of an epoch: whether what callbacks have changed was changed in all.

        Raises:
            XpnnError: it was not; raised in all processes, and the message says what.
        """
        communicator = self.state.communicator
        if communicator is None:
            return
        if not self._settings.hold():
            self._renew_steps()
        has_changed = self._made_for is not self._agreed
        if told_by_all(communicator, "the begin of an epoch", has_changed)[:, 0].any():
            check_processes(communicator, what_must_agree(self.state, None, None, dict))
            self._note_agreed()

    def _agree_on_change(self) -> None:
        """Settings have changed since all processes agreed: whether they have in all of them.

        Raises:
            XpnnError: they have not, or not in the same way; the message says how.
        """
        communicator = self.state.communicator
        assert communicator is not None
        found = what_must_agree(self.state, None, None, dict)
        changed = [f"{name} ({a}, {b})" for name, a, b, _ in differing(self._agreed_on, found)]
        more = f" than before, in: {', '.join(changed[:MOST_NAMED])}" if changed else ""
        told_by_all(communicator, "a step with other settings", more=more)
        check_processes(communicator, found)
        self._agreed, self._agreed_on = self._made_for, found

    def _take_step(
        self,
        x: Arrays,
        y: Arrays,
        weight: Array | None,
        rows: tuple[LocalRows, ...] | None = None,
    ) -> Weighed:
        """The same on these rows of a batch, with what it weighs in a mean over batches."""
        state = self.state
        owns = state.network.backend.owns
        all_owned = owns(x) and owns(y) and (weight is None or owns(weight))
        if not (all_owned or self._owns_parts(x, y, weight)):
            return self._step_with(x, y, weight, rows)
        if not self._settings.hold():
            self._renew_steps()
        if self._made_for is not self._agreed and self._agreed is not None:
            self._agree_on_change()
        opt_state = state.opt_state
        if opt_state is None:
            if state.communicator is not None:
                told_by_all(state.communicator, "a step of an optimizer that begins")
            with state.network.backend.on_device():
                state.network.check_ready()  # as fit does; here once, as it may wait for the device
            with state.network.backend.room_for("the optimizer's state", FEWER):
                opt_state = state.begin_opt_state()
        try:
            found: Weighed = self._train_step(opt_state, x, y, weight, rows)
        except Exception as error:
            reword(error, x=x, y=y)
            if rows is not None:  # the others have begun to add up, and would not begin anew
                raise
            again = partial(self._train_step, opt_state)
            needs = Needs(state.network, opt_state, state.accumulate, self._peak)
            found = with_more_memory(error, again, needs, x, y, weight)
        state.steps += 1
        return found

    def _owns_parts(self, x: Any, y: Any, weight: Any) -> bool:
        """Whether all are arrays of the backend, or tuples of such where there are several."""
        network, owns = self.network, self.network.backend.owns
        given = (x, network.input_shape), (y, network.output_shape)
        return (weight is None or owns(weight)) and all(
            all(map(owns, arrays)) if type(arrays) is tuple and is_several(shape) else owns(arrays)
            for arrays, shape in given
        )

    def _step_with(
        self, x: Any, y: Any, weight: Any, rows: tuple[LocalRows, ...] | None
    ) -> Weighed:
        """A step with arrays of other libraries, or lists, made arrays of the network's backend."""
        form = BatchForm(self.network)
        given = dict(zip(form.names, form.parts(x, y, weight), strict=True))
        if weight is None:
            del given["sample_weight"]
        with rewording(**given):
            taken = [self._taken(name, values) for name, values in given.items()]
            return self._take_step(*form.whole(taken), rows)

    def _taken(self, name: str, values: Any) -> Array:
        with rewording(**{name: values}):
            return self.network.backend.asarray(values)

    def _renew_steps(self) -> None:
        """Make steps anew if they hold anything as it was: hyperparameters, what is frozen.

        What else a layer keeps, such as a count of its calls, is looked at once in each ``fit``,
        and so are its methods, in whose place others may have been put.
        """
        state = self.state
        network, loss, optimizer = state.network, state.loss, state.optimizer
        check_parts(network, optimizer, state.metrics, self.callbacks)
        if state.by_rows is not None:
            check_samples_alone(network, loss)
        state.check_opt_state()
        state.metrics, state.accumulate = tuple(state.metrics), as_parts(state.accumulate)
        settings = Settings(state)
        network.check_layers()
        methods = [(one.forward, one.backward) for one in network.all_layers]
        self._options = options_by_value(state)
        self._objective = Objective(network, loss)
        found = settings, hyperparameters(network), methods, self._options
        if found != self._made_for:
            self._made_for = found
            self._eval_step = make_weighing_eval_step(network, loss, state.metrics, self.compile)
            self._train_step = make_flat_step(
                *(network, loss, optimizer, state.precision, state.accumulate, self.compile),
                *(state.by_rows, state.shard_optimizer),
            )
        self._settings = settings

    def _peak(self, batch: int, accumulate: int) -> int:
        """The bytes of a step at its highest moment, in so many parts."""
        raise NotImplementedError
