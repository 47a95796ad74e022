"""The two ways to bind a recording: each call by itself, and runs of them as compiled loops."""

import importlib.util

import pytest

from xpnn.backends.numpy.binding import bind_each
from xpnn.backends.numpy.loops.grouping import bind_fused

WITH_NUMBA = pytest.mark.skipif(
    importlib.util.find_spec("llvmlite") is None, reason="llvmlite is not installed"
)


@pytest.fixture(params=[bind_each, pytest.param(bind_fused, marks=WITH_NUMBA)])
def bind(request):
    return request.param


@pytest.fixture(params=["numpy", pytest.param("numpy:numba", marks=WITH_NUMBA)])
def spec(request):
    return request.param
