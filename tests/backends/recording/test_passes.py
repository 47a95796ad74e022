"""Passes over the calls of a recording: what they leave out, and what they must not."""

import numpy as np
import pytest

from tests.backends.recording.test_recording import interpret, record

X = np.arange(9.0).reshape(3, 3) / 4


def twice(x, n):
    return np.tanh(x.T @ x) + 1.0, np.tanh(x.T @ x) * n


def of_copies(x, n):
    one, other = x.T.reshape(-1), x.T.reshape(-1)
    return one * n, other + n


MERGED = {"a formula": (twice, [np.matmul, np.tanh, np.add, np.multiply])}
MERGED["a copy"] = (of_copies, [np.reshape, np.multiply, np.add])


@pytest.mark.parametrize("name", MERGED)
def test_what_is_made_twice_is_made_once(name):
    step, functions = MERGED[name]
    recording = record(step, X, 2.0)
    assert [call.function for call in recording.calls] == functions


def written_between(x):
    held = x * 2.0
    first = np.exp(held)
    held += 1.0
    return np.tanh(first), np.tanh(np.exp(held))


def written_later(x):
    one, other = np.exp(x), np.exp(x)
    one += 1.0
    return np.tanh(one), np.tanh(other)


def written_later_as_the_second(x):
    one, other = np.exp(x), np.exp(x)
    other += 1.0
    return np.tanh(one), np.tanh(other)


def returned(x):
    return np.exp(x), np.exp(x)


def with_other_numbers(x):
    return np.tanh(x * 2.0), np.tanh(x * 2), np.tanh(x * -0.0), np.tanh(x * 0.0)


def with_other_constants(x):
    return tuple(np.tanh(x + np.full(3, number)) for number in (1.0, 2.0))


def along_other_axes(x):
    return np.tanh(np.sum(x, axis=0)), np.tanh(np.sum(x, axis=1))


def of_another_dtype(x):
    return np.tanh(x.astype(np.float32)), np.tanh(x.astype(np.float16))


def by_another_function(x):
    return np.tanh(np.exp(x)), np.tanh(np.sqrt(x))


def turned(x):
    return np.exp(x.T @ x), np.exp(x @ x.T)


KEPT = {
    step.__name__: (step, count)
    for step, count in [
        (written_between, 6),
        (written_later, 5),
        (written_later_as_the_second, 5),
        (returned, 2),
        (with_other_numbers, 8),
        (with_other_constants, 4),
        (along_other_axes, 4),
        (of_another_dtype, 4),
        (by_another_function, 4),
        (turned, 4),
    ]
}


@pytest.mark.parametrize("name", KEPT)
def test_what_only_looks_alike_stays(name):
    step, count = KEPT[name]
    recording = record(step, X)
    assert len(recording.calls) == count
    _, found = interpret(recording, [X])
    for one, wanted in zip(found, step(X), strict=True):
        np.testing.assert_array_equal(one, wanted)
        assert one.dtype == wanted.dtype


def test_what_takes_more_memory_than_it_is_made_of_is_made_again():
    def step(x):
        windows = (np.concatenate([x, x, x]) for _ in range(2))
        return tuple(np.tanh(one) for one in windows)

    assert [call.function for call in record(step, X).calls].count(np.concatenate) == 2
