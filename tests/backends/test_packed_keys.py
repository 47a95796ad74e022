"""Keys that are seen are put in front, and what is found for them goes back to where they were."""

import numpy as np
import pytest

from xpnn.backends.portable.packed_keys import Packer

pytestmark = pytest.mark.width


@pytest.mark.slow_to_compile  # call by call; compiled, it is part of that backend's attention
def test_keys_that_are_seen_come_first_and_go_back(backend, rng):
    mask, packer = rng.random((5, 37)) < 0.6, Packer(backend)
    mask[1], mask[2], mask[3] = False, True, np.arange(37) < 9
    K, A = (rng.standard_normal((5, 3, n, 4)).astype(np.float32) for n in (37, 6))

    with backend.on_device():
        packing, K_, A_ = packer.packing(backend.asarray(mask), 6), *map(backend.asarray, (K, A))
        found = packing.packed(K_), packing.unpacked(K_), packing.answered(A_)
        packed, unpacked, answered = map(backend.to_numpy, found)
        back = backend.to_numpy(packing.unpacked(packing.packed(K_)))
        queries, keys = map(backend.to_numpy, (packing.queries, packing.keys))
    assert queries.tolist() == [6] * 5
    assert keys.tolist() == [max(1, count) for count in mask.sum(axis=1)]
    for k, seen in enumerate(mask):
        order = np.concatenate([np.flatnonzero(seen), np.flatnonzero(~seen)])
        np.testing.assert_array_equal(packed[k], K[k][:, order])
        np.testing.assert_array_equal(unpacked[k][:, order], K[k] * seen[order][:, None])
        np.testing.assert_array_equal(back[k], K[k] * seen[:, None])
        np.testing.assert_array_equal(answered[k], A[k] * seen.any())
