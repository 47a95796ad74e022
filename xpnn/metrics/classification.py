"""Metrics of answers: the share of right ones, and counts of what was told from what."""

import copy
import logging
import math
from typing import ClassVar, Literal, Self

import numpy as np

from xpnn.arguments import checked
from xpnn.backends import Backend
from xpnn.errors import DataError, ShapeError
from xpnn.losses.outputs import MEANINGS, Outputs
from xpnn.metrics.base import Mean, Metric
from xpnn.metrics.targets import (
    check_classes,
    check_yes_or_no,
    chosen_class,
    is_binary,
    one_for_each_item,
    true_class,
    wide_dtype,
)
from xpnn.numerics import one_hot
from xpnn.typing import Array, Namespace, Shape

logger = logging.getLogger("xpnn")


class Answers(Metric):
    """Base of the metrics that compare answers: yes or no, or one class of several."""

    fixed: ClassVar[tuple[str, ...]] = ("threshold", "multilabel")
    reads = "answers"
    threshold: float | None = None
    multilabel: bool = False

    @checked
    def __init__(self, threshold: float | None = None, multilabel: bool = False):
        self.threshold, self.multilabel = threshold, multilabel

    def answers(self, predictions: Array, targets: Array, xp: Namespace) -> tuple[Array, Array]:
        """The answers given and the true ones: 0 and 1, or class numbers, of the items' shape."""
        if self.multilabel:
            predictions, targets = predictions[..., None], targets[..., None]
        return chosen_class(predictions, self.threshold, xp), true_class(predictions, targets, xp)

    def following(self, outputs: Outputs) -> Self:
        super().following(outputs)
        if self.multilabel and outputs.name == "class logits":
            raise ValueError(
                f"{self!r} takes each output for a yes or no of its own, but {outputs.loss} takes "
                f"them for {MEANINGS[outputs.name].words}; leave multilabel=True out, or choose "
                f"binary_cross_entropy"
            )
        if self.multilabel and outputs.sum_to_1:
            raise ValueError(
                f"{self!r} takes each output for a yes or no of its own, but those of "
                f"{outputs.last!r} sum to 1; leave multilabel=True out, or end the network in "
                f"Sigmoid()"
            )
        if not (outputs.single or self.multilabel):
            return self
        threshold = self._threshold_for(outputs) if self.threshold is None else self.threshold
        if outputs.are_shares and not 0 < threshold < 1:
            raise ValueError(
                f"{self!r} has its threshold at {threshold:g}, but outputs lie from 0 to 1; leave "
                f"threshold out, or write threshold=0.5"
            )
        told = copy.copy(self)
        vars(told)["threshold"] = threshold
        return told

    def _threshold_for(self, outputs: Outputs) -> float:
        """Above which number these outputs say yes."""
        if outputs.are_shares:
            return 0.5
        if outputs.name == "values":
            raise ValueError(
                f"{self!r} does not know above which number an output says yes, as {outputs.loss} "
                f"takes outputs for {MEANINGS[outputs.name].words}; write threshold=0.5 for "
                f"targets of 0 and 1, threshold=0 for targets of -1 and 1"
            )
        if outputs.name is None:
            logger.warning(
                "%s does not say what it takes outputs for, so %r takes those above 0 for yes; "
                "write threshold=0 if they are logits, threshold=0.5 if they are probabilities",
                *(outputs.loss, self),
            )
            return 0.0
        threshold = MEANINGS[outputs.name].threshold
        assert threshold is not None  # but for logits of classes, and these are never single
        return threshold

    def check_targets(
        self, targets: Array, output_shape: Shape, backend: Backend, values: bool = True
    ) -> None:
        if self.multilabel or output_shape[-1:] in ((), (1,)):
            check_yes_or_no(targets, output_shape, backend, values)
        else:
            otherwise = (
                f"write {type(self).__name__}(multilabel=True) if each output is a yes or no of "
                f"its own"
            )
            check_classes(targets, output_shape, backend, values, otherwise)

    def check_predictions(self, predictions: Array, backend: Backend) -> None:
        one_each = self.multilabel or is_binary(predictions)
        if self.threshold is not None or not one_each or not predictions.shape[0]:
            return
        xp = backend.xp
        if not xp.isdtype(predictions.dtype, "real floating"):
            return
        shares = xp.all((predictions >= 0) & (predictions <= 1))
        unclear = xp.any((predictions > 0) & (predictions <= 0.5))
        if bool(backend.to_numpy(shares & unclear)):
            raise DataError(
                f"wanted predictions of which {self!r} can tell yes from no, got numbers from 0 to "
                f"1, which may be probabilities or logits; write threshold=0.5 for probabilities, "
                f"threshold=0 for logits"
            )

    def __repr__(self) -> str:
        options = {"threshold": (self.threshold, None), "multilabel": (self.multilabel, False)}
        given = [
            f"{name}={value!r}" for name, (value, left_out) in options.items() if value != left_out
        ]
        return f"{type(self).__name__}({', '.join(given)})"


class Accuracy(Answers, Mean):
    """Share of right answers.

    Over all items, each by its weight w_i, of true class c_i and predicted class p_i::

        sum_i w_i [p_i = c_i] / sum_i w_i

    Many outputs, (batch, ..., classes): the largest is the class; targets are class numbers,
    (batch, ...), or one-hot rows. One output: yes where it is above ``threshold``; targets of 0 or
    -1 are no, of 1 yes. Several labels at once (``multilabel=True``): each output is a yes or no of
    its own, and each counts.

    Args:
        threshold: above which an output says yes; left out, 0 where the loss of the ``Trainer``
            takes outputs for logits, 0.5 where it takes them for probabilities.
        multilabel: whether a sample may be of several classes at once, or of none.

    >>> import numpy as np
    >>> Accuracy()(np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]]), np.array([0, 1, 1]))
    0.6667
    """

    name = "accuracy"

    def values(self, predictions: Array, targets: Array, xp: Namespace) -> Array:
        chosen, true = self.answers(predictions, targets, xp)
        return xp.astype(chosen == true, wide_dtype(predictions, xp))


class TopK(Mean):
    """Share of samples whose class is among the k largest outputs.

    For outputs a_j, (batch, ..., classes), and the true class c of an item::

        share of items with (number of j other than c with a_j >= a_c) < k

    So an output that ties with the true class counts as larger, and constant outputs earn nothing;
    NaN counts as larger, too.

    Args:
        k: how many, at least 1.

    >>> import numpy as np
    >>> TopK(2)(np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]), np.array([1, 2]))
    0.5
    """

    fixed = ("k",)
    reads = "ranks"

    @checked
    def __init__(self, k: int = 5):
        if k < 1:
            raise ValueError(f"TopK needs k of at least 1, got {k}")
        self.k, self.name = k, f"top_{k}"

    def check_targets(
        self, targets: Array, output_shape: Shape, backend: Backend, values: bool = True
    ) -> None:
        if output_shape[-1:] in ((), (1,)):
            raise ShapeError(
                f"{self!r} ranks the outputs of several classes, got predictions with one output; "
                f"measure Accuracy()"
            )
        check_classes(targets, output_shape, backend, values, f"leave {self!r} out")

    def values(self, predictions: Array, targets: Array, xp: Namespace) -> Array:
        true = one_hot(true_class(predictions, targets, xp), predictions.shape[-1], xp.bool, xp)
        own = xp.max(xp.where(true, predictions, -xp.inf), axis=-1, keepdims=True)
        at_least = xp.count_nonzero(~(predictions < own), axis=-1)
        return xp.astype(at_least <= self.k, wide_dtype(predictions, xp))


class Counting(Answers):
    """Base of the metrics of counts: true positives, predicted and actual members of each class."""

    fixed = ("average", *Answers.fixed)

    @checked
    def __init__(
        self,
        average: Literal["macro", "binary"] | None = None,
        threshold: float | None = None,
        multilabel: bool = False,
    ):
        if average not in (None, "macro", "binary"):
            raise ValueError(f"{type(self).__name__} averages 'macro' or 'binary', got {average!r}")
        if multilabel and average == "binary":
            raise ValueError(
                f"{type(self).__name__} of several labels is the mean over them; leave "
                f"average='binary' out, or write average='macro'"
            )
        super().__init__(threshold, multilabel)
        self.average = average

    def statistics(
        self, predictions: Array, targets: Array, weight: Array | None, xp: Namespace
    ) -> Array:
        answers = self.answers(predictions, targets, xp)
        dtype = (
            xp.int32 if weight is None else wide_dtype(predictions, xp)
        )  # sums of int32 are wider
        weights = one_for_each_item(answers[0], weight, dtype, xp)
        classes = 2 if is_binary(predictions) else predictions.shape[-1]
        if self.multilabel:  # each label is counted where the answer is yes
            labels = 1 if is_binary(predictions) else classes
            chosen, true, w = (
                xp.reshape(xp.astype(one, dtype), (-1, labels)) for one in (*answers, weights)
            )
        else:
            w = xp.reshape(weights, (-1, 1))
            chosen, true = (
                xp.reshape(one_hot(one, classes, dtype, xp), (-1, classes)) for one in answers
            )
        counts = [xp.sum(w * each, axis=0) for each in (chosen * true, chosen, true)]
        return xp.concat([*counts, xp.reshape(xp.sum(w), (1,))])

    def merged(self, rows: np.ndarray) -> np.ndarray:
        return rows.sum(axis=0, keepdims=True)

    def result(self, rows: np.ndarray) -> float:
        *counts, weight = rows.sum(axis=0)
        if not weight:
            return math.nan
        both, chosen, true = np.reshape(counts, (3, -1))
        fractions = [self.fraction(*counts) for counts in zip(both, chosen, true, strict=True)]
        each = [float(part / whole) if whole else 0.0 for part, whole in fractions]
        of_two = len(each) == 2 and not self.multilabel
        if (self.average or ("binary" if of_two else "macro")) == "binary":
            return each[1]
        seen = self.counted(chosen, true)
        return float(np.mean(np.array(each)[seen])) if seen.any() else 0.0

    def fraction(self, both: float, chosen: float, true: float) -> tuple[float, float]:
        """Numerator and denominator for one class."""
        raise NotImplementedError

    def counted(self, chosen: np.ndarray, true: np.ndarray) -> np.ndarray:
        """Which classes a mean over classes is of: those that occur or were predicted."""
        return chosen + true > 0


class Precision(Counting):
    """Of what was predicted to be of a class, the share that is.

    With TP, FP the weights of what was predicted to be of the class and is, or is not::

        TP / (TP + FP)

    For two classes that of class 1, else the mean over the classes that occur or were predicted
    ("macro"); a class that was never predicted counts as 0. Of several labels at once
    (``multilabel=True``), the mean over the labels.

    Args:
        average: "binary", "macro", or None for whichever fits the number of classes.
        threshold, multilabel: as for ``Accuracy``.

    >>> import numpy as np
    >>> Precision(threshold=0.5)(np.array([[0.9], [0.8], [0.1]]), np.array([[1], [0], [1]]))
    0.5
    """

    name = "precision"

    def fraction(self, both: float, chosen: float, true: float) -> tuple[float, float]:
        return both, chosen


class Recall(Counting):
    """Of what is of a class, the share that was predicted to be.

    With TP, FN the weights of what is of the class and was predicted to be, or was not::

        TP / (TP + FN)

    Of several classes the mean is as for ``Precision``.

    Args:
        average, threshold, multilabel: as for ``Precision``.

    >>> import numpy as np
    >>> outputs = np.array([[0.9], [0.8], [0.1], [0.2]])
    >>> targets = np.array([[1], [0], [1], [1]])
    >>> Recall(threshold=0.5)(outputs, targets)
    0.3333
    """

    name = "recall"

    def fraction(self, both: float, chosen: float, true: float) -> tuple[float, float]:
        return both, true


class F1(Counting):
    """Harmonic mean of precision and recall, for each class.

    With TP the weight of what is of the class and was predicted to be, FP of what was predicted and
    is not, FN of what is and was not predicted::

        2 TP / (2 TP + FP + FN)

    Of several classes the mean is as for ``Precision``.

    Args:
        average, threshold, multilabel: as for ``Precision``.

    >>> import numpy as np
    >>> outputs = np.array([[0.9], [0.8], [0.1], [0.2]])
    >>> targets = np.array([[1], [0], [1], [1]])
    >>> F1(threshold=0.5)(outputs, targets)
    0.4
    """

    name = "f1"

    def fraction(self, both: float, chosen: float, true: float) -> tuple[float, float]:
        return 2 * both, chosen + true


class IoU(Counting):
    """Intersection over union: of what is of a class or was predicted to be, the share of both.

    With TP, FP, FN as for ``F1``::

        TP / (TP + FP + FN)

    For two classes that of class 1, else the mean over the classes that occur or were predicted.
    For images whose positions are classified it is the overlap of masks.

    Args:
        average, threshold, multilabel: as for ``Precision``.

    >>> import numpy as np
    >>> outputs = np.array([[0.9], [0.8], [0.1], [0.2]])
    >>> targets = np.array([[1], [0], [1], [1]])
    >>> IoU(threshold=0.5)(outputs, targets)
    0.25
    """

    name = "iou"

    def fraction(self, both: float, chosen: float, true: float) -> tuple[float, float]:
        return both, chosen + true - both


class BalancedAccuracy(Counting):
    """The mean of the recalls of the classes that occur, so that each class counts alike.

    Of k classes that occur, with n_j the weight of class j and h_j what of it was found::

        1/k sum_j h_j / n_j

    Of two classes, to answer without looking is worth 0.5, however rare one of them is.

    Args:
        threshold: as for ``Accuracy``.

    >>> import numpy as np
    >>> BalancedAccuracy()(np.array([[2.0, 1.0], [2.0, 1.0], [0.0, 3.0]]), np.array([0, 0, 0]))
    0.6667
    >>> BalancedAccuracy()(np.array([[2.0, 1.0], [2.0, 1.0], [2.0, 1.0]]), np.array([0, 0, 1]))
    0.5
    """

    name = "balanced_accuracy"

    @checked
    def __init__(self, threshold: float | None = None):
        super().__init__("macro", threshold)

    def fraction(self, both: float, chosen: float, true: float) -> tuple[float, float]:
        return both, true

    def counted(self, chosen: np.ndarray, true: np.ndarray) -> np.ndarray:
        return true > 0
