"""The checks that scikit-learn has for estimators, all of them, on NumPy and on PyTorch.

Without one that is expected to fail. One of them compares weights with repeated samples to 1e-7,
for which scikit-learn has its own MLP take all samples at once, in float64: so is it done here.
"""

import pytest

from tests.conftest import SPECS, needs
from xpnn import Adam

checks = pytest.importorskip("sklearn.utils.estimator_checks", reason="needs scikit-learn")

from xpnn.sklearn import Classifier, Regressor  # noqa: E402

SETTINGS = {"layers": (32,), "optimizer": Adam(0.02), "epochs": 30, "dtype": "float64"}
"""Few epochs at a high rate; no data set of a check is larger than a batch but for two."""


def estimators(backend):
    return [kind(backend=backend, **SETTINGS) for kind in (Classifier, Regressor)]


@pytest.fixture(autouse=True)
def dispatching(monkeypatch):
    """What scikit-learn wants to be told before it hands over arrays of other libraries."""
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")


def run(estimator, check):
    library = check.keywords.get("array_namespace")
    if library == "cupy" and library not in SPECS:  # which is often there without a GPU
        pytest.skip("XPNN_TEST_BACKENDS does not ask for cupy")
    check(estimator)


@checks.parametrize_with_checks(estimators("numpy"))
def test_on_numpy(estimator, check):
    run(estimator, check)


@needs("torch")
@checks.parametrize_with_checks(estimators("torch"))
def test_on_torch(estimator, check):
    run(estimator, check)
