"""Smaller expressions than a list of layers that is given as source text."""

import ast
import itertools


def smaller_codes(code):
    """Expressions with one layer less, one container opened, or one argument left out."""
    tree = ast.parse(code, mode="eval")
    for node, change in itertools.product(list(ast.walk(tree)), (_without, _opened, _defaulted)):
        for _ in change(node):  # which changes it for the moment
            yield ast.unparse(tree)


def _without(node):
    """A list with one entry less."""
    if isinstance(node, ast.List):
        for k in range(len(node.elts)):
            entries = node.elts
            node.elts = [*entries[:k], *entries[k + 1 :]]
            yield
            node.elts = entries


def _opened(node):
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
            yield
            node.elts = entries


def _defaulted(node):
    """A call with one named argument less."""
    if isinstance(node, ast.Call):
        for k in range(len(node.keywords)):
            keywords = node.keywords
            node.keywords = [*keywords[:k], *keywords[k + 1 :]]
            yield
            node.keywords = keywords
