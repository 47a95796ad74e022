"""What a batch weighs in a mean over batches."""

from typing import TypeAlias

from xpnn.losses import total_weight
from xpnn.network import Network
from xpnn.typing import Array, Loss, Number, Shape

Weighed: TypeAlias = tuple[Array, Number | None]
"""The mean loss of a batch, and what it weighs: None where each of its samples counts as 1.

Where there are several values, such as the losses of several outputs, both are 1-d arrays.
"""


def weight_of(
    loss: Loss, y: Array, weight: Array | None, output_shape: Shape, network: Network
) -> Number:
    """The sum of the weights of the items of a batch, as ``total_weight`` has it.

    Args:
        y, output_shape: of the output that the loss is for.
    """
    return total_weight(loss, y, weight, output_shape, network.backend, weight_dtype(network))


def weight_dtype(network: Network) -> str:
    """What weights are worked with in: at least float32, as half precision cannot add them up."""
    return "float64" if network.dtype == "float64" else "float32"
