"""The table of backends: a line for each library, with arrays as the library itself has them."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tests.conftest import needs

NUMBERS = [[1.5, -2.0, 3.0], [0.25, 4.0, -1.0]]


@dataclass
class Row:
    """One library.

    Attributes:
        kind: the type of its arrays, by the path that its documentation gives.
        make: an array of float32, made without xpnn.
        read: nested lists of one, read without xpnn.
    """

    kind: str
    make: Callable[[list[list[float]]], Any]
    read: Callable[[Any], list[list[float]]]

    def is_of_it(self, array: Any) -> bool:
        module, _, name = self.kind.rpartition(".")
        return isinstance(array, getattr(importlib.import_module(module), name))


def from_numpy(numbers: list[list[float]]) -> Any:
    return np.array(numbers, np.float32)


def from_cupy(numbers: list[list[float]]) -> Any:
    import cupy

    return cupy.array(numbers, cupy.float32)


def from_torch(numbers: list[list[float]]) -> Any:
    import torch

    return torch.tensor(numbers)


def from_jax(numbers: list[list[float]]) -> Any:
    import jax.numpy as jnp

    return jnp.array(numbers, jnp.float32)


def from_strict(numbers: list[list[float]]) -> Any:
    import array_api_strict as strict

    return strict.asarray(numbers, dtype=strict.float32)


def number_by_number(array: Any) -> list[list[float]]:
    rows, columns = array.shape
    return [[float(array[row, column]) for column in range(columns)] for row in range(rows)]


BACKEND_ROWS = {  # a new backend joins by adding one line
    "numpy": Row("numpy.ndarray", from_numpy, lambda array: array.tolist()),
    "cupy": Row("cupy.ndarray", from_cupy, lambda array: array.get().tolist()),
    "torch": Row("torch.Tensor", from_torch, lambda array: array.tolist()),
    "jax": Row("jax.Array", from_jax, lambda array: array.tolist()),
    "array-api-strict": Row("array_api_strict._array_object.Array", from_strict, number_by_number),
}

each_library = pytest.mark.parametrize(
    ("name", "row"),
    [pytest.param(name, row, id=name, marks=needs(name)) for name, row in BACKEND_ROWS.items()],
)
