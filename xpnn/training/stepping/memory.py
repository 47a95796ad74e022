"""What to do when a step does not fit into the device's memory, and what to say."""

from collections.abc import Callable

from xpnn.backends.portable.device_memory import bytes_named
from xpnn.errors import OutOfMemory
from xpnn.network import Network
from xpnn.summary import summarize, with_unit
from xpnn.typing import Array

SHARE = 0.8  # of the free memory: pools lose some between their blocks
PEAK = 3  # with deltas and temporaries, a step takes that many times what layers keep


def with_more_memory(
    error: Exception,
    take_step: Callable[..., Array],
    network: Network,
    x: Array,
    *rest: Array | None,
) -> Array:
    """Take a step that ended with ``error`` once more, with freed memory.

    A step that ran out of memory has changed nothing: it writes over parameters last of all.

    Raises:
        OutOfMemory: it does not fit then either.
        Exception: ``error``, if it is another one.
    """
    backend = network.backend
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
        raise out_of_memory(again, network, x.shape[0]) from again


def out_of_memory(error: BaseException, network: Network, batch: int) -> OutOfMemory:
    """The error for a step on ``batch`` samples that the library ended with ``error``.

    The caches and gradients of the step are dropped first, so that what is free is what another
    step could use.

    Args:
        error: the library's own.
        network: whose step it was.
        batch: its number of samples.
    """
    network.root.clear()
    backend = network.backend
    backend.free_memory()
    free, asked = backend.free_bytes(), bytes_named(str(error))
    each = PEAK * max(summarize(network).cache_bytes_per_sample, 1)
    fits = batch // 2 if free is None else min(int(SHARE * free) // each, batch - 1)
    what = f"{with_unit(asked)} more" if asked else "more memory than there is"
    room = "" if free is None else f" {with_unit(free)} are free without the batch;"
    return OutOfMemory(
        f"a step on a batch of {batch} samples asked {backend.spec} for {what};{room} the batch "
        f"takes about {with_unit(batch * each)}; {_advice(fits, batch)}"
    )


def _advice(fits: int, batch: int) -> str:
    if fits < 1:
        return "not even one sample fits: make the network smaller, or keep less with Recompute"
    parts = -(-batch // fits)
    return (
        f"a batch_size of {fits} would fit, or accumulate={parts} with the same batches, or layers "
        f"inside of Recompute"
    )
