"""Regressor: numbers for scikit-learn."""

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.callback import with_callbacks

from xpnn.losses.outputs import outputs_of
from xpnn.losses.weights import unbound
from xpnn.sklearn.answers import predicted_numbers
from xpnn.sklearn.base import Estimator, loss_function
from xpnn.sklearn.inputs import handed_back, result_dtype
from xpnn.typing import Array

FITS_NUMBERS = ("values", "log rates", "gaussians", None)


class Regressor(RegressorMixin, Estimator):  # type: ignore[misc]
    """A network that learns numbers, one for each sample or several.

    It minimises ``loss``, the mean over the samples by their weights, in ``epochs`` passes over X
    in batches of ``batch_size``. Scale X, and y where it is far from 1: networks begin near 0.

    Args:
        layers: widths of hidden layers, each with a ReLU behind it; or all layers of the network,
            which are copied and stay unbuilt; or a function ``(input_shape, outputs)`` that returns
            such layers, or a ``Graph``, for X of shape (samples, *input_shape).
        optimizer: such as ``Adam(1e-3)``, or a name, "adam". A copy trains; ``optimizer__rate`` is
            a parameter like any other.
        loss: a function of ``xpnn.losses``, or its name; None is "mean_squared_error". After
            ``poisson`` rates are predicted, after ``gaussian`` means.
        epochs: passes over X in ``fit``.
        batch_size: samples a step; None takes all of them.
        validation: the share of the samples to hold out, or ``(X, y)`` or ``(X, y,
            sample_weight)``, measured after each epoch: ``history_["val_loss"]``.
        metrics: such as ``[MAE()]`` or ``["mae"]``, measured on validation data.
        callbacks: those of ``xpnn``, such as ``[EarlyStopping()]``. Copies act; those of a fitted
            estimator are in ``trainer_.callbacks``.
        backend: "numpy", "torch:cuda", "jax", ...; None is that of X under array API dispatch, and
            NumPy else.
        dtype: to compute in: "float32", "float64", "float16" or "bfloat16".
        random_state: of starting weights, masks and shuffles: a number, a RandomState or None.
        warm_start: whether ``fit`` goes on with what was trained, for ``epochs`` more.
        verbose: whether to show how far it is; or how, as ``progress`` of ``Trainer.fit``: "lines".

    Attributes:
        network_: the ``Network``.
        trainer_: its ``Trainer``; a pickle has all of it, and goes on exactly.
        history_: numbers of all epochs by name, such as ``history_["val_loss"]``.
        loss_curve_: the mean loss of each epoch.
        n_iter_: epochs that were trained.
        n_outputs_: numbers that are predicted for each sample.
        n_features_in_: features, along the second axis of X.
        feature_names_in_: their names, where X is a table.

    >>> import numpy as np
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> model = Regressor((32,), epochs=300, random_state=0).fit(X, np.abs(X[:, 0]))
    >>> model.score(X, np.abs(X[:, 0])) > 0.95
    True
    """

    def __init__(
        self,
        layers: Any = (100,),
        *,
        optimizer: Any = "adam",
        loss: Any = None,
        epochs: int = 100,
        batch_size: int | None = 200,
        validation: Any = None,
        metrics: Any = (),
        callbacks: Any = (),
        backend: Any = None,
        dtype: str = "float32",
        random_state: Any = None,
        warm_start: bool = False,
        verbose: bool | str = False,
    ):
        super().__init__(
            layers,
            optimizer=optimizer,
            loss=loss,
            epochs=epochs,
            batch_size=batch_size,
            validation=validation,
            metrics=metrics,
            callbacks=callbacks,
            backend=backend,
            dtype=dtype,
            random_state=random_state,
            warm_start=warm_start,
            verbose=verbose,
        )

    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train a new network; or, with ``warm_start``, go on with the one that there is.

        Args:
            X: (samples, features), of any library, a table, or sparse, which is made dense batch by
                batch; or with more axes, as the layers take them.
            y: numbers, (samples,) or (samples, outputs).
            sample_weight: (samples,), at least 0.

        Raises:
            ValueError: X, y or weights cannot be trained on, or a parameter is wrong.
        """
        return self._fit(X, y, sample_weight)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Go on for one epoch over X, as ``fit`` takes it; the first call makes the network."""
        return self._partial_fit(X, y, sample_weight)

    def predict(self, X: Any) -> Array:
        """The numbers, (samples,) or (samples, outputs), in the library and the precision of X."""
        x, home = self._looked_at(X, "predict")
        (outputs,) = self._outputs(x)
        predicted = predicted_numbers(outputs, self._known["loss"], self.network_.backend)
        if self._known["flat"]:
            predicted = predicted[:, 0]
        return handed_back(predicted, home, result_dtype(x))

    def _learned(self, y: Any, classes: Any) -> dict[str, Any]:
        y = _numbers(y)
        count = 1 if y.ndim == 1 else y.shape[1]
        loss = loss_function(self.loss, "mean_squared_error")
        meaning = outputs_of(loss)
        if meaning not in FITS_NUMBERS:
            name = getattr(unbound(loss)[0], "__name__", repr(loss))
            raise ValueError(
                f"wanted a loss for numbers, such as 'mean_squared_error', got {name}, which takes "
                f"outputs for {meaning}; choose another one, or train a Classifier"
            )
        return {"n_outputs_": count, "flat": y.ndim == 1, "loss": loss}

    def _outputs_and_losses(self, known: dict[str, Any]) -> tuple[dict[str, int], Any]:
        each = 2 if outputs_of(known["loss"]) == "gaussians" else 1
        return {"y": each * known["n_outputs_"]}, known["loss"]

    def _encoded(self, y: Any, known: dict[str, Any]) -> tuple[Any, Any]:
        y = _numbers(y)
        if (y.ndim == 1) != known["flat"] or (y.ndim == 2 and y.shape[1] != known["n_outputs_"]):
            shape = "(samples,)" if known["flat"] else f"(samples, {known['n_outputs_']})"
            raise ValueError(f"wanted y of shape {shape}, as in fit, got {y.shape}")
        return (y[:, None] if y.ndim == 1 else y), None


def _numbers(y: Any) -> np.ndarray:
    """y as numbers; those in lists of objects, too."""
    return y.astype(np.float64) if y.dtype.kind == "O" else y
