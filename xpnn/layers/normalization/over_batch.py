"""Statistics over the samples of a batch, which evaluation replaces by those it followed."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from xpnn.errors import ShapeError
from xpnn.layers.normalization.base import Normalization, like, square_rule
from xpnn.layers.replica import Replica
from xpnn.numerics import widened
from xpnn.typing import Array, Namespace, Shape, State


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
