"""Optimizers that scale each number's step by what its gradients have been.

In increasing order of what they remember. w is a parameter, g its gradient, t = 1, 2, ... the step.
Slots are zero at first. Divisions and roots are elementwise.
"""

import math
from typing import Any, ClassVar

from xpnn.optimizers.base import Optimizer
from xpnn.optimizers.schedules import Schedule
from xpnn.typing import Array, Namespace, Number

Numbers = tuple[tuple[Number, ...], dict[str, Number]]


class Lion(Optimizer):
    """Steps of one size in the direction of a sign (Chen et al., 2023, algorithm 2).

    ::

        w <- w - rate sign(beta1 m + (1 - beta1) g)
        m <- beta2 m + (1 - beta2) g

    Weight decay is decoupled. Rates are 3 to 10 times smaller than Adam's.
    """

    slots = ("m",)
    decoupled_decay = True

    def __init__(
        self,
        rate: float | Schedule = 1e-4,
        *,
        beta1: float | Schedule = 0.9,
        beta2: float | Schedule = 0.99,
        **shared: Any,
    ):
        super().__init__(rate, beta1=beta1, beta2=beta2, **shared)
        _below_one(self, "beta1", "beta2")

    def rule(
        self, xp: Namespace, param: Array, grad: Array, m: Array, rate: Number, beta1: Number, beta2: Number
    ) -> tuple[Array, ...]:
        direction = xp.sign(beta1 * m + (1 - beta1) * grad)
        return param - rate * direction, beta2 * m + (1 - beta2) * grad


class Adagrad(Optimizer):
    """Steps that shrink where gradients have been large (Duchi et al., 2011).

    ::

        s <- s + g^2                 w <- w - rate g / (sqrt(s) + epsilon)
    """

    slots = ("s",)

    def __init__(
        self, rate: float | Schedule = 1e-2, *, epsilon: float | Schedule = 1e-10, **shared: Any
    ):
        super().__init__(rate, epsilon=epsilon, **shared)

    def rule(
        self, xp: Namespace, param: Array, grad: Array, s: Array, rate: Number, epsilon: Number
    ) -> tuple[Array, ...]:
        s = s + grad * grad
        return param - rate * grad / (xp.sqrt(s) + epsilon), s


class RMSprop(Optimizer):
    """Adagrad that forgets: a running mean of squares (Tieleman and Hinton, 2012, lecture 6e).

    ::

        s <- rho s + (1 - rho) g^2            u = g / (sqrt(s) + epsilon)
        w <- w - rate u                       (with momentum: v <- momentum v + u, w <- w - rate v)
    """

    def __init__(
        self,
        rate: float | Schedule = 1e-2,
        *,
        rho: float | Schedule = 0.99,
        momentum: float | Schedule = 0.0,
        epsilon: float | Schedule = 1e-8,
        **shared: Any,
    ):
        super().__init__(rate, rho=rho, momentum=momentum, epsilon=epsilon, **shared)
        _below_one(self, "rho", "momentum")
        self.slots = ("s", "v") if momentum != 0 else ("s",)

    def rule(self, xp: Namespace, param: Array, grad: Array, s: Array, *rest: Any) -> tuple[Array, ...]:
        *v, rate, rho, momentum, epsilon = rest
        s = rho * s + (1 - rho) * (grad * grad)
        step = grad / (xp.sqrt(s) + epsilon)
        if not v:
            return param - rate * step, s
        moved = momentum * v[0] + step
        return param - rate * moved, s, moved


class Adam(Optimizer):
    """Steps scaled by running means of the gradient and of its square (Kingma and Ba, 2015).

    ::

        m <- m + (1 - beta1) (g   - m)          m_hat = m / (1 - beta1^t)
        v <- v + (1 - beta2) (g^2 - v)          v_hat = v / (1 - beta2^t)
        w <- w - rate m_hat / (sqrt(v_hat) + epsilon)

    The divisions by 1 - beta^t undo the pull of starting both means at zero. Weight decay is added
    to the gradient (L2); ``AdamW`` decouples it.

    Args:
        rate: learning rate, a number or a schedule.
        beta1, beta2: how much of each running mean survives a step, in [0, 1).
        epsilon: keeps the division finite where v is near zero.
        **shared: ``weight_decay``, ``decays`` and ``clip``, see ``Optimizer``.
    """

    slots = ("m", "v")
    carried: ClassVar[dict[str, float]] = {"log_beta1": 0.0, "log_beta2": 0.0}

    def __init__(
        self,
        rate: float | Schedule = 1e-3,
        *,
        beta1: float | Schedule = 0.9,
        beta2: float | Schedule = 0.999,
        epsilon: float | Schedule = 1e-8,
        **shared: Any,
    ):
        super().__init__(rate, beta1=beta1, beta2=beta2, epsilon=epsilon, **shared)
        _below_one(self, "beta1", "beta2")

    def numbers(
        self, xp: Namespace, step: Number, hyper: dict[str, Number], carried: dict[str, Number]
    ) -> Numbers:
        """Adds ``1 - beta^t`` for both betas, by way of logarithms.

        The sum of log beta over the steps serves betas that change, and ``-expm1`` of it loses no
        digits in float32, where ``1 - 0.999`` has lost four.
        """
        given, _ = super().numbers(xp, step, hyper, carried)
        log1 = carried["log_beta1"] + _log(hyper["beta1"], xp)
        log2 = carried["log_beta2"] + _log(hyper["beta2"], xp)
        correct1, correct2 = -xp.expm1(log1), -xp.expm1(log2)
        return (*given, correct1, correct2), {"log_beta1": log1, "log_beta2": log2}

    def rule(
        self,
        xp: Namespace,
        param: Array,
        grad: Array,
        m: Array,
        v: Array,
        rate: Number,
        beta1: Number,
        beta2: Number,
        epsilon: Number,
        correct1: Number,
        correct2: Number,
    ) -> tuple[Array, ...]:
        m = m + (1 - beta1) * (grad - m)
        v = v + (1 - beta2) * (grad * grad - v)
        param = param - (rate / correct1) * m / (xp.sqrt(v / correct2) + epsilon)
        return param, m, v


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019, algorithm 2).

    ``w <- w - rate weight_decay w`` before Adam's step, so that decay is not scaled by gradients.
    """

    decoupled_decay = True

    def __init__(
        self, rate: float | Schedule = 1e-3, *, weight_decay: float | Schedule = 1e-2, **rest: Any
    ):
        super().__init__(rate, weight_decay=weight_decay, **rest)


class NAdam(Adam):
    """Adam with Nesterov's look ahead (Dozat, 2016), with his schedule of momenta.

    With ``mu_t = beta1 (1 - 0.5 * 0.96^(t * momentum_decay))`` and P_t the product of mu_1 .. mu_t::

        m and v as in Adam
        m_hat = mu_(t+1) m / (1 - P_(t+1)) + (1 - mu_t) g / (1 - P_t)
        w <- w - rate m_hat / (sqrt(v_hat) + epsilon)
    """

    carried: ClassVar[dict[str, float]] = {"mu_product": 1.0, "log_beta2": 0.0}

    def __init__(
        self,
        rate: float | Schedule = 2e-3,
        *,
        momentum_decay: float | Schedule = 4e-3,
        **rest: Any,
    ):
        super().__init__(rate, momentum_decay=momentum_decay, **rest)

    def numbers(
        self, xp: Namespace, step: Number, hyper: dict[str, Number], carried: dict[str, Number]
    ) -> Numbers:
        """Works out what the new mean and the new gradient count for in ``m_hat``."""
        beta1, decay = hyper["beta1"], hyper["momentum_decay"]
        mu = beta1 * (1 - 0.5 * xp.exp(step * decay * math.log(0.96)))
        mu_next = beta1 * (1 - 0.5 * xp.exp((step + 1) * decay * math.log(0.96)))
        product = carried["mu_product"] * mu
        of_mean, of_grad = mu_next / (1 - product * mu_next), (1 - mu) / (1 - product)
        log2 = carried["log_beta2"] + _log(hyper["beta2"], xp)
        given = (hyper["rate"], beta1, hyper["beta2"], hyper["epsilon"])
        numbers = (*given, of_mean, of_grad, -xp.expm1(log2))
        return numbers, {"mu_product": product, "log_beta2": log2}

    def rule(  # type: ignore[override]  # NAdam's numbers are not Adam's
        self,
        xp: Namespace,
        param: Array,
        grad: Array,
        m: Array,
        v: Array,
        rate: Number,
        beta1: Number,
        beta2: Number,
        epsilon: Number,
        of_mean: Number,
        of_grad: Number,
        correct2: Number,
    ) -> tuple[Array, ...]:
        m = m + (1 - beta1) * (grad - m)
        v = v + (1 - beta2) * (grad * grad - v)
        step = of_mean * m + of_grad * grad
        return param - rate * step / (xp.sqrt(v / correct2) + epsilon), m, v


def _log(beta: Number, xp: Namespace) -> Number:
    """``log(beta)``, of a number or of an array; of 0, a number so low that exp of it is 0."""
    if isinstance(beta, int | float):
        return math.log(max(beta, 1e-300))
    return xp.log(xp.maximum(beta, 1e-30))


def _below_one(optimizer: Optimizer, *names: str) -> None:
    for name in names:
        value = optimizer.hyper[name]
        if not isinstance(value, Schedule) and value >= 1:
            kind = type(optimizer).__name__
            raise ValueError(f"{kind} needs {name} in [0, 1), got {value}")
