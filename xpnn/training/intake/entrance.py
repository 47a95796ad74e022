"""Entrance: where batches come into the step, and are looked at if they are not as the last one."""

from typing import Any

from xpnn.network import Network
from xpnn.training.intake.admission import as_batch
from xpnn.training.intake.checks import check_samples
from xpnn.typing import Array, Loss


class Entrance:
    """Makes of arrays of the backend a batch that a step can take: in the right dtypes.

    Shapes and dtypes are looked at, numbers are not: no device is waited for. It is a part of the
    step. So a compiler, which makes the step anew for each form of a batch, sees it once for each;
    where nothing is compiled, a batch of the same form as the one before costs next to nothing.

    Raises:
        ShapeError, DataError: no step can be made with arrays of that form.
    """

    def __init__(self, network: Network, loss: Loss):
        self.network, self.loss = network, loss
        self._form: Any = None  # of the last batch, as the step took it

    def __call__(self, x: Any, y: Any, weight: Any = None) -> tuple[Array, Array, Array | None]:
        if _form_of(x, y, weight) != self._form:
            x, y, weight = as_batch(self.network, x, y, weight)
            form = _form_of(x, y, weight)
            if form != self._form:
                check_samples(self.network, self.loss, x, y, weight, values=False)
                self._form = form
        return x, y, weight


def _form_of(x: Array, y: Array, weight: Array | None) -> tuple[Any, ...]:
    form = x.shape, x.dtype, y.shape, y.dtype
    return form if weight is None else (*form, weight.shape, weight.dtype)
