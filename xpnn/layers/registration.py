"""Names of kinds of layers, by which a file says what a network is made of."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from xpnn.errors import XpnnError

Kind = TypeVar("Kind", bound=type)

KINDS: dict[str, type] = {}
"""Layers, penalties and constraints by the name that stands for them in files."""


def register(name: str) -> Callable[[Kind], Kind]:
    """Let a layer, penalty or constraint of your own take part in ``network.save``; a decorator.

    The class is made again from the arguments of its constructor, which it keeps as attributes of
    the same names, or gives in a method ``arguments()``. Who loads the file imports the module with
    the class first.

    Args:
        name: stands for the class in files and so must never change: the name of your package, a
            dot, and one of your choice.

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
        KINDS[name] = kind
        return kind

    return named


def name_of(kind: type) -> str | None:
    """The name that stands for a class in files, or None."""
    return next((name for name, known in KINDS.items() if known is kind), None)


def parameters_of(kind: type) -> dict[str, inspect.Parameter]:
    """The parameters of a constructor by name, those behind its ``**options`` too."""
    found: dict[str, inspect.Parameter] = {}
    for base in kind.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        _, *own = inspect.signature(vars(base)["__init__"]).parameters.values()
        for parameter in own:
            if parameter.kind is parameter.VAR_POSITIONAL:
                raise XpnnError(
                    f"the constructor of {kind.__name__} takes *{parameter.name}, from which its "
                    f"arguments cannot be told; give it a method arguments()"
                )
            if parameter.kind is not parameter.VAR_KEYWORD:
                found.setdefault(parameter.name, parameter)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own):
            break
    return found


@functools.cache
def changeable(kind: type) -> tuple[str, ...]:
    """The names of a constructor's arguments that are not fixed; none where they cannot be told."""
    fixed = getattr(kind, "fixed", ())
    try:
        return tuple(name for name in parameters_of(kind) if name not in fixed)
    except XpnnError:
        return ()


def arguments_of(made: object) -> dict[str, Any]:
    """The arguments of a constructor, each read from the attribute of its name.

    Raises:
        XpnnError: there is no such attribute.
    """
    kind, found = type(made), {}
    for name in parameters_of(kind):
        if not hasattr(made, name):
            raise XpnnError(
                f"{made!r} does not keep the argument {name!r}; store it as self.{name}, or give "
                f"{kind.__name__} a method arguments() that returns all of them by name"
            )
        found[name] = getattr(made, name)
    return found
