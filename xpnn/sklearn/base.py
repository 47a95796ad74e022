"""What both estimators share: a Trainer behind the interface of scikit-learn."""

import copy
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from xpnn.backends import Backend
from xpnn.data.splits import held_out_rows
from xpnn.sklearn.inputs import (
    AS_GIVEN,
    SparseBatches,
    as_weights,
    home_of,
    is_sparse,
    on_host,
)
from xpnn.sklearn.networks import network_for
from xpnn.sklearn.trainings import Followed, forget_data, kept, revived
from xpnn.training import History, Trainer
from xpnn.training.names import losses_of_names, optimizer_of_name
from xpnn.typing import Loss

FIXED = ("layers", "loss", "metrics", "backend", "dtype", "callbacks")
"""Parameters that a training which goes on has to have as it had them when it began."""

AT_ONCE = 256  # samples in a batch of predictions, as a network has it


class Estimator(CallbackSupportMixin, BaseEstimator):  # type: ignore[misc]
    """Base of the estimators; see ``Classifier`` and ``Regressor``."""

    def __init__(
        self,
        layers: Any = (100,),
        *,
        optimizer: Any = "adam",
        loss: Any = None,
        epochs: int = 100,
        batch_size: int | None = 200,
        validation: Any = None,
        metrics: Sequence[Any] = (),
        callbacks: Sequence[Any] = (),
        backend: str | Backend | None = None,
        dtype: str = "float32",
        random_state: Any = None,
        warm_start: bool = False,
        verbose: bool | str = False,
    ):
        self.layers = layers
        self.optimizer = optimizer
        self.loss = loss
        self.epochs = epochs
        self.batch_size = batch_size
        self.validation = validation
        self.metrics = metrics
        self.callbacks = callbacks
        self.backend = backend
        self.dtype = dtype
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose

    # What a kind of estimator says about itself ---------------------------------------------------

    def _learned(self, y: Any, classes: Any) -> dict[str, Any]:
        """What is known of the answers from y, as attributes of the estimator."""
        raise NotImplementedError

    def _encoded(self, y: Any, known: dict[str, Any]) -> tuple[Any, Any]:
        """The targets, a tuple where there are several outputs; and labels as numbers.

        Raises:
            ValueError: y is of another form than what was learned, or has other labels.
        """
        raise NotImplementedError

    def _outputs_and_losses(self, known: dict[str, Any]) -> tuple[dict[str, int], Any]:
        """How many numbers each output has, by name; and a loss, or one for each output."""
        raise NotImplementedError

    def _weighed(self, weight: np.ndarray | None, codes: Any, known: dict[str, Any]) -> Any:
        """The weights of the samples, those of their classes included."""
        return weight

    # Parameters -----------------------------------------------------------------------------------

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name; of parts, too: ``optimizer__rate``, ``optimizer__rate__start``.

        An optimizer that was given by its name becomes one with its defaults, to have parameters.
        """
        inside = any(name.startswith("optimizer__") for name in params)
        if inside and isinstance(params.get("optimizer", self.optimizer), str):
            params = {
                **params,
                "optimizer": optimizer_of_name(params.get("optimizer", self.optimizer)),
            }
        if "optimizer" in params:  # first, so that what is inside of it is set in it
            super().set_params(optimizer=params.pop("optimizer"))
        super().set_params(**params)
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        tags.input_tags.sparse = True
        tags.input_tags.three_d_array = True
        tags.target_tags.multi_output = True
        return tags

    # Training -------------------------------------------------------------------------------------

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> Self:
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        context = self._init_callback_context(max_subtasks=self.epochs)
        given = {"context": context, "X": X, "y": y, "metadata": metadata}
        goes_on = self.warm_start and hasattr(self, "network_")
        self._train(X, y, sample_weight, goes_on=goes_on, epochs=self.epochs, followed=given)
        return self

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> Self:
        goes_on = hasattr(self, "network_")
        self._train(X, y, sample_weight, goes_on=goes_on, epochs=1, classes=classes, partial=True)
        return self

    def _train(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        goes_on: bool,
        epochs: int,
        classes: Any = None,
        partial: bool = False,
        followed: dict[str, Any] | None = None,
    ) -> None:
        x, y = self._validated(X, y, reset=not goes_on)
        home = home_of(x)
        if goes_on:
            self._check_fixed()
            known, trainer = self._known, self.trainer_
            self._renew_optimizer(trainer)
        else:
            known = self._learned(y, classes)
            trainer = self._new_trainer(tuple(x.shape[1:]), known, home)
        targets, codes = self._encoded(y, known)
        weight = self._weighed(as_weights(sample_weight, x.shape[0]), codes, known)

        def begin() -> None:
            if not goes_on:
                self._fitted_to(trainer, known, home)

        follow = Followed(self, begin, **(followed or {}))
        size = x.shape[0] if self.batch_size is None else self.batch_size
        validation = None if partial else self._validation(known)
        options: dict[str, Any] = {
            "epochs": epochs,
            "callbacks": [follow],
            "progress": self.verbose if isinstance(self.verbose, str) else bool(self.verbose),
        }
        source: Any = x
        if is_sparse(x):
            source, validation = self._sparse_sources(
                x, targets, weight, size, trainer.seed, validation
            )
        else:
            options |= {"y": targets, "batch_size": size, "sample_weight": weight}
        try:
            trainer.fit(source, validation=validation, **options)
            follow.end()
        finally:
            forget_data(trainer)

    def _new_trainer(self, input_shape: Any, known: dict[str, Any], home: Backend) -> Trainer:
        seed = _seed(self.random_state)
        outputs, losses = self._outputs_and_losses(known)
        network = network_for(
            self.layers,
            input_shape,
            outputs,
            backend=home if self.backend is None else self.backend,
            seed=seed,
            dtype=self.dtype,
        )
        metrics: Any = self.metrics
        if len(outputs) > 1:
            metrics = dict.fromkeys(network.output_names, metrics)
        return Trainer(
            network,
            losses,
            copy.deepcopy(optimizer_of_name(self.optimizer)),
            metrics=metrics,
            callbacks=[History(), *copy.deepcopy(list(self.callbacks))],
            seed=seed,
        )

    def _fitted_to(self, trainer: Trainer, known: dict[str, Any], home: Backend) -> None:
        """Take up a new training, once all that came in was found fit for it."""
        self.trainer_, self.network_ = trainer, trainer.network
        self.history_: Any = trainer.callbacks[0]  # a History
        self._known, self._home = known, home.spec
        self._fixed = {name: getattr(self, name) for name in FIXED}
        self._optimizer_of_trainer = self._asked_for()
        for name, value in known.items():
            if name.endswith("_"):
                setattr(self, name, value)

    def _asked_for(self) -> Any:
        """The optimizer that was asked for, and its version: another one after each change."""
        return self.optimizer, getattr(self.optimizer, "version", None)

    def _renew_optimizer(self, trainer: Trainer) -> None:
        """Let a training that goes on go by the optimizer as it is now."""
        if self._optimizer_of_trainer == self._asked_for():
            return
        optimizer = copy.deepcopy(optimizer_of_name(self.optimizer))
        if type(optimizer) is not type(trainer.optimizer):
            trainer.opt_state = None
        trainer.optimizer = optimizer
        self._optimizer_of_trainer = self._asked_for()

    def _check_fixed(self) -> None:
        for name, before in self._fixed.items():
            now = getattr(self, name)
            if now is not before and now != before:
                raise ValueError(
                    f"wanted {name} as it was when this training began, {before!r}, got {now!r}; "
                    f"set it back, or begin anew: fit with warm_start=False"
                )

    def _validation(self, known: dict[str, Any]) -> Any:
        """A share as it is; of (X, y) or (X, y, sample_weight), what the loss takes."""
        given = self.validation
        if not isinstance(given, tuple | list):
            return given
        if len(given) not in (2, 3):
            raise ValueError(
                f"validation is a share, (X, y) or (X, y, sample_weight), got a tuple of "
                f"{len(given)}"
            )
        X, y, *weight = given
        x, y = self._validated(X, y, reset=False)
        targets, _ = self._encoded(y, known)
        return x, targets, as_weights(weight[0] if weight else None, x.shape[0])

    def _validated(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any]:
        """X as an array, and y on the host, (samples,) where it has one column."""
        x, y = validate_data(self, X, on_host(y), reset=reset, multi_output=True, **AS_GIVEN)
        y = y.toarray() if is_sparse(y) else y
        return x, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y

    def _sparse_sources(
        self, x: Any, targets: Any, weight: Any, size: int, seed: int, validation: Any
    ) -> tuple[Any, Any]:
        """The same batches as of a dense X, each made dense when it comes."""
        rows = None
        if validation is not None and not isinstance(validation, tuple):
            rows, out = held_out_rows(x.shape[0], validation, seed)
            validation = SparseBatches(x, targets, weight, AT_ONCE, rows=out)
        elif validation is not None and is_sparse(validation[0]):
            held_out, held_out_targets, held_out_weight = validation
            validation = SparseBatches(held_out, held_out_targets, held_out_weight, AT_ONCE)
        return SparseBatches(x, targets, weight, size, seed, rows), validation

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    @property
    def loss_curve_(self) -> list[float]:
        """The mean loss of each epoch."""
        return self.history_["loss"]

    @property
    def n_iter_(self) -> int:
        """How many epochs were trained, over all calls."""
        return len(self.history_)

    # Predictions ----------------------------------------------------------------------------------

    def _looked_at(self, X: Any, method: str) -> tuple[Any, Backend]:
        """X, and the library that results go back to."""
        check_is_fitted(self)
        x = validate_data(self, X, reset=False, **AS_GIVEN)
        home = home_of(x)
        if _dispatches() and home.spec != self._home:
            raise ValueError(
                f"wanted X on {self._home}, got it on {home.spec}: what {type(self).__name__}."
                f"{method}() is given must use the same namespace and device as what fit() was "
                f"given; move X there, or fit on {home.spec}"
            )
        return x, home

    def _outputs(self, x: Any, loss: Loss | None = None) -> list[Any]:
        """The outputs, or the probabilities that they stand for, one array for each output."""
        network, size = self.network_, AT_ONCE
        if is_sparse(x):
            starts, backend = range(0, x.shape[0], size), network.backend
            parts = [self._outputs(x[k : k + size].toarray(), loss) for k in starts]
            with backend.on_device():
                return [backend.xp.concat(list(one), axis=0) for one in zip(*parts, strict=True)]
        found = network.predict(x, size, probabilities=loss)
        return list(found.values()) if isinstance(found, dict) else [found]

    # Copies ---------------------------------------------------------------------------------------

    def __copy__(self) -> Self:
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "trainer_" in state:
            state["trainer_"] = kept(state["trainer_"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "trainer_" in state:
            self.trainer_ = revived(state["trainer_"])


def loss_function(loss: Any, default: str) -> Any:
    """The loss that was asked for, by name too; or the one for want of another."""
    return losses_of_names(default if loss is None else loss)


def _seed(random_state: Any) -> int:
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def _dispatches() -> bool:
    return bool(get_config()["array_api_dispatch"])
