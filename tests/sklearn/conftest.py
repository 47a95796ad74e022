"""Data that the tests of estimators share."""

import numpy as np
import pytest

import xpnn


@pytest.fixture(scope="session")
def digits():
    """400 of the digits, float64 as scikit-learn has it, and their labels."""
    x, y = xpnn.datasets.digits()
    return x[:400].astype(np.float64), y[:400]
