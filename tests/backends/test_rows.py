"""Arrays of every library of ``table.py``, as the library has them: taken, told apart, given."""

import numpy as np
import pytest

from tests.backends.table import NUMBERS, each_library
from xpnn.backends import backend_class, backend_of, get_backend
from xpnn.layers import Dense
from xpnn.network import Network


@each_library
def test_its_arrays_are_told_from_those_of_others(name, row):
    array = row.make(NUMBERS)
    found = backend_of(array)
    assert (found.name, type(found)) == (name, backend_class(name))
    assert found.owns(array)
    assert not found.owns(NUMBERS)


@each_library
def test_an_array_of_it_is_read(name, row):
    backend = get_backend(name)
    np.testing.assert_array_equal(backend.to_numpy(row.make(NUMBERS)), NUMBERS)
    np.testing.assert_array_equal(get_backend("numpy").asarray(row.make(NUMBERS)), NUMBERS)


@each_library
def test_it_makes_arrays_of_that_library(name, row):
    array = get_backend(name).asarray(np.array(NUMBERS, np.float32))
    assert row.is_of_it(array)
    assert row.read(array) == NUMBERS


@each_library
def test_a_network_on_it_takes_and_gives_its_arrays(name, row):
    network = Network([Dense(2)], (3,), name, seed=0)
    network.load({"0.dense.weight": [[1, 0], [0, 2], [0, 0.5]], "0.dense.bias": [0, 1]})
    out = network(row.make(NUMBERS))
    assert get_backend(name).owns(out)
    found = get_backend(name).to_numpy(out)
    # 1 * 1.5, 2 * -2 + 0.5 * 3 + 1; 1 * 0.25, 2 * 4 + 0.5 * -1 + 1
    assert found.tolist() == [[1.5, pytest.approx(-1.5)], [0.25, pytest.approx(8.5)]]
