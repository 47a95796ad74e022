"""What the outputs of a network say to scikit-learn: classes, labels, numbers."""

from dataclasses import dataclass

import numpy as np

from xpnn.backends import Backend
from xpnn.losses.outputs import outputs_of
from xpnn.losses.targets import distributions
from xpnn.losses.weights import unbound
from xpnn.typing import Array, Loss


@dataclass(frozen=True)
class Answer:
    """One output of a classifier: one of several classes, or a yes or no for each of them.

    Attributes:
        classes: their labels, in order.
        loss: by which the output is read: a logit for each class, or logits, probabilities or
            margins of yes and no.
        multilabel: whether a sample may have any number of the labels.
    """

    classes: np.ndarray
    loss: Loss
    multilabel: bool = False

    @property
    def meaning(self) -> str | None:
        """What the loss takes outputs for."""
        return outputs_of(self.loss)

    @property
    def count(self) -> int:
        """How many numbers the output has; one for two classes, where a yes tells which."""
        is_yes = self.meaning != "class logits" and not self.multilabel and len(self.classes) == 2
        return 1 if is_yes else len(self.classes)

    @property
    def threshold(self) -> float:
        """Above which an output says yes."""
        return 0.5 if self.meaning == "probabilities" else 0.0

    def targets(self, codes: np.ndarray) -> np.ndarray:
        """As the loss takes them.

        Args:
            codes: class numbers (samples,), or 0 and 1 of shape (samples, labels).
        """
        if self.meaning == "class logits":
            one_hot = getattr(unbound(self.loss)[0], "check_targets", None) is distributions
            return np.eye(self.count, dtype="float32")[codes] if one_hot else codes
        if self.multilabel:
            yes = codes
        elif self.count == 1:
            yes = codes[:, None]
        else:
            yes = codes[:, None] == np.arange(self.count)
        yes = yes.astype("float32")
        return 2 * yes - 1 if self.meaning == "margins" else yes

    def decision(self, outputs: np.ndarray) -> np.ndarray:
        """(samples,) of two classes, above 0 for the second; else a number for each class."""
        if self.meaning == "class logits":
            return outputs[:, 1] - outputs[:, 0] if len(self.classes) == 2 else outputs
        above = outputs - self.threshold
        return above[:, 0] if self.count == 1 else above

    def codes(self, outputs: np.ndarray) -> np.ndarray:
        """Class numbers (samples,), or 0 and 1 of shape (samples, labels)."""
        decision = self.decision(outputs)
        if self.multilabel or decision.ndim == 1:
            return (decision > 0).astype(np.int64)
        return np.argmax(decision, axis=1)

    def probabilities(self, linked: np.ndarray) -> np.ndarray:
        """(samples, classes); each row sums to 1, but for several labels.

        Args:
            linked: the probabilities that the outputs stand for, by the loss.
        """
        if self.multilabel:
            return linked
        if self.count == 1:
            return np.concatenate([1 - linked, linked], axis=1)
        return linked / np.maximum(linked.sum(axis=1, keepdims=True), np.finfo(linked.dtype).tiny)


FITS_LABELS = ("class logits", "logits", "probabilities", "margins")


def check_loss(loss: Loss, multilabel: bool) -> None:
    """Raise ValueError unless outputs under this loss can be read as classes."""
    meaning = outputs_of(loss)
    name = getattr(unbound(loss)[0], "__name__", repr(loss))
    if meaning not in FITS_LABELS:
        raise ValueError(
            f"wanted a loss for classes, such as 'cross_entropy' or 'binary_cross_entropy', got "
            f"{name}, which takes outputs for {meaning or 'something it does not say'}; choose "
            f"another one, or leave loss out"
        )
    if multilabel and meaning == "class logits":
        raise ValueError(
            f"wanted a loss for any number of labels, such as 'binary_cross_entropy', got {name}, "
            f"of which each sample has one class; choose another one, or leave loss out"
        )


def predicted_numbers(outputs: Array, loss: Loss, backend: Backend) -> Array:
    """What a regressor predicts, from outputs: rates, means, or what they are."""
    meaning = outputs_of(loss)
    if meaning == "log rates":
        with backend.on_device():
            return backend.xp.exp(backend.asarray(outputs))
    return outputs[:, : outputs.shape[1] // 2] if meaning == "gaussians" else outputs
