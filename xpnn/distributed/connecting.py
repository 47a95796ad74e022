"""How the devices and processes of a training come to one another."""

from xpnn.backends import Communicator
from xpnn.distributed.opening import as_communicator
from xpnn.network import Network


def connect(distributed: str | Communicator | None, network: Network) -> Communicator | None:
    """What connects this process with the others; None where it is alone.

    A network of JAX itself moves to all devices, over which XLA cuts the batches.

    Args:
        distributed: as for ``Trainer``.

    Raises:
        ValueError: see ``as_communicator``.
    """
    if isinstance(distributed, Communicator) and distributed is network.backend.processes():
        return distributed  # that of a trainer which was moved
    communicator = as_communicator(distributed, network.backend)
    if isinstance(distributed, str) and network.backend.name == "jax":
        network.move_in_place(network.backend.on_all_devices())
        return network.backend.processes()
    return communicator
