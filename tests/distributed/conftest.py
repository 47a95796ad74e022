"""What the tests of several processes run on."""

import pytest

from tests.conftest import SPECS
from xpnn.backends import Backend, get_backend

BY_OTHER_TESTS = "jax", "cupy"
"""On JAX it is XLA that adds up, see test_jax.py. On CuPy a step is rehearsed under a lock, for
which threads that stand for processes would wait for ever: see test_nccl.py, and test_rows.py,
whose steps run call by call."""


@pytest.fixture(params=[one for one in SPECS if not one.startswith(BY_OTHER_TESTS)])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend whose processes may be threads of one."""
    return get_backend(request.param)
