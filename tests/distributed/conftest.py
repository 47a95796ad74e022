"""What the tests of several processes run on."""

import pytest

from tests.conftest import SPECS
from xpnn.backends import Backend, get_backend


@pytest.fixture(params=[one for one in SPECS if not one.startswith("jax")])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend whose processes a Communicator connects: on JAX that is XLA, see test_jax.py."""
    return get_backend(request.param)
