"""Targets of one step by itself, looked at before it is taken."""

import math
from typing import Any

from xpnn.arguments import in_order
from xpnn.backends.advice import rewording
from xpnn.network import Network
from xpnn.training.intake.incoming import inspect
from xpnn.training.stepping.checks import check_targets_of_all
from xpnn.typing import Array, Loss


def check_targets_of_step(network: Network, loss: Loss, y: Any, *, waits: bool = False) -> None:
    """Refuse targets that a loss cannot use, as ``fit`` does.

    Args:
        y: of any library, as ``Trainer.step`` takes it.
        waits: whether to look at arrays on a device, too, for which it has to be waited for.

    Raises:
        ShapeError, DataError: the loss cannot use them, or they are no numbers.
    """
    outputs = network.output_names
    names = [f"y[{name!r}]" for name in outputs] if len(outputs) > 1 else ["y"]
    given = dict(zip(names, in_order(y, outputs, "y"), strict=True))
    with rewording(**given), network.backend.on_device():
        parts = [_looked_at(name, one, network, waits) for name, one in given.items()]
        check_targets_of_all(network, loss, parts)


def _looked_at(name: str, values: Any, network: Network, waits: bool) -> Array | None:
    """The array whose numbers are looked at; None where they are not, or there are none."""
    one = inspect(name, values, network)
    if one is None:
        return None
    if one.is_readable(network.backend):
        array = one.numpy
    elif waits:
        array = network.backend.asarray(one.values)
    else:
        return None
    return array if math.prod(array.shape) else None
