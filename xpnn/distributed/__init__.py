"""Many processes, one training: how they reach each other, and how they are started."""

from xpnn.backends import Communicator
from xpnn.distributed.connecting import connect
from xpnn.distributed.faults import watched
from xpnn.distributed.opening import as_communicator

__all__ = ["Communicator", "as_communicator", "connect", "watched"]
