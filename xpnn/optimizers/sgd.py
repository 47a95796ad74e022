"""Stochastic gradient descent, plain, with momentum and with Nesterov's correction."""

from typing import Any

from xpnn.optimizers.base import Optimizer
from xpnn.optimizers.schedules import Hyper
from xpnn.typing import Array, Namespace, Number


class SGD(Optimizer):
    """Step against the gradient.

    ::

        w <- w - rate g

    With momentum the steps pile up where gradients agree (Sutskever et al., 2013, in the form in
    which v does not contain the rate)::

        v <- momentum v + g          w <- w - rate v
        (nesterov)                   w <- w - rate (g + momentum v)

    Args:
        rate: learning rate, a number or a schedule.
        momentum: how much of the last step survives, in [0, 1); 0 keeps no slot.
        nesterov: look one step of momentum ahead.
        **shared: ``weight_decay``, ``decays`` and ``clip``, see ``Optimizer``.

    >>> from xpnn import Dense, Network, Trainer, initializers
    >>> layer = Dense(1, use_bias=False, weight_init=initializers.ones)
    >>> net = Network([layer], input_shape=(1,))
    >>> trainer = Trainer(net, "mse", SGD(0.1))
    >>> loss = trainer.step([[1.0]], [[3.0]])  # where w = 1 and g = -4
    >>> net.params["0.dense.weight"].tolist()
    [[1.4]]
    """

    fractions = frozenset({"momentum"})
    momentum: Hyper

    def __init__(
        self, rate: Hyper = 0.01, *, momentum: Hyper = 0.0, nesterov: bool = False, **shared: Any
    ):
        super().__init__(rate, {"momentum": momentum}, **shared)
        if not isinstance(nesterov, bool):
            raise TypeError(f"SGD wants nesterov to be True or False, got {nesterov!r}")
        if nesterov and momentum == 0:
            raise ValueError("SGD with nesterov=True needs momentum above 0, such as 0.9, got 0")
        self.nesterov = nesterov

    @property
    def slots(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("v",) if self.momentum != 0 else ()

    def rule(
        self,
        xp: Namespace,
        w: Array,
        g: Array,
        *momenta: Array,
        rate: Number,
        momentum: Number,
    ) -> tuple[Array, ...]:
        if not momenta:
            return (w - rate * g,)
        v = momentum * momenta[0] + g
        step = g + momentum * v if self.nesterov else v
        return w - rate * step, v
