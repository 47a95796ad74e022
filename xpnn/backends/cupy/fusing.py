"""A step, recorded and made a program of few kernels, for arguments of one form."""

from typing import Any

import numpy as np

from xpnn.backends.cupy.program import Program
from xpnn.backends.portable.base import Backend, MakeRecorded
from xpnn.backends.recording.calls import NotRecordable
from xpnn.backends.recording.recorder import Recorder
from xpnn.backends.recording.recording import Recording
from xpnn.trees import Structure


class Fusing:
    """Makes programs of a step.

    Args:
        recorded: makes the step on the ``Recorder`` that it is given.
        donate: positions of arguments that are written over.
        backend: on whose arrays the programs run.
    """

    def __init__(self, recorded: MakeRecorded, donate: frozenset[int], backend: Backend):
        self.recorded, self.donate, self.backend = recorded, donate, backend

    def __call__(self, arguments: tuple[Any, ...]) -> Program:
        """A program for arguments of that form.

        Raises:
            NotRecordable: there is something in the step that cannot be recorded.
        """
        form = Structure(arguments)
        given = form.flatten(arguments)
        recorder = Recorder(self.backend)
        blanks = [recorder.blank_for(one) if hasattr(one, "dtype") else one for one in given]
        overflows: list[str] = []
        try:
            with np.errstate(over="call", call=lambda kind, _: overflows.append(kind)):
                recording = Recording(self.recorded(recorder), form, blanks, self.donate)
        except (TypeError, AttributeError) as error:
            kind = type(error).__name__
            raise NotRecordable(
                f"what ran on CuPy's arrays does not take what stands for them while calls are "
                f"recorded ({kind}: {error})"
            ) from error
        if recorder.half == "bfloat16":
            if overflows:
                raise NotRecordable(
                    "an array of numbers beyond 65504 is made in bfloat16, which is recorded as "
                    "float16; give them as Python numbers"
                )
            recording.rename_dtype(recorder.dtype("bfloat16"), self.backend.dtype("bfloat16"))
        return Program(recording, self.backend)
