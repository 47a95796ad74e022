"""Entrance: where batches come into the step, and are looked at if they are not as the last one."""

from typing import Any

from xpnn.network import Network
from xpnn.training.admission import as_batch
from xpnn.training.checks import check_samples
from xpnn.typing import Array, Loss


class Entrance:
    """Makes of a batch the arrays that a step wants: of the backend, in the right dtypes.

    Shapes and dtypes are looked at, numbers are not: no device is waited for, and a batch of the
    same form as the one before costs next to nothing.

    Raises:
        ShapeError, DataError: no step can be made with arrays of that form.
    """

    def __init__(self, network: Network, loss: Loss):
        self.network, self.loss = network, loss
        self._known: list[Any] | None = None
        self._kinds: list[type] = []  # of the batch that was known last, as it came

    def __call__(self, *batch: Any) -> tuple[Array | None, ...]:
        network, backend = self.network, self.network.backend
        kinds = [type(one) for one in batch]
        if backend.only_device and kinds == self._kinds and _form_of(*batch) == self._known:
            return batch  # the common case, where nothing can lie on another device
        x, y, weight = [None if one is None else backend.asarray(one) for one in batch]
        if self._known != _form_of(x, y, weight):
            x, y, weight = as_batch(network, x, y, weight)
            check_samples(network, self.loss, x, y, weight, values=False)
            self._known = _form_of(x, y, weight)
        fits = all(new is old for new, old in zip((x, y, weight), batch, strict=True))
        self._kinds = kinds if fits else []
        return x, y, weight


def _form_of(*arrays: Array | None) -> list[Any]:
    """Shapes and dtypes."""
    return [None if one is None else (one.shape, one.dtype) for one in arrays]
