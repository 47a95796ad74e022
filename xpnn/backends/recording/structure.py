"""Nested dicts and tuples as a flat list of leaves, and back, by a form that is worked out once."""

import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Path = tuple[Any, ...]


class Structure:
    """The form of a nesting: which keys lead to which leaves."""

    def __init__(self, tree: Any, path: Path = ()):
        self.kind = type(tree)
        keys = list(tree) if self.kind is dict else list(range(len(tree)))
        self.parts = [(key, _part(tree[key], (*path, key))) for key in keys]
        self.leaf_keys = [key for key, part in self.parts if part is None]
        self.branches = [(key, part) for key, part in self.parts if part is not None]
        self.paths: list[Path] = [(*path, key) for key in self.leaf_keys]
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

    def fits(self, tree: Any) -> bool:
        """Whether the tree has this form."""
        try:
            self.flatten(tree)
        except LookupError:
            return False
        return True

    def places(self, tree: Any) -> list[tuple[Any, Any]]:
        """Each leaf's holder and its key there, in the order of ``paths``.

        Raises:
            TypeError: a tuple, in which nothing can be put, holds leaves.
        """
        if self.kind is tuple and self.leaf_keys:
            raise TypeError("wanted leaves in dictionaries or lists, got a tuple; make it a list")
        found = [(tree, key) for key in self.leaf_keys]
        for key, branch in self.branches:
            found += branch.places(tree[key])
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
        """Puts a list of leaves in order, by one expression, such as ``(v[1:6], v[0])``."""
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


def successors(arguments: Structure, results: Structure, donate: Iterable[int]) -> list[int | None]:
    """For each leaf of the results, the leaf of the arguments whose place it takes, if any.

    Args:
        arguments: the form of a tuple of arguments.
        results: the form of ``(results,)``; the first of them, in their order, take the place of
            the donated arguments, leaf by leaf.
        donate: positions of the donated arguments.
    """
    rank = {number: k for k, number in enumerate(sorted(donate))}
    places = {
        (rank[number], *path): k
        for k, (number, *path) in enumerate(arguments.paths)
        if number in rank
    }
    return [places.get(path[1:]) for path in results.paths]


def _part(tree: Any, path: Path) -> Structure | None:
    return Structure(tree, path) if type(tree) in (dict, tuple, list) else None


def getter(keys: list[Any]) -> Callable[[Any], Sequence[Any]]:
    """A function that takes what is under these keys, in their order, out of a list or dict."""
    if not keys:
        return lambda tree: ()
    if len(keys) == 1:
        return lambda tree: (tree[keys[0]],)
    return operator.itemgetter(*keys)
