"""A batch of zeros that a step can take, to see what it takes."""

from typing import Any

from xpnn.backends import Backend
from xpnn.errors import DataError, ShapeError
from xpnn.losses.by_output import losses_of
from xpnn.losses.outputs import outputs_of
from xpnn.losses.targets import check_targets
from xpnn.losses.weights import unbound
from xpnn.network import Network
from xpnn.peak import LEAST
from xpnn.trees import one_or_tuple
from xpnn.typing import Array, Arrays, Loss, Shape


def batch_of_zeros(network: Network, loss: Loss, size: int) -> tuple[Arrays, Arrays]:
    """Inputs and targets that a step can take."""
    backend = network.backend
    xp, floats = backend.xp, backend.dtype(network.dtype)

    def zeros(shape: Shape, dtype: Any) -> Array:
        return xp.zeros((size, *shape), dtype=dtype, device=backend.device)

    x = [
        zeros(shape, xp.int32 if takes == "integers" else floats)
        for shape, takes, _ in network.inputs
    ]
    y = []
    losses = losses_of(loss, network.output_names)
    for (_, one, _), (shape, _) in zip(losses, network.outputs, strict=True):
        own = getattr(unbound(one)[0], "target_shape", None)
        of_classes = shape[:-1] if own is None else own(shape)
        has_classes = _wants_classes(one, shape, of_classes, backend)
        y.append(zeros(of_classes, xp.int32) if has_classes else zeros(shape, floats))
    return one_or_tuple(x), one_or_tuple(y)


def _wants_classes(loss: Loss, shape: Shape, of_classes: Shape, backend: Backend) -> bool:
    """Whether the loss takes class numbers; one of a user's that checks no targets may say so."""
    if not hasattr(unbound(loss)[0], "check_targets"):
        return outputs_of(loss) == "class logits"
    xp = backend.xp
    classes = xp.zeros((LEAST, *of_classes), dtype=xp.int32, device=backend.device)
    try:
        check_targets(loss, classes, shape, backend, values=False)
    except (ShapeError, DataError):
        return False
    return True
