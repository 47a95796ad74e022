"""TrainingState: what is trained, by what, and where the training stands."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from xpnn.agreeing import texts_of_all, told_by_all
from xpnn.backends import Communicator
from xpnn.data.batches import Batches, Samples
from xpnn.data.stream import Stream
from xpnn.errors import XpnnError
from xpnn.local_rows import LocalRows, Portion
from xpnn.metrics import Metric
from xpnn.network import Network
from xpnn.optimizers import Optimizer
from xpnn.training.running_mean import RunningMean
from xpnn.training.stepping.batch_weight import Weighed
from xpnn.training.stepping.compiling import Compile
from xpnn.training.stepping.objective import Objective
from xpnn.training.stepping.precision import MixedPrecision, skipped_steps
from xpnn.training.stepping.sharding import owned, whole_slots
from xpnn.trees import as_tuple, tree_map
from xpnn.typing import Array, Arrays, Loss, OptState


class Stateful(Protocol):
    """What a checkpoint keeps something of, such as a callback."""

    def state(self) -> dict[str, Any] | None:
        """By name, or None if there is nothing to keep."""


@dataclass(eq=False, repr=False, slots=True)
class TrainingState:
    """All that the next step of a training depends on; between two steps it is whole.

    The trainer has one for its life. The loop counts in it, callbacks are given it, and a
    checkpoint is what it holds.

    Attributes:
        network: what is trained, in place.
        loss, optimizer, metrics, precision, accumulate, seed, compile: see ``Trainer``.
        opt_state: the optimizer's state, changed in place; None before the first step.
        opt_state_of: the name of the class of the optimizer that began it; None where it came from
            somewhere else.
        epoch: epochs done, over all calls of ``fit``.
        steps: steps done, over all calls of ``fit``.
        epoch_steps: steps done in the epoch that is running, 0 between epochs.
        first_epoch, last_epoch: the first epoch of this ``fit``, and the one behind its last one.
        logged: the step of this epoch at which the loss was read last.
        losses: the mean loss of the epoch that is running.
        empty: what of the numbers of the epoch that has ended last is NaN since all weights were 0:
            no reason to go by it.
        stop_reason: why ``fit`` ends after the epoch that is running, or None.
        batches: of the epoch that is running, or ran last; None before the first one.
        local_rows: of the batch that comes next, or came last, those that this process has.
        held_out: what ``fit`` measures on after each epoch, or None.
        identify_data: tells what the data of that ``fit`` are known by.
        callbacks: of the ``fit`` that is running, or ran last.
        set_aside: the parameters and the state that training stands at, by name, while the network
            has others, such as their average; None where it has these.
        in_fit: whether a ``fit`` has begun, since when a checkpoint knows where it stands.
        training: stands for this training, for callbacks that remember from one ``fit`` to the
            next; a run that is resumed is another one.
        communicator: of the processes that train together; None where it is one alone.
        shard_optimizer: whether each of them keeps some of the optimizer's slots; of the devices of
            JAX, whether each keeps a part of every slot.
        train_step: takes one step on arrays of the network's backend; returns the loss, and what
            the batch weighs.

    >>> from xpnn import SGD, Callback, Dense, Network, Trainer, mean_squared_error
    >>> class Counter(Callback):
    ...     def on_epoch_end(self, state, logs):
    ...         print(state.epoch, state.steps)
    >>> net = Network([Dense(1)], input_shape=(1,))
    >>> trainer = Trainer(net, mean_squared_error, SGD(0.1), callbacks=[Counter()])
    >>> data = [[1.0], [2.0]], [[1.0], [0.0]]
    >>> history = trainer.fit(*data, epochs=2, batch_size=1, progress=False)
    1 2
    2 4
    """

    network: Network
    loss: Loss
    optimizer: Optimizer
    train_step: Callable[..., Weighed]
    metrics: tuple[Metric, ...] = ()
    precision: MixedPrecision | None = None
    accumulate: int = 1
    seed: int = 0
    compile: Compile = None
    communicator: Communicator | None = None
    shard_optimizer: bool = False

    opt_state: OptState | None = None
    opt_state_of: str | None = None
    epoch: int = 0
    steps: int = 0

    epoch_steps: int = 0
    first_epoch: int = 0
    last_epoch: int = 0
    logged: int = 0
    losses: RunningMean = field(init=False)
    empty: frozenset[str] = frozenset()
    stop_reason: str | None = None
    batches: Batches | Stream | None = None
    local_rows: tuple[LocalRows, ...] | None = None
    held_out: Samples | Stream | None = None
    identify_data: Callable[[], dict[str, Any]] = dict
    callbacks: Sequence[Stateful] = ()
    set_aside: dict[str, Any] | None = None
    in_fit: bool = False
    training: object = field(default_factory=object)

    def __post_init__(self) -> None:
        self.losses = RunningMean(self.network.backend)

    def __repr__(self) -> str:
        return f"<training of {self.network!r} after {self.epoch} epochs, {self.steps} steps>"

    def stop(self, reason: str) -> None:
        """End ``fit`` after the epoch that is running; for callbacks."""
        self.stop_reason = reason

    def agree_to_stop(self) -> None:
        """Let all processes stop where one was told to, as by a clock of its own."""
        if self.communicator is None:
            return
        told = told_by_all(self.communicator, "the end of an epoch", self.stop_reason is not None)
        if 0 < told[:, 0].sum() < self.communicator.size:
            own = self.stop_reason
            reasons = texts_of_all(self.communicator, "" if own is None else f"{own} ")
            rank = next(k for k, one in enumerate(reasons) if one)
            self.stop_reason = f"{reasons[rank]}(in process {rank})" if own is None else own

    @property
    def ends(self) -> bool:
        """Whether the epoch that has just ended is the last one of ``fit``."""
        return self.epoch >= self.last_epoch or self.stop_reason is not None

    def fresh_opt_state(self) -> OptState:
        """The optimizer's state before the first step."""
        scaling = None if self.precision is None else self.precision.scaling
        params, own = self.network.params, self.own_parameters
        with self.network.backend.on_device():
            kept = {name: one for name, one in params.items() if own is None or name in own}
            return self.optimizer.init(kept, self.network.backend, scaling)

    @property
    def own_parameters(self) -> set[str] | None:
        """The names of those whose slots this process keeps; None for all."""
        if self.by_rows is None or not self.shard_optimizer:
            return None
        return owned(self.network.params, self.by_rows)

    def whole_opt_state(self) -> OptState | None:
        """The optimizer's state with all slots; all processes have to ask for it.

        Raises:
            XpnnError: this process acts alone, and others have some of the slots.
        """
        if self.opt_state is None or self.communicator is None or not self.shard_optimizer:
            return self.opt_state
        if self.communicator.acts_alone:
            raise XpnnError(
                f"wanted all processes, each of which has some of the optimizer's slots, as "
                f"shard_optimizer=True says, got process {self.communicator.rank} alone; do it in "
                f"all of them, outside of trainer.alone()"
            )
        if self.by_rows is None:  # each device has a part of every slot
            return tree_map(self.network.backend.to_numpy, self.opt_state)
        return whole_slots(self.opt_state, self.optimizer, self.network, self.communicator)

    def begin_opt_state(self) -> OptState:
        """Let the optimizer begin anew."""
        self.opt_state, self.opt_state_of = self.fresh_opt_state(), type(self.optimizer).__name__
        return self.opt_state

    def check_opt_state(self) -> None:
        """Refuse the state of another kind of optimizer: numbers of one name mean something else.

        Raises:
            XpnnError: the optimizer was put in place of the one that began this state.
        """
        if self.opt_state is None:
            return
        kind = type(self.optimizer).__name__
        scaling = None if self.precision is None else self.precision.scaling
        wanted = self.optimizer.init({}, self.network.backend, scaling).keys()
        if self.opt_state.keys() != wanted or self.opt_state_of not in (None, kind):
            raise XpnnError(
                f"{self.optimizer!r} keeps {', '.join(wanted)}, but trainer.opt_state is that of "
                f"{self.opt_state_of or 'another optimizer'}: {', '.join(self.opt_state)}; set "
                f"trainer.opt_state = None to begin anew with it"
            )

    def begin_fit(self) -> None:
        """Stand before the first step of an epoch, the first one of a ``fit``."""
        self.first_epoch, self.epoch_steps = self.epoch, 0
        self.stop_reason, self.in_fit = None, True
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Forget the losses of the epoch before."""
        self.logged, self.losses = 0, RunningMean(self.network.backend)

    def mean_losses(self) -> dict[str, float]:
        """What the history lists of the epoch so far; waits for the device."""
        means = self.losses.read()
        return Objective(self.network, self.loss).logs(means)

    def mean_losses_since(self, total: Any, weight: Any) -> dict[str, float]:
        """The same of the steps behind those whose losses had these sums, as they were read."""
        return Objective(self.network, self.loss).logs(self.losses.since(total, weight))

    def rate_of_last_step(self) -> float:
        """The learning rate that the last step was taken with; may wait for the device."""
        assert self.opt_state is not None
        taken = self.steps - skipped_steps(self.opt_state, self.network.backend)
        return self.optimizer.hyper_at(taken, self.opt_state)["rate"]

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and tells how far the training is; alone it does."""
        return self.communicator is None or self.communicator.is_first

    @property
    def portion(self) -> Portion | None:
        """What this process takes of each batch; None for all of it."""
        if self.by_rows is None:
            return None
        return Portion(self.by_rows.rank, self.by_rows.size, self.accumulate)

    @property
    def by_rows(self) -> Communicator | None:
        """What adds up over processes that take some rows of a batch each; None for whole ones."""
        communicator = self.communicator
        return communicator if communicator is not None and communicator.cuts_batches else None

    @property
    def measured_by(self) -> Communicator | None:
        """The processes that share out the batches to measure; None where this one has all."""
        by_rows = self.by_rows
        return None if by_rows is None or by_rows.acts_alone else by_rows

    def advance(
        self,
        x: Arrays,
        y: Arrays,
        weight: Array | None,
        rows: tuple[LocalRows, ...] | None = None,
    ) -> None:
        """Train on the next batch of the epoch, or on these rows of it, and count it."""
        value, whole = self.train_step(x, y, weight, rows)
        if whole is None:
            whole = sum(part.total for part in rows) if rows else as_tuple(x)[0].shape[0]
        self.losses.add(value, whole)
        self.epoch_steps += 1
