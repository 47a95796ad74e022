"""Communicator: what processes that train one network together ask of each other."""

import os
from collections.abc import Callable
from typing import NoReturn

import numpy as np

from xpnn.typing import Array

LET_ALL = (
    "let all call the same, in one order, with the same settings and batches, and put what one "
    "does by itself into `with trainer.alone():`"
)
"""What to do where processes are at different places of a program."""


class Communicator:
    """The processes of one training, as one of them sees them: two verbs are enough.

    All processes call the same verbs in the same order, with arrays of one shape and dtype. Write
    ``all_sum`` and ``broadcast`` over whatever connects them, and hand it to
    ``Trainer(..., distributed=communicator)``, which tries both verbs first. Arrays are those of
    the network's backend, or NumPy's; of float32, float64 or int64. Every process has to have the
    same bits of a sum, or their networks drift apart: add up in one order, or in one place.

    Here are two processes at the ends of a pipe. They may be on two machines; for the example they
    are two threads:

    >>> from multiprocessing import Pipe
    >>> from threading import Thread
    >>> import xpnn
    >>> class Pair(xpnn.Communicator):
    ...     def __init__(self, rank, pipe):
    ...         super().__init__(rank, 2)
    ...         self.pipe = pipe
    ...
    ...     def all_sum(self, array):
    ...         return array + self.exchanged(array)
    ...
    ...     def broadcast(self, array):
    ...         theirs = self.exchanged(array)
    ...         return array.copy() if self.rank == 0 else theirs
    ...
    ...     def exchanged(self, array):
    ...         if self.rank == 0:  # one sends while the other receives
    ...             self.pipe.send(array)
    ...             return self.pipe.recv()
    ...         theirs = self.pipe.recv()
    ...         self.pipe.send(array)
    ...         return theirs
    >>> x, y = xpnn.datasets.digits()
    >>> def train(communicator=None):
    ...     layers = [xpnn.Dense(16), xpnn.ReLU(), xpnn.Dense(10)]
    ...     network = xpnn.Network(layers, input_shape=(64,), seed=0)
    ...     loss, adam = xpnn.cross_entropy, xpnn.Adam(1e-3)
    ...     trainer = xpnn.Trainer(network, loss, adam, distributed=communicator)
    ...     losses[communicator] = trainer.fit(x, y, epochs=2, progress=False)["loss"]
    >>> losses, ends = {}, Pipe()
    >>> pair = [Pair(0, ends[0]), Pair(1, ends[1])]
    >>> threads = [Thread(target=train, args=(one,)) for one in pair]
    >>> for thread in threads:
    ...     thread.start()
    >>> for thread in threads:
    ...     thread.join()
    >>> train()  # alone
    >>> losses[pair[0]] == losses[pair[1]]
    True
    >>> max(abs(one - other) for one, other in zip(losses[pair[0]], losses[None])) < 1e-6
    True

    Args:
        rank: the number of this process, from 0 on.
        size: how many there are.

    Attributes:
        overlaps: whether ``start_all_sum`` adds up beside other work, so that steps begin with the
            gradients of the last layers while backward goes on to the others.
        waits_on_device: whether what ``start_all_sum`` returns has the device wait, and comes back
            at once.
        cuts_batches: whether each process takes some rows of every batch; False where the library
            cuts them itself, over the devices of all processes.
        timeout: seconds that a process waits for the others inside of a sum, after which the one
            that is late is named, and all end; None to wait for ever.
        place: what this process does with the others just now, to be told where they do not.
        acts_alone: whether it does what comes by itself; see ``Trainer.alone``.
    """

    overlaps: bool = False
    waits_on_device: bool = False
    cuts_batches: bool = True
    timeout: float | None = None
    place: str = ""
    acts_alone: bool = False

    def __init__(self, rank: int, size: int):
        if not 0 <= rank < size:
            raise ValueError(
                f"wanted a rank from 0 to {size - 1} among {size} processes, got {rank}"
            )
        self.rank, self.size = int(rank), int(size)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: process {self.rank} of {self.size}>"

    def all_sum(self, array: Array) -> Array:
        """The sum of the arrays of all processes, the same bits in each; a new array."""
        raise NotImplementedError(f"{type(self).__name__} has to define all_sum")

    def broadcast(self, array: Array) -> Array:
        """What process 0 has given, in all of them; a new array."""
        raise NotImplementedError(f"{type(self).__name__} has to define broadcast")

    def start_all_sum(self, array: Array) -> Callable[[], Array]:
        """Begin with a sum; what is returned waits for it and returns it.

        Here it is done at once. An engine that adds up beside other work begins, and returns.
        """
        found = self.all_sum(array)
        return lambda: found

    def small_sum(self, array: np.ndarray) -> np.ndarray:
        """``all_sum`` of the few numbers that processes tell each other beside the steps."""
        return np.asarray(self.all_sum(array))

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and tells how far the training is."""
        return self.rank == 0

    def gathered(self, rows: np.ndarray) -> list[np.ndarray]:
        """The arrays that all processes have, in the order of their ranks, on the host.

        Args:
            rows: float64 or int64; the first axis may be of another length in each process.
        """
        lengths = np.zeros(self.size, dtype=np.int64)
        lengths[self.rank] = rows.shape[0]
        lengths = np.asarray(self.all_sum(lengths))
        stops = np.cumsum(lengths)
        whole = np.zeros((int(stops[-1]), *rows.shape[1:]), dtype=rows.dtype)
        whole[stops[self.rank] - lengths[self.rank] : stops[self.rank]] = rows
        return np.split(np.asarray(self.all_sum(whole)), stops[:-1])

    def barrier(self) -> None:
        """Wait until all processes are here."""
        self.all_sum(np.zeros(1))

    def abort(self, status: int) -> NoReturn:
        """End this process at once, and with it, where the engine can, all others."""
        os._exit(status)
