"""Trees: nested dicts, lists and tuples.

All else is a leaf: a namedtuple, say. What derives from a dict is a nesting for ``tree_map``,
``map_with_path`` and ``leaves``, which make plain dicts of it, and a leaf for a ``Structure``.
"""

import functools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Keys = tuple[Any, ...]
"""The keys and indices that lead to a leaf."""

DEEPEST = 100
"""Levels; a tree with more of them is taken for one that holds itself."""


class TreeError(ValueError):
    """A tree is nested too deep, or two trees have other keys."""


def is_leaf(tree: Any) -> bool:
    """Whether it is no nesting."""
    return not isinstance(tree, dict) and type(tree) not in (tuple, list)


def as_tuple(arrays: Any) -> tuple[Any, ...]:
    """A tuple as it is, and of what is single a tuple of one."""
    return arrays if isinstance(arrays, tuple) else (arrays,)


def one_or_tuple(arrays: Sequence[Any]) -> Any:
    """The only one, or a tuple of several."""
    return arrays[0] if len(arrays) == 1 else tuple(arrays)


def tree_map(change: Callable[[Any], Any], tree: Any) -> Any:
    """The same tree with every leaf changed.

    >>> tree_map(abs, {"a": -1, "b": [(-2, 3), []]})
    {'a': 1, 'b': [(2, 3), []]}
    """
    kind = type(tree)
    if kind is tuple or kind is list:
        return kind([tree_map(change, one) for one in tree])
    if isinstance(tree, dict):
        return {key: tree_map(change, one) for key, one in tree.items()}
    return change(tree)


def map_with_path(
    change: Callable[..., Any],
    tree: Any,
    *others: Any,
    is_leaf: Callable[[Any], bool] = is_leaf,
    path: Keys = (),
) -> Any:
    """The same tree with every leaf changed by ``change(path, leaf, *leaves of the others)``.

    Args:
        others: trees of the same keys.
        is_leaf: what is a leaf. Of subclasses that it takes for nestings plain ones are made.

    Raises:
        TreeError: it is nested more than 100 deep, or others have other keys.

    >>> map_with_path(lambda path, *pair: (path, *pair), {"a": [1.5]}, {"a": [2.5]})
    {'a': [(('a', 0), 1.5, 2.5)]}
    """
    if is_leaf(tree):
        return change(path, tree, *others)
    check_depth(path)
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    for other in others:
        _check_keys(other, keys, path)
    made = {}
    for key in keys:
        below = (one[key] for one in (tree, *others))
        made[key] = map_with_path(change, *below, is_leaf=is_leaf, path=(*path, key))
    if isinstance(tree, dict):
        return made
    return [*made.values()] if isinstance(tree, list) else tuple(made.values())


def _check_keys(tree: Any, wanted: list[Any], path: Keys) -> None:
    found: list[Any] | None = None
    if isinstance(tree, Mapping | list | tuple):
        found = list(tree) if isinstance(tree, Mapping) else list(range(len(tree)))
    if found is None or set(found) != set(wanted):
        got = type(tree).__name__ if found is None else ", ".join(map(str, found))
        where = ".".join(map(str, path)) + ": " if path else ""
        raise TreeError(f"{where}wanted values for {', '.join(map(str, wanted))}, got {got}")


def leaves(tree: Any) -> list[Any]:
    """All leaves, depth first.

    >>> leaves({"a": -1, "b": [(-2, 3), []]})
    [-1, -2, 3]
    """
    found: list[Any] = []
    _collect([tree], found)
    return found


def _collect(below: Iterable[Any], found: list[Any]) -> None:
    """Append their leaves."""
    for one in below:
        kind = type(one)
        if kind is tuple or kind is list:
            _collect(one, found)
        elif isinstance(one, dict):
            _collect(one.values(), found)
        else:
            found.append(one)


def check_depth(path: Keys) -> None:
    """Raise TreeError for what lies more than 100 deep."""
    if len(path) > DEEPEST:
        where = ".".join(map(str, path[:5]))
        raise TreeError(f"it is nested more than {DEEPEST} deep, below {where}")


class Static:
    """A leaf that is neither array nor number: what is compiled is made for its value.

    Two of the same value are equal, and have the same hash.
    """


class Structure:
    """The form of a tree: which keys lead to which leaves.

    Its leaves come in the order of ``paths``: those of a nesting first, then those of each nesting
    inside of it.

    Raises:
        TreeError: it is nested more than 100 deep.
    """

    def __init__(self, tree: Any, path: Keys = ()):
        check_depth(path)
        self.kind = type(tree)
        keys = list(tree) if self.kind is dict else list(range(len(tree)))
        inner = (
            Structure(tree[key], (*path, key)) if type(tree[key]) in (dict, tuple, list) else None
            for key in keys
        )
        self.parts = list(zip(keys, inner, strict=True))
        self.leaf_keys = [key for key, part in self.parts if part is None]
        self.branches = [(key, part) for key, part in self.parts if part is not None]
        self.paths: list[Keys] = [(*path, key) for key in self.leaf_keys]
        for _, branch in self.branches:
            self.paths += branch.paths
        self._leaves = getter(self.leaf_keys)

    def flatten(self, tree: Any) -> list[Any]:
        """The leaves, in the order of ``paths``.

        Raises:
            LookupError: the tree has another form.
        """
        if type(tree) is not self.kind or len(tree) != len(self.parts):
            raise LookupError(
                f"wanted a {self.kind.__name__} of {len(self.parts)}, got a {type(tree).__name__}"
            )
        leaves = [*self._leaves(tree)]
        for key, branch in self.branches:
            leaves += branch.flatten(tree[key])
        return leaves

    def matches(self, tree: Any) -> bool:
        """Whether the tree has this form."""
        try:
            self.flatten(tree)
        except LookupError:
            return False
        return True

    def holders(self, tree: Any) -> list[tuple[Any, Any]]:
        """Each leaf's holder and its key there, in the order of ``paths``.

        Raises:
            TypeError: a tuple, in which nothing can be put, holds leaves.
        """
        if self.kind is tuple and self.leaf_keys:
            raise TypeError("wanted leaves in dictionaries or lists, got a tuple; make it a list")
        found = [(tree, key) for key in self.leaf_keys]
        for key, branch in self.branches:
            found += branch.holders(tree[key])
        return found

    def nested(self, tree: Any) -> list[tuple[Any, Any, Any]]:
        """Each nesting inside, behind its holder and its key there."""
        found = [(tree, key, tree[key]) for key, _ in self.branches]
        for key, branch in self.branches:
            found += branch.nested(tree[key])
        return found

    def rebuild(self, leaves: Iterable[Any]) -> Any:
        """The nesting with those leaves."""
        return self._build(list(leaves))

    @functools.cached_property
    def _build(self) -> Callable[[list[Any]], Any]:
        """Puts a list of leaves in order, by one expression, such as ``(v[1:6], v[0])``.

        It is generated, as every replayed step ends with it: of 10 leaves it takes 0.2 us,
        a plain recursion 2, which is 6 to 10 % more for the step of a small network.
        """
        keys: list[Any] = []  # which the expression takes by number: it holds nothing from outside
        build: Callable[[list[Any]], Any] = eval(f"lambda v: {self._source(keys, 0)}", {"k": keys})
        return build

    def _source(self, keys: list[Any], start: int) -> str:
        """The expression for the leaves from ``start`` on; its keys are added to those in ``k``."""
        stop = start + len(self.leaf_keys)
        if self.kind is list and not self.branches:
            return f"v[{start}:{stop}]"
        made = {key: f"v[{start + k}]" for k, key in enumerate(self.leaf_keys)}
        for key, branch in self.branches:
            made[key] = branch._source(keys, stop)
            stop += len(branch.paths)
        if self.kind is not dict:
            parts = "".join(f"{made[key]}, " for key, _ in self.parts)
            return f"({parts})" if self.kind is tuple else f"[{parts}]"
        first = len(keys)
        keys += [key for key, _ in self.parts]
        parts = ", ".join(f"k[{first + k}]: {made[key]}" for k, (key, _) in enumerate(self.parts))
        return f"{{{parts}}}"


def getter(keys: list[Any]) -> Callable[[Any], Sequence[Any]]:
    """A function that takes what is under these keys, in their order, out of a list or dict."""
    if not keys:
        return lambda tree: ()
    if len(keys) == 1:
        return lambda tree: (tree[keys[0]],)
    return operator.itemgetter(*keys)
