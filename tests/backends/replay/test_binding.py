"""Calls that share memory or names: bound to what they mean, alone or in a loop."""

import numpy as np

from xpnn.backends.replay import Replayed


def test_writes_into_memory_that_others_see_shifted(bind):
    def step(x):
        room = x * 2
        left, right = room[:-1], room[1:]
        added = left + 1
        right += added
        return left * 3 + added - right, room

    replayed = Replayed(step, bind=bind)
    for k in range(3):
        x = np.arange(k, k + 2049, dtype=np.float32) % 97
        for found, wanted in zip(replayed(x), step(x), strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert replayed.recordable


def test_the_order_of_keys_is_not_looked_at(bind):
    def step(held, x):
        new = {"a": held["a"] + 1.0, "n": held["n"] + 1.0, "m": held["m"] * 2.0}
        return new, x["k"] - x["j"] * 2.0 + held["n"] - held["m"]

    replayed = Replayed(step, (0,), bind)
    x = {"k": np.ones(3, np.float32), "j": np.full(3, 4, np.float32)}
    held = {"a": np.zeros(3, np.float32), "n": 1.0, "m": 8.0}
    for k in range(4):
        _, wanted = step(held, x)
        held, found = replayed(held, x)
        np.testing.assert_array_equal(found, wanted)
        assert (held["n"], held["m"]) == (2.0 + k, 16.0 * 2**k)
        held, x = (dict(reversed(one.items())) for one in (held, x))
    assert len(replayed.programs) == 1
