"""The tests in another order, and what one leaves behind for the next."""

from itertools import pairwise
from types import SimpleNamespace

import pytest

import xpnn
from conftest import pytest_collection_modifyitems
from xpnn.layers import Identity

ITEMS = [SimpleNamespace(path=f"test_{file}.py", number=n) for file in "abcdef" for n in range(9)]


def shuffled(seed):
    items = list(ITEMS)
    pytest_collection_modifyitems(SimpleNamespace(getoption=lambda name: seed), items)
    return items


def test_a_shuffled_run_goes_through_all_tests_file_by_file():
    items = shuffled(1)
    assert sorted(map(id, items)) == sorted(map(id, ITEMS))
    files = [item.path for item in items]
    assert sum(one != after for one, after in pairwise(files)) == 5
    assert list(dict.fromkeys(files)) != list(dict.fromkeys(item.path for item in ITEMS))
    assert [item.number for item in items[:9]] != list(range(9))


def test_a_seed_is_one_order():
    assert shuffled(2) == shuffled(2)  # so that the workers of xdist agree
    assert shuffled(2) != shuffled(3)
    assert shuffled(None) == ITEMS


@pytest.mark.parametrize("time", ["first", "second"])
def test_what_a_test_registers_is_gone_behind_it(time):
    kind = type(f"Of{time}", (Identity,), {})
    xpnn.register("tests.Once")(kind)  # an error where the name stands for another class
