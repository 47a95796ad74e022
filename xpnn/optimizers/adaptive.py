"""Optimizers that scale each number's step by what its gradients have been.

w is a parameter, g its gradient. Slots are zero at first. Divisions and roots are elementwise.
"""

from typing import Any

from xpnn.optimizers.base import Optimizer
from xpnn.optimizers.schedules import Hyper
from xpnn.typing import Array, Namespace, Number


class Lion(Optimizer):
    """Steps of one size in the direction of a sign (Chen et al., 2023, algorithm 2).

    ::

        w <- w - rate sign(beta1 m + (1 - beta1) g)
        m <- beta2 m + (1 - beta2) g

    Weight decay is decoupled. Rates are 3 to 10 times smaller than Adam's.

    Args:
        rate: learning rate, a number or a schedule.
        beta1: how much of the mean is in the direction of the step, in [0, 1).
        beta2: how much of the mean survives a step, in [0, 1).
        **shared: ``weight_decay``, ``decays`` and ``clip``, see ``Optimizer``.

    >>> from xpnn import Dense, Network, Trainer, initializers
    >>> layer = Dense(1, use_bias=False, weight_init=initializers.ones)
    >>> net = Network([layer], input_shape=(1,))
    >>> trainer = Trainer(net, "mse", Lion(0.1))
    >>> loss = trainer.step([[1.0]], [[3.0]])  # where w = 1 and g = -4
    >>> net.params["0.dense.weight"].tolist()
    [[1.1]]
    """

    slots = ("m",)
    fractions = frozenset({"beta1", "beta2"})
    decoupled_decay = True

    def __init__(
        self, rate: Hyper = 1e-4, *, beta1: Hyper = 0.9, beta2: Hyper = 0.99, **shared: Any
    ):
        super().__init__(rate, {"beta1": beta1, "beta2": beta2}, **shared)

    def rule(
        self,
        xp: Namespace,
        w: Array,
        g: Array,
        m: Array,
        *,
        rate: Number,
        beta1: Number,
        beta2: Number,
    ) -> tuple[Array, ...]:
        w = w - rate * xp.sign(beta1 * m + (1 - beta1) * g)
        return w, beta2 * m + (1 - beta2) * g


class Adagrad(Optimizer):
    """Steps that shrink where gradients have been large (Duchi et al., 2011).

    ::

        s <- s + g^2                 w <- w - rate g / (sqrt(s) + epsilon)

    Args:
        rate: learning rate, a number or a schedule.
        epsilon: keeps the division finite where all gradients have been zero.
        **shared: ``weight_decay``, ``decays`` and ``clip``, see ``Optimizer``.

    >>> from xpnn import Dense, Network, Trainer, initializers
    >>> layer = Dense(1, use_bias=False, weight_init=initializers.ones)
    >>> net = Network([layer], input_shape=(1,))
    >>> trainer = Trainer(net, "mse", Adagrad(0.1))
    >>> loss = trainer.step([[1.0]], [[3.0]])  # where w = 1 and g = -4
    >>> net.params["0.dense.weight"].tolist()
    [[1.1]]
    """

    slots = ("s",)

    def __init__(self, rate: Hyper = 1e-2, *, epsilon: Hyper = 1e-10, **shared: Any):
        super().__init__(rate, {"epsilon": epsilon}, **shared)

    def rule(
        self, xp: Namespace, w: Array, g: Array, s: Array, *, rate: Number, epsilon: Number
    ) -> tuple[Array, ...]:
        s = s + g * g
        return w - rate * g / (xp.sqrt(s) + epsilon), s


class Adadelta(Optimizer):
    """Steps in the units of the parameters, by what the last ones were (Zeiler, 2012, algorithm 1).

    ::

        s <- rho s + (1 - rho) g^2
        u = sqrt(d + epsilon) / sqrt(s + epsilon) g
        d <- rho d + (1 - rho) u^2                      w <- w - rate u

    Args:
        rate: what a step is multiplied by, a number or a schedule; 1 in the paper.
        rho: how much of both means survives a step, in [0, 1).
        epsilon: what the first steps come from, above 0.
        **shared: ``weight_decay``, ``decays``, ``clip`` and ``factors``, see ``Optimizer``.

    >>> from xpnn import Dense, Network, Trainer, initializers
    >>> layer = Dense(1, use_bias=False, weight_init=initializers.ones)
    >>> net = Network([layer], input_shape=(1,))
    >>> trainer = Trainer(net, "mse", Adadelta())
    >>> loss = trainer.step([[1.0]], [[3.0]])  # where w = 1 and g = -4
    >>> net.params["0.dense.weight"].tolist()
    [[1.003]]
    """

    slots = ("s", "d")
    fractions = frozenset({"rho"})
    positive = frozenset({"epsilon"})

    def __init__(
        self, rate: Hyper = 1.0, *, rho: Hyper = 0.9, epsilon: Hyper = 1e-6, **shared: Any
    ):
        super().__init__(rate, {"rho": rho, "epsilon": epsilon}, **shared)

    def rule(
        self,
        xp: Namespace,
        w: Array,
        g: Array,
        s: Array,
        d: Array,
        *,
        rate: Number,
        rho: Number,
        epsilon: Number,
    ) -> tuple[Array, ...]:
        s = rho * s + (1 - rho) * (g * g)
        u = xp.sqrt(d + epsilon) / xp.sqrt(s + epsilon) * g
        return w - rate * u, s, rho * d + (1 - rho) * (u * u)


class RMSprop(Optimizer):
    """Adagrad that forgets: a running mean of squares (Tieleman and Hinton, 2012, lecture 6e).

    ::

        s <- rho s + (1 - rho) g^2            u = g / (sqrt(s) + epsilon)
        w <- w - rate u

    With momentum, ``v <- momentum v + u`` and ``w <- w - rate v``.

    Args:
        rate: learning rate, a number or a schedule.
        rho: how much of the mean survives a step, in [0, 1).
        momentum: how much of the last step survives, in [0, 1); 0 keeps no slot for it.
        epsilon: keeps the division finite where s is near zero.
        **shared: ``weight_decay``, ``decays`` and ``clip``, see ``Optimizer``.

    >>> from xpnn import Dense, Network, Trainer, initializers
    >>> layer = Dense(1, use_bias=False, weight_init=initializers.ones)
    >>> net = Network([layer], input_shape=(1,))
    >>> trainer = Trainer(net, "mse", RMSprop(0.1))
    >>> loss = trainer.step([[1.0]], [[3.0]])  # where w = 1 and g = -4
    >>> net.params["0.dense.weight"].tolist()
    [[2.0]]
    """

    fractions = frozenset({"rho", "momentum"})
    momentum: Hyper

    def __init__(
        self,
        rate: Hyper = 1e-2,
        *,
        rho: Hyper = 0.99,
        momentum: Hyper = 0.0,
        epsilon: Hyper = 1e-8,
        **shared: Any,
    ):
        super().__init__(rate, {"rho": rho, "momentum": momentum, "epsilon": epsilon}, **shared)

    @property
    def slots(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("s", "v") if self.momentum != 0 else ("s",)

    def rule(
        self,
        xp: Namespace,
        w: Array,
        g: Array,
        s: Array,
        *momenta: Array,
        rate: Number,
        rho: Number,
        momentum: Number,
        epsilon: Number,
    ) -> tuple[Array, ...]:
        s = rho * s + (1 - rho) * (g * g)
        u = g / (xp.sqrt(s) + epsilon)
        if not momenta:
            return w - rate * u, s
        v = momentum * momenta[0] + u
        return w - rate * v, s, v
