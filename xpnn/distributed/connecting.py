"""How the devices and processes of a training come to one another."""

from xpnn.backends import Communicator
from xpnn.distributed.opening import as_communicator
from xpnn.network import Network


def connect(
    distributed: str | Communicator | None, network: Network, shard_optimizer: bool
) -> Communicator | None:
    """What connects this process with the others; None where it is alone.

    A network of JAX itself moves to all devices, over which XLA cuts the batches.

    Args:
        distributed, shard_optimizer: as for ``Trainer``.

    Raises:
        ValueError: see ``as_communicator``; or slots cannot be shared out.
    """
    if isinstance(distributed, Communicator) and distributed is network.backend.processes():
        return distributed  # that of a trainer which was moved
    communicator = as_communicator(distributed, network.backend)
    if isinstance(distributed, str) and network.backend.name == "jax":
        if shard_optimizer:
            raise ValueError(
                "wanted no shard_optimizer on devices of JAX, where the optimizer's slots lie "
                "whole on each device; leave shard_optimizer out"
            )
        network.move_in_place(network.backend.on_all_devices())
        return network.backend.processes()
    return communicator
