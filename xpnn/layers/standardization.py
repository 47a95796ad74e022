"""A layer that knows the means and spreads of the data, and takes them out."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import numpy as np

from xpnn.backends.portable.host_arrays import numbers
from xpnn.errors import DataError, ShapeError, XpnnError
from xpnn.layers.base import ANY_NUMBER, Layer
from xpnn.numerics import widened
from xpnn.typing import Array, Namespace, Shape, State

ROWS = 1 << 16  # that are looked at in one go, as their copy in float64 takes memory


class Standardize(Layer):
    """Each feature of the data with mean 0 and variance 1 (LeCun et al., 1998, section 4.3).

    Forward, for inputs Z of shape (batch, ..., features), with m and v, the mean and variance of
    each feature over a data set and all positions::

        S = (Z - m) / sqrt(v)               m (features,)   v (features,)

    Backward, given delta = dL/dS::

        dL/dZ = delta / sqrt(v)

    A feature that is constant, up to rounding, is not divided: it comes out as Z - m. ``adapt``
    finds m and v once, on the training data, in double precision. They live in ``state``, are
    saved with the network, and training leaves them as they are. In a network that has not been
    adapted they are NaN.

    Raises:
        ShapeError: inputs are single numbers, or have other features than what ``adapt`` was given;
            from where a network is made.

    >>> import numpy as np
    >>> from xpnn import Network
    >>> layer = Standardize().adapt(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> Network([layer], input_shape=(2,)).predict([[1.0, 5.0], [4.0, 7.0]]).tolist()
    [[-1.0, 0.0], [2.0, 2.0]]
    """

    gives = ANY_NUMBER

    def __init__(self) -> None:
        super().__init__()
        self._found: tuple[np.ndarray, np.ndarray] | None = None
        self._is_ready = False

    def adapt(self, x: Any) -> Self:
        """Take the means and variances of a data set; returns the layer itself.

        Before the network is made or after, and again where the data have changed.

        Args:
            x: what the layer gets, (samples, ..., features), of any library; or an iterable of
                such batches, or of tuples with one in front, as ``fit`` takes, which is gone
                through once.

        Raises:
            DataError: there are no samples, or numbers that are not finite.
            ShapeError: there are other features than in the network, or in another batch.
        """
        mean, variance = _statistics(_batches(x))
        if self.built:
            assert self.input_shape is not None
            self._check_features(len(mean), self.input_shape)
            with self.backend.on_device():
                self.state.update(self._as_state(mean, variance))
        self._found = mean, variance
        return self

    def output_shape(self, input_shape: Shape) -> Shape:
        if not input_shape:
            raise ShapeError(
                f"{self!r} wants inputs of shape (..., features), got single numbers; give the "
                f"network input_shape=(1,) and inputs of shape (batch, 1)"
            )
        if self._found is not None:
            self._check_features(len(self._found[0]), input_shape)
        return input_shape

    def _check_features(self, found: int, input_shape: Shape) -> None:
        if found != input_shape[-1]:
            raise ShapeError(
                f"{self!r} was adapted to {found} features, and in its network it gets inputs of "
                f"shape {input_shape}; adapt it to what it gets there"
            )

    def init_state(self, input_shape: Shape) -> State:
        unknown = np.full(input_shape[-1:], math.nan)
        return self._as_state(*(self._found or (unknown, unknown)))

    def _as_state(self, mean: np.ndarray, variance: np.ndarray) -> State:
        wide = "float64" if self.dtype == "float64" else "float32"
        arrays = {"mean": mean, "variance": variance}
        return {name: self.backend.asarray(array, wide) for name, array in arrays.items()}

    def check_ready(self) -> None:
        if not self._is_ready and np.any(np.isnan(self.backend.to_numpy(self.state["mean"]))):
            raise XpnnError(
                f"{self!r} does not know the means of its features yet; call layer.adapt(x) with "
                f"the training data"
            )
        self._is_ready = True

    def fuse(self, elementwise: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        return {"standardize": elementwise(standardize_rule), "pass_back": elementwise(slope_rule)}

    def forward(self, Z: Array, training: bool = False) -> Array:
        return self.fused["standardize"](Z, self.state["mean"], self.state["variance"])

    def backward(self, delta: Array) -> Array:
        return self.fused["pass_back"](delta, self.state["mean"], self.state["variance"])


def standardize_rule(xp: Namespace, Z: Array, mean: Array, variance: Array) -> Array:
    """``(Z - m) / sqrt(v)``, in the dtype of Z."""
    S = (widened(Z, xp) - mean) / _divisor(xp, mean, variance, Z)
    return xp.astype(S, Z.dtype, copy=False)


def slope_rule(xp: Namespace, delta: Array, mean: Array, variance: Array) -> Array:
    """``delta / sqrt(v)``, in the dtype of delta."""
    slope = widened(delta, xp) / _divisor(xp, mean, variance, delta)
    return xp.astype(slope, delta.dtype, copy=False)


def _divisor(xp: Namespace, mean: Array, variance: Array, like: Array) -> Array:
    """``sqrt(v)``, or 1 where it is no more than the rounding of m in the dtype of ``like``."""
    spread = xp.sqrt(variance)
    return xp.where(spread > float(xp.finfo(like.dtype).eps) * xp.abs(mean), spread, 1.0)


# Means and variances of a data set ----------------------------------------------------------------


def _batches(x: Any) -> Iterator[Any]:
    """The inputs of a data set, batch by batch."""
    if isinstance(x, list | tuple):
        of_tuples = len(x) > 0 and isinstance(x[0], tuple)
    else:
        of_tuples = not hasattr(x, "shape")
    if not of_tuples:
        yield x
        return
    if not isinstance(x, Iterable):
        raise TypeError(f"adapt wants an array, or an iterable of batches, got {type(x).__name__}")
    for batch in x:
        yield batch[0] if isinstance(batch, tuple | list) else batch


def _statistics(batches: Iterable[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each feature, in float64.

    Those of two parts become those of both by the formula of Chan et al. (1983), which loses no
    digits where means are large.
    """
    count, mean, squares = 0, np.zeros(0), np.zeros(0)
    for batch in batches:
        array = numbers(batch)
        if array.ndim < 2:
            raise ShapeError(
                f"adapt wants inputs of shape (samples, ..., features), got {array.shape}; for one "
                f"feature write x[:, None]"
            )
        rows = array.reshape(-1, array.shape[-1])
        if count and rows.shape[-1] != len(mean):
            raise ShapeError(
                f"adapt got a batch of {rows.shape[-1]} features behind others of {len(mean)}"
            )
        for start in range(0, len(rows), ROWS):
            part = rows[start : start + ROWS].astype(np.float64)
            if not np.all(np.isfinite(part)):
                raise DataError(
                    "adapt wants finite numbers, and there are NaN or infinities among these; "
                    "leave such samples out, or fill them in"
                )
            of_part = part.mean(axis=0)
            rest = part - of_part
            if not count:
                mean, squares = of_part, (rest * rest).sum(axis=0)
            else:
                apart, share = of_part - mean, len(part) / (count + len(part))
                mean = mean + share * apart
                squares = squares + (rest * rest).sum(axis=0) + apart * apart * (count * share)
            count += len(part)
    if not count:
        raise DataError("adapt wants at least one sample, got none")
    return mean, squares / count
