"""What a loss takes the outputs of a network for, and what follows from that.

A loss says it in an attribute ``outputs``: one of the names in ``MEANINGS``, or a function of the
loss's options that returns one. By it the last layer is looked at before the first step, metrics
know where yes begins, and ``predict`` makes probabilities of outputs. A loss of your own that is to
take part writes::

    my_loss.outputs = "logits"
"""

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from xpnn.backends import Backend
from xpnn.layers import Activation, Graph, Layer, Softmax
from xpnn.numerics import sigmoid
from xpnn.typing import Array, Loss, Range, Shape, Shapes

SHARES: Range = (0.0, 1.0)


@dataclass(frozen=True)
class Meaning:
    """What outputs are to a loss.

    Attributes:
        words: for errors.
        fits: whether outputs between two numbers, (low, high), can mean it.
        threshold: above which an output says yes; None where it says neither yes nor no.
        link: the probabilities that outputs stand for; None where they stand for none.
        read: what metrics may take them for; see ``Metric.reads``.
    """

    words: str
    fits: Callable[[float, float], bool]
    threshold: float | None = None
    link: Callable[[Array, Backend], Array] | None = None
    read: tuple[str, ...] = ("answers", "ranks", "scores")


def _sigmoid(outputs: Array, backend: Backend) -> Array:
    return sigmoid(outputs, backend.xp)


def _softmax(outputs: Array, backend: Backend) -> Array:
    return backend.softmax(outputs)


def _as_they_are(outputs: Array, backend: Backend) -> Array:
    return outputs


MEANINGS = {
    "logits": Meaning(
        "logits, below 0 for no and above 0 for yes", lambda low, high: low < 0, 0.0, _sigmoid
    ),
    "class logits": Meaning(
        "logits of classes, numbers of any size",
        lambda low, high: low < 0 or high == math.inf,
        None,
        _softmax,
    ),
    "probabilities": Meaning(
        "probabilities, from 0 to 1",
        lambda low, high: low >= 0 and high <= 1,
        0.5,
        _as_they_are,
        read=("answers", "ranks", "scores", "values"),
    ),
    "margins": Meaning(
        "margins, below 0 for no and above 0 for yes", lambda low, high: low < 0, 0.0
    ),
    "values": Meaning(
        "numbers like the targets",
        lambda low, high: True,
        read=("answers", "ranks", "scores", "values"),
    ),
    "log rates": Meaning("logarithms of rates", lambda low, high: low < 0, read=()),
    "gaussians": Meaning("means and logarithms of variances", lambda low, high: low < 0, read=()),
    "embeddings": Meaning(
        "vectors to be compared with each other", lambda low, high: True, read=()
    ),
}
"""By the names that losses have in ``outputs``."""


def outputs_of(loss: Loss) -> str | None:
    """What a loss takes outputs for, a name in ``MEANINGS``; None if it does not say.

    >>> from functools import partial
    >>> from xpnn.losses import binary_cross_entropy
    >>> outputs_of(binary_cross_entropy)
    'logits'
    >>> outputs_of(partial(binary_cross_entropy, from_logits=False))
    'probabilities'
    """
    options: dict[str, Any] = {}
    own: Any = loss
    while isinstance(own, functools.partial) and "outputs" not in vars(own):
        options, own = own.keywords | options, own.func
    found = getattr(own, "outputs", None)
    found = found(**options) if callable(found) else found
    if found is not None and found not in MEANINGS:
        raise ValueError(
            f"outputs of {name_of(loss)} is one of {', '.join(map(repr, MEANINGS))}, got {found!r}"
        )
    return found


def name_of(loss: Loss) -> str:
    """What a loss is called, without its options."""
    while isinstance(loss, functools.partial):
        loss = loss.func
    return str(getattr(loss, "__name__", None) or repr(loss))


@dataclass(frozen=True)
class Outputs:
    """What is known of the outputs of a network and a loss.

    Attributes:
        loss: its name, for errors.
        name: in ``MEANINGS``; None for a loss that does not say.
        shape: of one output.
        range: between which numbers they lie, as the last layer says; None if it does not.
        last: the layer that says so.
    """

    loss: str
    name: str | None
    shape: Shape
    range: Range | None
    last: Layer

    @property
    def single(self) -> bool:
        """Whether there is one number for each answer, rather than one for each class."""
        return self.shape[-1:] in ((), (1,))

    @property
    def are_shares(self) -> bool:
        """Whether they are known to lie from 0 to 1."""
        known = SHARES if self.name == "probabilities" else self.range
        return known is not None and known[0] >= 0 and known[1] <= 1

    @property
    def sum_to_1(self) -> bool:
        """Whether they are the shares of several classes in one whole."""
        return self.are_shares and isinstance(self.last, Softmax)


def outputs_for(root: Layer, output_shape: Shape, loss: Loss) -> Outputs:
    """What the outputs of ``root`` are, by the loss and by the last layer.

    Raises:
        ValueError: the last layer gives what the loss cannot take for what it wants.
    """
    return _outputs(root, root.output_range(None), output_shape, loss)


def outputs_by_part(
    root: Layer, output_shape: Shapes, losses: Sequence[Loss]
) -> tuple[Outputs, ...]:
    """The same for each output of a network, and its loss.

    Raises:
        ValueError: see ``outputs_for``.
    """
    if len(losses) == 1:
        return (outputs_for(root, output_shape, losses[0]),)
    ends = root.ends() if isinstance(root, Graph) else [root] * len(losses)
    ranges: Any = root.output_range(None) or [None] * len(losses)
    return tuple(map(_outputs, ends, ranges, output_shape, losses))


def _outputs(end: Layer, output_range: Range | None, output_shape: Shape, loss: Loss) -> Outputs:
    """What outputs are that a layer makes, or the last one inside of it."""
    last = _last_layer(end)
    outputs = Outputs(name_of(loss), outputs_of(loss), output_shape, output_range, last)
    if outputs.sum_to_1 and (last.input_shape or ())[-1:] == (1,):
        raise ValueError(
            f"{last!r} of one number is 1, whatever comes in; give the layer before it a unit for "
            f"each class, or write Sigmoid() in its place"
        )
    if outputs.name == "class logits" and outputs.single:
        raise ValueError(
            f"{outputs.loss} wants a logit for each class, got a network with one output; give the "
            f"last layer a unit for each class, or choose binary_cross_entropy for targets of 0 "
            f"and 1, mean_squared_error for numbers"
        )
    if outputs.name is None or outputs.range is None:
        return outputs
    meaning, (low, high) = MEANINGS[outputs.name], outputs.range
    if not meaning.fits(low, high):
        raise ValueError(
            f"{outputs.loss} takes outputs for {meaning.words}, but the last layer, {last!r}, "
            f"gives numbers from {low:g} to {high:g}; "
            + _advice(loss, outputs, MEANINGS["logits"].fits(low, high))
        )
    return outputs


def _advice(loss: Loss, outputs: Outputs, fits_logits: bool) -> str:
    """What to write in place of a last layer and a loss that do not fit."""
    has_both = "from_logits" in inspect.signature(loss).parameters
    if outputs.name == "probabilities":
        other = ", or leave from_logits=False out" if has_both and fits_logits else ""
        return f"end the network in Sigmoid(){other}"
    other = (
        f", or bind from_logits=False, as in functools.partial({outputs.loss}, from_logits=False)"
        if has_both and outputs.are_shares
        else ""
    )
    has_link = outputs.name is not None and MEANINGS[outputs.name].link is not None
    then = "; trainer.predict(x, probabilities=True) gives probabilities" if has_link else ""
    if isinstance(outputs.last, Activation | Softmax):
        return f"leave {outputs.last!r} out{other}{then}"
    return f"end the network in Dense({(outputs.shape or (1,))[-1]}){other}{then}"


def _last_layer(root: Layer) -> Layer:
    """The layer that decides between which numbers the outputs lie."""
    layers = [layer for _, layer in root.walk()]
    return next((one for one in reversed(layers) if one.gives is not None), root)


def link_of(loss: Loss) -> Callable[[Array, Backend], Array]:
    """What makes probabilities of outputs that ``loss`` was trained on.

    The sigmoid of logits of yes or no, the softmax of logits of classes; probabilities stay as they
    are.

    Raises:
        ValueError: outputs are no probabilities to that loss, or it does not say what they are.
    """
    name = outputs_of(loss)
    if name is None:
        raise ValueError(
            f"{name_of(loss)} does not say what it takes outputs for; give it an attribute "
            f"outputs, one of {', '.join(map(repr, MEANINGS))}"
        )
    link = MEANINGS[name].link
    if link is None:
        raise ValueError(
            f"{name_of(loss)} takes outputs for {MEANINGS[name].words}, which stand for no "
            f"probabilities; leave probabilities out, or train with cross_entropy or "
            f"binary_cross_entropy"
        )
    return link
