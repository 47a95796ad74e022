import pytest

WHY = "models of ONNX are written by the extra onnx, and run by onnxruntime"


@pytest.fixture(autouse=True)
def needs_onnx():
    """Where one of the two is not installed, there is nothing to look at."""
    pytest.importorskip("onnx", reason=WHY)
    pytest.importorskip("onnxruntime", reason=WHY)
