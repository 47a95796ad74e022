"""Array libraries behind one argument: ``get_backend("cupy:1")``.

A backend is asked for as ``library`` or ``library:device``::

    "numpy"  "numpy:numba"     "torch"    "torch:cuda:0"    "torch:mps"
    "cupy"  "cupy:1"           "jax"      "jax:gpu:1"       "jax:all"
    "array-api-strict"         "array-api-strict:device1"   "auto"

``"auto"`` is CuPy if a GPU really works here, else NumPy. No library is imported or probed until
it is asked for. Adding a library is one folder here and one line in ``BACKENDS``.
"""

import functools
import importlib.util
from typing import Any

from xpnn.backends.portable.base import Backend
from xpnn.backends.portable.communicator import Communicator
from xpnn.backends.registry import BACKENDS, backend_class, class_recognizing
from xpnn.errors import BackendUnavailable

__all__ = ["BACKENDS", "Backend", "Communicator", "backend_of", "get_backend"]


def get_backend(
    spec: "str | Backend" = "numpy", *, deterministic: bool = False, tf32: bool | None = None
) -> Backend:
    """The backend that ``spec`` asks for; a Backend object is handed back as it is.

    Args:
        spec: see above.
        deterministic: add up gradients that meet in one place in a fixed order, without atomics, so
            that the same training on the same device gives the same bits. It costs some speed.
        tf32: whether a GPU may round the factors of float32 matrix products to TF32 (10 bits of
            mantissa), which is several times as fast. None leaves it to the library's own switch.

    Returns:
        The backend, one object for each spec.

    Raises:
        BackendUnavailable: the library is unknown, not installed, or the device does not work. The
            message says what is wrong and the line to type.
        ValueError: a Backend object has its switches already.

    >>> get_backend("numpy")
    <backend numpy>
    """
    if isinstance(spec, Backend):
        if deterministic or tf32 is not None:
            raise ValueError(
                f"switches go with a string such as 'cupy', but {spec!r} is open already; write "
                f"get_backend({spec.spec!r}, deterministic=..., tf32=...)"
            )
        return spec
    if not isinstance(spec, str):
        raise TypeError(f"backend is a string such as 'numpy', or a Backend, got {spec!r}")
    if spec == "auto":
        return _open_auto(bool(deterministic), tf32)
    return _open_with(spec, bool(deterministic), tf32)


def backend_of(array: Any) -> Backend:
    """The backend whose library and device hold ``array``; NumPy's for what no backend knows.

    Args:
        array: of any library.

    Returns:
        The backend, one object for each library and device.

    >>> import numpy as np
    >>> backend_of(np.zeros(3))
    <backend numpy>
    """
    kind = class_recognizing(array)
    return _open("numpy" if kind is None else kind.spec_of(array))


@functools.cache
def _open(spec: str) -> Backend:
    name, _, device = spec.partition(":")
    kind = backend_class(name)
    if importlib.util.find_spec(kind.library.replace("-", "_")) is None:
        raise BackendUnavailable(f"{name} is not installed here; type: {kind.install}")
    try:
        return kind(device or None)
    except (ImportError, OSError) as error:
        raise BackendUnavailable(
            f"{name} is installed, but importing it fails: {str(error).strip().splitlines()[0]}; "
            f"install it again, type: {kind.install}"
        ) from error


def _open_with(spec: str, deterministic: bool, tf32: bool | None) -> Backend:
    if not deterministic and tf32 is None:
        return _open(spec)
    return _open_switched(spec, deterministic, tf32)


@functools.cache
def _open_switched(spec: str, deterministic: bool, tf32: bool | None) -> Backend:
    plain = _open(spec)
    backend = type(plain)(spec.partition(":")[2] or None)
    backend.deterministic, backend.tf32 = deterministic, tf32
    return backend


@functools.cache
def _open_auto(deterministic: bool, tf32: bool | None) -> Backend:
    try:
        return _open_with("cupy", deterministic, tf32)
    except BackendUnavailable:
        return _open_with("numpy", deterministic, tf32)
