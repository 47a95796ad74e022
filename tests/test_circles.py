"""Which files import each other in a circle, imports for type checkers alone included."""

import ast
import functools
from pathlib import Path

import xpnn

ROOT = Path(xpnn.__file__).parent
MOST_TIED = 3  # files that may need each other, outside of training/


def module_of(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def imported(tree, inside_functions):
    """The modules of xpnn that a file's imports name."""
    left = [tree]
    while left:
        node = left.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not inside_functions:
            continue
        left += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in below)


def circles(edges):
    """The sets of modules that reach each other (Tarjan, 1972), those of one module left out."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in edges[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            tied = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            found.append(sorted(tied))

    for node in edges:
        if node not in index:
            visit(node)
    return [tied for tied in found if len(tied) > 1]


@functools.cache
def parsed(path):
    return ast.parse(path.read_text())


def edges(inside_functions=False):
    return {
        name: sorted(set(imported(parsed(path), inside_functions)) - {name})
        for name, path in MODULES.items()
    }


def test_circles_are_found():
    assert circles({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) == [["a", "b", "c"]]


def test_no_circle_is_in_training():
    tied = [one for one in circles(edges(inside_functions=True)) if len(one) > 1]
    assert [one for one in tied if any(name.startswith("xpnn.training") for name in one)] == []


def test_no_circle_ties_more_than_a_few_files():
    assert [tied for tied in circles(edges()) if len(tied) > MOST_TIED] == []
