"""What is given, as NumPy's arrays of numbers; what is none is refused, with what to write."""

from numbers import Real
from typing import Any

import numpy as np

from xpnn.backends.registry import class_recognizing
from xpnn.errors import Change, DataError

DENSE = ("toarray", "todense", "to_dense")
"""The methods by which sparse arrays of other libraries give all of their numbers."""


def numbers(values: Any) -> np.ndarray:
    """Values of any library as NumPy's numbers, in this machine's order of bytes.

    Raises:
        DataError: they are none, or no array; the message says what to write.
    """
    array = in_plain_floats(host_array(values))
    if array.dtype.kind not in "biuf":
        raise _not_numbers(values, array)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def host_array(values: Any) -> np.ndarray:
    """Values of any library as a plain NumPy array: a view where they lie on the host, or a copy.

    Raises:
        DataError: NumPy cannot read them, or a mask hides some.
    """
    kind = class_recognizing(values)
    if kind is not None:
        values = kind.to_host(kind.plain(values))
    elif isinstance(values, list | tuple):
        values = _with_plain_arrays(values)
    elif (method := next((one for one in DENSE if hasattr(values, one)), None)) is not None:
        raise DataError(
            f"wanted an array with all of its numbers, got a sparse {type(values).__name__}",
            change=Change("", f"{{values}}.{method}()"),
        )
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(
            f"wanted an array of numbers, got a {type(values).__name__} that NumPy cannot read "
            f"({error}); pass an array, or nested lists of equal length"
        ) from None


def _with_plain_arrays(values: Any) -> Any:
    """Nested lists, in which arrays of any library have become NumPy's."""
    if all(issubclass(kind, Real | np.generic) for kind in set(map(type, values))):
        return values
    try:
        return [
            _with_plain_arrays(one)
            if isinstance(one, list | tuple)
            else (host_array(one) if hasattr(one, "shape") else one)
            for one in values
        ]
    except DataError as error:
        change = error.change
        if change is None:
            raise
        form = change.form.format(values="one", array="one")
        raise DataError(
            error.args[0], change=Change("", f"[{form} for one in {{values}}]")
        ) from None


def in_plain_floats(array: np.ndarray) -> np.ndarray:
    """Floats that only some libraries know in one that all do: bfloat16, long double."""
    if array.dtype.name == "bfloat16":
        return array.astype(np.float32)
    return array.astype(np.float64) if array.dtype.char == "g" else array


def _not_numbers(values: Any, array: np.ndarray) -> DataError:
    """What to say of an array of another dtype."""
    kind = array.dtype.kind
    if not array.ndim and kind in "OUS":
        return DataError(
            f"wanted an array of numbers, got a {type(values).__name__}; pass an array, or nested "
            f"lists of equal length, and of what gives batches each batch by itself"
        )
    came = f"wanted numbers (floats, integers or booleans), got dtype {array.dtype}"
    if array.dtype.names:
        form = "np.stack([{values}[name] for name in {values}.dtype.names], axis=-1)"
        return DataError(f"{came}, records of several", change=Change("", form))
    if kind in "Mm":
        since = " - np.asarray({values}).min()" if kind == "M" else ""
        form = f"(np.asarray({{values}}){since}) / np.timedelta64(1, 'D')"
        return DataError(f"{came}, times; count days, for one", change=Change("", form))
    if kind == "c":
        if array.imag.any():
            return DataError(f"{came}; give real and imaginary parts as features of their own")
        return DataError(f"{came}, all of them real", change=Change("", "np.real({values})"))
    if _is_castable(array):
        return DataError(came, change=Change("", dtype="float32"))
    if all(isinstance(one, str | bytes) for one in array.flat):
        return DataError(
            f"{came}, strings; replace them by numbers, class labels by those of the classes",
            change=Change("", "np.unique({values}, return_inverse=True)[1]"),
        )
    if all(isinstance(one, list | np.ndarray) for one in array.flat):
        return DataError(
            f"{came}, of lists or arrays; make all of one length",
            change=Change("", "np.stack({values})"),
        )
    odd = next((one for one in array.flat if not isinstance(one, Real)), array.flat[0])
    return DataError(
        f"{came}, among them {odd!r:.60} of type {type(odd).__name__}; replace it by a number"
    )


def _is_castable(array: np.ndarray) -> bool:
    """Whether NumPy makes floats of all of these."""
    try:
        array.astype(np.float32)
    except (TypeError, ValueError, OverflowError):
        return False
    return array.size > 0
