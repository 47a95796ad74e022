"""Fixtures of the tests of backends."""

import pytest

from xpnn import backends
from xpnn.backends import cuda_driver


@pytest.fixture
def cupy_that_attends():
    """CuPy with a cuDNN that has attention and that nobody has asked anything yet."""
    cudnn = pytest.importorskip("cudnn")
    from xpnn.backends.cupy.attention import Pass
    from xpnn.backends.cupy.backend import CupyBackend
    from xpnn.backends.cupy.cudnn import Cudnn

    backend = CupyBackend()
    backend._cudnn = Cudnn(cudnn, backend.device.id)
    backend._cudnn.attends = True
    shape, strides = (1, 1, 8, 8), ((64, 8, 8, 1),) * 5
    back = Pass("sdpa_backward", shape, shape, strides, 1.0, False, False, "float16", False)
    if backend._cudnn.plan(back) is None:
        pytest.skip("this cuDNN works no gradients of attention out")
    backend._cudnn.plan.cache_clear()
    return backend


@pytest.fixture
def fresh(monkeypatch):
    """get_backend and the driver's answer as in a new process."""
    for function in (backends._open, backends._open_auto, cuda_driver.driver_fault):
        function.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    for function in (backends._open, backends._open_auto, cuda_driver.driver_fault):
        function.cache_clear()
