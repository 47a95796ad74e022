"""Optimizers that look at a whole parameter: its length, its rows and columns, its directions.

w is a parameter, g its gradient, t = 1, 2, ... the step. Slots are zero at first.
"""

import math
from collections.abc import Callable
from typing import Any

from xpnn.optimizers.adam import RunningMeans
from xpnn.optimizers.base import Optimizer, matrices_only
from xpnn.optimizers.schedules import Hyper
from xpnn.typing import Array, Namespace, Number, Shape


class LAMB(RunningMeans):
    """Adam's steps, as long as each parameter allows (You et al., 2020, algorithm 2).

    With m_hat and v_hat as in Adam, for each parameter by itself::

        u = m_hat / (sqrt(v_hat) + epsilon) + weight_decay w
        w <- w - rate ||w|| / ||u|| u

    so that a step changes no parameter by more than the share ``rate`` of its length. Where w or u
    is zero, u is taken as it is.

    Args:
        rate, beta1, beta2, epsilon: see ``Adam``.
        weight_decay: the share of a parameter that is added to its step.
        **shared: ``decays``, ``clip`` and ``factors``, see ``Optimizer``.

    >>> from xpnn import Dense, Network, Trainer, initializers
    >>> layer = Dense(1, use_bias=False, weight_init=initializers.ones)
    >>> net = Network([layer], input_shape=(1,))
    >>> trainer = Trainer(net, "mse", LAMB(0.1))
    >>> loss = trainer.step([[1.0]], [[3.0]])  # where w = 1 and g = -4
    >>> net.params["0.dense.weight"].tolist()
    [[1.1]]
    """

    own_decay = True

    def __init__(
        self,
        rate: Hyper = 1e-3,
        *,
        beta1: Hyper = 0.9,
        beta2: Hyper = 0.999,
        epsilon: Hyper = 1e-6,
        weight_decay: Hyper = 1e-2,
        **shared: Any,
    ):
        shared["weight_decay"] = weight_decay
        super().__init__(rate, beta1=beta1, beta2=beta2, epsilon=epsilon, **shared)

    def sees_whole(self, name: str, param: Array) -> bool:
        return True

    def rule_of_whole(
        self,
        xp: Namespace,
        w: Array,
        g: Array,
        m: Array,
        v: Array,
        *,
        rate: Number,
        beta1: Number,
        beta2: Number,
        epsilon: Number,
        weight_decay: Number,
        correction1: Number,
        correction2: Number,
        **_: Number,
    ) -> tuple[Array, ...]:
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * (g * g)
        u = (m / correction1) / (xp.sqrt(v / correction2) + epsilon) + weight_decay * w
        length, of_step = _norm(xp, w), _norm(xp, u)
        both = xp.minimum(length, of_step) > 0.0
        ratio = xp.where(both, length / xp.where(both, of_step, 1.0 + of_step), 1.0 + 0.0 * length)
        return w - rate * ratio * u, m, v


class Adafactor(Optimizer):
    """Adam's second moment from its rows and columns alone (Shazeer and Stern, 2018, algorithm 6).

    Of a matrix it keeps the running means of rows R (n, 1) and columns C (1, m) in place of all
    squares, of a vector v as they are; of more axes the last two count. With RMS(x) the root of the
    mean square of x::

        beta2_t = 1 - t^-power
        R <- beta2_t R + (1 - beta2_t) mean of (g^2 + epsilon1) over the columns
        C <- beta2_t C + (1 - beta2_t) mean of (g^2 + epsilon1) over the rows
        V = R C / mean of R
        u = g / sqrt(V)
        w <- w - max(epsilon2, RMS(w)) min(rate, 1 / sqrt(t)) u / max(1, RMS(u) / threshold)

    The rate is relative: a share of what a parameter's numbers are. Weight decay is decoupled,
    ``w <- w - rate weight_decay w``. There is no momentum, as in the paper's experiments.

    Args:
        rate: the largest share of a parameter that a step changes, a number or a schedule.
        power: how fast the means grow long.
        epsilon1: keeps the division finite where gradients are zero; above 0.
        epsilon2: what the numbers of a parameter that is nearly zero count as.
        threshold: how large steps may be, by their root mean square; above 0.
        **shared: ``weight_decay``, ``decays``, ``clip`` and ``factors``, see ``Optimizer``.

    >>> from xpnn import Dense, Network, Trainer, initializers
    >>> layer = Dense(1, use_bias=False, weight_init=initializers.ones)
    >>> net = Network([layer], input_shape=(1,))
    >>> trainer = Trainer(net, "mse", Adafactor(0.1))
    >>> loss = trainer.step([[1.0]], [[3.0]])  # where w = 1 and g = -4
    >>> net.params["0.dense.weight"].tolist()
    [[1.1]]
    """

    slots = ("rows", "columns", "v")
    positive = frozenset({"epsilon1", "threshold"})
    own_decay = True

    def __init__(
        self,
        rate: Hyper = 1e-2,
        *,
        power: Hyper = 0.8,
        epsilon1: Hyper = 1e-30,
        epsilon2: Hyper = 1e-3,
        threshold: Hyper = 1.0,
        **shared: Any,
    ):
        hyper = {"power": power, "epsilon1": epsilon1, "epsilon2": epsilon2}
        super().__init__(rate, {**hyper, "threshold": threshold}, **shared)

    def slots_of(self, name: str, param: Array) -> dict[str, Shape]:
        if len(param.shape) < 2:
            return {"v": param.shape}
        *others, n, m = param.shape
        return {"rows": (*others, n, 1), "columns": (*others, 1, m)}

    def sees_whole(self, name: str, param: Array) -> bool:
        return True

    def carry(
        self, xp: Namespace, *, step: Number, rate: Number, power: Number, **_: Number
    ) -> dict[str, Number]:
        """``1 - beta2_t``, and the share of a parameter that this step may change."""
        return {
            "new": xp.exp(-power * xp.log(step)),
            "share": xp.minimum(rate, 1.0 / xp.sqrt(step)),
        }

    def rule_of_whole(
        self,
        xp: Namespace,
        w: Array,
        g: Array,
        *means: Array,
        rate: Number,
        epsilon1: Number,
        epsilon2: Number,
        threshold: Number,
        weight_decay: Number,
        new: Number,
        share: Number,
        **_: Number,
    ) -> tuple[Array, ...]:
        squares = g * g + epsilon1
        if len(means) == 1:
            means = (means[0] + new * (squares - means[0]),)
            u = g / xp.sqrt(means[0])
        else:
            rows, columns = means
            rows = rows + new * (xp.mean(squares, axis=-1, keepdims=True) - rows)
            columns = columns + new * (xp.mean(squares, axis=-2, keepdims=True) - columns)
            means = rows, columns
            relative = rows / xp.mean(rows, axis=-2, keepdims=True)  # R C would underflow
            u = g / xp.sqrt(relative) / xp.sqrt(columns)
        size = xp.maximum(_root_mean_square(xp, w), epsilon2)
        shorter = xp.maximum(_root_mean_square(xp, u) / threshold, 1.0)
        return w - rate * weight_decay * w - size * share / shorter * u, *means


class Muon(RunningMeans):
    """Momentum whose directions all count the same, of matrices (Jordan, 2024); else AdamW.

    For a matrix w of n rows and k columns, U S V^T being a singular value decomposition::

        m <- momentum m + (1 - momentum) g
        O = orthogonal((1 - momentum) g + momentum m)          orthogonal(U S V^T) is about U V^T
        w <- w - rate 0.2 sqrt(max(n, k)) O

    O comes from five steps of a Newton-Schulz iteration of X, which takes products alone and brings
    singular values that are not tiny to between 0.7 and 1.2, with a = 3.4445, b = -4.7750 and c =
    2.0315::

        X <- X / ||X||        X <- a X + (b X X^T + c (X X^T)^2) X

    The factor makes steps as large as those of AdamW mostly are (Liu et al., 2025, section 2.2),
    so that one rate and one decay serve all parameters. Of a convolution's kernel all axes but the
    last are rows. Weight decay is decoupled.

    Args:
        rate: that of AdamW, a number or a schedule.
        momentum: how much of the mean survives a step, in [0, 1).
        beta1, beta2, epsilon: those of AdamW.
        weight_decay: the share of a parameter that decays, times the rate.
        matrices: ``(name, parameter) -> bool``, of those with two or more axes which to take for
            matrices; Jordan leaves embeddings and the last layer to AdamW.
        **shared: ``decays``, ``clip`` and ``factors``, see ``Optimizer``.

    >>> from xpnn import Dense, Network, Trainer, initializers
    >>> layer = Dense(1, use_bias=False, weight_init=initializers.ones)
    >>> net = Network([layer], input_shape=(1,))
    >>> trainer = Trainer(net, "mse", Muon(0.1))
    >>> loss = trainer.step([[1.0]], [[3.0]])  # where w = 1 and g = -4
    >>> net.params["0.dense.weight"].tolist()
    [[1.013]]
    """

    fractions = frozenset({*RunningMeans.fractions, "momentum"})
    fixed = (*RunningMeans.fixed, "matrices")
    decoupled_decay = True

    def __init__(
        self,
        rate: Hyper = 1e-3,
        *,
        momentum: Hyper = 0.95,
        beta1: Hyper = 0.9,
        beta2: Hyper = 0.999,
        epsilon: Hyper = 1e-8,
        weight_decay: Hyper = 1e-2,
        matrices: Callable[[str, Array], bool] = matrices_only,
        **shared: Any,
    ):
        shared["weight_decay"] = weight_decay
        means = {"beta1": beta1, "beta2": beta2, "epsilon": epsilon}
        super().__init__(rate, {"momentum": momentum}, **means, **shared)
        if not callable(matrices):
            raise TypeError(f"matrices is a function such as matrices_only, got {matrices!r}")
        self.matrices = matrices

    def sees_whole(self, name: str, param: Array) -> bool:
        return len(param.shape) > 1 and self.matrices(name, param)

    def slots_of(self, name: str, param: Array) -> dict[str, Shape]:
        slots = super().slots_of(name, param)
        return {"m": slots["m"]} if self.sees_whole(name, param) else slots

    def rule_of_whole(
        self,
        xp: Namespace,
        w: Array,
        g: Array,
        m: Array,
        *,
        rate: Number,
        momentum: Number,
        **_: Number,
    ) -> tuple[Array, ...]:
        m = momentum * m + (1 - momentum) * g
        columns = w.shape[-1]
        ahead = xp.reshape((1 - momentum) * g + momentum * m, (-1, columns))
        size = 0.2 * math.sqrt(max(ahead.shape))
        return w - rate * size * xp.reshape(orthogonal(xp, ahead), w.shape), m


NEWTON_SCHULZ = 3.4445, -4.7750, 2.0315  # steep at 0, and bounded; Jordan (2024) has tuned them
ITERATIONS = 5


def orthogonal(xp: Namespace, X: Array) -> Array:  # noqa: N803
    """About U V^T of a matrix U S V^T, by products alone; zero of zero."""
    is_tall = X.shape[0] > X.shape[1]
    X = xp.matrix_transpose(X) if is_tall else X  # noqa: N806 - the smaller X X^T
    X = X / xp.maximum(_norm(xp, X), 1e-7)  # noqa: N806
    a, b, c = NEWTON_SCHULZ
    for _ in range(ITERATIONS):
        S = X @ xp.matrix_transpose(X)  # noqa: N806
        X = a * X + (b * S + c * (S @ S)) @ X  # noqa: N806
    return xp.matrix_transpose(X) if is_tall else X


def _norm(xp: Namespace, x: Array) -> Array:
    """The length of an array, a 0-d array."""
    return xp.sqrt(xp.sum(x * x))


def _root_mean_square(xp: Namespace, x: Array) -> Array:
    return xp.sqrt(xp.mean(x * x))
