"""How a loss is called, and what it has to return."""

import inspect
from typing import Any

from xpnn.backends import Backend
from xpnn.errors import ShapeError
from xpnn.typing import Array, Loss

FORM = (
    "a loss is called as loss(predictions, targets, sample_weight=None or weights, "
    "backend=network.backend) and returns (value, dL/d(predictions))"
)


def check_loss(loss: Any) -> None:
    """Refuse what cannot be called as a loss is.

    Raises:
        TypeError: it is no function, or does not take such arguments.
    """
    name = _named(loss)
    if not callable(loss) or isinstance(loss, type):
        raise TypeError(f"loss: wanted a function such as xpnn.cross_entropy, got {loss!r}; {FORM}")
    try:
        signature = inspect.signature(loss)
    except ValueError:  # a builtin that does not tell
        return
    try:
        signature.bind(None, None, sample_weight=None, backend=None)
    except TypeError as error:
        raise TypeError(
            f"{FORM}, but {name}{signature} cannot be called so: {error}; write "
            f"def {name}(predictions, targets, *, sample_weight=None, backend=None)"
        ) from None


def value_and_delta(
    loss: Loss, predictions: Array, targets: Array, weight: Array | None, backend: Backend
) -> tuple[Array, Array]:
    """What the loss says of a batch.

    Raises:
        TypeError: it does not return a pair.
        ShapeError: a value that is no single number, or a delta of another shape than predictions.
    """
    found = loss(predictions, targets, sample_weight=weight, backend=backend)
    if not (isinstance(found, tuple) and len(found) == 2):
        raise TypeError(f"{FORM}, but {_named(loss)} returned {_described(found)}")
    value, delta = found
    if type(value) in (float, int):
        value = backend.xp.asarray(value, dtype=predictions.dtype, device=backend.device)
    if getattr(value, "shape", None) != ():
        raise ShapeError(
            f"the value of {_named(loss)} is a 0-d array, the mean over the batch, got "
            f"{_described(value)}"
        )
    if getattr(delta, "shape", None) != predictions.shape:
        raise ShapeError(
            f"the delta of {_named(loss)} has the shape of the predictions, "
            f"{tuple(predictions.shape)}, got {_described(delta)}"
        )
    return value, delta


def _named(loss: Any) -> str:
    return getattr(getattr(loss, "func", loss), "__name__", type(loss).__name__)


def _described(found: Any) -> str:
    kind = type(found).__name__
    return f"{kind} of shape {tuple(found.shape)}" if hasattr(found, "shape") else f"a {kind}"
