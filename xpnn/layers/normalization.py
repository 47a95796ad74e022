"""Layers that bring the signal to mean 0 and variance 1, each over its own choice of axes.

All of them do the same with what they average over; ``Normalization`` has the equations. Features
are the last axis. In half precision, statistics are computed in float32. The squares of what is
normalised have to fit into that: from about 1e19 on, or 1e154 in float64, outputs are NaN.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator

from xpnn.errors import ShapeError
from xpnn.initializers import ones, zeros
from xpnn.layers.base import ANY_NUMBER, Layer
from xpnn.layers.replica import Replica
from xpnn.numerics import widened
from xpnn.typing import Array, Namespace, Shape, State
from xpnn.weak_methods import without_holding


class Normalization(Layer):
    """Base of all normalisations: a scale and a shift for each feature, and the elementwise parts.

    Forward, with m and v the mean and variance of Z::

        r = 1 / sqrt(v + epsilon)        X = (Z - m) r            S = X scale + shift

    Backward: Z enters S three times: by itself, through m and through v. Given delta = dL/dS, the
    three together are, with means over the same axes as m and v (Ioffe and Szegedy, 2015, section
    3, put together)::

        G = dL/dX = delta scale
        dL/dZ = r (G - mean(G) - X mean(G X))
        dL/dscale = sum of delta X       dL/dshift = sum of delta     (over all but the last axis)

    A new normalisation says in ``means`` what it averages over: here the last axis.

    Args:
        epsilon: keeps the division finite where the variance is near zero.
    """

    gives = ANY_NUMBER

    def __init__(self, epsilon: float):
        super().__init__()
        if not epsilon > 0:
            raise ValueError(f"{type(self).__name__} needs epsilon above 0, got epsilon={epsilon}")
        self.epsilon = float(epsilon)

    def means(
        self, rule: Callable[..., Any] | None, finish: Callable[..., Any] | None = None
    ) -> Callable[..., Array]:
        """A function of arrays: the means of what a rule returns, as ``Backend.means`` has it.

        Over the last axis here; in any case in a shape that broadcasts against the arrays.
        """
        return self.backend.means(rule, finish)

    def swept(self, rule: Callable[..., Any] | None) -> Callable[..., Any]:
        """The rule as a sweep, for ``means`` of a kind's own; what hands on its array for None."""
        return (lambda x: x) if rule is None else self.backend.elementwise(rule)

    def centre(self, Z: Array, training: bool) -> tuple[Array, Array]:
        """Z - m and r, which is in at least float32."""
        centred = Z - self.fused["mean"](Z)
        return centred, self.fused["inverse"](centred)

    def output_shape(self, input_shape: Shape) -> Shape:
        if not input_shape:
            raise ShapeError(
                f"{self!r} wants inputs of shape (..., features), got single numbers; give the "
                f"network input_shape=(1,) and inputs of shape (batch, 1)"
            )
        return input_shape

    def init_params(self, input_shape: Shape, rng: Generator) -> dict[str, np.ndarray]:
        shape = input_shape[-1:]
        return {"scale": ones(shape, rng), "shift": zeros(shape, rng)}

    def fuse(self, elementwise: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        return {
            "mean": self.means(None),
            "inverse": self.means(square_rule, without_holding(self.invert_rule)),
            "mean_of_products": self.means(wide_product_rule),
            "sum_of_products": self.backend.sums(wide_product_rule, features=True),
            "sum": self.backend.sums(None, features=True),
            "slope": elementwise(wide_product_rule),
            "scale": elementwise(scale_rule),
            "pass_back": elementwise(pass_back_rule),
        }

    def invert_rule(self, xp: Namespace, variance: Array) -> Array:
        """``r = 1 / sqrt(v + epsilon)``, NaN for a variance that has overflown."""
        variance = variance + self.epsilon
        return xp.sqrt(variance) / variance

    def forward(self, Z: Array, training: bool = False) -> Array:
        centred, inverse = self.centre(Z, training)
        shift = self.params.get("shift", 0.0)
        X, S = self.fused["scale"](centred, inverse, self.params["scale"], shift)
        self.cache.update(X=X, inverse=inverse)
        return S

    def backward(self, delta: Array) -> Array:
        X, scale = self.cache["X"], self.params["scale"]
        self.learn(delta, X)
        G = self.fused["slope"](delta, scale)
        means = self.fused["mean"](G), self.fused["mean_of_products"](G, X)
        return self.fused["pass_back"](G, X, *means, self.cache["inverse"], scale)

    def learn(self, delta: Array, X: Array) -> tuple[Array, Array | None]:
        """Write the gradients; returns the sums of delta X and of delta, in float32 or wider."""
        xp, scale = self.xp, self.params["scale"]
        sums = self.fused["sum_of_products"](delta, X), None
        self.grads["scale"] = like(xp, sums[0], scale)
        if "shift" in self.params:
            sums = sums[0], self.fused["sum"](delta)
            self.grads["shift"] = like(xp, sums[1], scale)
        return sums

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def square_rule(xp: Namespace, x: Array) -> Array:
    """``x^2``, in at least float32."""
    x = widened(x, xp)
    return x * x


def wide_product_rule(xp: Namespace, x: Array, y: Array) -> Array:
    """``x y``, likewise."""
    return widened(x, xp) * widened(y, xp)


def scale_rule(
    xp: Namespace, centred: Array, inverse: Array, scale: Array, shift: Array
) -> tuple[Array, Array]:
    """X and S, in the dtype of the parameters."""
    X = centred * inverse
    return like(xp, X, scale), like(xp, X * scale + shift, scale)


def pass_back_rule(
    xp: Namespace, G: Array, X: Array, mean_g: Array, mean_gx: Array, inverse: Array, scale: Array
) -> Array:
    """dL/dZ, in the dtype of the parameters."""
    return like(xp, inverse * (G - mean_g - X * mean_gx), scale)


def like(xp: Namespace, x: Array, other: Array) -> Array:
    """``x`` in the dtype of ``other``."""
    return x if x.dtype == other.dtype else xp.astype(x, other.dtype)


class BatchNorm(Normalization):
    """Each feature over the batch and all positions (Ioffe and Szegedy, 2015, algorithms 1 and 2).

    Forward, for inputs Z of shape (batch, *positions, features), in training with m and v the mean
    and variance over batch and positions, which running statistics follow::

        r = 1 / sqrt(v + epsilon)        X = (Z - m) r            S = X scale + shift
        running_mean     <- running_mean     + momentum (m             - running_mean)
        running_variance <- running_variance + momentum (v n / (n - 1) - running_variance)

    where n counts the values that m averages.

    Backward, given delta = dL/dS, as Z enters S by itself, through m and through v, with means over
    what m is a mean over::

        G = dL/dX = delta scale
        dL/dZ = r (G - mean(G) - X mean(G X))
        dL/dscale = sum of delta X       dL/dshift = sum of delta     (over all but the last axis)

    Running statistics live in ``state`` and take the place of m and v in prediction, where the
    layer is a fixed affine map and dL/dZ is G r. A batch of a single value (n = 1) has no
    spread: it comes out as ``shift`` and leaves the running statistics alone, as an empty batch
    does.

    Where several processes train together, each on some rows of a batch, the batch is that of all:
    m, v, and on the way back the two sums, are added up between them, three sums for each layer and
    step. Not ``synchronized``, each goes by its own rows, of which there should be many, and
    running statistics follow the means of what all have found, weighted by how many values these
    are of. Either way they are the same in all processes.

    Args:
        momentum: the share that each batch takes in the running statistics, in (0, 1], as in
            PyTorch; Keras gives the name to one minus that.
        epsilon: keeps the division finite where the variance is near zero.
        synchronized: whether the rows of all processes are one batch.

    >>> BatchNorm().output_shape((28, 28, 8))
    (28, 28, 8)
    """

    fixed = ("synchronized",)
    synchronized = True

    def __init__(self, momentum: float = 0.1, *, epsilon: float = 1e-5, synchronized: bool = True):
        super().__init__(epsilon)
        if not 0 < momentum <= 1:
            raise ValueError(f"BatchNorm needs a momentum in (0, 1], got momentum={momentum}")
        self.momentum = float(momentum)
        if not synchronized:  # a checkpoint of before there was the choice says nothing of it
            self.synchronized = False

    def init_state(self, input_shape: Shape) -> State:
        start = self.backend.zeros(input_shape[-1:], self.dtype)
        start = widened(start, self.xp)
        return {"running_mean": start, "running_variance": start + 1.0}

    def fuse(self, elementwise: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
        return {
            **super().fuse(elementwise),
            "variance": self.means(square_rule),
            "sum_of_squares": self.backend.sums(square_rule, features=True),
            "invert": elementwise(self.invert_rule),
            "follow": elementwise(self.follow_rule),
            "pass_back_batch": elementwise(batch_back_rule),
        }

    def follow_rule(
        self, xp: Namespace, mean: Array, variance: Array, m: Array, v: Array, unbias: float
    ) -> tuple[Array, Array]:
        """The running statistics after a batch of mean ``m`` and variance ``v``."""
        mean = mean + self.momentum * (m - mean)
        return mean, variance + self.momentum * (v * unbias - variance)

    def means(
        self, rule: Callable[..., Any] | None, finish: Callable[..., Any] | None = None
    ) -> Callable[..., Array]:
        return self.backend.means(rule, finish, features=True)

    def centre(self, Z: Array, training: bool) -> tuple[Array, Array]:
        count = self._values_of_batch(Z) if training else 0
        if count == 0:  # in prediction; there are no statistics of nothing, either
            m, v = self.state["running_mean"], self.state["running_variance"]
            centred = Z - m
        else:
            m = self._mean_of_batch("mean", "sum", Z, count)
            centred = Z - m
            v = self._mean_of_batch("variance", "sum_of_squares", centred, count)
        if training:
            self._follow(m, v, count)
        self.cache["count"] = count
        return centred, self.fused["invert"](v)

    @property
    def _together(self) -> Replica | None:
        """The processes whose rows are one batch; None where each has a batch of its own."""
        return self.replica if self.synchronized else None

    def _values_of_batch(self, Z: Array) -> int:
        """n, how many values a mean over the batch is of."""
        if self._together is None:
            return math.prod(Z.shape) // Z.shape[-1]
        rows = self._together.rows
        if Z.shape[0] != rows.count:
            raise ShapeError(
                f"{self!r} wanted the {rows.count} rows that this process has of a batch, got "
                f"inputs of shape {tuple(Z.shape)}; leave samples on the first axis, or set "
                f"synchronized=False"
            )
        return rows.total * math.prod(Z.shape[1:-1])

    def _mean_of_batch(self, mean: str, total: str, X: Array, count: int) -> Array:
        """A mean over the batch, or that of all processes: by the sweeps of these names."""
        if self._together is None:
            return self.fused[mean](X)
        return self._together.all_sum(self.fused[total](X)) / count

    def _follow(self, m: Array, v: Array, count: int) -> None:
        """Let the running statistics follow those of a batch."""
        mean, variance = self.state["running_mean"], self.state["running_variance"]
        if self.replica is not None and self._together is None:
            mean, variance = self._following_all(mean, variance, m, v, count)
        elif count > 1:
            mean, variance = self.fused["follow"](mean, variance, m, v, count / (count - 1))
        self.state.update(running_mean=mean, running_variance=variance)

    def _following_all(
        self, mean: Array, variance: Array, m: Array, v: Array, count: int
    ) -> tuple[Array, Array]:
        """The running statistics behind the batches of all processes, by what each is of.

        Those of a single value have no spread, and count for nothing.
        """
        assert self.replica is not None
        backend, xp = self.backend, self.xp
        weight, unbias = (float(count), count / (count - 1)) if count > 1 else (0.0, 1.0)
        weights = xp.full(m.shape, weight, dtype=m.dtype, device=backend.device)
        found = self.replica.all_sum(backend.stack([m * weight, v * (unbias * weight), weights]))
        m, v, weights = (found[k, ...] for k in range(3))
        divisor = xp.maximum(weights, 1.0)
        following = self.fused["follow"](mean, variance, m / divisor, v / divisor, 1.0)
        mean, variance = (
            xp.where(weights > 0, one, before)
            for one, before in zip(following, (mean, variance), strict=True)
        )
        return mean, variance

    def backward(self, delta: Array) -> Array:
        X, scale, inverse = self.cache["X"], self.params["scale"], self.cache["inverse"]
        sums: Sequence[Array | None] = self.learn(delta, X)
        count = self.cache["count"]
        if count == 0:
            return like(self.xp, delta * (scale * inverse), scale)
        if self._together is not None:  # whose gradients are added up behind the step
            sums = self._together.flat_sums(sums)
        return self.fused["pass_back_batch"](delta, X, *sums, inverse, scale, 1.0 / count)

    def __repr__(self) -> str:
        own = "" if self.synchronized else ", synchronized=False"
        return f"BatchNorm({self.momentum}{own})"


def batch_back_rule(
    xp: Namespace,
    delta: Array,
    X: Array,
    sum_dx: Array,
    sum_d: Array,
    inverse: Array,
    scale: Array,
    share: float,
) -> Array:
    """``pass_back_rule`` where the means are over the batch: those of G and G X, over scale, are
    the sums that are the gradients already, over n.
    """
    return like(xp, inverse * scale * (delta - share * (sum_d + X * sum_dx)), scale)


class LayerNorm(Normalization):
    """Each position of each sample over its features (Ba et al., 2016, eq. 3 and 4).

    Forward, for inputs Z of shape (batch, ..., features), with m and v the mean and variance over
    the last axis, in training and in prediction alike::

        r = 1 / sqrt(v + epsilon)        X = (Z - m) r            S = X scale + shift

    Backward, given delta = dL/dS, as Z enters S by itself, through m and through v, with means over
    what m is a mean over::

        G = dL/dX = delta scale
        dL/dZ = r (G - mean(G) - X mean(G X))
        dL/dscale = sum of delta X       dL/dshift = sum of delta     (over all but the last axis)

    Args:
        epsilon: keeps the division finite where the variance is near zero.

    >>> from xpnn import Network
    >>> Network([LayerNorm()], input_shape=(4,)).predict([[1.0, 3.0, 1.0, 3.0]]).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """

    def __init__(self, *, epsilon: float = 1e-5):
        super().__init__(epsilon)


class RMSNorm(Normalization):
    """``LayerNorm`` without the mean and the shift (Zhang and Sennrich, 2019, eq. 4).

    Forward, for inputs Z of shape (batch, ..., features), with means over the last axis::

        r = 1 / sqrt(mean(Z^2) + epsilon)        X = Z r        S = X scale

    Backward, given delta = dL/dS::

        G = dL/dX = delta scale                  dL/dZ = r (G - X mean(G X))
        dL/dscale = sum of delta X               (over all but the last axis)

    Args:
        epsilon: keeps the division finite for inputs near zero.

    >>> from xpnn import Network
    >>> Network([RMSNorm()], input_shape=(4,)).predict([[1.0, 7.0, 1.0, 7.0]]).tolist()
    [[0.2, 1.4, 0.2, 1.4]]
    """

    def __init__(self, *, epsilon: float = 1e-6):
        super().__init__(epsilon)

    def init_params(self, input_shape: Shape, rng: Generator) -> dict[str, np.ndarray]:
        return {"scale": ones(input_shape[-1:], rng)}

    def centre(self, Z: Array, training: bool) -> tuple[Array, Array]:
        return Z, self.fused["inverse"](Z)

    def backward(self, delta: Array) -> Array:
        X, scale = self.cache["X"], self.params["scale"]
        self.learn(delta, X)
        G = self.fused["slope"](delta, scale)
        mean = self.fused["mean_of_products"](G, X)
        return self.fused["pass_back"](G, X, 0.0, mean, self.cache["inverse"], scale)


class GroupNorm(Normalization):
    """Each group of neighbouring features of a sample, over all positions (Wu and He, 2018).

    Forward, for inputs Z of shape (batch, *positions, features), with m and v the mean and variance
    over the positions (time, height, width) and over the features of a group::

        r = 1 / sqrt(v + epsilon)        X = (Z - m) r            S = X scale + shift

    Backward, given delta = dL/dS, as Z enters S by itself, through m and through v, with means over
    what m is a mean over::

        G = dL/dX = delta scale
        dL/dZ = r (G - mean(G) - X mean(G X))
        dL/dscale = sum of delta X       dL/dshift = sum of delta     (over all but the last axis)

    With one group that is all of the sample; with one group a feature it is ``InstanceNorm``.

    Args:
        groups: how many groups the features are cut into, all of one size.
        epsilon: keeps the division finite where the variance is near zero.

    Raises:
        ShapeError: the groups do not divide the features; from where a network is made.

    >>> from xpnn import Network
    >>> Network([GroupNorm(2)], input_shape=(4,)).predict([[1.0, 3.0, 5.0, 9.0]]).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """

    fixed = ("groups",)

    def __init__(self, groups: int, *, epsilon: float = 1e-5):
        super().__init__(epsilon)
        if groups < 1:
            raise ValueError(f"GroupNorm needs at least one group, got groups={groups}")
        self.groups = groups

    def output_shape(self, input_shape: Shape) -> Shape:
        shape = super().output_shape(input_shape)
        if shape[-1] % self.groups:
            raise ShapeError(
                f"GroupNorm({self.groups}) cannot cut {shape[-1]} features into {self.groups} "
                f"groups of one size; choose a divisor of {shape[-1]}"
            )
        return shape

    def means(
        self, rule: Callable[..., Any] | None, finish: Callable[..., Any] | None = None
    ) -> Callable[..., Array]:
        xp, groups = self.xp, self.groups
        one, finished = map(self.swept, (rule, finish))

        def averaged(*arrays: Array) -> Array:
            X = widened(one(*arrays), xp)
            batch, *between, features = X.shape
            width = features // groups
            for _ in between:  # one axis after another, which NumPy does many times as fast
                X = xp.mean(X, axis=1)
            means = finished(xp.mean(xp.reshape(X, (batch, groups, width)), axis=2, keepdims=True))
            means = xp.broadcast_to(means, (batch, groups, width))
            return xp.reshape(means, (batch, *[1] * len(between), features))

        return averaged

    def __repr__(self) -> str:
        return f"GroupNorm({self.groups})"


class InstanceNorm(Normalization):
    """Each feature of each sample over its positions (Ulyanov et al., 2016, eq. 4).

    Forward, for inputs Z of shape (batch, *positions, features), with m and v the mean and variance
    over the positions (time, height, width), in training and in prediction alike::

        r = 1 / sqrt(v + epsilon)        X = (Z - m) r            S = X scale + shift

    Backward, given delta = dL/dS, as Z enters S by itself, through m and through v, with means over
    what m is a mean over::

        G = dL/dX = delta scale
        dL/dZ = r (G - mean(G) - X mean(G X))
        dL/dscale = sum of delta X       dL/dshift = sum of delta     (over all but the last axis)

    What is left of an image is free of its contrast. With its scale and shift it is
    ``torch.nn.InstanceNorm2d(features, affine=True)``.

    Args:
        epsilon: keeps the division finite where the variance is near zero.

    Raises:
        ShapeError: inputs have no positions; from where a network is made.

    >>> InstanceNorm().output_shape((28, 28, 8))
    (28, 28, 8)
    """

    def __init__(self, *, epsilon: float = 1e-5):
        super().__init__(epsilon)

    def output_shape(self, input_shape: Shape) -> Shape:
        if math.prod(input_shape[:-1]) < 2:
            raise ShapeError(
                f"{self!r} goes over the positions of a sample, (*positions, features), and inputs "
                f"of shape {input_shape} have one, or none; normalise them by BatchNorm or "
                f"LayerNorm"
            )
        return input_shape

    def means(
        self, rule: Callable[..., Any] | None, finish: Callable[..., Any] | None = None
    ) -> Callable[..., Array]:
        xp = self.xp
        one, finished = map(self.swept, (rule, finish))

        def averaged(*arrays: Array) -> Array:
            X = widened(one(*arrays), xp)
            for axis in range(1, X.ndim - 1):  # each by itself, which NumPy does faster
                X = xp.mean(X, axis=axis, keepdims=True)
            return finished(X)

        return averaged
