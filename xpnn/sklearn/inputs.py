"""X, y and weights as scikit-learn hands them over, and the library that results go back to."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn import get_config
from sklearn.utils.validation import check_array

from xpnn.backends import Backend, backend_of, get_backend
from xpnn.backends.registry import class_recognizing
from xpnn.data.splits import shuffled_order
from xpnn.typing import Array

AS_GIVEN: dict[str, Any] = {"accept_sparse": "csr", "dtype": "numeric", "allow_nd": True}
"""How X is validated: any number of axes, and integers stay integers, for an Embedding."""

FLOATS = ("float32", "float64")


def on_host(values: Any) -> Any:
    """An array of a known library as NumPy's; all else as it is."""
    if class_recognizing(values) is None:
        return values
    return backend_of(values).to_numpy(values)


def home_of(X: Any) -> Backend:
    """Where results go: to the library and device of X under array API dispatch, else to NumPy."""
    return backend_of(X) if get_config()["array_api_dispatch"] else get_backend("numpy")


def result_dtype(X: Any) -> str:
    """That of X, where it is float32 or float64; float64 for all else."""
    name = str(X.dtype).rpartition(".")[2]
    return name if name in FLOATS else "float64"


def handed_back(result: Array, home: Backend, dtype: str | None = None) -> Array:
    """Numbers as an array of ``home``, in memory of their own."""
    if home.owns(result) and not isinstance(result, np.ndarray):
        return home.copied(result, dtype)
    host = np.array(on_host(result), dtype=dtype)
    return host if home.name == "numpy" else home.asarray(host)


def as_weights(sample_weight: Any, count: int) -> np.ndarray | None:
    """One weight for each sample, (samples,) in float64.

    Raises:
        ValueError: they are of another shape, below 0, not finite, or all 0.
    """
    if sample_weight is None:
        return None
    weights: np.ndarray = check_array(
        on_host(sample_weight), ensure_2d=False, dtype=np.float64, input_name="sample_weight"
    )
    if weights.shape != (count,):
        raise ValueError(
            f"wanted sample_weight of shape ({count},), one for each sample, got {weights.shape}"
        )
    if weights.min() < 0:
        raise ValueError(f"wanted weights of at least 0, got {weights.min():g} in sample_weight")
    if not weights.any():
        raise ValueError("wanted a weight above zero in sample_weight, got zero for every sample")
    return weights


class SparseBatches:
    """Rows of a sparse X, made dense batch by batch, in the order in which arrays would come.

    Args:
        X: scipy's, in rows (CSR).
        y: targets, an array or a tuple of arrays.
        weight: (samples,), or None.
        batch_size: rows in a batch.
        seed: of the orders; None for one epoch in the order of the rows.
        rows: numbers of those to take; all, unless given.
    """

    def __init__(
        self,
        X: Any,
        y: Any,
        weight: np.ndarray | None,
        batch_size: int,
        seed: int | None = None,
        rows: np.ndarray | None = None,
    ):
        self.X, self.y, self.weight, self.batch_size = X, y, weight, batch_size
        self.seed = seed
        self.rows = np.arange(X.shape[0]) if rows is None else rows

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self.batches(0)

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Any, ...]]:
        """Those of an epoch, counted from 0, from batch ``start`` on."""
        order = self.rows
        if self.seed is not None:
            order = order[shuffled_order(len(order), self.seed, epoch + 1)]
        for first in range(start * self.batch_size, len(order), self.batch_size):
            chosen = order[first : first + self.batch_size]
            batch = self.X[chosen].toarray(), _rows_of(self.y, chosen)
            yield batch if self.weight is None else (*batch, self.weight[chosen])


def _rows_of(y: Any, rows: np.ndarray) -> Any:
    return tuple(one[rows] for one in y) if isinstance(y, tuple) else y[rows]


def is_sparse(X: Any) -> bool:
    """Whether it is one of scipy's sparse arrays or matrices."""
    return bool(issparse(X))
