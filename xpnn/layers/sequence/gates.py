"""The order of axes inside recurrent layers: every gate by itself, one stretch of memory each.

Parameters have the columns of all gates side by side, (rows, gates * units), as in other libraries.
To walk through time with, gates come first: elementwise rules then read and write without gaps, and
several small products are faster than one of medium size. Behind the walk, one large product of
all steps and gates is faster than one for each gate.
"""

from xpnn.typing import Array, Namespace


def by_gate(xp: Namespace, W: Array, gates: int) -> Array:
    """(rows, gates * units) as (gates, rows, units)."""
    W = xp.reshape(W, (W.shape[0], gates, W.shape[1] // gates))
    return xp.permute_dims(W, (1, 0, 2))


def transposed(xp: Namespace, W: Array, gates: int) -> Array:
    """(rows, gates * units) as (gates, units, rows), copied in that order.

    On the CPU a small product with a matrix that is only seen as transposed takes twice as long.
    """
    turned = xp.matrix_transpose(by_gate(xp, W, gates))
    return xp.reshape(xp.reshape(turned, (-1,)), turned.shape)


def rows(xp: Namespace, Z: Array) -> Array:
    """(time, batch, features) as (time * batch, features)."""
    return xp.reshape(Z, (-1, Z.shape[-1]))
