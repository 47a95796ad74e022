"""What to do when a step does not fit into the device's memory, and what to say."""

from collections.abc import Callable
from dataclasses import dataclass

from xpnn.backends.portable.device_memory import bytes_named
from xpnn.errors import OutOfMemory, XpnnError
from xpnn.network import Network
from xpnn.summary import bytes_of, with_unit
from xpnn.trees import as_tuple
from xpnn.typing import Array, Arrays, OptState

SHARE = 0.8  # of the free memory: pools lose some between their blocks


@dataclass(frozen=True)
class Needs:
    """What a training holds of the memory, and what its steps will.

    Attributes:
        network: what is trained.
        opt_state: of its optimizer.
        parts: in how many a batch is gone through.
        peak: the bytes of a step at its highest moment, given samples and parts, with all that the
            training holds; by steps on smaller batches (``Trainer.summary``).
    """

    network: Network
    opt_state: OptState
    parts: int
    peak: Callable[[int, int], int]

    def largest_batch(self, batch: int, most: int, room: float) -> int:
        """The largest one below ``batch``, which needs ``most``, that has room; 0 if none has.

        The peak is the highest of lines over the batch, so it lies below the line through two of
        its points.
        """
        least = self.peak(self.parts, self.parts)
        if least > room:
            return 0
        if most <= room:
            return batch // 2  # it did not fit, whatever was predicted
        return self.parts + int((batch - self.parts) * (room - least) / (most - least))

    def fewest_parts(self, batch: int, first: int, room: float) -> int | None:
        """A number of parts, from ``first`` on, in which the whole batch has room."""
        while first <= batch:
            if self.peak(batch, first) <= room:
                return first
            first *= 2
        return None


def with_more_memory(
    error: Exception,
    take_step: Callable[..., Array],
    needs: Needs,
    x: Arrays,
    *rest: Arrays | None,
) -> Array:
    """Take a step that ended with ``error`` once more, with freed memory.

    A step that ran out of memory has changed nothing: it writes over parameters last of all.

    Raises:
        OutOfMemory: it does not fit then either.
        Exception: ``error``, if it is another one.
    """
    backend = needs.network.backend
    if not backend.ran_out_of_memory(error):
        raise error
    error.__traceback__ = None  # its frames hold the arrays of the step that failed
    backend.free_memory()
    try:
        return take_step(x, *rest)
    except Exception as again:
        if not backend.ran_out_of_memory(again):
            raise
        again.__traceback__ = None
        raise out_of_memory(again, needs, as_tuple(x)[0].shape[0]) from again


def out_of_memory(error: BaseException, needs: Needs, batch: int) -> OutOfMemory:
    """The error for a step on ``batch`` samples that the library ended with ``error``.

    The caches and gradients of the step are dropped first, so that what is free is what another
    step could use.

    Args:
        error: the library's own.
        needs: of the training whose step it was.
        batch: its number of samples.
    """
    network = needs.network
    network.root.clear()
    backend = network.backend
    backend.free_memory()
    free, asked = backend.free_bytes(), bytes_named(str(error))
    what = f"{with_unit(asked)} more" if asked else "more memory than there is"
    room = "" if free is None else f" {with_unit(free)} are free without the batch;"
    return OutOfMemory(
        f"a step on a batch of {batch} samples asked {backend.spec} for {what};{room} "
        f"{_advice(needs, batch, free)}"
    )


def _advice(needs: Needs, batch: int, free: int | None) -> str:
    """What would fit, as is predicted; where nothing can be, half of it."""
    fits, parts = batch // 2, 2 * needs.parts if batch > 1 else None
    backend, taken = needs.network.backend, ""
    try:
        if free is not None:
            fits, parts, taken = _predicted(needs, batch, free)
    except Exception as error:  # of steps on smaller batches, where a copy has no room either
        if not (isinstance(error, XpnnError) or backend.ran_out_of_memory(error)):
            raise
    backend.free_memory()
    if fits < 1:
        small = "make the network smaller, or keep less with Recompute"
        return f"{taken}not even one sample fits: {small}"
    whole = "" if parts is None else f"accumulate={parts} with the same batches, or "
    return f"{taken}a batch_size of {fits} would fit, or {whole}layers inside of Recompute"


def _predicted(needs: Needs, batch: int, free: int) -> tuple[int, int | None, str]:
    """A batch that fits, parts in which the whole one does, and what it takes in words."""
    network = needs.network
    held = bytes_of([network.params, network.state, needs.opt_state], network.backend)
    room, most = SHARE * free + held, needs.peak(batch, needs.parts)
    fits = needs.largest_batch(batch, most, room)
    parts = fits and needs.fewest_parts(batch, needs.parts * -(-batch // fits), room)
    return fits, parts, f"it takes about {with_unit(max(most - held, 0))}; "
