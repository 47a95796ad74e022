"""Adam and its kin: running means of the gradient and of its square.

w is a parameter, g its gradient, t = 1, 2, ... the step. Slots are zero at first. Divisions and
roots are elementwise.
"""

import math
from typing import Any, ClassVar

from xpnn.optimizers.base import Optimizer
from xpnn.optimizers.schedules import Hyper
from xpnn.typing import Array, Namespace, Number


class _Adam(Optimizer):
    """What Adam and AdamW share, which is all but where the weight decay goes."""

    slots = ("m", "v")
    carried: ClassVar[dict[str, float]] = {"correction1": 0.0, "correction2": 0.0}
    fractions = frozenset({"beta1", "beta2"})

    def __init__(self, rate: Hyper, *, beta1: Hyper, beta2: Hyper, epsilon: Hyper, **shared: Any):
        super().__init__(rate, {"beta1": beta1, "beta2": beta2, "epsilon": epsilon}, **shared)

    def carry(
        self,
        xp: Namespace,
        *,
        rate: Number,
        beta1: Number,
        beta2: Number,
        epsilon: Number,
        correction1: Number,
        correction2: Number,
        **_: Number,
    ) -> dict[str, Number]:
        """``1 - beta^t`` is the running mean of ones, and so right for betas that change, too."""
        correction1 = beta1 * correction1 + (1 - beta1)
        correction2 = beta2 * correction2 + (1 - beta2)
        return {
            "correction1": correction1,
            "correction2": correction2,
            "rate_t": rate * xp.sqrt(correction2) / correction1,
            "epsilon_t": epsilon * xp.sqrt(correction2),
        }

    def rule(
        self,
        xp: Namespace,
        w: Array,
        g: Array,
        m: Array,
        v: Array,
        *,
        beta1: Number,
        beta2: Number,
        rate_t: Number,
        epsilon_t: Number,
        **_: Number,
    ) -> tuple[Array, ...]:
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * (g * g)
        return w - rate_t * (m / (xp.sqrt(v) + epsilon_t)), m, v


class Adam(_Adam):
    """Steps scaled by running means of the gradient and of its square (Kingma and Ba, 2015).

    ::

        m <- beta1 m + (1 - beta1) g            m_hat = m / (1 - beta1^t)
        v <- beta2 v + (1 - beta2) g^2          v_hat = v / (1 - beta2^t)
        w <- w - rate m_hat / (sqrt(v_hat) + epsilon)

    The divisions by 1 - beta^t undo the pull of starting both means at zero. They are numbers, so
    the last line is worked out with two divisions less for each parameter, as the end of the
    paper's section 2 has it::

        w <- w - rate_t m / (sqrt(v) + epsilon_t)

        rate_t = rate sqrt(1 - beta2^t) / (1 - beta1^t)     epsilon_t = epsilon sqrt(1 - beta2^t)

    Weight decay is added to the gradient (L2); ``AdamW`` decouples it.

    Args:
        rate: learning rate, a number or a schedule.
        beta1, beta2: how much of each running mean survives a step, in [0, 1).
        epsilon: keeps the division finite where v is near zero.
        **shared: ``weight_decay``, ``decays`` and ``clip``, see ``Optimizer``.
    """

    def __init__(
        self,
        rate: Hyper = 1e-3,
        *,
        beta1: Hyper = 0.9,
        beta2: Hyper = 0.999,
        epsilon: Hyper = 1e-8,
        **shared: Any,
    ):
        super().__init__(rate, beta1=beta1, beta2=beta2, epsilon=epsilon, **shared)


class AdamW(_Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019, algorithm 2).

    ``w <- w - rate weight_decay w`` before Adam's step, so that decay is not scaled by gradients.

    Args:
        rate, beta1, beta2, epsilon: see ``Adam``.
        weight_decay: the share of a parameter that decays, times the rate.
        **shared: ``decays`` and ``clip``, see ``Optimizer``.
    """

    decoupled_decay = True

    def __init__(
        self,
        rate: Hyper = 1e-3,
        *,
        beta1: Hyper = 0.9,
        beta2: Hyper = 0.999,
        epsilon: Hyper = 1e-8,
        weight_decay: Hyper = 1e-2,
        **shared: Any,
    ):
        shared["weight_decay"] = weight_decay
        super().__init__(rate, beta1=beta1, beta2=beta2, epsilon=epsilon, **shared)


class NAdam(Optimizer):
    """Adam with Nesterov's look ahead (Dozat, 2016), with his schedule of momenta.

    With P_t the product of mu_1 to mu_t, and m, v and v_hat as in Adam::

        mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2)
        m_hat = mu_(t+1) m / (1 - P_(t+1)) + (1 - mu_t) g / (1 - P_t)
        w <- w - rate m_hat / (sqrt(v_hat) + epsilon)

    Args:
        rate, beta1, beta2, epsilon: see ``Adam``.
        momentum_decay: how fast mu rises from half of beta1 to beta1.
        **shared: ``weight_decay``, ``decays`` and ``clip``, see ``Optimizer``.
    """

    slots = ("m", "v")
    carried: ClassVar[dict[str, float]] = {"product": 1.0, "correction2": 0.0}
    fractions = frozenset({"beta1", "beta2"})

    def __init__(
        self,
        rate: Hyper = 2e-3,
        *,
        beta1: Hyper = 0.9,
        beta2: Hyper = 0.999,
        epsilon: Hyper = 1e-8,
        momentum_decay: Hyper = 4e-3,
        **shared: Any,
    ):
        hyper = {"beta1": beta1, "beta2": beta2, "epsilon": epsilon}
        super().__init__(rate, {**hyper, "momentum_decay": momentum_decay}, **shared)

    def carry(
        self,
        xp: Namespace,
        *,
        step: Number,
        beta1: Number,
        beta2: Number,
        momentum_decay: Number,
        product: Number,
        correction2: Number,
        **_: Number,
    ) -> dict[str, Number]:
        """P_t, ``1 - beta2^t`` as in Adam, and the factors of m and g in ``m_hat``."""
        decay = momentum_decay * math.log(0.96)
        mu = beta1 * (1 - 0.5 * xp.exp(step * decay))
        mu_next = beta1 * (1 - 0.5 * xp.exp((step + 1) * decay))
        product = product * mu
        return {
            "product": product,
            "correction2": beta2 * correction2 + (1 - beta2),
            "of_mean": mu_next / (1 - product * mu_next),
            "of_gradient": (1 - mu) / (1 - product),
        }

    def rule(
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
        correction2: Number,
        of_mean: Number,
        of_gradient: Number,
        **_: Number,
    ) -> tuple[Array, ...]:
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * (g * g)
        m_hat, v_hat = of_mean * m + of_gradient * g, v / correction2
        return w - rate * m_hat / (xp.sqrt(v_hat) + epsilon), m, v
