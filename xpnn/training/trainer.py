"""Trainer: epochs over batches, one pure step after another, callbacks at the seams."""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn, Self

from xpnn.agreeing import acting_alone, done_by_first
from xpnn.arguments import as_seed, checked
from xpnn.backends import Backend, Communicator
from xpnn.data.batches import Samples
from xpnn.data.stream import Stream
from xpnn.distributed import connect, watched
from xpnn.errors import XpnnError
from xpnn.metrics import Metric
from xpnn.metrics.base import tell_of_empty_means
from xpnn.metrics.by_output import OfOutput
from xpnn.metrics.confusion import ConfusionMatrix, Pairs
from xpnn.moving import moved
from xpnn.names_elsewhere import AnswersOtherNames
from xpnn.network import Network
from xpnn.optimizers import Optimizer
from xpnn.peak import Ready, peak_bytes
from xpnn.saving.model import FREE_SOME
from xpnn.summary import Summary, check_batch
from xpnn.training.callbacks.history import History
from xpnn.training.callbacks.hooks import Callback, CallbackList
from xpnn.training.callbacks.progress import ProgressBar, progress_bar
from xpnn.training.checkpointing.contents import write_contents
from xpnn.training.checkpointing.processes import check_processes_at, known_samples
from xpnn.training.checkpointing.resuming import begin, put_back, read_checkpoint, state_contents
from xpnn.training.describing import described
from xpnn.training.intake.sources import samples_to_measure, sources_of_fit
from xpnn.training.loop import Loop
from xpnn.training.measuring import measured, measured_epoch, statistics_of
from xpnn.training.names import losses_of_names, metrics_of_names, optimizer_of_name
from xpnn.training.state import TrainingState
from xpnn.training.step_taker import FEWER, StepTaker
from xpnn.training.stepping.compiling import Compile
from xpnn.training.stepping.precision import MixedPrecision, as_precision
from xpnn.training.stepping.settings import options_by_value
from xpnn.training.stepping.step import make_weighing_eval_step
from xpnn.training.stepping.zeros import batch_of_zeros
from xpnn.training.trainer_arguments import (
    as_loss,
    as_metrics,
    as_parts,
    check_callbacks,
    check_parts,
)
from xpnn.typing import Array, Loss, OptState
from xpnn.weak_methods import without_holding

logger = logging.getLogger("xpnn")


class Trainer(StepTaker, AnswersOtherNames):
    """Trains a network: the loop, and what it carries from epoch to epoch.

    The loop never waits for the device except at log points: every ``log_every`` steps and at the
    end of an epoch, when the losses so far are read in one transfer.

    Args:
        network: what is trained, in place.
        loss: ``(predictions, targets, *, sample_weight, backend) -> (value, delta)``, such as
            ``xpnn.cross_entropy`` or a ``functools.partial`` of it; or the name of one of
            ``xpnn.losses``, "cross_entropy", with its defaults. For a graph of several outputs,
            a loss for each: a dict by name, or a list. Then histories list each beside their sum.
        optimizer: such as ``Adam(1e-3)``; or a name, "adam", for one with its defaults.
        loss_weights: what the losses of several outputs are multiplied by in the sum, likewise.
        metrics: measured on validation data and by ``evaluate``; they take the outputs for what
            the loss takes them for. ``Accuracy()``, or "accuracy", as histories call it. For
            several outputs, a dict of lists, by name.
        callbacks: act in every ``fit``; see ``xpnn.training``.
        seed: of the shuffles and the validation split; the network's, unless given.
        log_every: steps between two log points.
        compile: whether a step is made one unit, written out once for each shape of a batch and
            then run without looking at the layers again: jitted on JAX, replayed from a recording
            on NumPy. None leaves it to the backend: JAX compiles always, NumPy where all parts come
            with xpnn; a step that it refuses then runs call by call, with a CompileWarning. With
            True that is a CompileError. Set it to False to stop inside of a layer, or to print
            from it. ``trainer.compiled`` and ``repr(trainer)`` say what became of it. "fused", on
            CuPy, makes kernels of runs of its calls, with a CompileError for what that cannot do.
        precision: "float16" or "bfloat16", to compute in half precision beside float32 parameters;
            a ``MixedPrecision`` for more settings; None for the network's dtype throughout.
        accumulate: in how many parts a batch is gone through, one after another. Gradients are
            added up, weighted so that a step is that of the whole batch, and need the memory of one
            part. ``BatchNorm`` goes by each part, and ``Dropout`` draws a mask for each.
        distributed: how the processes of this training, which all run the same program, reach each
            other: "mpi", "nccl", "torch", "jax", or "auto" for the one that goes with the backend;
            or a ``Communicator`` of your own. Each takes some rows of every batch, and all have the
            same curve, that of one process. One process alone trains as without it. ``Trainer``
            alone trains so; ``Updater`` and ``minimize`` know of one process.
        shard_optimizer: whether each of these processes keeps the optimizer's slots of some of the
            parameters only, and updates these for all: less memory, and one more sum. On JAX each
            device keeps a part of every slot.

    Attributes:
        state: what is trained and where it stands; callbacks are given it. Its network, loss,
            optimizer, metrics, precision, accumulate, seed, compile, opt_state, epoch, steps,
            epoch_steps and stop_reason are the trainer's own under the same names.

    >>> import xpnn
    >>> x, y = xpnn.datasets.digits()
    >>> layers = [xpnn.Dense(32), xpnn.ReLU(), xpnn.Dense(10)]
    >>> network = xpnn.Network(layers, input_shape=(64,), seed=0)
    >>> trainer = Trainer(network, xpnn.cross_entropy, xpnn.Adam(1e-2), metrics=["accuracy"])
    >>> history = trainer.fit(x, y, epochs=5, validation=0.2, progress=False)
    >>> history["val_accuracy"][-1] > 0.9
    True
    """

    fixed = ("network", "precision", "state", "loss_weights", "distributed", "shard_optimizer")

    @checked
    def __init__(
        self,
        network: Network,
        loss: Loss | str | Mapping[str, Loss | str] | Sequence[Loss | str],
        optimizer: Optimizer | str,
        *,
        loss_weights: Mapping[str, float] | Sequence[float] | None = None,
        metrics: Sequence[Metric | str] | Mapping[str, Sequence[Metric | str]] = (),
        callbacks: Sequence[Callback] = (),
        seed: int | None = None,
        log_every: int = 100,
        compile: Compile = None,
        precision: str | MixedPrecision | None = None,
        accumulate: int = 1,
        distributed: str | Communicator | None = None,
        shard_optimizer: bool = False,
    ):
        updater = optimizer_of_name(optimizer)
        measured = as_metrics(metrics_of_names(metrics), network)
        check_parts(network, updater, measured, callbacks)
        if log_every < 1:
            raise ValueError(f"log_every counts steps, at least 1, got {log_every}")
        self.state = TrainingState(
            network,
            as_loss(losses_of_names(loss), loss_weights),
            updater,
            without_holding(self._take_step),
            tuple(measured),
            as_precision(precision, network),
            as_parts(accumulate),
            network.seed if seed is None else as_seed(seed),
            compile,
            watched(connect(distributed, network)),
            shard_optimizer,
        )
        network._trained_by = self.state.communicator
        self.callbacks = tuple(callbacks)
        self.log_every = int(log_every)
        self._renew_steps()
        if compile is None and network.backend.compiles == "known" and not self.compiled:
            logger.info("%r", self)

    def __repr__(self) -> str:
        reason = self._why_not_compiled()
        steps = "compiled steps" if reason is None else f"steps call by call: {reason}"
        return f"<Trainer on {self.network.backend.spec}, {self.optimizer!r}, {steps}>"

    # Epochs ---------------------------------------------------------------------------------------

    @checked
    def fit(
        self,
        x: Any,
        y: Any = None,
        *,
        epochs: int = 1,
        batch_size: int | None = None,
        validation: float | tuple[Any, ...] | None = None,
        sample_weight: Any = None,
        shuffle: bool | None = None,
        train_metrics: bool = False,
        callbacks: Sequence[Callback] = (),
        progress: bool | Literal["auto", "bar", "lines"] = "auto",
        resume: str | Path | None = None,
    ) -> History:
        """Train for a number of epochs; a second call goes on where the first ended.

        Arrays are looked at and moved to the network's backend once, before the first step: a call
        that raises ShapeError or DataError has changed nothing. An array of the backend is not
        copied. Memory maps stay on the disk where the backend computes on the host; data that
        would take more than half of a GPU's free memory stay on the host (CuPy). Then each batch is
        brought over while the step before it runs, in the same order.

        Instead of arrays, ``x`` may be an iterable of batches, and ``y`` left out. Each batch is
        looked at when it comes, except for the numbers in arrays that lie on the device already;
        an error then names the batch, and the steps before it are done.

        With ``resume``, training goes on from a checkpoint with the same weights, order of batches
        and history as if it had never ended, bit for bit on the same backend. Ctrl-C ends the
        step that is running, saves a checkpoint if there is a ``Checkpoint`` among the callbacks,
        and is raised then; a second one is raised at once.

        Args:
            x: inputs (samples, *input_shape), of any library; or an iterable of (x, y) or
                (x, y, sample_weight): a list, a loader, or a function that returns an iterator,
                gone through once an epoch. A plain iterator serves one epoch. Batches may be dicts,
                too, ``{"image": x, "label": y}``; see ``incoming_batches.parts_by_name``. A data
                set of Hugging Face is shuffled, cut into batches and held out of as arrays are.
            y: targets, as the loss takes them.
            epochs: passes over the data.
            batch_size: samples a step, 32 unless given; the last batch of an epoch may be smaller.
                For arrays only.
            validation: the share of the samples to hold out, drawn once by the seed; or
                ``(x, y)`` or ``(x, y, sample_weight)``; or an iterable of batches, but no list.
            sample_weight: (samples,), at least 0. For arrays only.
            shuffle: draw a new order for each epoch, by the seed; True unless given. For arrays
                only.
            train_metrics: measure the metrics on the training data, too, after each epoch, as
                ``evaluate`` does: ``history["accuracy"]`` beside ``history["val_accuracy"]``. That
                goes through them once more, through an iterable, too.
            callbacks: for this call, after the trainer's own.
            progress: show how far it is, by a ``ProgressBar``, unless there is one already: "auto",
                or True, a bar in terminals and notebooks and a line for each epoch elsewhere;
                "bar" or "lines", that one everywhere; False, nothing.
            resume: what a ``Checkpoint`` or ``save`` has written: a file, or a folder, of which the
                newest whole checkpoint is taken. Where a folder is empty or missing, training
                begins, so that one command serves to start and to go on. All other arguments, the
                data and the trainer have to be those of the first call; what is not is an error,
                or a warning where it may not matter. ``epochs`` counts from there. Of an iterable,
                the batches that are done are drawn again and dropped.

        Returns:
            The history: ``history["loss"]`` lists the mean losses of the epochs, over all samples
            by their weights, those of classes included; ``history["val_loss"]`` and
            ``history["val_accuracy"]`` follow, where there are such. A mean over weights that are
            all 0 is NaN, which an EmptyMeanWarning says once, and callbacks do not go by it.

        Raises:
            ShapeError, DataError: the data do not fit the network or the loss.
            ValueError: an argument that goes with arrays came with an iterable.
            OutOfMemory: the data or a step do not fit into the device's memory.
            XpnnError: another thread trains the network; or the processes of this training differ
                in their programs, data or seeds, and the message says in what.
            FileError: there is nothing whole to resume from, or it is of another run; the message
                says what differs, and nothing was changed.
        """
        check_callbacks(callbacks)
        shown = progress_bar(progress)
        room = self.network.backend.room_for("the data and the training", FEWER)
        with room, self.network.in_training():
            sources = sources_of_fit(
                self.state,
                x,
                y,
                epochs=epochs,
                batch_size=batch_size,
                validation=validation,
                sample_weight=sample_weight,
                shuffle=shuffle,
                train_metrics=train_metrics,
            )
            loss, self.state.loss = self.loss, sources.loss
            try:
                self._renew_steps()
                history = History()
                listed = [*self.callbacks, *callbacks, history]
                if not any(isinstance(one, ProgressBar) for one in listed):
                    listed += shown
                hooks = CallbackList(listed, self.state)
                begun = self.state, sources, hooks, int(epochs), resume, self.log_every
                callback_states = begin(*begun)
                self._note_agreed()
            except Exception:
                self.state.loss = loss
                raise
            measure = partial(self._measure_epoch, sources.measured_too)
            seams = hooks, self.log_every, measure, self._agree_on_settings
            loop = Loop(self.state, sources.make_batches, *seams)
            loop.run(callback_states)
        return history

    def stop(self, reason: str) -> None:
        """End ``fit`` after the epoch that is running; for callbacks."""
        self.state.stop(reason)

    def to(self, backend: str | Backend) -> Self:
        """The same training on another backend or device: a new trainer; this one stays as it is.

        The network is moved by ``Network.to``, and the optimizer's state with it, so that training
        goes on with the same curve. Epochs and steps go on counting. Loss, optimizer, metrics and
        callbacks, such as a History among them, are the same objects.

        Args:
            backend: as for ``Network``.

        Raises:
            BackendUnavailable: the backend does not work here, or does not have the dtype.
        """
        return self._copied_to(backend, self.state.communicator)

    def _copied_to(self, backend: str | Backend, communicator: Communicator | None) -> Self:
        """A trainer of a copy; the optimizer begins anew where it is to keep other slots."""
        network = self.network.to(backend)
        if communicator is not None and not communicator.cuts_batches:
            communicator = network.backend.processes()  # of JAX's devices, which it may have left
        there = type(self)(
            network,
            self.loss,
            self.optimizer,
            metrics=self.metrics,
            callbacks=self.callbacks,
            seed=self.seed,
            log_every=self.log_every,
            compile=self.compile,
            precision=self.precision,
            accumulate=self.accumulate,
            distributed=communicator,
            shard_optimizer=self.state.shard_optimizer,
        )
        there.epoch, there.steps = self.epoch, self.steps
        there.state.training = self.state.training
        has_same_slots = self.state.own_parameters == there.state.own_parameters
        by_rows = self.state.by_rows is not None
        opt_state = self.opt_state if by_rows else self.state.whole_opt_state()
        if opt_state is not None and has_same_slots:
            with network.backend.on_device():
                fresh = there.state.fresh_opt_state()
                there.opt_state = moved(opt_state, fresh, network.backend)
            there.state.opt_state_of = self.state.opt_state_of
        return there

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Trainer is not pickled or copied, as its steps are compiled for its own network; "
            "save it with trainer.save(path), or make a second one with trainer.to(backend)"
        )

    # Files ----------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write a checkpoint of the training as it is now, whole or not at all.

        Where several processes train together, all call it, process 0 writes, and the others wait.

        Raises:
            OSError: it could not be written; an old file is unharmed.
            XpnnError: other processes do something else, or process 0 could not write.
        """
        backend = self.network.backend
        room = backend.room_for(f"copies to write into {path}", FREE_SOME)
        with room, self.network.at_rest(), backend.on_device():
            write = partial(self._write, Path(path), self.state.whole_opt_state())
            done_by_first(self.state.communicator, "Trainer.save", write)

    def _write(self, path: Path, opt_state: OptState | None) -> bool:
        write_contents(path, state_contents(self.state, opt_state))
        return True

    def load(self, path: str | Path) -> None:
        """Take over network, optimizer state and counts from a checkpoint, of any backend.

        Rates, batches and all else may differ from before. ``fit`` then trains on, and an epoch
        that was not finished begins anew; ``fit(..., resume=path)`` goes on inside of it.

        Raises:
            FileError: it is no whole checkpoint, or a newer xpnn wrote it.
            ShapeError: it does not fit the network or the optimizer, or is of another kind of
                optimizer. Nothing is changed either way.
        """
        backend = self.network.backend
        with backend.room_for(f"the arrays of {path}", f"nothing was loaded; {FREE_SOME}"):
            put_back(self.state, read_checkpoint(Path(path)), Path(path))

    # Processes ------------------------------------------------------------------------------------

    @contextmanager
    def alone(self) -> Iterator[None]:
        """For ``with``: what this process does by itself, where several train together.

        ``save`` and ``evaluate``, those of the network and the functions that write it are of all
        processes: all have to call them, as they wait for each other. Inside of this one none
        waits: what is written is written by this process, and what is measured is measured by it.
        Hooks of callbacks with ``first_process_only`` are called like that. Where there is one
        process, nothing changes.

        Raises:
            XpnnError: from ``fit`` and ``step`` inside, which are always of all; or from what JAX
                computes on the devices of all.

        >>> from xpnn import SGD, Dense, Network, Trainer, mean_squared_error
        >>> net = Network([Dense(1, use_bias=False)], input_shape=(1,))
        >>> net.load({"0.dense.weight": [[2.0]]})
        >>> trainer = Trainer(net, mean_squared_error, SGD(), distributed="auto")
        >>> if trainer.state.is_first:
        ...     with trainer.alone():
        ...         trainer.evaluate([[1.0], [2.0]], [[2.0], [5.0]])
        {'loss': 0.5}
        """
        with acting_alone(self.state.communicator):
            yield

    def _meet(
        self,
        place: str,
        data: Samples | Stream,
        metrics: Sequence[Metric],
        batch_size: int | None,
    ) -> None:
        """All processes are here, to measure the same; nobody waits for one that is elsewhere."""
        communicator = self.state.communicator
        if communicator is None:
            return
        if not communicator.acts_alone:
            found = {"data": known_samples(data), "metrics": described(metrics)}
            check_processes_at(place, communicator, {**found, "batch_size": batch_size})
        elif not communicator.cuts_batches:
            raise XpnnError(
                f"wanted all processes at {place}, as {self.network.backend.spec!r} computes on "
                f"their devices together, got process {communicator.rank} alone; call it in all "
                f"of them, outside of trainer.alone()"
            )

    # Measuring ------------------------------------------------------------------------------------

    @checked
    def evaluate(
        self, x: Any, y: Any = None, *, sample_weight: Any = None, batch_size: int | None = None
    ) -> dict[str, float]:
        """The mean loss and all metrics over a data set, in prediction mode.

        They do not depend on how the set is cut into batches. Where all weights are 0 they are NaN,
        and an EmptyMeanWarning says so. Where several processes train together, all call it, each
        measures some of the batches, and all return the same; see ``alone``.

        Args:
            x, y: arrays; or an iterable of batches alone, as for ``fit``.
            sample_weight: (samples,), at least 0. For arrays only.
            batch_size: samples at a time, 256 unless given. For arrays only.

        >>> from xpnn import SGD, Dense, Network, Trainer, mean_squared_error
        >>> net = Network([Dense(1, use_bias=False)], input_shape=(1,))
        >>> net.load({"0.dense.weight": [[2.0]]})
        >>> Trainer(net, mean_squared_error, SGD()).evaluate([[1.0], [2.0]], [[2.0], [5.0]])
        {'loss': 0.5}
        """
        backend = self.network.backend
        with backend.room_for("measuring", FEWER), backend.on_device():
            data = samples_to_measure(self.state, x, y, sample_weight, batch_size, self.metrics)
            self._meet("Trainer.evaluate", data, self.metrics, batch_size)
            self.network.check_layers()
            if not self._settings.hold() or options_by_value(self.state) != self._options:
                self._renew_steps()
            found, empty = measured(
                *(self.network, self.loss, self._eval_step, self.metrics, data, batch_size or 256),
                communicator=self.state.measured_by,
            )
        tell_of_empty_means(empty)
        return found

    @checked
    def confusion_matrix(
        self,
        x: Any,
        y: Any = None,
        *,
        names: Sequence[str] | None = None,
        sample_weight: Any = None,
        batch_size: int | None = None,
        threshold: float | None = None,
        output: str | None = None,
    ) -> ConfusionMatrix:
        """How often each class is taken for which, over a data set, in prediction mode.

        Args:
            x, y, sample_weight, batch_size: as for ``evaluate``.
            names: of the classes, in their order; their numbers unless given.
            threshold: of networks with one output, as for ``Accuracy``.
            output: the name of the one that is measured, of a graph that has several.

        Raises:
            ValueError: there are several outputs, and none was named.

        >>> from xpnn import SGD, Dense, Network, Trainer, cross_entropy
        >>> net = Network([Dense(2, use_bias=False)], input_shape=(1,))
        >>> net.load({"0.dense.weight": [[-1.0, 1.0]]})
        >>> trainer = Trainer(net, cross_entropy, SGD())
        >>> matrix = trainer.confusion_matrix([[-1.0], [2.0], [3.0]], [0, 0, 1])
        >>> print(matrix)
        true, predicted  0  1
        0                1  1
        1                0  1
        >>> matrix.report().accuracy
        0.6666666666666666
        """
        backend, outputs = self.network.backend, self.network.output_names
        if (output is not None and output not in outputs) or (output is None and len(outputs) > 1):
            raise ValueError(f"wanted output to be one of {', '.join(outputs)}, got {output!r}")
        metric: Metric = Pairs(threshold)
        if output is not None:
            metric = OfOutput(metric, output, outputs.index(output))
        with backend.room_for("measuring", FEWER), backend.on_device():
            data = samples_to_measure(self.state, x, y, sample_weight, batch_size, (metric,))
            self._meet("Trainer.confusion_matrix", data, (metric,), batch_size)
            step = make_weighing_eval_step(self.network, self.loss, (metric,), self.compile)
            rows = statistics_of(
                *(self.network, step, metric, data, batch_size or 256, self.state.measured_by)
            )
        return ConfusionMatrix.of_counts(rows.sum(axis=0), names)

    @checked
    def summary(self, batch: int | None = None) -> Summary:
        """The table of the network, with the memory of its optimizer, and of a step.

        Args:
            batch: samples a step, to tell what the steps take at their highest moment, with the
                loss, optimizer, precision, ``accumulate`` and ``compile`` of this trainer. Steps of
                a copy on two batches of zeros say so, half as large, or of a few samples; on JAX
                the step is compiled and not taken. The data set that ``fit`` holds beside it is not
                in it. Where several processes train together, it is of one that is alone with so
                many samples.

        Raises:
            ShapeError: no step can be taken on so few samples.
            OutOfMemory: a copy and its steps on few samples do not fit into the device's memory.

        >>> from xpnn import Adam, Dense, Network, ReLU, Trainer, cross_entropy
        >>> net = Network([Dense(512), ReLU(), Dense(10)], input_shape=(784,))
        >>> trainer = Trainer(net, cross_entropy, Adam())
        >>> trainer.summary(batch=4096).peak_bytes > trainer.summary(batch=1024).peak_bytes
        True
        """
        found = self.network.summary(self.optimizer)
        if batch is None:
            return found
        check_batch(batch)
        backend = self.network.backend
        with self.network.at_rest(), backend.room_for("a copy and its steps", FEWER):
            peak = self._peak(batch, self.accumulate)
        return dataclasses.replace(found, batch=batch, peak_bytes=peak, peak_of="a step")

    def _peak(self, batch: int, accumulate: int) -> int:
        copy = partial(self._copy_of_step, accumulate)
        return peak_bytes(copy, self.network.backend, batch, accumulate)

    def _copy_of_step(self, accumulate: int, size: int) -> Ready:
        """A step of a copy of all that is trained, on a batch of zeros."""
        copy = self._copied_to(self.network.backend, None)
        copy.accumulate = accumulate
        copy._renew_steps()
        opt_state = copy.opt_state or copy.state.begin_opt_state()
        x, y = batch_of_zeros(copy.network, copy.loss, size)
        step = copy._train_step
        step.arguments(opt_state, x, y)  # it is made when it knows the slots
        taken = partial(step, opt_state, x, y), partial(step.arguments, opt_state, x, y)
        return *taken, step.compiled

    @checked
    def predict(self, x: Any, *, batch_size: int = 256, probabilities: bool = False) -> Array:
        """The network's outputs, ``batch_size`` at a time; see ``Network.predict``.

        Args:
            x, batch_size: as there.
            probabilities: whether to give the probabilities that the outputs stand for: softmax of
                them after ``cross_entropy`` and ``kl_divergence``, sigmoid after
                ``binary_cross_entropy``, as they are where it has ``from_logits=False``.

        Raises:
            ValueError: the loss takes outputs for something else.

        >>> from xpnn import SGD, Dense, Network, Trainer, binary_cross_entropy
        >>> net = Network([Dense(1, use_bias=False)], input_shape=(1,))
        >>> net.load({"0.dense.weight": [[2.0]]})
        >>> trainer = Trainer(net, binary_cross_entropy, SGD())
        >>> trainer.predict([[0.0]], probabilities=True).tolist()
        [[0.5]]
        """
        loss = self.loss if probabilities else None
        return self.network.predict(x, batch_size, probabilities=loss)

    def _measure_epoch(
        self, train: Samples | Stream | None, between: Callable[[], None]
    ) -> tuple[dict[str, float], list[str]]:
        """What the history lists beside the loss; see ``measured_epoch``."""
        if not self._settings.hold():
            self._renew_steps()
        return measured_epoch(self.state, self._eval_step, train, between)
