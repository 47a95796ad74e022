"""Classifier: classes for scikit-learn."""

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.callback import with_callbacks
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted

from xpnn.backends import Backend
from xpnn.losses.outputs import outputs_of
from xpnn.sklearn.answers import Answer, check_loss
from xpnn.sklearn.base import Estimator, loss_function
from xpnn.sklearn.class_weights import with_class_weights
from xpnn.sklearn.inputs import handed_back, is_sparse, on_host, result_dtype
from xpnn.typing import Array


def _gives_probabilities(model: "Classifier") -> bool:
    """Whether outputs stand for probabilities: not those of margins."""
    loss = model.loss
    return loss != "hinge" and not (callable(loss) and outputs_of(loss) == "margins")


class Classifier(ClassifierMixin, Estimator):  # type: ignore[misc]
    """A network that learns classes: one for each sample, one for each column of y, or any number.

    It minimises ``loss``, the mean over the samples by their weights, in ``epochs`` passes over X
    in batches of ``batch_size``. Labels are numbers, strings or whatever can be put in order.

    Args:
        layers: widths of hidden layers, each with a ReLU behind it; or all layers of the network,
            which are copied and stay unbuilt; or a function ``(input_shape, outputs)`` that returns
            such layers, or a ``Graph``, for X of shape (samples, *input_shape). ``outputs`` counts
            the classes; where y has several columns, it is a list of such counts, and the function
            returns a ``Graph`` with an output for each.
        optimizer: such as ``Adam(1e-3)``, or a name, "adam". A copy trains; ``optimizer__rate`` is
            a parameter like any other.
        loss: a function of ``xpnn.losses``, or its name; None is "cross_entropy", and
            "binary_cross_entropy" where a sample may have any number of labels. After
            "binary_cross_entropy" or "hinge" two classes are one output, more than two are told
            apart one by one.
        epochs: passes over X in ``fit``.
        batch_size: samples a step; None takes all of them.
        validation: the share of the samples to hold out, or ``(X, y)`` or ``(X, y,
            sample_weight)``, measured after each epoch: ``history_["val_loss"]``.
        metrics: such as ``[Accuracy()]`` or ``["accuracy"]``, measured on validation data.
        callbacks: those of ``xpnn``, such as ``[EarlyStopping()]``. Copies act; those of a fitted
            estimator are in ``trainer_.callbacks``.
        backend: "numpy", "torch:cuda", "jax", ...; None is that of X under array API dispatch, and
            NumPy else.
        dtype: to compute in: "float32", "float64", "float16" or "bfloat16".
        class_weight: a dict by label; a list of dicts, where y has several columns; "balanced" for
            ``n / (k n_j)`` of n samples and k classes, of which n_j are of class j, by their
            weights. They multiply the weights of the samples.
        random_state: of starting weights, masks and shuffles: a number, a RandomState or None.
        warm_start: whether ``fit`` goes on with what was trained, for ``epochs`` more.
        verbose: whether to show how far it is; or how, as ``progress`` of ``Trainer.fit``: "lines".

    Attributes:
        classes_: the labels in order; a list of such where y has several columns; the numbers of
            the labels, where a sample may have any number of them.
        network_: the ``Network``.
        trainer_: its ``Trainer``; a pickle has all of it, and goes on exactly.
        history_: numbers of all epochs by name, such as ``history_["val_loss"]``.
        loss_curve_: the mean loss of each epoch.
        n_iter_: epochs that were trained.
        n_outputs_: columns of y.
        n_features_in_: features, along the second axis of X.
        feature_names_in_: their names, where X is a table.

    >>> model = Classifier(epochs=200, random_state=0).fit([[-1.0], [0.0], [1.0]], ["a", "a", "b"])
    >>> model.predict([[-0.5], [2.0]]).tolist()
    ['a', 'b']
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
        class_weight: Any = None,
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
        self.class_weight = class_weight

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train a new network; or, with ``warm_start``, go on with the one that there is.

        Args:
            X: (samples, features), of any library, a table, or sparse, which is made dense batch by
                batch; or with more axes, as the layers take them.
            y: labels (samples,), or (samples, columns). Columns of 0 and 1 are labels of which a
                sample may have any number; they may be sparse.
            sample_weight: (samples,), at least 0.

        Raises:
            ValueError: X, y or weights cannot be trained on, or a parameter is wrong.
        """
        return self._fit(X, y, sample_weight)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Go on for one epoch over X, as ``fit`` takes it; the first call makes the network.

        Args:
            X, y, sample_weight: as for ``fit``.
            classes: all labels that are to come; a list of such where y has several columns. The
                first call has to have them, unless y says which there are, in columns of 0 and 1.
        """
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"wanted numbers for class_weight in partial_fit, which does not see all of y, got "
                f"{self.class_weight!r}; count the classes, and give a dict of weights by label"
            )
        begins = classes is None and not hasattr(self, "network_")
        if begins and not _are_yes_or_no(on_host(y)):
            raise ValueError(
                "wanted classes, all labels that are to come, in the first call of partial_fit, "
                "got None"
            )
        return self._partial_fit(X, y, sample_weight, classes)

    # Predictions ----------------------------------------------------------------------------------

    def predict(self, X: Any) -> Array:
        """The labels, (samples,) or (samples, columns), in the library of X.

        No library but NumPy has strings: they come in its arrays.
        """
        x, home = self._looked_at(X, "predict")
        codes = [one.codes(out) for one, out in self._read(x)]
        if self._known["form"] == "labels":
            return handed_back(codes[0].astype(self._known["dtype"]), home)
        columns = [one.classes[code] for one, code in zip(self._answers, codes, strict=True)]
        labels = columns[0] if self._known["form"] == "classes" else np.stack(columns, axis=1)
        return handed_back(labels, home) if labels.dtype.kind in "biuf" else labels

    @available_if(_gives_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Any:
        """Probabilities of the classes in their order, (samples, classes), in the library of X.

        A list of such where y has several columns; where a sample may have any number of labels,
        the probability of each.
        """
        x, home = self._looked_at(X, "predict_proba")
        return self._all_handed_back(self._probabilities(x), home, x)

    @available_if(_gives_probabilities)  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: Any) -> Any:
        """The logarithms of ``predict_proba``."""
        x, home = self._looked_at(X, "predict_log_proba")
        with np.errstate(divide="ignore"):
            logarithms = [np.log(one) for one in self._probabilities(x)]
        return self._all_handed_back(logarithms, home, x)

    def decision_function(self, X: Any) -> Any:
        """(samples,) of two classes, above 0 for the second; else a number for each class.

        A list of such where y has several columns.
        """
        x, home = self._looked_at(X, "decision_function")
        return self._all_handed_back([one.decision(out) for one, out in self._read(x)], home, x)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of the samples of which all is right, by their weights."""
        check_is_fitted(self)
        if self._known["form"] != "columns":
            return float(super().score(X, y, sample_weight))
        right = np.all(on_host(self.predict(X)) == np.asarray(on_host(y)), axis=1)
        return float(np.average(right, weights=on_host(sample_weight)))

    def _read(self, x: Any) -> list[tuple[Answer, np.ndarray]]:
        """Each answer with its outputs, on the host."""
        outputs = self._on_host(self._outputs(x))
        for one in outputs:
            _refuse_nan(one)
        return list(zip(self._answers, outputs, strict=True))

    def _probabilities(self, x: Any) -> list[np.ndarray]:
        """Of each answer, in the precision of X, in which rows sum to 1."""
        linked, dtype = self._on_host(self._outputs(x, self.trainer_.loss)), result_dtype(x)
        for one in linked:
            _refuse_nan(one)
        pairs = zip(self._answers, linked, strict=True)
        return [one.probabilities(out.astype(dtype)) for one, out in pairs]

    @property
    def _answers(self) -> list[Answer]:
        found: list[Answer] = self._known["answers"]
        return found

    def _on_host(self, outputs: list[Any]) -> list[np.ndarray]:
        return [self.network_.backend.to_numpy(one) for one in outputs]

    def _all_handed_back(self, found: list[np.ndarray], home: Backend, x: Any) -> Any:
        given = [handed_back(one, home, result_dtype(x)) for one in found]
        return given if self._known["form"] == "columns" else given[0]

    # Labels ---------------------------------------------------------------------------------------

    def _learned(self, y: Any, classes: Any) -> dict[str, Any]:
        check_classification_targets(y)
        form = _form(y, classes)
        loss = loss_function(
            self.loss, "binary_cross_entropy" if form == "labels" else "cross_entropy"
        )
        check_loss(loss, form == "labels")
        if form == "labels":
            found = [np.arange(y.shape[1])]
        elif form == "columns":
            found = [np.unique(one) for one in (y.T if classes is None else classes)]
        else:
            found = [np.unique(y if classes is None else np.asarray(classes))]
        if form == "columns" and len(found) != y.shape[1]:
            raise ValueError(
                f"wanted classes for each of the {y.shape[1]} columns of y, got {len(found)} lists"
            )
        for one in found:
            if len(one) < 2 and form != "labels":
                raise ValueError(
                    f"wanted at least two classes in y, got one class, {one.tolist()}; leave "
                    f"nothing out of y that tells classes apart"
                )
        return {
            "classes_": found if form == "columns" else found[0],
            "n_outputs_": 1 if form == "classes" else y.shape[1],
            "form": form,
            "dtype": y.dtype,
            "answers": [Answer(one, loss, form == "labels") for one in found],
        }

    def _outputs_and_losses(self, known: dict[str, Any]) -> tuple[dict[str, int], Any]:
        answers = known["answers"]
        if len(answers) == 1:
            return {"y": answers[0].count}, answers[0].loss
        outputs = {f"y{number}": one.count for number, one in enumerate(answers)}
        losses = [one.loss for one in answers]
        return outputs, losses

    def _encoded(self, y: Any, known: dict[str, Any]) -> tuple[Any, Any]:
        check_classification_targets(y)
        form, answers = known["form"], known["answers"]
        if y.ndim == 1 and form != "classes":
            raise ValueError(f"wanted y with {known['n_outputs_']} columns, got shape {y.shape}")
        if y.ndim == 2 and (form == "classes" or y.shape[1] != known["n_outputs_"]):
            wanted = "one column" if form == "classes" else f"{known['n_outputs_']} columns"
            raise ValueError(f"wanted y with {wanted}, as in fit, got shape {y.shape}")
        if form == "labels":
            yes = _codes(y, np.asarray([0, 1]))
            return answers[0].targets(yes), yes
        columns = [y] if form == "classes" else list(y.T)
        codes = [_codes(own, one.classes) for own, one in zip(columns, answers, strict=True)]
        targets = [one.targets(own) for own, one in zip(codes, answers, strict=True)]
        if form == "classes":
            return targets[0], codes[0]
        return tuple(targets), np.stack(codes, axis=1)

    def _weighed(self, weight: np.ndarray | None, codes: Any, known: dict[str, Any]) -> Any:
        if self.class_weight is None:
            return weight
        labels = known["form"] == "labels"
        one = np.asarray([0, 1])
        classes = [one] * known["n_outputs_"] if labels else [a.classes for a in known["answers"]]
        columns = codes[:, None] if codes.ndim == 1 else codes
        return with_class_weights(self.class_weight, columns, classes, weight)


def _form(y: np.ndarray, classes: Any) -> str:
    """What y holds: "classes", "columns" of such, or "labels" of which there may be any number.

    Classes of each column say that these are columns, of which the first rows may have 0 and 1
    alone.
    """
    if y.ndim == 1:
        return "classes"
    if classes is not None and all(np.ndim(one) == 1 for one in classes):
        return "columns"
    return "labels" if _are_yes_or_no(y) else "columns"


def _are_yes_or_no(y: Any) -> bool:
    """Whether it has several columns of 0 and 1; of any two numbers would do for scikit-learn."""
    if type_of_target(y) != "multilabel-indicator":
        return False
    return bool(np.isin(y.data if is_sparse(y) else y, (0, 1)).all())


def _refuse_nan(outputs: np.ndarray) -> None:
    """Raise ValueError where an output is NaN, which says no class."""
    wrong = np.asarray(np.isnan(outputs.astype(np.float32, copy=False)).any(axis=1))
    if wrong.any():
        raise ValueError(
            f"wanted outputs that tell classes apart, got NaN for {int(wrong.sum())} of "
            f"{len(wrong)} samples, the first is {int(np.argmax(wrong))}: their numbers are too "
            f"large, or training went to NaN, as history_['loss'] says; scale X, or fit with a "
            f"lower rate"
        )


def _codes(y: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The numbers of the labels in ``classes``, which are in order.

    Raises:
        ValueError: there are others.
    """
    places = np.searchsorted(classes, y).clip(0, len(classes) - 1)
    wrong = classes[places] != y
    if np.any(wrong):
        others = np.unique(y[wrong]).tolist()
        raise ValueError(
            f"wanted labels among the classes {classes.tolist()}, got {others[:5]}; name all "
            f"classes when training begins"
        )
    return places
