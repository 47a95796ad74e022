"""Which backends there are, and which of them knows an array."""

import difflib
import importlib
from numbers import Number
from typing import Any

from xpnn.errors import BackendUnavailable

BACKENDS = {
    "numpy": "xpnn.backends.numpy.backend:NumpyBackend",
    "cupy": "xpnn.backends.cupy.backend:CupyBackend",
    "torch": "xpnn.backends.torch.backend:TorchBackend",
    "jax": "xpnn.backends.jax.backend:JaxBackend",
    "array-api-strict": "xpnn.backends.strict.backend:StrictBackend",
}
"""Where the class of each backend is, by its ``name``; imported when it is asked for."""


def backend_class(name: str) -> Any:
    """The class behind a library's name; nothing but its own module is imported."""
    if name not in BACKENDS:
        known = [*BACKENDS, "auto"]
        close = difflib.get_close_matches(name, known, n=1)
        meant = f", did you mean {close[0]!r}?" if close else "."
        gpu = "; a GPU is 'cupy' or 'torch:cuda'" if name.lower() in ("cuda", "gpu") else ""
        raise BackendUnavailable(
            f"there is no backend {name!r}{meant} Choose one of {', '.join(map(repr, known))}{gpu}"
        )
    module, _, attribute = BACKENDS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def class_recognizing(array: Any) -> Any:
    """The class of the backend that ``array`` is of; None for lists, numbers, unknown libraries."""
    if isinstance(array, list | tuple | Number):
        return None
    classes = map(backend_class, BACKENDS)
    return next((kind for kind in classes if kind.recognizes(array)), None)
