"""Trainer: epochs over batches, one pure step after another, callbacks at the seams."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnn.data.batches import Batches
from xpnn.metrics import Metric
from xpnn.network import Network
from xpnn.optimizers import Optimizer
from xpnn.training.admission import Data, admit_all
from xpnn.training.callbacks import Callback, CallbackList, History, ProgressBar
from xpnn.training.running_mean import RunningMean
from xpnn.training.step import (
    hyperparameters,
    make_eval_step,
    make_train_step,
    training_choices,
)
from xpnn.typing import Array, Loss, OptState


class Trainer:
    """Trains a network: the loop, and what it carries from epoch to epoch.

    The loop never waits for the device except at log points: every ``log_every`` steps and at the
    end of an epoch, when the losses so far are read in one transfer.

    Args:
        network: what is trained, in place.
        loss: ``(predictions, targets, *, sample_weight, backend) -> (value, delta)``, such as
            ``xpnn.cross_entropy`` or a ``functools.partial`` of it.
        optimizer: such as ``Adam(1e-3)``.
        metrics: measured on validation data and by ``evaluate``.
        callbacks: act in every ``fit``; see ``xpnn.training.callbacks``.
        seed: of the shuffles and the validation split; the network's, unless given.
        log_every: steps between two log points.
        compile: whether a step is made one unit, written out once for each shape of a batch and
            then run without looking at the layers again: jitted on JAX, replayed from a recording
            on NumPy. None leaves it to the backend: JAX compiles always, NumPy where all parts come
            with xpnn. Set it to False to stop inside of a layer, or to print from it.

    Attributes:
        opt_state: the optimizer's state; None before the first step.
        epoch: epochs done, over all calls of ``fit``.
        steps: steps done, over all calls of ``fit``.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        optimizer: Optimizer,
        *,
        metrics: Sequence[Metric] = (),
        callbacks: Sequence[Callback] = (),
        seed: int | None = None,
        log_every: int = 100,
        compile: bool | None = None,
    ):
        _check_parts(network, loss, optimizer, metrics, callbacks)
        if log_every < 1:
            raise ValueError(f"log_every counts steps, at least 1, got {log_every}")
        self.network, self.loss, self.optimizer = network, loss, optimizer
        self.metrics, self.callbacks = tuple(metrics), tuple(callbacks)
        self.seed = network.seed if seed is None else seed
        self.log_every, self.compile = log_every, compile
        self.opt_state: OptState | None = None
        self.epoch, self.steps = 0, 0
        self.batches: Batches | None = None
        self.stop_reason: str | None = None
        self._train_step: Any = None
        self._made_for: Any = None
        self._hyperparameters = hyperparameters(network)
        self._eval_step = make_eval_step(network, loss, self.metrics, compile=compile)

    # One step -------------------------------------------------------------------------------------

    def step(self, x: Array, y: Array, weight: Array | None = None) -> Array:
        """Train on one batch of arrays of the network's backend; returns the loss, a 0-d array.

        The value stays on the device; ``float(network.backend.to_numpy(value))`` waits for it.
        """
        network, backend = self.network, self.network.backend
        wanted = training_choices(network)
        if self._made_for != wanted:
            self._made_for = wanted
            self._train_step = make_train_step(
                network, self.loss, self.optimizer, compile=self.compile
            )
        with backend.on_device():
            if self.opt_state is None:
                self.opt_state = self.optimizer.init(network.params, backend)
            params, state, self.opt_state, value = self._train_step(
                network.params, network.state, self.opt_state, x, y, weight
            )
            network.params, network.state = params, state
        self.steps += 1
        return value

    # Epochs ---------------------------------------------------------------------------------------

    def fit(
        self,
        x: Any,
        y: Any,
        *,
        epochs: int = 1,
        batch_size: int = 32,
        validation: float | tuple[Any, ...] | None = None,
        sample_weight: Any = None,
        shuffle: bool = True,
        callbacks: Sequence[Callback] = (),
        progress: bool = True,
    ) -> History:
        """Train for a number of epochs; a second call goes on where the first ended.

        All data are looked at and moved to the network's backend once, before the first step: a
        call that raises ShapeError or DataError has changed nothing.

        Args:
            x: inputs (samples, *input_shape), of any library.
            y: targets, as the loss takes them.
            epochs: passes over the data.
            batch_size: samples a step; the last batch of an epoch may be smaller.
            validation: the share of the samples to hold out, drawn once by the seed; or
                ``(x, y)`` or ``(x, y, sample_weight)``.
            sample_weight: (samples,), at least 0.
            shuffle: draw a new order for each epoch, by the seed.
            callbacks: for this call, after the trainer's own.
            progress: show a progress bar.

        Returns:
            The history: ``history["loss"]`` lists the epochs' mean losses, weighted by samples;
            ``history["val_loss"]`` and ``history["val_accuracy"]`` follow, where there are such.
        """
        _check_counts(epochs, batch_size)
        train, held = self._admitted(x, y, sample_weight, validation)
        whole, rest = divmod(train[0].shape[0], batch_size)
        for size in {batch_size if whole else rest, rest or batch_size}:
            for layer in self.network.all_layers:
                layer.check_batch(size)
        self._renew_steps()
        history = History()
        listed = [*self.callbacks, *callbacks, history, *([ProgressBar()] if progress else [])]
        hooks = CallbackList(listed, self)
        self.stop_reason = None
        try:
            hooks.fit_begin(epochs)
            for _ in range(epochs):
                self._epoch(train, held, batch_size, shuffle, hooks)
                if self.stop_reason is not None:
                    break
        finally:
            hooks.fit_end()
        return history

    def _admitted(
        self, x: Any, y: Any, sample_weight: Any, validation: Any
    ) -> tuple[Data, Data | None]:
        return admit_all(self.network, self.loss, x, y, sample_weight, validation, seed=self.seed)

    def _renew_steps(self) -> None:
        """Make new steps where a layer's hyperparameters were changed since the last ``fit``."""
        found = hyperparameters(self.network)
        if found != self._hyperparameters:
            self._hyperparameters, self._made_for = found, None
            self._eval_step = make_eval_step(
                self.network, self.loss, self.metrics, compile=self.compile
            )

    def stop(self, reason: str) -> None:
        """End ``fit`` after the epoch that is running; for callbacks."""
        self.stop_reason = reason

    def _epoch(
        self, train: Data, held: Data | None, batch_size: int, shuffle: bool, hooks: CallbackList
    ) -> None:
        backend, losses = self.network.backend, RunningMean(self.network.backend)
        with backend.on_device():
            self.batches = Batches(
                train, batch_size, backend, seed=self.seed, epoch=self.epoch, shuffle=shuffle
            )
            hooks.epoch_begin(len(self.batches))
            for number, (x, y, weight) in enumerate(self.batches, start=1):
                value = self.step(x, y, weight)
                losses.add(value, x.shape[0] if weight is None else backend.xp.sum(weight))
                hooks.step_end(number)
                if number % self.log_every == 0 and number < len(self.batches):
                    hooks.log(number, {"loss": losses.read()})
            logs = {"loss": losses.read()}
            hooks.log(len(self.batches), logs)
            if held is not None:
                logs |= {f"val_{name}": value for name, value in self._measure(held, 256).items()}
        self.epoch += 1
        watched = logs.get("val_loss", logs["loss"])
        assert self.opt_state is not None
        logs["rate"] = self.optimizer.hyper_at(self.steps, self.opt_state)["rate"]
        self.opt_state = self.optimizer.observe(self.opt_state, watched, backend)
        hooks.epoch_end(logs)

    # Measuring ------------------------------------------------------------------------------------

    def evaluate(
        self, x: Any, y: Any, *, sample_weight: Any = None, batch_size: int = 256
    ) -> dict[str, float]:
        """The mean loss and all metrics over a data set, in prediction mode.

        >>> from xpnn import SGD, Dense, Network, Trainer, mean_squared_error
        >>> net = Network([Dense(1, use_bias=False)], input_shape=(1,))
        >>> net.load({"0.dense.weight": [[2.0]]})
        >>> Trainer(net, mean_squared_error, SGD()).evaluate([[1.0], [2.0]], [[2.0], [5.0]])
        {'loss': 0.5}
        """
        _check_counts(1, batch_size)
        data, _ = self._admitted(x, y, sample_weight, None)
        with self.network.backend.on_device():
            return self._measure(data, batch_size)

    def predict(self, x: Any, *, batch_size: int = 256) -> Array:
        """The network's outputs, ``batch_size`` at a time; see ``Network.predict``."""
        return self.network.predict(x, batch_size)

    def _measure(self, data: Data, batch_size: int) -> dict[str, float]:
        network, backend = self.network, self.network.backend
        losses = RunningMean(backend)
        rows: list[list[Array]] = [[] for _ in self.metrics]
        params, state = network.params, network.state
        for x, y, weight in Batches(data, batch_size, backend):
            value, statistics = self._eval_step(params, state, x, y, weight)
            losses.add(value, x.shape[0] if weight is None else backend.xp.sum(weight))
            for kept, new in zip(rows, statistics, strict=True):
                kept.append(new)
        results = {"loss": losses.read()}
        for metric, kept in zip(self.metrics, rows, strict=True):
            stacked = backend.to_numpy(backend.xp.stack(kept))
            results[metric.name] = metric.result(stacked.astype(np.float64))
        return results


def _check_counts(epochs: int, batch_size: int) -> None:
    if epochs < 1 or batch_size < 1:
        raise ValueError(
            f"wanted epochs and batch_size of at least 1, got epochs={epochs}, "
            f"batch_size={batch_size}"
        )


def _check_parts(network: Any, loss: Any, optimizer: Any, metrics: Any, callbacks: Any) -> None:
    """Say at once which argument is of the wrong kind, and what it should be."""
    wanted = [
        ("network", network, Network, "Network([...], input_shape=...)"),
        ("optimizer", optimizer, Optimizer, "an object such as Adam(1e-3)"),
        *(("metrics", metric, Metric, "objects such as [Accuracy()]") for metric in metrics),
        *(("callbacks", one, Callback, "objects such as [EarlyStopping()]") for one in callbacks),
    ]
    for name, value, kind, example in wanted:
        if not isinstance(value, kind):
            raise TypeError(f"{name}: wanted {example}, got {value!r}")
    if not callable(loss):
        raise TypeError(f"loss: wanted a function such as xpnn.cross_entropy, got {loss!r}")
