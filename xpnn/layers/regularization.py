"""Rules that keep weights small: penalties, added to the loss, and constraints, held by force.

A layer gets its rules from ``Layer.regularize``. The training step adds the values of penalties to
the loss and their slopes to the gradients, before clipping and the optimizer's own weight decay,
and applies constraints to what the optimizer returns. Losses in prediction mode (validation,
``Trainer.evaluate``) are those of the data alone, so that they can be compared between strengths.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from xpnn.arguments import KnownAttributes, checked
from xpnn.backends import Backend
from xpnn.errors import ShapeError
from xpnn.numerics import widened
from xpnn.typing import Array, Namespace, Params

Rules = dict[str, tuple["Penalty | Constraint", ...]]
"""The rules of each regularised parameter, by its full name."""


class Penalty(KnownAttributes):
    """Base of what is added to the loss for a parameter w: ``strength * f(w)``.

    Args:
        strength: at least 0, where it does nothing.
    """

    fixed = ("strength",)

    @checked
    def __init__(self, strength: float):
        if not strength >= 0:
            raise ValueError(f"{type(self).__name__} needs a strength of 0 or more, got {strength}")
        self.strength = float(strength)

    def value(self, xp: Namespace, w: Array) -> Array:
        """What ``w`` costs, a 0-d array."""
        raise NotImplementedError(f"{type(self).__name__} has to define value")

    def slope(self, xp: Namespace, w: Array, grad: Array) -> Array:
        """``grad`` plus the derivative of ``value``; elementwise."""
        raise NotImplementedError(f"{type(self).__name__} has to define slope")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.strength})"


class L1(Penalty):
    """Pulls at all weights alike (the lasso of Tibshirani, 1996).

    The pull does not weaken near zero, so that weights which are not needed go all the way.

    Added to the loss for each weight array w, and its slope to the gradient::

        penalty = strength sum |w|              slope = strength sign(w)

    Args:
        strength: at least 0, where it does nothing.

    >>> from xpnn import Dense
    >>> Dense(10).regularize(L1(1e-4)).regularizers
    (L1(0.0001),)
    """

    def value(self, xp: Namespace, w: Array) -> Array:
        return self.strength * xp.sum(xp.abs(w))

    def slope(self, xp: Namespace, w: Array, grad: Array) -> Array:
        return grad + self.strength * xp.sign(w)


class L2(Penalty):
    """Pulls at weights by their size: weight decay (Krogh and Hertz, 1992, eq. 3).

    Added to the loss for each weight array w, and its slope to the gradient::

        penalty = strength / 2 sum w^2          slope = strength w

    With the 1/2, as in Nielsen's book, it is what ``SGD(weight_decay=strength)`` does; Keras leaves
    it out, so its ``L2(s)`` is ``L2(2 * s)`` here.

    Args:
        strength: at least 0, where it does nothing.

    >>> from xpnn import Dense
    >>> Dense(10).regularize(L2(1e-4)).regularizers
    (L2(0.0001),)
    """

    def value(self, xp: Namespace, w: Array) -> Array:
        return 0.5 * self.strength * xp.sum(w * w)

    def slope(self, xp: Namespace, w: Array, grad: Array) -> Array:
        return grad + self.strength * w


class Constraint(KnownAttributes):
    """Base of what holds for a parameter after every step."""

    def apply(self, xp: Namespace, w: Array) -> Array:
        """The nearest array to ``w`` for which it holds."""
        raise NotImplementedError(f"{type(self).__name__} has to define apply")


class MaxNorm(Constraint):
    """The weights into each unit have a length of at most ``limit`` (Srivastava et al., 2014, 5.1).

    After each step, of a weight array w::

        w_j <- w_j min(1, limit / |w_j|)           for each unit j

    Args:
        limit: the largest length, above 0.
        axis: the one that counts the units: the last, as for Dense and convolutions; 0 for the
            vectors of an Embedding.

    >>> import numpy as np
    >>> MaxNorm(1.0).apply(np, np.array([[3.0, 0.5], [4.0, 0.5]])).tolist()
    [[0.6, 0.5], [0.8, 0.5]]
    """

    fixed = ("limit", "axis")

    @checked
    def __init__(self, limit: float, *, axis: int = -1):
        if not limit > 0:
            raise ValueError(f"MaxNorm needs a limit above 0, got {limit}")
        self.limit, self.axis = float(limit), axis

    def apply(self, xp: Namespace, w: Array) -> Array:
        if not -w.ndim <= self.axis < w.ndim:
            raise ShapeError(f"{self!r} wants an axis of the weights, of shape {tuple(w.shape)}")
        wide = widened(w, xp)
        summed = tuple(axis for axis in range(w.ndim) if axis != self.axis % w.ndim)
        length = xp.sqrt(xp.sum(wide * wide, axis=summed, keepdims=True))
        scaled = wide * (self.limit / xp.maximum(length, self.limit))
        return scaled if scaled.dtype == w.dtype else xp.astype(scaled, w.dtype)

    def __repr__(self) -> str:
        return f"MaxNorm({self.limit}{'' if self.axis == -1 else f', axis={self.axis}'})"


def check_reach(rules: Iterable[Penalty | Constraint], layers: Sequence[Any]) -> None:
    """Refuse rules that would act on nothing.

    Args:
        layers: built, to which all of the rules were given.

    Raises:
        ValueError: none of these layers has weights that rules act on.
    """
    if any(is_regularized(param) for layer in layers for param in layer.params.values()):
        return
    for rule in rules:
        tied = [source for layer in layers for source in layer.ties.values()]
        hint = f"; regularize {tied[0]!r}, whose weights it shares" if tied else ""
        raise ValueError(
            f"{rule!r} would act on nothing, as {layers[0]!r} has no weights of its own with two "
            f"axes or more{hint}"
        )


def is_regularized(param: Array) -> bool:
    """Whether rules act on a parameter: matrices and kernels, not biases and scales of norms."""
    return len(param.shape) > 1


Penalize = Callable[..., tuple[Array, Params]]
Constrain = Callable[[Params], Params]


def make_regularization(rules: Rules, backend: Backend) -> tuple[Penalize, Constrain]:
    """Two pure functions for a training step.

    ``penalize(value, params, grads, scale) -> (value, grads)`` adds penalties and their slopes, the
    latter times ``scale`` if the gradients are multiplied by one; ``constrain(params) -> params``
    applies the constraints. Nothing is read on the host.
    """
    xp = backend.xp
    pairs = [(name, rule) for name, of_name in rules.items() for rule in of_name]
    penalties = [(name, rule) for name, rule in pairs if isinstance(rule, Penalty)]
    constraints = [(name, rule) for name, rule in pairs if isinstance(rule, Constraint)]
    slopes = {rule: backend.elementwise(rule.slope) for _, rule in penalties}
    scaled = {rule: backend.elementwise(_scaled(rule)) for _, rule in penalties}

    def penalize(
        value: Array, params: Params, grads: Params, scale: Array | None = None
    ) -> tuple[Array, Params]:
        grads = dict(grads)
        for name, rule in penalties:
            w, grad = params[name], grads[name]
            value = value + xp.astype(rule.value(xp, widened(w, xp)), value.dtype)
            grads[name] = slopes[rule](w, grad) if scale is None else scaled[rule](w, grad, scale)
        return value, grads

    def constrain(params: Params) -> Params:
        params = dict(params)
        for name, rule in constraints:
            params[name] = rule.apply(xp, params[name])
        return params

    return penalize, constrain


def _scaled(rule: Penalty) -> Callable[..., Array]:
    """The penalty's slope beside a gradient that is multiplied by ``scale``."""

    def slope(xp: Namespace, w: Array, grad: Array, scale: Array) -> Array:
        return rule.slope(xp, w, widened(grad, xp) / scale) * scale

    slope.__qualname__ = f"scaled_{type(rule).__name__}"
    return slope
