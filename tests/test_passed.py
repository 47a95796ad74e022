"""Which tests of a run are left out: they passed in an earlier one, or ask for the same twice."""

from types import SimpleNamespace

import pytest

from tests import conftest


class Item:
    """A test, with the values of its parameters."""

    def __init__(self, nodeid, by_what_is_installed=False, **params):
        self.nodeid, self.callspec = nodeid, SimpleNamespace(params=params)
        self.by_what_is_installed = by_what_is_installed

    def get_closest_marker(self, name):
        return getattr(self, name) or None


@pytest.fixture
def left(tmp_path, monkeypatch):
    """What is left of tests after a run with NumPy in which all that are named here have passed."""

    def left(specs, items, passed):
        monkeypatch.setattr(conftest, "SPECS", ["numpy"])
        writer = conftest.Passed(tmp_path / "passed.json")
        for name, fine in [*((name, True) for name in passed), ("failed", False)]:
            for when in ("setup", "call", "teardown"):
                report = SimpleNamespace(nodeid=name, when=when, passed=fine or when != "call")
                writer.pytest_runtest_logreport(report)
        writer.pytest_sessionfinish()
        monkeypatch.setattr(conftest, "SPECS", specs)
        ignore = SimpleNamespace(pytest_deselected=lambda items: None)
        config = SimpleNamespace(getoption=lambda name: str(writer.path), hook=ignore)
        conftest.pytest_collection_modifyitems(config, items)
        return [item.nodeid for item in items]

    return left


@pytest.mark.parametrize("specs", [["numpy"], ["numpy", "numpy:numba", "torch:cuda"]])
def test_what_has_passed_is_left_out(left, specs):
    items = [Item("on numpy", backend="numpy"), Item("on none"), Item("skipped"), Item("failed")]
    assert left(specs, items, ["on numpy", "on none"]) == ["skipped", "failed"]


def test_what_looks_at_a_new_backend_stays(left):
    items = [
        Item("1", backend="numpy", source="numpy:numba"),
        Item("2", backend="numpy", library="torch"),
        Item("3", by_what_is_installed=True),
        Item("4", backend="numpy", other="jax"),
    ]
    found = left(["numpy", "numpy:numba", "torch:cuda"], items, ["1", "2", "3", "4"])
    assert found == ["1", "2", "3"]


def test_compiled_loops_are_asked_for_where_steps_are_compiled(left):
    items = [
        Item("tests/metrics/test_metrics.py::1", backend="numpy:numba"),
        Item("tests/metrics/test_metrics.py::2", backend="numpy"),
        Item("tests/metrics/test_metrics.py::3", backend="torch", spec="numpy:numba"),
        Item("tests/training/stepping/test_step.py::4", backend="numpy:numba"),
    ]
    found = left(["numpy", "numpy:numba", "torch"], items, [])
    assert [name[-1] for name in found] == ["2", "3", "4"]
