"""A step, recorded and made a program of few kernels, for arguments of one form."""

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn.backends.cupy.program import Program
from xpnn.backends.portable.base import Backend
from xpnn.backends.recording.recording import Recording
from xpnn.trees import Structure

Step = Callable[..., Any]


class Fusing:
    """Makes programs of a step.

    Args:
        recorded: makes the step on a ``Recorder`` for the backend.
        donate: positions of arguments that are written over.
        backend: on whose arrays the programs run.
    """

    def __init__(self, recorded: Callable[[], Step], donate: frozenset[int], backend: Backend):
        self.recorded, self.donate, self.backend = recorded, donate, backend

    def __call__(self, arguments: tuple[Any, ...]) -> tuple[Step, tuple[Any, ...]]:
        """A program for arguments of that form, and the arguments where it wants them to lie.

        Raises:
            NotRecordable: there is something in the step that cannot be recorded.
        """
        form = Structure(arguments)
        given = form.flatten(arguments)
        blanks = [np.empty(one.shape, one.dtype) if hasattr(one, "dtype") else one for one in given]
        recording = Recording(self.recorded(), form, blanks, self.donate)
        program = Program(recording, self.backend)
        return program, form.rebuild(_side_by_side(recording, given))


def _side_by_side(recording: Recording, given: list[Any]) -> list[Any]:
    """The same arrays, those behind each other that the recording has so."""
    import cupy

    for joint in recording.joints:
        parts = {k: view for k, view in recording.views.items() if view.memory is joint}
        starts = {given[k].data.ptr - view.offset for k, view in parts.items()}
        if len(starts) > 1:
            memory = cupy.cuda.alloc(joint.nbytes)
            for k, view in parts.items():
                own = cupy.ndarray(view.shape, view.dtype, memory + view.offset)
                own[...] = given[k]
                given[k] = own
    return given
