"""How a call may end: it works, or it raises an error of xpnn's own and has changed nothing."""

import dis
import os
import signal
import traceback
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings

import xpnn
from xpnn.errors import XpnnError

SOURCES = str(Path(xpnn.__file__).parent)
TIMES = int(os.environ.get("XPNN_FUZZ", "1"))
"""How many times as many examples as in a default run."""

SECONDS = 30
"""An example that takes longer hangs."""


def fuzz(examples):
    """Settings of a fuzzer with that many examples in a default run, the same ones each time."""
    return settings(
        max_examples=examples * TIMES,
        derandomize=TIMES == 1,
        deadline=None,
        database=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )


def check_own(error):
    """``error`` was raised by a line of xpnn that says ``raise``, and has a text.

    What an array library, or Python itself, raises because xpnn handed it nonsense is a crash.
    """
    said = "".join(traceback.format_exception(error))
    assert isinstance(error, XpnnError | ValueError | TypeError), said
    assert len(str(error)) > 15, f"a message that says nothing: {said}"
    frames = [error.__traceback__]
    while frames[-1].tb_next is not None:
        frames.append(frames[-1].tb_next)
    code, place = frames[-1].tb_frame.f_code, frames[-1].tb_lasti
    assert code.co_filename.startswith(SOURCES), f"not raised by xpnn: {said}"
    found = {one.offset: one.opname for one in dis.get_instructions(code)}
    assert found[place] in ("RAISE_VARARGS", "RERAISE"), f"not raised by xpnn: {said}"


@contextmanager
def in_time(seconds=SECONDS):
    """Raise TimeoutError in what does not end."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def too_long(number, frame):
        raise TimeoutError(f"it did not end within {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def ends_well(call, *arguments, **options):
    """What a call returns, and None; or None, and the error of xpnn's own that it raised."""
    with in_time(), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            return call(*arguments, **options), None
        except TimeoutError:
            raise
        except Exception as error:
            check_own(error)
            return None, error


def everything(trainer):
    """All that training depends on, as bytes and numbers that can be compared."""
    backend = trainer.network.backend

    def flat(value, name):
        if isinstance(value, dict):
            for key, one in value.items():
                yield from flat(one, f"{name}.{key}")
        elif value is None or isinstance(value, int | float | str):
            yield name, value
        else:
            array = np.asarray(backend.to_numpy(value))
            yield name, (array.dtype.name, array.shape, array.tobytes())

    network = trainer.network
    arrays = {"params": network.params, "state": network.state, "opt_state": trainer.opt_state}
    counts = {name: getattr(trainer, name) for name in ("epoch", "steps", "epoch_steps")}
    return dict(flat({**arrays, **counts}, ""))
