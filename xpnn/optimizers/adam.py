"""Adam and its kin: running means of the gradient and of its square.

w is a parameter, g its gradient, t = 1, 2, ... the step. Slots are zero at first. Divisions and
roots are elementwise.
"""

import math
from typing import Any, ClassVar

from xpnn.optimizers.adaptive import running_mean
from xpnn.optimizers.base import Optimizer
from xpnn.optimizers.schedules import Hyper
from xpnn.typing import Array, Namespace, Number


class _Adam(Optimizer):
    """What Adam and AdamW share, which is all but where the weight decay goes.

    Passes over the arrays are saved, in the manner of the end of the paper's section 2. The means
    are kept divided by ``1 - beta``, the share that a new gradient has in them, so that none has to
    be multiplied by it; beta' is the beta of the step before, as betas may change::

        m <- kept1 m + g                kept1 = beta1 (1 - beta1') / (1 - beta1)
        v <- kept2 v + g^2              kept2 = beta2 (1 - beta2') / (1 - beta2)

    The same sums over ones, n1 and n2, grow to ``(1 - beta^t) / (1 - beta)``, so that m / n1 and
    v / n2 are the corrected means. They go into the rate and epsilon, which are numbers::

        w <- w - pace m / (sqrt(v) + floor)
        pace = rate sqrt(n2) / n1       floor = epsilon sqrt(n2)
    """

    slots = ("m", "v")
    carried: ClassVar[dict[str, float]] = dict.fromkeys(("share1", "n1", "share2", "n2"), 0.0)
    derived = ("kept1", "kept2", "pace", "floor")
    fractions = frozenset({"beta1", "beta2"})

    def __init__(self, rate: Hyper, *, beta1: Hyper, beta2: Hyper, epsilon: Hyper, **shared: Any):
        super().__init__(rate, {"beta1": beta1, "beta2": beta2, "epsilon": epsilon}, **shared)

    def carry(
        self, xp: Namespace, step: Number, hyper: dict[str, Number], carried: dict[str, Number]
    ) -> dict[str, Number]:
        share1, share2 = 1.0 - hyper["beta1"], 1.0 - hyper["beta2"]
        kept1 = hyper["beta1"] * (carried["share1"] / share1)
        kept2 = hyper["beta2"] * (carried["share2"] / share2)
        n1, n2 = kept1 * carried["n1"] + 1.0, kept2 * carried["n2"] + 1.0
        root = xp.sqrt(n2)
        return {
            "share1": share1,
            "n1": n1,
            "share2": share2,
            "n2": n2,
            "kept1": kept1,
            "kept2": kept2,
            "pace": hyper["rate"] * root / n1,
            "floor": hyper["epsilon"] * root,
        }

    def rule(
        self,
        xp: Namespace,
        param: Array,
        grad: Array,
        m: Array,
        v: Array,
        *,
        kept1: Number,
        kept2: Number,
        pace: Number,
        floor: Number,
        **_: Number,
    ) -> tuple[Array, ...]:
        m = kept1 * m + grad
        v = kept2 * v + grad * grad
        return param - pace * (m / (xp.sqrt(v) + floor)), m, v


class Adam(_Adam):
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

    With P_t the product of mu_1 to mu_t, and m and v as in Adam::

        mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2)
        m_hat = mu_(t+1) m / (1 - P_(t+1)) + (1 - mu_t) g / (1 - P_t)
        w <- w - rate m_hat / (sqrt(v_hat) + epsilon)

    Args:
        rate, beta1, beta2, epsilon: see ``Adam``.
        momentum_decay: how fast mu rises from half of beta1 to beta1.
        **shared: ``weight_decay``, ``decays`` and ``clip``, see ``Optimizer``.
    """

    slots = ("m", "v")
    carried: ClassVar[dict[str, float]] = {"product": 1.0, "correct2": 0.0}
    derived = ("of_mean", "of_grad")
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
        self, xp: Namespace, step: Number, hyper: dict[str, Number], carried: dict[str, Number]
    ) -> dict[str, Number]:
        """The factors of m and g in ``m_hat``, P_t, and ``1 - beta2^t`` as in Adam."""
        beta1, decay = hyper["beta1"], hyper["momentum_decay"] * math.log(0.96)
        mu = beta1 * (1.0 - 0.5 * xp.exp(step * decay))
        mu_next = beta1 * (1.0 - 0.5 * xp.exp((step + 1.0) * decay))
        product = carried["product"] * mu
        return {
            "of_mean": mu_next / (1.0 - product * mu_next),
            "of_grad": (1.0 - mu) / (1.0 - product),
            "product": product,
            "correct2": running_mean(carried["correct2"], 1.0, hyper["beta2"]),
        }

    def rule(
        self,
        xp: Namespace,
        param: Array,
        grad: Array,
        m: Array,
        v: Array,
        *,
        rate: Number,
        beta1: Number,
        beta2: Number,
        epsilon: Number,
        of_mean: Number,
        of_grad: Number,
        correct2: Number,
        **_: Number,
    ) -> tuple[Array, ...]:
        m = running_mean(m, grad, beta1)
        v = running_mean(v, grad * grad, beta2)
        step = of_mean * m + of_grad * grad
        return param - rate * step / (xp.sqrt(v / correct2) + epsilon), m, v
