"""Entrance: where batches come into the step, and are looked at if they are not as the last one."""

from typing import Any

from xpnn.network import Network
from xpnn.training.admission import as_batch
from xpnn.training.checks import check_samples
from xpnn.typing import Array, Loss

Form = tuple[Any, ...] | None


class Entrance:
    """Makes of a batch the arrays that a step wants: of the backend, in the right dtypes.

    Shapes and dtypes are looked at, numbers are not: no device is waited for, and a batch of the
    same form as the one before costs next to nothing.

    Raises:
        ShapeError, DataError: no step can be made with arrays of that form.
    """

    def __init__(self, network: Network, loss: Loss):
        self.network, self.loss = network, loss
        self._checked: Form = None  # the form of a batch that the step can take
        self._as_it_came: Form = None  # the same, if the last batch came like that

    def __call__(self, x: Any, y: Any, weight: Any = None) -> tuple[Array, Array, Array | None]:
        form = _form_of(x, y, weight)
        if form is None or form != self._as_it_came:
            return self._let_in(x, y, weight)
        return x, y, weight

    def _let_in(self, *batch: Any) -> tuple[Array, Array, Array | None]:
        backend = self.network.backend
        x, y, weight = (None if one is None else backend.asarray(one) for one in batch)
        if _form_of(x, y, weight) != self._checked:
            x, y, weight = as_batch(self.network, x, y, weight)
            check_samples(self.network, self.loss, x, y, weight, values=False)
            self._checked = _form_of(x, y, weight)
        fits = all(new is old for new, old in zip((x, y, weight), batch, strict=True))
        known = fits and backend.only_device  # else the next one may lie on another device
        self._as_it_came = self._checked if known else None
        return x, y, weight


def _form_of(x: Any, y: Any, weight: Any) -> Form:
    """Types, shapes and dtypes; None where one is no array."""
    try:
        form = type(x), x.shape, x.dtype, type(y), y.shape, y.dtype
        return form if weight is None else (*form, type(weight), weight.shape, weight.dtype)
    except AttributeError:
        return None
