"""Elementwise rules of half precision on PyTorch: rounded once, like one kernel."""

import numpy as np
import pytest

from tests.conftest import needs
from xpnn import GELU, Network, get_backend
from xpnn.numerics import widened

pytestmark = needs("torch")
each_half = pytest.mark.parametrize("half", ["float16", "bfloat16"])


@each_half
def test_a_rule_is_rounded_once(rng, half):
    """GELU and its slope are, to the last bit, what they are of the same numbers in float32."""
    backend = get_backend("torch")
    x = backend.asarray(rng.standard_normal((64, 32)).astype(np.float32), half)
    delta = backend.asarray(rng.standard_normal((64, 32)).astype(np.float32), half)
    narrow = Network([GELU()], (32,), backend, dtype=half)
    wide = Network([GELU()], (32,), backend)
    found = narrow.forward(x), narrow.backward(delta)
    wanted = wide.forward(x.float()), wide.backward(delta.float())
    for one, right in zip(found, wanted, strict=True):
        assert one.dtype == x.dtype
        assert (one == right.to(x.dtype)).all()


@each_half
def test_results_are_as_wide_as_the_rule_says(half):
    def rule(xp, x, factor, scale):
        return x * factor, widened(x, xp) * scale, x > 0

    backend = get_backend("torch")
    call = backend.elementwise(rule)
    x = backend.asarray(np.full((3, 2), 1.5, np.float32), half)
    scale = backend.asarray(np.float32(2.0))
    for factor in (2.0, backend.asarray(np.asarray(2.0, np.float32), half)):
        same, wide, positive = call(x, factor, scale)
        dtypes = [same.dtype, wide.dtype, positive.dtype]
        assert dtypes == [x.dtype, scale.dtype, backend.xp.bool]
        assert same.shape == wide.shape == positive.shape == (3, 2)
        assert (same == 3).all()
        assert (wide == 3).all()
