"""Names of kinds of layers, by which a file says what a network is made of."""

import functools
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from xpnn.arguments import kept_argument, parameters_of
from xpnn.errors import XpnnError

Kind = TypeVar("Kind", bound=type)

KINDS: dict[str, type] = {}
"""Layers, penalties and constraints by the name that stands for them in files."""

_NAMED: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()
"""The names of registered classes, those too in whose place another of their name has come."""


def register(name: str) -> Callable[[Kind], Kind]:
    """Let a layer, penalty or constraint of your own take part in ``network.save``; a decorator.

    The class is made again from the arguments of its constructor, which it keeps as attributes of
    the same names, or gives in a method ``arguments()``. Who loads the file imports the module with
    the class first. Where the definition is run again, as in a notebook, objects of the class from
    before are saved as well, and load as what the name stands for now.

    Args:
        name: stands for the class in files and so must never change: the name of your package, a
            dot, and one of your choice.

    Returns:
        A decorator, which gives the class back as it is.

    Raises:
        ValueError: ``name`` has no dot, or stands for another class.
        TypeError: what is decorated is no class.

    >>> from xpnn.layers import Identity
    >>> @register("mylib.Pass")
    ... class Pass(Identity):
    ...     pass
    """
    if not isinstance(name, str) or not all(name.partition(".")):
        raise ValueError(f"a name to register is like 'mylib.Scale', with a dot, got {name!r}")

    def named(kind: Kind) -> Kind:
        if not isinstance(kind, type):
            raise TypeError(f"register({name!r}) decorates a class, got {kind!r}")
        other = KINDS.get(name, kind)
        if (other.__module__, other.__qualname__) != (kind.__module__, kind.__qualname__):
            raise ValueError(f"{name!r} already stands for {other.__qualname__}; choose another")
        KINDS[name], _NAMED[kind] = kind, name
        return kind

    return named


def name_of(kind: type) -> str | None:
    """The name that stands for a class in files, or None."""
    found = next((name for name, known in KINDS.items() if known is kind), None)
    return found or _NAMED.get(kind)


@functools.cache
def changeable(kind: type) -> tuple[str, ...]:
    """The names of a constructor's arguments that are not fixed; none where they cannot be told."""
    fixed = getattr(kind, "fixed", ())
    try:
        return tuple(name for name in parameters_of(kind) if name not in fixed)
    except XpnnError:
        return ()


def arguments_of(made: object) -> dict[str, Any]:
    """The arguments of a constructor, each read from where it is kept.

    Raises:
        XpnnError: there is no such attribute.
    """
    kind: Any = type(made)
    found = {}
    for name in parameters_of(kind):
        try:
            found[name] = kept_argument(made, name)
        except AttributeError:
            raise XpnnError(
                f"{made!r} does not keep the argument {name!r}; store it as self.{name}, or give "
                f"{kind.__name__} a method arguments() that returns all of them by name"
            ) from None
    return found
