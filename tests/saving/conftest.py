"""A file to save in, and what is looked at in it."""

import json

import numpy as np
import pytest

from xpnn.saving import TensorFile


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


def same_values(one, other):
    values, wanted = one.numpy_arrays(), other.numpy_arrays()
    assert values.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_array_equal(values[name], wanted[name], err_msg=name)


def description_in(path):
    with TensorFile(path) as file:
        return json.loads(file.metadata["network"])
