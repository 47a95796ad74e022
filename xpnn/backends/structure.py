"""Nested dicts and tuples as a flat list of leaves, and back, by a form that is worked out once."""

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
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
        self._leaves = _getter(self.leaf_keys)

    def flatten(self, tree: Any) -> list[Any]:
        """The leaves, in the order of ``paths``.

        Raises:
            LookupError: the tree has another form.
        """
        if type(tree) is not self.kind or len(tree) != len(self.parts):
            raise LookupError(
                f"wanted a {self.kind.__name__} of {len(self.parts)}, got a {type(tree).__name__}"
            )
        leaves = list(self._leaves(tree))
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
        return self._rebuilt(iter(leaves))

    def _rebuilt(self, leaves: Iterator[Any]) -> Any:
        found: Any = [None] * len(self.parts)
        if self.kind is dict:
            found = dict.fromkeys([key for key, _ in self.parts])
        for key in self.leaf_keys:
            found[key] = next(leaves)
        for key, branch in self.branches:
            found[key] = branch._rebuilt(leaves)
        return tuple(found) if self.kind is tuple else found


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


def _getter(keys: list[Any]) -> Callable[[Any], Sequence[Any]]:
    if not keys:
        return lambda tree: ()
    if len(keys) == 1:
        return lambda tree: (tree[keys[0]],)
    return operator.itemgetter(*keys)
