"""What xpnn raises on purpose.

::

    XpnnError
     +-- BackendUnavailable   the array library or device that was asked for does not work here
     +-- ShapeError           an array, or a stack of layers, has the wrong shape   (a ValueError)
     +-- DataError            data that cannot be trained on: empty, NaN, bad labels  (a ValueError)
     |    +-- DeviceError     an array lies on another device of its library than the network
     |    +-- FileError       a file is torn, damaged, or not what it should be
     +-- CompileError         a step cannot be compiled, though compile=True asked for it
     +-- ExportError          a network does what an ONNX graph cannot say
     +-- NotBuiltError        a layer was used before it belonged to a network
     +-- AssignmentError      an attribute that there is not, or that is fixed  (an AttributeError)
     +-- OutOfMemory          a step does not fit into the memory of its device   (a MemoryError)
     +-- TrainingStopped      a training run went bad, and going on would only hide it
     +-- GradientError        a backward pass disagrees with its forward   (an AssertionError)

``CompileWarning`` is a UserWarning: a step that xpnn would have compiled unasked runs call by call.
``EmptyMeanWarning`` is one, too: a loss or metric is NaN, as all weights that it goes by are 0.

A wrong argument to a constructor is a plain ValueError or TypeError. Every message says what was
wanted, what came and what to do. Names in it may come from a file that somebody has tampered with:
what no terminal should be told is written as Python writes it, such as ``\\x1b``.
"""

from typing import Any, NamedTuple


class Change(NamedTuple):
    """What to write in place of an array, in words that go by what the array is.

    Attributes:
        name: what the array is called where it was given, such as "y"; "" where that is not known.
        form: the line, such as "{array}[..., None]"; or with ``{values}`` where lists serve, too.
        dtype: the dtype to convert it to, in place of a form.

    >>> from xpnn import ShapeError
    >>> raise ShapeError("wanted one column", change=Change("y", "{array}[..., None]"))
    Traceback (most recent call last):
    xpnn.errors.ShapeError: ...
    """

    name: str
    form: str = "{array}"
    dtype: str = ""


class XpnnError(Exception):
    """Base of all errors that xpnn defines.

    Args:
        change: ends the message with the line to write: of NumPy's arrays, until it is known what
            else was given.
    """

    def __init__(self, *arguments: Any, change: Change | None = None):
        super().__init__(*arguments)
        self.change, self.line = change, ""
        if change is not None:
            name = change.name or "x"
            self.line = change.form.format(values=name, array=name)
            self.line += f".astype({change.dtype!r})" if change.dtype else ""

    def __str__(self) -> str:
        whole = super().__str__() + (self.line and f"; write {self.line}")
        return "".join(map(_printable, whole))


def _printable(character: str) -> str:
    return character if character.isprintable() or character in "\n\t" else repr(character)[1:-1]


class BackendUnavailable(XpnnError, RuntimeError):
    """The array library or device that was asked for does not work on this machine."""


class ShapeError(XpnnError, ValueError):
    """An array, or a stack of layers, has the wrong shape."""


class DataError(XpnnError, ValueError):
    """Data that cannot be trained on: empty, of mismatched lengths, NaN, labels out of range."""


class DeviceError(DataError):
    """An array of the network's own library that lies on another device than the network."""


class FileError(DataError):
    """A file that is torn, damaged, of another kind, or describes what cannot be made."""


class CompileError(XpnnError, RuntimeError):
    """A step does what its backend cannot compile, though ``compile=True`` asked for it."""


class ExportError(XpnnError, RuntimeError):
    """A network does what cannot be written down as an ONNX graph.

    Attributes:
        layer: the name of the layer that does it; None where that is not known.
    """

    def __init__(self, *arguments: Any, layer: str | None = None):
        super().__init__(*arguments)
        self.layer = layer


class CompileWarning(UserWarning):
    """A step that its backend compiles unasked cannot be compiled, and runs call by call."""


class EmptyMeanWarning(UserWarning):
    """A loss or a metric is NaN, as it is a mean of nothing: all weights that it goes by are 0."""


class NotBuiltError(XpnnError, RuntimeError):
    """A layer was used before it was given an input shape and a backend."""


class AssignmentError(XpnnError, AttributeError):
    """An attribute was set that the object does not have, or that cannot change any more."""


class OutOfMemory(XpnnError, MemoryError):
    """A step does not fit into the memory of its device, also after what was cached is freed."""


class TrainingStopped(XpnnError, RuntimeError):
    """A training run went bad, and going on would only hide it."""


class GradientError(XpnnError, AssertionError):
    """A backward pass disagrees with the differences of its forward pass."""
