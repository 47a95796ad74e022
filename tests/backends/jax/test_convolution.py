"""Convolution of volumes by XLA in one piece, as it is on GPUs: on a CPU it goes plane by plane."""

import numpy as np
import pytest

from tests.backends.test_convolution import CASES, all_three, by_loops
from tests.conftest import needs
from xpnn.backends.jax.backend import JaxBackend

pytestmark = needs("jax")


class InOnePiece(JaxBackend):
    on_host = False


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("three axes")])
def test_volumes_are_convolved_in_one_piece_too(rng, name):
    case, backend = CASES[name], InOnePiece()
    assert not backend._by_planes(case.slides)
    assert JaxBackend("cpu")._by_planes(case.slides)
    arrays = case.arrays(rng)
    found = all_three(InOnePiece, backend, case, *arrays)
    for one, wanted in zip(found, by_loops(case, *arrays), strict=True):
        np.testing.assert_allclose(one, wanted, rtol=1e-5, atol=2e-5)
