"""Limits on gradients, applied inside of the optimizer's sweep and never read on the host."""

from xpnn.typing import Array, Namespace, Number, Params


class Clipping:
    """Base of the limits: ``scale`` looks at all gradients once, ``apply`` limits one of them."""

    def scale(self, grads: Params, xp: Namespace) -> Number:
        """One number worked out from all gradients, on their device."""
        return 1.0

    def apply(self, xp: Namespace, grad: Array, scale: Number) -> Array:
        """The limited gradient; elementwise."""
        raise NotImplementedError(f"{type(self).__name__} has to define apply")


class ClipByGlobalNorm(Clipping):
    """Shortens the gradient of the whole network to a length of at most ``limit``.

    ::

        n = sqrt(sum over all gradients of g^2)           g <- g min(1, limit / n)

    All gradients keep their proportions (Pascanu et al., 2013, algorithm 1).
    """

    def __init__(self, limit: float):
        if not limit > 0:
            raise ValueError(f"ClipByGlobalNorm needs a limit above 0, got {limit}")
        self.limit = float(limit)

    def scale(self, grads: Params, xp: Namespace) -> Number:
        # half-precision gradients are squared in float32, where they cannot overflow
        wide = [g if xp.finfo(g.dtype).bits > 16 else xp.astype(g, xp.float32) for g in grads.values()]
        squares = [xp.sum(g * g) for g in wide]
        norm = xp.sqrt(sum(squares[1:], start=squares[0]))
        return self.limit / xp.maximum(norm, self.limit)

    def apply(self, xp: Namespace, grad: Array, scale: Number) -> Array:
        return grad * scale


class ClipByValue(Clipping):
    """Cuts every number of every gradient to [-limit, limit]."""

    def __init__(self, limit: float):
        if not limit > 0:
            raise ValueError(f"ClipByValue needs a limit above 0, got {limit}")
        self.limit = float(limit)

    def apply(self, xp: Namespace, grad: Array, scale: Number) -> Array:
        return xp.minimum(xp.maximum(grad, -self.limit), self.limit)
