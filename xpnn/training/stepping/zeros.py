"""A batch of zeros that a step can take, to see what it takes."""

from typing import Any

from xpnn.errors import DataError, ShapeError
from xpnn.losses.outputs import outputs_of
from xpnn.losses.targets import check_targets
from xpnn.losses.weights import unbound
from xpnn.network import Network
from xpnn.peak import LEAST
from xpnn.typing import Array, Loss, Shape


def batch_of_zeros(network: Network, loss: Loss, size: int) -> tuple[Array, Array]:
    """Inputs and targets that a step can take."""
    backend = network.backend
    xp, floats = backend.xp, backend.dtype(network.dtype)
    ids = network.root.takes == "integers"

    def zeros(shape: tuple[int, ...], dtype: Any) -> Array:
        return xp.zeros((size, *shape), dtype=dtype, device=backend.device)

    x = zeros(network.input_shape, xp.int32 if ids else floats)
    shape = network.output_shape
    own = getattr(unbound(loss)[0], "target_shape", None)
    of_classes = shape[:-1] if own is None else own(shape)
    if _wants_classes(loss, network, of_classes):
        return x, zeros(of_classes, xp.int32)
    return x, zeros(shape, floats)


def _wants_classes(loss: Loss, network: Network, of_classes: Shape) -> bool:
    """Whether the loss takes class numbers; one of a user's that checks no targets may say so."""
    if not hasattr(unbound(loss)[0], "check_targets"):
        return outputs_of(loss) == "class logits"
    backend, shape = network.backend, network.output_shape
    xp = backend.xp
    classes = xp.zeros((LEAST, *of_classes), dtype=xp.int32, device=backend.device)
    try:
        check_targets(loss, classes, shape, backend, values=False)
    except (ShapeError, DataError):
        return False
    return True
