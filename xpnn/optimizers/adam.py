"""Adam and its kin: running means of the gradient and of its square.

w is a parameter, g its gradient, t = 1, 2, ... the step. Slots are zero at first. Divisions and
roots are elementwise.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from xpnn.optimizers.base import Optimizer
from xpnn.optimizers.schedules import Hyper
from xpnn.typing import Array, Namespace, Number


class RunningMeans(Optimizer):
    """What Adam and its kin share: both means, their corrections, and Adam's step."""

    slots = ("m", "v")
    carried: ClassVar[dict[str, float]] = {"correction1": 0.0, "correction2": 0.0}
    fractions = frozenset({"beta1", "beta2"})

    def __init__(
        self,
        rate: Hyper,
        hyper: Mapping[str, Hyper] | None = None,
        *,
        beta1: Hyper,
        beta2: Hyper,
        epsilon: Hyper,
        **shared: Any,
    ):
        means = {"beta1": beta1, "beta2": beta2, "epsilon": epsilon}
        super().__init__(rate, {**means, **(hyper or {})}, **shared)

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


class Adam(RunningMeans):
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

    t counts the steps of the optimizer. So the means of layers that join late (``unfreeze``) begin
    at zero with nothing to undo it: their step k, by gradients that are all alike, is the rate
    times (1 - beta1^k) / sqrt(1 - beta2^k), at most 6.6 with these betas. PyTorch counts the steps
    of each parameter. ``factors`` may hold the rate of such layers down; with ``trainer.opt_state =
    None`` all begins anew.

    Args:
        rate: learning rate, a number or a schedule.
        beta1, beta2: how much of each running mean survives a step, in [0, 1).
        epsilon: keeps the division finite where v is near zero.
        **shared: ``weight_decay``, ``decays`` and ``clip``, see ``Optimizer``.

    >>> from xpnn import Dense, Network, Trainer, initializers
    >>> layer = Dense(1, use_bias=False, weight_init=initializers.ones)
    >>> net = Network([layer], input_shape=(1,))
    >>> trainer = Trainer(net, "mse", Adam(0.1))
    >>> loss = trainer.step([[1.0]], [[3.0]])  # where w = 1 and g = -4
    >>> net.params["0.dense.weight"].tolist()
    [[1.1]]
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


class AdamW(RunningMeans):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019, algorithm 2).

    With m_hat and v_hat as in Adam, so that decay is not scaled by gradients::

        w <- w - rate weight_decay w
        w <- w - rate m_hat / (sqrt(v_hat) + epsilon)

    Args:
        rate, beta1, beta2, epsilon: see ``Adam``.
        weight_decay: the share of a parameter that decays, times the rate.
        **shared: ``decays`` and ``clip``, see ``Optimizer``.

    >>> from xpnn import Dense, Network, Trainer, initializers
    >>> layer = Dense(1, use_bias=False, weight_init=initializers.ones)
    >>> net = Network([layer], input_shape=(1,))
    >>> trainer = Trainer(net, "mse", AdamW(0.1))
    >>> loss = trainer.step([[1.0]], [[3.0]])  # where w = 1 and g = -4
    >>> net.params["0.dense.weight"].tolist()
    [[1.099]]
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


class Adamax(Optimizer):
    """Adam with a maximum in place of the mean of squares (Kingma and Ba, 2015, algorithm 2).

    ::

        m <- beta1 m + (1 - beta1) g
        u <- max(beta2 u, |g| + epsilon)
        w <- w - rate / (1 - beta1^t) m / u

    Args:
        rate, beta1: see ``Adam``.
        beta2: how much of the maximum survives a step, in [0, 1).
        epsilon: keeps the division finite where all gradients have been zero.
        **shared: ``weight_decay``, ``decays``, ``clip`` and ``factors``, see ``Optimizer``.

    >>> from xpnn import Dense, Network, Trainer, initializers
    >>> layer = Dense(1, use_bias=False, weight_init=initializers.ones)
    >>> net = Network([layer], input_shape=(1,))
    >>> trainer = Trainer(net, "mse", Adamax(0.1))
    >>> loss = trainer.step([[1.0]], [[3.0]])  # where w = 1 and g = -4
    >>> net.params["0.dense.weight"].tolist()
    [[1.1]]
    """

    slots = ("m", "u")
    carried: ClassVar[dict[str, float]] = {"correction1": 0.0}
    fractions = frozenset({"beta1", "beta2"})

    def __init__(
        self,
        rate: Hyper = 2e-3,
        *,
        beta1: Hyper = 0.9,
        beta2: Hyper = 0.999,
        epsilon: Hyper = 1e-8,
        **shared: Any,
    ):
        super().__init__(rate, {"beta1": beta1, "beta2": beta2, "epsilon": epsilon}, **shared)

    def carry(
        self, xp: Namespace, *, rate: Number, beta1: Number, correction1: Number, **_: Number
    ) -> dict[str, Number]:
        """``1 - beta1^t`` as in Adam."""
        correction1 = beta1 * correction1 + (1 - beta1)
        return {"correction1": correction1, "rate_t": rate / correction1}

    def rule(
        self,
        xp: Namespace,
        w: Array,
        g: Array,
        m: Array,
        u: Array,
        *,
        beta1: Number,
        beta2: Number,
        epsilon: Number,
        rate_t: Number,
        **_: Number,
    ) -> tuple[Array, ...]:
        m = beta1 * m + (1 - beta1) * g
        u = xp.maximum(beta2 * u, xp.abs(g) + epsilon)
        return w - rate_t * (m / u), m, u


class RAdam(RunningMeans):
    """Adam whose first steps are rectified (Liu et al., 2020, algorithm 2).

    Of few gradients the mean of squares says little, and so its root is a bad thing to divide by.
    With m, v and m_hat as in Adam::

        rho_inf = 2 / (1 - beta2) - 1
        rho_t = rho_inf - 2 t beta2^t / (1 - beta2^t)

        rho_t <= 5:    w <- w - rate m_hat
        rho_t > 5:     w <- w - rate r_t m_hat sqrt(1 - beta2^t) / (sqrt(v) + epsilon)

        r_t^2 = (rho_t - 4) (rho_t - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho_t)

    rho_t is how many gradients the mean of squares goes back: 2 A - 1, with A the mean of their
    ages under its weights, the last one's being 1 (section 4.1). That is how it is worked out: a
    running mean itself, right for a beta2 that changes, and without the difference of two large
    numbers.

    Args:
        rate, beta1, beta2, epsilon: see ``Adam``.
        **shared: ``weight_decay``, ``decays``, ``clip`` and ``factors``, see ``Optimizer``.

    >>> from xpnn import Dense, Network, Trainer, initializers
    >>> layer = Dense(1, use_bias=False, weight_init=initializers.ones)
    >>> net = Network([layer], input_shape=(1,))
    >>> trainer = Trainer(net, "mse", RAdam(0.1))
    >>> loss = trainer.step([[1.0]], [[3.0]])  # where w = 1 and g = -4
    >>> net.params["0.dense.weight"].tolist()
    [[1.4]]
    """

    carried: ClassVar[dict[str, float]] = {**RunningMeans.carried, "ages": 0.0}

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

    def carry(  # type: ignore[override]
        self, xp: Namespace, *, rate: Number, beta2: Number, ages: Number, **numbers: Number
    ) -> dict[str, Number]:
        """Beside Adam's numbers, the factors of m and of m over the root, of which one is 0."""
        found = super().carry(xp, rate=rate, beta2=beta2, **numbers)
        ages = beta2 * ages + found["correction2"]  # each is a step older, and there is a new one
        length = 2 * ages / found["correction2"] - 1
        rho = xp.maximum(length, 5.0)
        limit = xp.maximum(2 / (1 - beta2) - 1, rho)
        short = (rho - 4) * (rho - 2) / rho
        rectified = xp.sqrt(short / ((limit - 4) * (limit - 2) / limit)) * found["rate_t"]
        plain = rate / found["correction1"]
        return {
            **found,
            "ages": ages,
            "of_mean": xp.where(length > 5, 0 * plain, plain),
            "of_ratio": xp.where(length > 5, rectified, 0 * rectified),
        }

    def rule(  # type: ignore[override]
        self,
        xp: Namespace,
        w: Array,
        g: Array,
        m: Array,
        v: Array,
        *,
        beta1: Number,
        beta2: Number,
        epsilon: Number,
        of_mean: Number,
        of_ratio: Number,
        **_: Number,
    ) -> tuple[Array, ...]:
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * (g * g)
        return w - m * (of_mean + of_ratio / (xp.sqrt(v) + epsilon)), m, v


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

    >>> from xpnn import Dense, Network, Trainer, initializers
    >>> layer = Dense(1, use_bias=False, weight_init=initializers.ones)
    >>> net = Network([layer], input_shape=(1,))
    >>> trainer = Trainer(net, "mse", NAdam(0.1))
    >>> loss = trainer.step([[1.0]], [[3.0]])  # where w = 1 and g = -4
    >>> net.params["0.dense.weight"].tolist()
    [[1.106]]
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
