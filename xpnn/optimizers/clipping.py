"""Limits on gradients, applied inside of the optimizer's sweep and never read on the host."""

import math

from xpnn.arguments import Unchanging, as_written
from xpnn.numerics import widened
from xpnn.typing import Array, Namespace, Number, Params


class Clipping(Unchanging):
    """Base of the limits: ``scale`` looks at all gradients once, ``apply`` limits one of them.

    A limit stays as it was made: to change one, give the optimizer another one.

    >>> class OnlySigns(Clipping):
    ...     def apply(self, xp, grad, scale):
    ...         return xp.sign(grad)
    >>> from xpnn import SGD
    >>> optimizer = SGD(0.1, clip=OnlySigns())
    """

    def scale(self, xp: Namespace, grads: Params) -> Number:
        """One number worked out from all gradients, on their device."""
        return 1.0

    def scale_of(self, xp: Namespace, grads: Params, share: Number | None) -> Number:
        """``scale`` of all gradients times ``share``, where one is given."""
        if share is not None and type(self).scale is not Clipping.scale:
            grads = {name: widened(grad, xp) * share for name, grad in grads.items()}
        return self.scale(xp, grads)

    def apply(self, xp: Namespace, grad: Array, scale: Number) -> Array:
        """The limited gradient; elementwise."""
        raise NotImplementedError(f"{type(self).__name__} has to define apply")

    def __repr__(self) -> str:
        return as_written(self)


class ClipByGlobalNorm(Clipping):
    """Shortens the gradient of the whole network to a length of at most ``limit``.

    For the gradients g of all parameters, which keep their proportions (Pascanu et al., 2013,
    algorithm 1)::

        n = sqrt(sum over all gradients of g^2)           g <- g min(1, limit / n)

    Args:
        limit: above 0.

    >>> import numpy as np
    >>> clip, grads = ClipByGlobalNorm(1.0), {"weight": np.array([3.0]), "bias": np.array([4.0])}
    >>> scale = clip.scale(np, grads)
    >>> [clip.apply(np, grad, scale).tolist() for grad in grads.values()]
    [[0.6], [0.8]]
    """

    def __init__(self, limit: float):
        if not 0 < limit < math.inf:
            raise ValueError(f"ClipByGlobalNorm needs a limit above 0, got {limit}, or clip=None")
        self.limit = float(limit)

    def scale(self, xp: Namespace, grads: Params) -> Number:
        return self.scale_of(xp, grads, None)

    def scale_of(self, xp: Namespace, grads: Params, share: Number | None) -> Number:
        if not grads:
            return 1.0
        wide = [widened(grad, xp) for grad in grads.values()]  # half precision would overflow
        first, *rest = (xp.sum(grad * grad) for grad in wide)
        length = xp.sqrt(sum(rest, start=first))
        length = length if share is None else length * share
        return self.limit / xp.maximum(length, self.limit)

    def apply(self, xp: Namespace, grad: Array, scale: Number) -> Array:
        return grad * scale


class ClipByValue(Clipping):
    """Cuts every number of every gradient to [-limit, limit].

    For each number g of a gradient::

        g <- max(-limit, min(limit, g))

    Args:
        limit: above 0.

    >>> import numpy as np
    >>> ClipByValue(1.0).apply(np, np.array([-3.0, 0.5, 4.0]), 1.0).tolist()
    [-1.0, 0.5, 1.0]
    """

    def __init__(self, limit: float):
        if not limit > 0:
            raise ValueError(f"ClipByValue needs a limit above 0, got {limit}")
        self.limit = float(limit)

    def apply(self, xp: Namespace, grad: Array, scale: Number) -> Array:
        return xp.minimum(xp.maximum(grad, -self.limit), self.limit)
