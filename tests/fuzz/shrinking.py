"""Smaller expressions than a list of layers that is given as source text."""

import ast
import itertools


def smaller_codes(code):
    """Expressions with one layer less, one container opened, or one argument left out."""
    count = len([*ast.walk(ast.parse(code))])
    for number, change in itertools.product(range(count), (_without, _opened, _with_defaults)):
        tree = ast.parse(code, mode="eval")
        node = [*ast.walk(tree)][number] if number < len([*ast.walk(tree)]) else None
        for changed in change(tree, node):
            yield ast.unparse(changed)


def _without(tree, node):
    """A list with one entry less."""
    if isinstance(node, ast.List):
        for k in range(len(node.elts)):
            entries = node.elts
            node.elts = [*entries[:k], *entries[k + 1 :]]
            yield tree
            node.elts = entries


def _opened(tree, node):
    """A list with what lies in one of its entries in place of it."""
    if isinstance(node, ast.List):
        for k, entry in enumerate(node.elts):
            inside = entry.args[0] if isinstance(entry, ast.Call) and entry.args else None
            entries = node.elts
            if isinstance(inside, ast.List):
                node.elts = [*entries[:k], *inside.elts, *entries[k + 1 :]]
            elif isinstance(inside, ast.Call):
                node.elts = [*entries[:k], inside, *entries[k + 1 :]]
            else:
                continue
            yield tree
            node.elts = entries


def _with_defaults(tree, node):
    """A call with one named argument less."""
    if isinstance(node, ast.Call):
        for k in range(len(node.keywords)):
            keywords = node.keywords
            node.keywords = [*keywords[:k], *keywords[k + 1 :]]
            yield tree
            node.keywords = keywords
