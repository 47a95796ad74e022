"""What a batch weighs in a mean over batches."""

from typing import TypeAlias

from xpnn.losses import total_weight
from xpnn.network import Network
from xpnn.typing import Array, Loss, Number

Weighed: TypeAlias = tuple[Array, Number | None]
"""The mean loss of a batch, and what it weighs: None where each of its samples counts as 1."""


def weight_of(loss: Loss, y: Array, weight: Array | None, network: Network) -> Number:
    """The sum of the weights of the items of a batch, as ``total_weight`` has it."""
    shape, dtype = network.output_shape, weight_dtype(network)
    return total_weight(loss, y, weight, shape, network.backend, dtype)


def weighed(value: Array, loss: Loss, y: Array, weight: Array | None, network: Network) -> Weighed:
    """The mean loss of a batch with its weight, for a mean over batches."""
    found = weight_of(loss, y, weight, network)
    return value, None if type(found) is float and found == y.shape[0] else found


def weight_dtype(network: Network) -> str:
    """What weights are worked with in: at least float32, as half precision cannot add them up."""
    return "float64" if network.dtype == "float64" else "float32"
