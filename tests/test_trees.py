"""Trees against JAX's, and by hand."""

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import needs
from xpnn.backends.recording.calls import Memory, View
from xpnn.trees import DEEPEST, Structure, TreeError, leaves, map_with_path, tree_map

TREE = {"b": 1.5, "a": [(2, 3), {"c": None, "d": "text"}], "e": (), "f": {}}

names = st.text("abc", min_size=1, max_size=2)
trees = st.recursive(
    st.none() | st.integers() | st.text(max_size=2),
    lambda below: (
        st.dictionaries(names, below, max_size=3)
        | st.lists(below, max_size=3)
        | st.lists(below, max_size=3).map(tuple)
    ),
    max_leaves=12,
)
nestings = trees.filter(lambda tree: type(tree) in (dict, list, tuple))


def deep(levels, inside=1):
    for _ in range(levels):
        inside = [inside]
    return inside


def test_leaves_come_depth_first_and_keys_keep_their_order():
    assert leaves(TREE) == [1.5, 2, 3, None, "text"]
    assert list(tree_map(str, TREE)) == ["b", "a", "e", "f"]
    assert tree_map(lambda leaf: [leaf], TREE)["a"][0] == ([2], [3])


def test_what_derives_from_a_nesting_is_a_leaf():
    view = View(Memory(4), 0, (1,), (4,), np.dtype("f4"))
    assert leaves({"view": view}) == [view]
    plain = map_with_path(
        lambda path, leaf: leaf, view, is_leaf=lambda tree: not isinstance(tree, tuple)
    )
    assert type(plain) is tuple


def test_plain_dicts_are_made_of_what_derives_from_one():
    tree = {"m": OrderedDict(w=1)}
    for made in (tree_map(str, tree), map_with_path(lambda path, leaf: str(leaf), tree)):
        assert made == {"m": {"w": "1"}}
        assert type(made["m"]) is dict
    assert leaves(tree) == [1]
    assert Structure(tree).flatten(tree) == [tree["m"]]


def test_paths_name_the_leaves():
    found = {}
    map_with_path(lambda path, leaf: found.update({path: leaf}), TREE)
    assert found[("a", 1, "d")] == "text"
    assert found[("a", 0, 1)] == 3


@given(nestings)
def test_a_structure_takes_apart_and_puts_together(tree):
    form = Structure(tree)
    flat = form.flatten(tree)
    rebuilt = form.rebuild(flat)
    assert rebuilt == tree
    assert list(map(type, leaves(rebuilt))) == list(map(type, leaves(tree)))
    assert sorted(map(repr, flat)) == sorted(map(repr, leaves(tree)))
    found = {}
    map_with_path(lambda path, leaf: found.update({path: leaf}), tree)
    assert dict(zip(form.paths, flat, strict=True)) == found


@needs("jax")
def test_as_jax_maps():
    from jax.tree_util import tree_map as of_jax  # here: the import outlasts an example's deadline

    @given(trees)
    def check(tree):
        assert tree_map(repr, tree) == of_jax(repr, tree, is_leaf=lambda leaf: leaf is None)

    check()


def test_another_form_is_told():
    form = Structure(TREE)
    assert form.matches(tree_map(str, TREE))
    for other in ({**TREE, "g": 1}, {**TREE, "a": TREE["a"][:1]}, [*TREE.values()]):
        assert not form.matches(other)
    with pytest.raises(TreeError, match=r"wanted values for a, b, got a$"):
        map_with_path(lambda path, *pair: pair, {"a": 1, "b": 2}, {"a": 3})
    with pytest.raises(TreeError, match="wanted values for 0, 1, got int"):
        map_with_path(lambda path, *pair: pair, [1, 2], 3)
    with pytest.raises(TreeError, match=r"^outer\.0: wanted values for a, b, got a$"):
        map_with_path(
            lambda path, *pair: pair, {"outer": [{"a": 1, "b": 2}]}, {"outer": [{"a": 3}]}
        )


def test_a_nesting_that_is_too_deep_is_refused_before_python_refuses_it():
    assert leaves(deep(DEEPEST)) == [1]
    for kind in (lambda tree: tree, lambda tree: {"key": tree}, lambda tree: (tree,)):
        tree = kind(deep(DEEPEST))
        assert Structure(tree).rebuild([2]) == tree_map(lambda leaf: 2, tree)
        for refused in (Structure, lambda tree: map_with_path(lambda path, leaf: leaf, tree)):
            with pytest.raises(TreeError, match="nested more than 100 deep, below"):
                refused(kind(deep(1000)))
