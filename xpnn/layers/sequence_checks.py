"""What ``run`` and ``attend`` refuse, before the array library stumbles over it."""

from typing import TYPE_CHECKING, Any

from xpnn.errors import ShapeError
from xpnn.typing import Array

if TYPE_CHECKING:
    from xpnn.layers.attention import MultiHeadAttention
    from xpnn.layers.recurrence import Recurrent


def check_run(layer: "Recurrent", Z: Array, initial: Any, mask: Array | None) -> None:
    """Sequences, a memory to begin with, and a mask, as ``Recurrent.run`` reads them."""
    features = layer.params["weight"].shape[0]
    if Z.ndim != 3 or Z.shape[2] != features:
        raise ShapeError(
            f"{layer!r} reads (batch, time, {features}), got {tuple(Z.shape)}; build it for other "
            f"features, or give it these"
        )
    if initial is not None:
        several = isinstance(initial, tuple | list)
        found = [tuple(one.shape) for one in (initial if several else (initial,))]
        wanted = (Z.shape[0], layer.units)
        if not several or found != [wanted] * len(layer.memory):
            raise ShapeError(
                f"{layer!r} begins with a tuple of arrays, the memory ({', '.join(layer.memory)}), "
                f"each of shape {wanted}, got {', '.join(map(str, found))}"
                + ("" if several else " outside of a tuple")
            )
    if mask is not None and tuple(mask.shape) != tuple(Z.shape[:2]):
        raise ShapeError(
            f"{layer!r} wants a mask of shape {tuple(Z.shape[:2])}, a boolean for each step, got "
            f"{tuple(mask.shape)}"
        )


def check_attend(
    layer: "MultiHeadAttention", Z: Array, context: Array | None, mask: Array | None
) -> None:
    """Queries, a context and a mask, as ``MultiHeadAttention.attend`` looks at them."""
    batch, features = Z.shape[0], layer.params["output_weight"].shape[0]
    for name, one in (("queries", Z), ("a context", context)):
        if one is not None and (one.ndim != 3 or (one.shape[0], one.shape[2]) != (batch, features)):
            raise ShapeError(
                f"{layer!r} wants {name} of shape ({batch}, time, {features}), got "
                f"{tuple(one.shape)}; a Dense({features}) makes other features fit"
            )
    keys = tuple((Z if context is None else context).shape[:2])
    if mask is not None and (tuple(mask.shape) != keys or not layer.xp.isdtype(mask.dtype, "bool")):
        raise ShapeError(
            f"{layer!r} wants a mask of booleans of shape {keys}, True at the keys that may be "
            f"seen, got {mask.dtype} of shape {tuple(mask.shape)}"
        )
