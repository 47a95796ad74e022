"""The backends that the contract tables run on.

``XPNN_TEST_BACKENDS`` lists them, for example ``numpy,torch,jax,array-api-strict:device1,cupy``.
One that is asked for and does not work here is an error, never a silent skip.
"""

import os

import numpy as np
import pytest

from xpnn.backends import Backend, get_backend

SPECS = os.environ.get("XPNN_TEST_BACKENDS", "numpy,array-api-strict:device1").split(",")


@pytest.fixture(params=SPECS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn."""
    return get_backend(request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers of a test, the same in every run."""
    return np.random.default_rng(0)


def needs(*specs: str) -> pytest.MarkDecorator:
    """For a test about one library: skipped where the run does not ask for it."""
    wanted = [spec for spec in specs if spec not in {s.partition(":")[0] for s in SPECS}]
    return pytest.mark.skipif(
        bool(wanted), reason=f"XPNN_TEST_BACKENDS does not ask for {', '.join(wanted)}"
    )
