"""A batch of one step by itself, as far as it is read without waiting for a device."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnn.arguments import in_order
from xpnn.backends.advice import rewording
from xpnn.network import Network
from xpnn.training.intake.incoming import inspect
from xpnn.training.stepping.checks import check_targets_of_all
from xpnn.trees import one_or_tuple
from xpnn.typing import Loss


def check_single_batch(network: Network, loss: Loss, x: Any, y: Any) -> None:
    """Refuse ids that are not looked up, and targets that a loss cannot use, as ``fit`` does.

    Arrays on a device are not looked at.

    Args:
        x, y: of any library, as ``Trainer.step`` takes them.

    Raises:
        ShapeError, DataError: they cannot be used, or they are no numbers.
    """
    targets = _by_name("y", y, network.output_names)
    with rewording(**targets):
        check_targets_of_all(network, loss, [_read(*one, network) for one in targets.items()])
    if any(takes == "integers" for _, takes, _ in network.inputs):
        inputs = _by_name("x", x, [name for *_, name in network.inputs])
        ids = [_read(*one, network) for one in inputs.items()]
        if all(one is not None and one.dtype.kind in "iu" for one in ids):
            network.root.check_inputs(one_or_tuple(ids))


def _by_name(what: str, given: Any, names: Sequence[str]) -> dict[str, Any]:
    """The parts of what was given, by what errors call them."""
    whose = [f"{what}[{name!r}]" for name in names] if len(names) > 1 else [what]
    return dict(zip(whose, in_order(given, names, what), strict=True))


def _read(name: str, values: Any, network: Network) -> np.ndarray | None:
    """An array as NumPy reads it; None where that waits for a device, or there are no numbers."""
    one = inspect(name, values, network)
    if one is None or not one.is_readable(network.backend) or not math.prod(one.numpy.shape):
        return None
    return one.numpy
