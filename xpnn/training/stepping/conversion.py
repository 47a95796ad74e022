"""Batches in the dtypes that a step wants, of arrays that the backend can take."""

from typing import Any

from xpnn.network import Network
from xpnn.training.stepping.batch_weight import weight_dtype
from xpnn.training.stepping.checks import check_samples
from xpnn.typing import Array, Loss


class BatchConversion:
    """Makes of arrays of the backend a batch that a step can take: the one place that does.

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


def as_batch(network: Network, x: Any, y: Any, weight: Any) -> tuple[Array, Array, Array | None]:
    """The arrays of a batch as a step wants them."""
    weight = None if weight is None else as_weights(weight, network)
    return as_inputs(x, network), as_targets(y, network), weight


def as_inputs(x: Any, network: Network) -> Array:
    """Numbers in the network's dtype, or ids in one that every library looks things up by."""
    return network.asarray(x)


def as_targets(y: Any, network: Network) -> Array:
    """Numbers in the network's dtype, class numbers in a dtype that every library counts in."""
    backend = network.backend
    xp, y = backend.xp, backend.asarray(y)
    if xp.isdtype(y.dtype, "integral"):
        return y if y.dtype in (xp.int32, xp.int64) else xp.astype(y, xp.int32)
    return backend.asarray(y, network.dtype)


def as_weights(weight: Any, network: Network) -> Array:
    """Numbers in the network's dtype, in float32 where that is half: their sums outgrow it."""
    return network.backend.asarray(weight, weight_dtype(network))
