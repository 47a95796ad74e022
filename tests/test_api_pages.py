"""Every public name has its place in the pages of the API, and what stands there is public."""

from importlib import import_module
from importlib.util import find_spec

import pytest

import xpnn
from docs.hooks.api_tables import PARTS

pytestmark = pytest.mark.host_only

MODULES = {"data", "initializers", "metrics", "datasets"}
"""Names of the package that are parts themselves."""

HERE = {folder: part for folder, part in PARTS.items() if folder != "sklearn" or find_spec(folder)}
"""The parts that can be imported."""


def standing_there():
    return {
        id(getattr(import_module(part.module), name))
        for part in HERE.values()
        for name in part.names()
    }


@pytest.mark.parametrize("folder", HERE)
def test_all_that_a_module_gives_away_has_its_place_once(folder):
    part = HERE[folder]
    module = import_module(part.module)
    names = part.names()
    assert len(names) == len(set(names))
    assert all(hasattr(module, name) for name in names)
    given_away = {*getattr(module, "__all__", names)} - MODULES
    elsewhere = {name for name in given_away if id(getattr(module, name)) in standing_there()}
    assert given_away - {*names} <= elsewhere


def test_all_that_the_package_gives_away_has_its_place():
    there = standing_there()
    assert {one for one in xpnn.__all__ if id(getattr(xpnn, one)) not in there} == MODULES
