"""What xpnn raises on purpose.

::

    XpnnError
     +-- BackendUnavailable   the array library or device that was asked for does not work here
     +-- ShapeError           an array, or a stack of layers, has the wrong shape   (a ValueError)
     +-- DataError            data that cannot be trained on: empty, NaN, bad labels  (a ValueError)
     +-- NotBuiltError        a layer was used before it belonged to a network
     +-- TrainingStopped      a training run went bad, and going on would only hide it
     +-- GradientError        a backward pass disagrees with its forward   (an AssertionError)

A wrong argument to a constructor is a plain ValueError or TypeError. Every message says what was
wanted, what came and what to do.
"""


class XpnnError(Exception):
    """Base of all errors that xpnn defines."""


class BackendUnavailable(XpnnError, RuntimeError):
    """The array library or device that was asked for does not work on this machine."""


class ShapeError(XpnnError, ValueError):
    """An array, or a stack of layers, has the wrong shape."""


class DataError(XpnnError, ValueError):
    """Data that cannot be trained on: empty, of mismatched lengths, NaN, labels out of range."""


class NotBuiltError(XpnnError, RuntimeError):
    """A layer was used before it was given an input shape and a backend."""


class TrainingStopped(XpnnError, RuntimeError):
    """A training run went bad, and going on would only hide it."""


class GradientError(XpnnError, AssertionError):
    """A backward pass disagrees with the differences of its forward pass."""
