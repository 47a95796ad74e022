"""Which tests of a run are left out: passed in an earlier one, or asking for the same twice."""

from types import SimpleNamespace

import pytest

from tests import conftest


class Item:
    """A test, with the values of its parameters."""

    def __init__(self, nodeid, by_what_is_installed=False, **params):
        self.nodeid, self.callspec = nodeid, SimpleNamespace(params=params)
        self.by_what_is_installed = by_what_is_installed
        self.parent, _, self.originalname = nodeid.partition("[")[0].rpartition("::")

    def get_closest_marker(self, name):
        return getattr(self, name) or None


@pytest.fixture
def left(tmp_path, monkeypatch):
    """What is left of tests after a run with NumPy in which all that are named here have passed."""

    def left(specs, items, passed, first_case_on=""):
        monkeypatch.setattr(conftest, "SPECS", ["numpy"])
        writer = conftest.Passed(tmp_path / "passed.json")
        for name, fine in [*((name, True) for name in passed), ("failed", False)]:
            for when in ("setup", "call", "teardown"):
                report = SimpleNamespace(nodeid=name, when=when, passed=fine or when != "call")
                writer.pytest_runtest_logreport(report)
        writer.pytest_sessionfinish()
        monkeypatch.setattr(conftest, "SPECS", specs)
        ignore = SimpleNamespace(pytest_deselected=lambda items: None)
        options = {"--passed-in": str(writer.path), "--first-case-on": first_case_on}
        config = SimpleNamespace(getoption=options.get, hook=ignore)
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


def test_cases_of_contracts_are_gone_through_on_each_backend_and_of_others_the_first(left):
    items = [
        Item("tests/metrics/test_metrics.py::test_sum[jax-1]", backend="jax"),
        Item("tests/metrics/test_metrics.py::test_sum[jax-2]", backend="jax"),
        Item("tests/metrics/test_metrics.py::test_mean[jax-3]", backend="jax"),
        Item("tests/metrics/test_metrics.py::test_sum[torch-4]", backend="torch"),
        Item("tests/metrics/test_metrics.py::test_sum[torch-5]", backend="torch"),
        Item("tests/training/test_cuts.py::test_sum[jax-6]", backend="jax"),
        Item("tests/metrics/test_metrics.py::test_sum[torch-7]", backend="torch", spec="jax"),
        Item("tests/losses/test_contract.py::test_sum[jax-8]", backend="jax"),
        Item("tests/losses/test_contract.py::test_sum[jax-9]", backend="jax"),
    ]
    found = left(["numpy", "torch", "jax"], items, [], first_case_on="jax,cupy")
    assert [name[-2] for name in found] == ["1", "3", "4", "5", "6", "7", "8", "9"]
