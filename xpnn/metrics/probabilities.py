"""Metrics of probabilities: how much they are worth as such, beyond the answers that follow."""

import copy
import math
import sys
from typing import ClassVar, Self

import numpy as np

from xpnn.arguments import checked
from xpnn.backends import Backend
from xpnn.errors import DataError
from xpnn.losses.outputs import MEANINGS, Outputs
from xpnn.metrics.base import Mean, Metric
from xpnn.metrics.targets import (
    check_classes,
    check_yes_or_no,
    is_binary,
    one_for_each_item,
    true_class,
    wide_dtype,
)
from xpnn.numerics import log_softmax, one_hot, sigmoid, softmax, softplus, widened
from xpnn.typing import Array, Namespace, Shape


class OfProbabilities(Metric):
    """Base of the metrics of probabilities: of yes, or of each of several classes.

    Attributes:
        form: what the loss takes outputs for, one of "logits", "class logits" and "probabilities";
            called by itself, a metric takes probabilities.
    """

    fixed: ClassVar[tuple[str, ...]] = ("multilabel",)
    reads = "probabilities"
    form: str = "probabilities"

    @checked
    def __init__(self, multilabel: bool = False):
        self.multilabel = multilabel

    def following(self, outputs: Outputs) -> Self:
        name = "probabilities" if outputs.are_shares else outputs.name
        if name is None:
            raise ValueError(
                f"{self!r} measures probabilities, and {outputs.loss} does not say what it takes "
                f"outputs for; give it an attribute outputs, or leave the metric out"
            )
        if MEANINGS[name].link is None:
            raise ValueError(
                f"{self!r} measures probabilities, but {outputs.loss} takes outputs for "
                f"{MEANINGS[name].words}, which stand for none; leave it out"
            )
        of_classes = name == "class logits" or outputs.sum_to_1
        if self.multilabel and of_classes:
            raise ValueError(
                f"{self!r} takes each output for a yes or no of its own, but those of "
                f"{outputs.last!r} are those of several classes to {outputs.loss}; leave "
                f"multilabel=True out"
            )
        if not (self.multilabel or of_classes or outputs.single):
            raise ValueError(
                f"{self!r} takes outputs for shares of several classes, but to {outputs.loss} each "
                f"is a yes or no of its own; write {self._labelled()}"
            )
        told = copy.copy(self)
        vars(told)["form"] = name
        return told

    def check_targets(
        self, targets: Array, output_shape: Shape, backend: Backend, values: bool = True
    ) -> None:
        if self.multilabel or output_shape[-1:] in ((), (1,)):
            check_yes_or_no(targets, output_shape, backend, values)
        else:
            otherwise = f"write {self._labelled()} if each output is a yes or no of its own"
            check_classes(targets, output_shape, backend, values, otherwise)

    def check_predictions(self, predictions: Array, backend: Backend) -> None:
        xp = backend.xp
        if not predictions.shape[0]:
            return
        if not xp.isdtype(predictions.dtype, "real floating"):
            raise DataError(
                f"wanted probabilities of a float dtype, got {predictions.dtype}; give what "
                f"predict returns with probabilities"
            )
        inside = xp.all((predictions >= 0) & (predictions <= 1))
        whole = xp.asarray(True, device=backend.device)
        if not (self.multilabel or is_binary(predictions)):
            whole = xp.all(xp.abs(xp.sum(widened(predictions, xp), axis=-1) - 1.0) < 0.01)
        if not bool(backend.to_numpy(inside & whole)):
            raise DataError(
                "wanted probabilities, from 0 to 1 and those of several classes 1 together, got "
                "other numbers; give what predict returns with probabilities"
            )

    def probabilities(self, predictions: Array, xp: Namespace) -> Array:
        """Of yes, of the items' shape, or of each class, (..., classes); in at least float32."""
        outputs = widened(self._items(predictions, xp), xp)
        if self.form == "logits":
            return sigmoid(outputs, xp)
        return softmax(outputs, xp) if self.form == "class logits" else outputs

    def shares(self, predictions: Array, targets: Array, xp: Namespace) -> Array:
        """The true ones in the same shape: 0 and 1."""
        of_yes = self.of_yes(predictions)
        if self.multilabel:
            predictions, targets = predictions[..., None], targets[..., None]
        true, dtype = true_class(predictions, targets, xp), wide_dtype(predictions, xp)
        if of_yes:
            return xp.astype(true, dtype)
        return one_hot(true, predictions.shape[-1], dtype, xp)

    def of_yes(self, predictions: Array) -> bool:
        """Whether each output is the probability of a yes."""
        return self.multilabel or is_binary(predictions)

    def _items(self, predictions: Array, xp: Namespace) -> Array:
        flat = is_binary(predictions) and predictions.ndim > 1 and not self.multilabel
        return predictions[..., 0] if flat else predictions

    def _labelled(self) -> str:
        """What to write where each output is a yes or no of its own."""
        return f"{type(self).__name__}({', '.join([*self._options(), 'multilabel=True'])})"

    def _options(self) -> list[str]:
        return []

    def __repr__(self) -> str:
        if self.multilabel:
            return self._labelled()
        return f"{type(self).__name__}({', '.join(self._options())})"


class LogLoss(OfProbabilities, Mean):
    """Mean of minus the logarithm of the probability that was given to what is true.

    With p_i the probability that was given to the true class of item i, and w_i its weight::

        -sum_i w_i log p_i / sum_i w_i

    That is the cross-entropy without class weights or smoothing, and of models that were trained by
    another loss. Logits lose no digits; probabilities are kept at or above the epsilon of their
    dtype.

    Args:
        multilabel: whether each output is a yes or no of its own; each then counts.

    >>> import numpy as np
    >>> LogLoss()(np.array([[0.5, 0.5], [0.75, 0.25]]), np.array([0, 0]))
    0.4904
    """

    name = "log_loss"
    higher_is_better = False

    def values(self, predictions: Array, targets: Array, xp: Namespace) -> Array:
        true = self.shares(predictions, targets, xp)
        outputs = widened(self._items(predictions, xp), xp)
        if self.form == "logits":
            return softplus(xp.where(true > 0, -outputs, outputs), xp)
        if self.form == "class logits":
            of_true = xp.where(true > 0, log_softmax(outputs, xp), 0.0)
            return -xp.sum(of_true, axis=-1)
        if self.of_yes(predictions):
            right = xp.where(true > 0, outputs, 1.0 - outputs)
        else:
            right = xp.sum(xp.where(true > 0, outputs, 0.0), axis=-1)
        return -xp.log(xp.maximum(right, float(xp.finfo(predictions.dtype).eps)))


class Perplexity(LogLoss):
    """The exponential of the ``LogLoss``: how many classes, equally likely, are as hard to tell.

    With p_i and w_i as there::

        exp(-sum_i w_i log p_i / sum_i w_i)

    Of a language model, of the next id. 1 is perfect; as many as there are classes is what knowing
    nothing is worth.

    Args:
        multilabel: whether each output is a yes or no of its own; each then counts.

    >>> import numpy as np
    >>> Perplexity()(np.array([[0.25, 0.25, 0.25, 0.25]]), np.array([3]))
    4.0
    """

    name = "perplexity"

    def merged(self, rows: np.ndarray) -> np.ndarray:
        return super().merged(rows)

    def result(self, rows: np.ndarray) -> float:
        mean = super().result(rows)
        return math.exp(mean) if mean < math.log(sys.float_info.max) else mean * math.inf


class BrierScore(OfProbabilities, Mean):
    """Mean squared distance of probabilities from what is true (Brier, 1950).

    Mean over the items, of a yes or no y, from 0 to 1; of several classes j, from 0 to 2::

        (p - y)^2               sum_j (p_j - y_j)^2

    Args:
        multilabel: whether each output is a yes or no of its own; each then counts.

    >>> import numpy as np
    >>> BrierScore()(np.array([[0.5, 0.5], [0.75, 0.25]]), np.array([0, 0]))
    0.3125
    """

    name = "brier_score"
    higher_is_better = False

    def values(self, predictions: Array, targets: Array, xp: Namespace) -> Array:
        off = self.probabilities(predictions, xp) - self.shares(predictions, targets, xp)
        return off**2 if self.of_yes(predictions) else xp.sum(off**2, axis=-1)


class CalibrationError(OfProbabilities):
    """How far probabilities are from how often they come true (ECE; Guo et al., 2017, eq. 3).

    Probabilities are put into bins of equal width; with w_b the weight in bin b, p_b its mean
    probability and f_b how often it came true::

        sum_b w_b |p_b - f_b| / sum_b w_b

    Of a yes or no it is the probability of yes. Of several classes, that of the one that was
    chosen, which comes true where it is right.

    Args:
        bins: how many there are.
        multilabel: whether each output is a yes or no of its own; each then counts.

    >>> import numpy as np
    >>> CalibrationError()(np.array([[0.9], [0.9], [0.9], [0.9]]), np.array([[1], [1], [1], [0]]))
    0.15
    """

    name = "calibration_error"
    higher_is_better = False
    fixed = ("bins", "multilabel")

    @checked
    def __init__(self, bins: int = 15, multilabel: bool = False):
        if bins < 1:
            raise ValueError(f"CalibrationError needs at least one bin, got bins={bins}")
        super().__init__(multilabel)
        self.bins = bins

    def statistics(
        self, predictions: Array, targets: Array, weight: Array | None, xp: Namespace
    ) -> Array:
        p, y = self.probabilities(predictions, xp), self.shares(predictions, targets, xp)
        if not self.of_yes(predictions):
            chosen = one_hot(xp.argmax(p, axis=-1), p.shape[-1], p.dtype, xp)
            p, y = xp.max(p, axis=-1), xp.sum(chosen * y, axis=-1)
        w = one_for_each_item(p, weight, p.dtype, xp)
        number = xp.minimum(xp.astype(xp.floor(p * self.bins), xp.int32), self.bins - 1)
        within = xp.reshape(one_hot(number, self.bins, p.dtype, xp), (-1, self.bins))
        sums = xp.stack([xp.reshape(one, (-1,)) for one in (w, w * p, w * y)])
        return xp.reshape(xp.sum(sums[:, :, None] * within[None, ...], axis=1), (-1,))

    def merged(self, rows: np.ndarray) -> np.ndarray:
        return rows.sum(axis=0, keepdims=True)

    def result(self, rows: np.ndarray) -> float:
        weight, said, came_true = rows.sum(axis=0).reshape(3, self.bins)
        total = weight.sum()
        return float(np.abs(said - came_true).sum() / total) if total else math.nan

    def _options(self) -> list[str]:
        return [] if self.bins == 15 else [f"bins={self.bins}"]
