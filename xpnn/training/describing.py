"""What an object was made with, in JSON's words, so that two of them can be compared by value."""

import functools
import itertools
import json
import sys
import zlib
from collections import Counter
from collections.abc import Mapping
from enum import Enum
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from xpnn.backends import Backend, backend_of
from xpnn.data.figures import MOST, checksum
from xpnn.layers import Layer
from xpnn.network import Network
from xpnn.saving.tensors import dtype_name
from xpnn.training.state import TrainingState

FEW = 16  # numbers of an array that are written down
MOST_OFTEN = 5  # times that one object is described, where many hold it
DEEPEST = 50


def described(value: Any, within: tuple[Any, ...] = (), times: Counter[int] | None = None) -> Any:
    """A value as JSON has it; of an object its kind and its attributes.

    Of an array there are its numbers, or a checksum of them; of a function what it closes over, its
    defaults, the globals that it reads and a checksum of its code. A network that a loss may hold
    is a matter of its own, and so is what comes back to itself: of these only the kind counts.

    Args:
        within: what it is a part of.
        times: how often each object was described so far.
    """
    times = Counter() if times is None else times
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    alone = isinstance(value, Network | Layer | Backend | TrainingState | ModuleType)
    if alone or _runs(value) or len(within) > DEEPEST or any(value is one for one in within):
        return {"kind": type(value).__name__}
    below = functools.partial(described, within=(*within, value), times=times)
    if isinstance(value, Mapping):
        return {str(key): below(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [below(one) for one in value]
    times[id(value)] += 1
    if times[id(value)] > MOST_OFTEN:
        return {"kind": type(value).__name__}
    if isinstance(value, functools.partial):
        kept = {"function": below(value.func), "arguments": below(value.args)}
        return kept | below(value.keywords)
    if isinstance(value, MethodType):
        return {"function": value.__qualname__, "of": below(value.__self__)}
    if isinstance(value, FunctionType):
        return _of_function(value, below)
    if not isinstance(value, type) and hasattr(value, "__wrapped__"):
        return below(value.__wrapped__)  # what a cache or a compiler has made of a function
    if hasattr(value, "__qualname__"):
        return value.__qualname__
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return _of_array(value, below)
    return _of_object(value, below)


def _runs(value: Any) -> bool:
    """Whether it is a trainer or a callback, which change as training goes on."""
    return isinstance(getattr(value, "state", None), TrainingState) or hasattr(value, "on_fit_end")


def _of_object(value: Any, below: Any) -> dict[str, Any]:
    kind = type(value)
    found: dict[str, Any] = {"kind": kind.__name__}
    if isinstance(value, set | frozenset):
        return {**found, "repr": sorted(map(json.dumps, map(below, value)))}
    attributes = {} if _is_of_python(kind) else _attributes(value)
    public = {name: one for name, one in attributes.items() if not name.startswith("_")}
    private = {name: one for name, one in attributes.items() if name not in public}
    if isinstance(value, Enum):
        return {**found, "repr": value.name}
    if kind.__module__.partition(".")[0] != "xpnn" and private:
        found["private"] = below(private)
    if not public and not (text := repr(value)).startswith("<"):  # a date, a fraction, a path
        found["repr"] = text
    return {**found, **below(public)}


def _is_of_python(kind: type) -> bool:
    """Whether it is one of Python's own kinds, such as a logger, but for mere holders of values."""
    holds = kind.__name__ in ("SimpleNamespace", "Namespace")
    return kind.__module__.partition(".")[0] in sys.stdlib_module_names and not holds


def _attributes(value: Any) -> dict[str, Any]:
    slots = itertools.chain(*(vars(base).get("__slots__", ()) for base in type(value).__mro__))
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return found | getattr(value, "__dict__", {})


# Arrays -------------------------------------------------------------------------------------------


def _of_array(value: Any, below: Any) -> dict[str, Any]:
    form = {"array": f"{dtype_name(value)} {tuple(value.shape)}"}
    host = np.asarray(value) if hasattr(value, "__array_interface__") else _on_host(value)
    if host is None:
        return form
    numbers = host.reshape(-1)
    if host.dtype.kind not in "biufc":
        return {**form, "values": below(numbers[:FEW].tolist())}
    if numbers.size <= FEW:
        return {**form, "values": below(numbers.tolist())}
    return {**form, "checksum": checksum(numbers)}


def _on_host(value: Any) -> np.ndarray | None:
    """A few numbers of an array of another library, or of a table; None if they cannot be read."""
    size = int(np.prod(value.shape, dtype=np.int64))
    try:
        backend = backend_of(value)
        if size > MOST:
            value = value.reshape(-1)[:: -(-size // MOST)]
        return backend.to_numpy(value)
    except (AttributeError, TypeError, ValueError):
        return None


# Functions ----------------------------------------------------------------------------------------


def _of_function(function: FunctionType, below: Any) -> Any:
    """Its name, with all that two functions of one name may differ in.

    What xpnn's own functions do is up to the version of xpnn, and so is their code.
    """
    code = function.__code__
    own = (function.__module__ or "").partition(".")[0] == "xpnn"
    found: dict[str, Any] = {"function": function.__qualname__}
    if not own:
        words = _words(code, function.__doc__)
        found["code"] = f"{sys.implementation.cache_tag} {zlib.crc32(words.encode()):08x}"
    parts = {
        "defaults": _defaults(function),
        "closure": _cells(function),
        "globals": {} if own else _globals(function),
        "attributes": {} if own else vars(function),
    }
    for name, values in parts.items():
        if known := {key: one for key, one in values.items() if not (own and callable(one))}:
            found[name] = below(known)
    return found if len(found) > 1 else function.__qualname__


def _defaults(function: FunctionType) -> dict[str, Any]:
    code, values = function.__code__, function.__defaults__ or ()
    names = code.co_varnames[: code.co_argcount]
    named = dict(zip(names[len(names) - len(values) :], values, strict=True))
    return named | (function.__kwdefaults__ or {})


def _cells(function: FunctionType) -> dict[str, Any]:
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # it is empty yet
            continue
    return found


def _globals(function: FunctionType) -> dict[str, Any]:
    """The globals that a function reads, but for modules, classes and what is xpnn's."""
    found = {name: function.__globals__.get(name) for name in _names(function.__code__)}
    return {
        name: one
        for name, one in found.items()
        if not (one is None or isinstance(one, type | ModuleType))
        and not str(getattr(one, "__module__", "")).startswith("xpnn.")
    }


def _names(code: CodeType) -> list[str]:
    inner = [one for one in code.co_consts if isinstance(one, CodeType)]
    return list(dict.fromkeys((*code.co_names, *itertools.chain(*map(_names, inner)))))


def _words(code: CodeType, documentation: str | None = None) -> str:
    """What a function does: its instructions and constants, without lines and its docstring.

    Sets are left out, whose order is not that of another process.
    """
    constants = [
        _words(one) if isinstance(one, CodeType) else repr(one)
        for one in code.co_consts
        if not isinstance(one, frozenset) and one != documentation
    ]
    return repr((code.co_code, constants, code.co_names, code.co_freevars))
