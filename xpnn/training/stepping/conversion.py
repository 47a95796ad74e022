"""Batches in the dtypes that a step wants, of arrays that the backend can take."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from xpnn.arguments import in_order
from xpnn.network import Network
from xpnn.training.stepping.batch_weight import weight_dtype
from xpnn.training.stepping.checks import check_samples
from xpnn.trees import as_tuple, one_or_tuple
from xpnn.typing import Array, Arrays, Loss

Conversion = Callable[[Any, Network], Array]


class BatchConversion:
    """Makes of arrays of the backend a batch that a step can take: the one place that does.

    Shapes and dtypes are looked at, numbers are not: no device is waited for. It is a part of the
    step. So a compiler, which makes the step anew for each form of a batch, sees it once for each;
    where nothing is compiled, a batch of the same form as the one before costs next to nothing.

    Args:
        may_be_empty: whether there may be no samples, as other processes have some.

    Raises:
        ShapeError, DataError: no step can be made with arrays of that form.
    """

    def __init__(self, network: Network, loss: Loss, may_be_empty: bool = False):
        self.network, self.loss, self.may_be_empty = network, loss, may_be_empty
        self._form: Any = None  # of the last batch, as the step took it

    def __call__(self, x: Any, y: Any, weight: Any = None) -> tuple[Arrays, Arrays, Array | None]:
        if _form_of(x, y, weight) != self._form:
            x, y, weight = as_batch(self.network, x, y, weight)
            form = _form_of(x, y, weight)
            if form != self._form:
                check_samples(
                    *(self.network, self.loss, x, y, weight),
                    values=False,
                    may_be_empty=self.may_be_empty,
                )
                self._form = form
        return x, y, weight


def _form_of(x: Arrays, y: Arrays, weight: Array | None) -> tuple[Any, ...]:
    if isinstance(x, tuple) or isinstance(y, tuple):
        arrays = (*as_tuple(x), *as_tuple(y), weight)
        return tuple((one.shape, one.dtype) for one in arrays if one is not None)
    form = x.shape, x.dtype, y.shape, y.dtype
    return form if weight is None else (*form, weight.shape, weight.dtype)


class BatchForm:
    """The parts of a batch in one row: each input, each target and, where there are such, weights.

    Attributes:
        names: of the parts, for errors.
        conversions: ``(array, network) -> array`` for each part, as a step wants it.
    """

    def __init__(self, network: Network):
        inputs, outputs = network.inputs, network.output_names
        self.inputs, self.outputs = len(inputs), len(outputs)
        self.input_names = [name for *_, name in inputs]
        self.output_names = list(outputs)
        xs = [f"x[{name!r}]" for name in self.input_names] if self.inputs > 1 else ["x"]
        ys = [f"y[{name!r}]" for name in self.output_names] if self.outputs > 1 else ["y"]
        self.names = (*xs, *ys, "sample_weight")
        taken: list[Conversion] = [partial(_as_input, number) for number in range(self.inputs)]
        self.conversions: tuple[Conversion, ...] = (*taken, *[as_target] * self.outputs, as_weights)

    def parts(self, x: Any, y: Any, weight: Any) -> tuple[Any, ...]:
        """All parts in a row, of what may have come by name.

        Raises:
            DataError: an input or a target is missing.
        """
        return (*in_order(x, self.input_names, "x"), *in_order(y, self.output_names, "y"), weight)

    def whole(self, parts: Sequence[Any]) -> tuple[Arrays, Arrays, Array | None]:
        """Inputs, targets and weights, which may be left out, of all parts in a row."""
        stop = self.inputs + self.outputs
        weight = parts[stop] if len(parts) > stop else None
        return one_or_tuple(parts[: self.inputs]), one_or_tuple(parts[self.inputs : stop]), weight


def as_batch(network: Network, x: Any, y: Any, weight: Any) -> tuple[Arrays, Arrays, Array | None]:
    """The arrays of a batch as a step wants them."""
    weight = None if weight is None else as_weights(weight, network)
    targets = in_order(y, network.output_names, "y")
    y = one_or_tuple([as_target(one, network) for one in targets])
    return network.asarray(x), y, weight


def _as_input(number: int, x: Any, network: Network) -> Array:
    """Numbers in the network's dtype, or ids in one that every library looks things up by."""
    return network.as_input(x, number)


def as_target(y: Any, network: Network) -> Array:
    """Numbers in the network's dtype, class numbers in a dtype that every library counts in."""
    backend = network.backend
    xp, y = backend.xp, backend.asarray(y)
    if xp.isdtype(y.dtype, "integral"):
        return y if y.dtype in (xp.int32, xp.int64) else xp.astype(y, xp.int32)
    return backend.asarray(y, network.dtype)


def as_weights(weight: Any, network: Network) -> Array:
    """Numbers in the network's dtype, in float32 where that is half: their sums outgrow it."""
    return network.backend.asarray(weight, weight_dtype(network))
