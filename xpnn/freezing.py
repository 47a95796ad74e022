"""Which parameters of a tree of layers are trained, by patterns of names."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from xpnn.layers import Layer

MOST_NAMED = 8  # names in an error message


def trained(root: Layer) -> set[str]:
    """The names of the parameters that training changes: not those inside of a frozen layer."""
    frozen = {name for name, layer in root.walk() if not layer.trainable}
    return {
        f"{name}.{key}"
        for name, layer in root.walk()
        if frozen.isdisjoint(_with_outer(name))
        for key in layer.params
    }


def set_trained(root: Layer, wanted: set[str]) -> None:
    """Let exactly these parameters be trained, by ``trainable`` of the layers.

    Raises:
        ValueError: see ``flags_for``; nothing was changed.
    """
    layers = dict(root.walk())
    for name, flag in flags_for(root, wanted).items():
        layers[name].trainable = flag


def flags_for(root: Layer, wanted: set[str]) -> dict[str, bool]:
    """``trainable`` of each layer that learns, or has layers inside that do.

    A layer is frozen whole, and with it all that is inside: where nothing of that is wanted.

    Raises:
        ValueError: a layer would have to be frozen in parts.
    """
    below, layers = _below(root), dict(root.walk())
    flags = {name: not wanted.isdisjoint(names) for name, names in below.items()}
    for name, flag in flags.items():
        own = {f"{name}.{key}" for key in layers[name].params}
        if flag and (frozen := sorted(own - wanted)):
            rest = sorted(wanted.intersection(below[name]))
            raise ValueError(
                f"a layer is frozen whole, with all that is inside, but of {name!r} "
                f"{_listed(frozen)} would be frozen and {_listed(rest)} not; match the name of the "
                f"layer, {name!r}"
            )
    return flags


def matched(root: Layer, patterns: Sequence[str]) -> set[str]:
    """The names of the parameters that patterns match, or that lie in layers that they match.

    Raises:
        TypeError: a pattern is no text.
        ValueError: a pattern matches nothing.
    """
    below, found = _below(root), set[str]()
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"wanted patterns of names, such as '0.*', got {pattern!r}")
        of_layers = [names for layer, names in below.items() if fnmatchcase(layer, pattern)]
        single = {name for name in below.get("", []) if fnmatchcase(name, pattern)}
        if not (of_layers or single):
            names = [name for name, layer in root.walk() if layer.params]
            raise ValueError(
                f"the pattern {pattern!r} matches no parameter, and no layer that has some; there "
                f"are the layers {_listed(names) or 'none'}"
            )
        found |= single.union(*of_layers)
    return found


def layers_of(root: Layer, params: set[str]) -> list[str]:
    """The names of the layers whose own parameters are among these."""
    return [
        name
        for name, layer in root.walk()
        if any(f"{name}.{key}" in params for key in layer.params)
    ]


def _below(root: Layer) -> dict[str, list[str]]:
    """The parameters of each layer and of all inside of it, by its name, if there are some."""
    found: dict[str, list[str]] = {}
    for name, layer in root.walk():
        for outer in _with_outer(name) if layer.params else ():
            found.setdefault(outer, []).extend(f"{name}.{key}" for key in layer.params)
    return {name: found[name] for name, _ in root.walk() if name in found}


def _with_outer(name: str) -> list[str]:
    """The name of a layer, and those of all that it lies in."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(len(parts) + 1)]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
