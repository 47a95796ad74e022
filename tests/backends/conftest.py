"""Fixtures of the tests of backends."""

import pytest

from xpnn import backends
from xpnn.backends import cuda_driver


@pytest.fixture
def fresh(monkeypatch):
    """get_backend and the driver's answer as in a new process."""
    for function in (backends._open, backends._open_auto, cuda_driver.driver_fault):
        function.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    for function in (backends._open, backends._open_auto, cuda_driver.driver_fault):
        function.cache_clear()
