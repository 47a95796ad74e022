"""What the signature of a constructor says of its arguments, to hold those of a file against it."""

import functools
import types
from collections.abc import Callable, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from xpnn.initializers import Initializer
from xpnn.layers import Layer


@functools.cache
def types_of(kind: type) -> dict[str, Any]:
    """The annotations of a constructor by name, those behind its ``**options`` too."""
    found: dict[str, Any] = {}
    for base in kind.__mro__:
        if "__init__" in vars(base) and base is not object:
            try:
                found = get_type_hints(vars(base)["__init__"]) | found
            except (NameError, TypeError):  # names that only a type checker imports
                continue
    return found


def is_initializer(name: str, wanted: Any) -> bool:
    """Whether an argument draws starting weights, which a file with weights can do without."""
    return name.endswith("_init") or wanted == Initializer


def makes_layers(wanted: Any, value: Any) -> bool:
    """Whether an argument is called to make a layer, such as ``norm=LayerNorm``."""
    if isinstance(value, type):
        return issubclass(value, Layer)
    said = get_origin(wanted) is Callable and get_args(wanted)[:1] == ([],)
    return said or getattr(value, "makes_layers", False)


def is_of_type(value: Any, wanted: Any) -> bool:
    """Whether ``value`` is what an annotation says; of those that are not known here, anything is.

    >>> is_of_type(3, int), is_of_type(True, int), is_of_type("x", float)
    (True, False, False)
    >>> is_of_type((1, 2), int | tuple[int, ...])
    True
    """
    origin, inside = get_origin(wanted), get_args(wanted)
    if wanted is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(is_of_type(value, one) for one in inside)
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in inside)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if inside[1:] == (...,):
            return all(is_of_type(one, inside[0]) for one in value)
        return len(value) == len(inside) and all(map(is_of_type, value, inside))
    if origin is Sequence:
        return isinstance(value, list | tuple) and all(is_of_type(one, inside[0]) for one in value)
    if origin is Callable:
        return callable(value) and not isinstance(value, type)
    if wanted in (int, float):
        allowed = int if wanted is int else int | float
        return isinstance(value, allowed) and not isinstance(value, bool)
    return isinstance(value, wanted) if isinstance(wanted, type) else True
