"""Arrays that are not what they seem, at every entrance: worked on as their numbers, or refused.

What a refusal says to write is run on what was refused, and then gives what the numbers give.
"""

import functools
import re

import numpy as np
import pytest

import xpnn
from tests.conftest import needs
from xpnn import GELU, SGD, Accuracy, Dense, Network, Trainer
from xpnn.errors import DataError
from xpnn.guide import InputLayer

pytestmark = pytest.mark.fault("array that is not what it seems")

X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(12, 2)).astype(np.float32)


class Reversed(np.ndarray):
    """An array whose operators mean something else."""

    def __mul__(self, other):
        return np.asarray(self)[::-1] * other

    def __add__(self, other):
        return np.asarray(self)[::-1] + other


class Table:
    """As pandas has them: NumPy reads the values, brackets want the name of a column."""

    def __init__(self, values):
        self.values, self.shape = values, values.shape

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)

    def __len__(self):
        return len(self.values)

    def __getitem__(self, name):
        raise KeyError(name)


class Sparse:
    """As every library has it, without its compression."""

    def __init__(self, values):
        self.values, self.shape = values, values.shape

    def toarray(self):
        return self.values


def masked(values, of=0):
    """One number hidden, behind which there is another."""
    hidden = np.ma.masked_array(values.copy(), mask=np.zeros(values.shape, bool))
    hidden[-1, 0] = np.ma.masked
    hidden.data[-1, 0] = -9999
    return hidden


def records(values):
    fields = np.dtype([(f"column {k}", values.dtype) for k in range(values.shape[1])])
    return np.ascontiguousarray(values).view(fields)[:, 0]


def of_scipy(kind):
    def made(values):
        import scipy.sparse

        return getattr(scipy.sparse, kind)(values)

    return pytest.param(made, marks=needs("jax"))  # with which SciPy comes


def of_torch(make):
    def made(values):
        import torch

        return make(torch, torch.tensor(values))

    return pytest.param(made, marks=needs("torch"))


def subclassed(torch, tensor):
    class Reversed(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, arguments=(), named=None):
            found = super().__torch_function__(function, types, arguments, named)
            return -found if function is torch.Tensor.add else found

    return tensor.as_subclass(Reversed)


def without_last(values):
    """What is left where the hidden number is filled in."""
    filled = values.copy()
    filled[-1, 0] = 0
    return filled


WORKED_ON = {
    "matrix": np.matrix,
    "a class of its own": lambda values: values.view(Reversed),
    "a mask that hides nothing": np.ma.masked_array,
    "recarray of one dtype": lambda values: values.view(np.recarray),
    "list": lambda values: values.tolist(),
    "list of arrays": list,
    "tuple of matrices": lambda values: tuple(np.asarray(row) for row in values),
    "table": Table,
    "big-endian": lambda values: values.astype(values.dtype.newbyteorder(">")),
    "long double": lambda values: values.astype(np.longdouble),
    "tensor with a history": of_torch(lambda torch, one: one.requires_grad_() * 1),
    "parameter": of_torch(lambda torch, one: torch.nn.Parameter(one)),
    "frozen parameter": of_torch(lambda torch, one: torch.nn.Parameter(one, False)),
    "tensor of a class of its own": of_torch(subclassed),
    "list of tensors with a history": of_torch(lambda torch, one: list(one.requires_grad_() * 1)),
}

REFUSED = {
    "masked": masked,
    "list of masked rows": lambda values: list(masked(values)),
    "masked matrix": lambda values: masked(np.asarray(values)).view(np.ma.MaskedArray),
    "records": records,
    "record array": lambda values: records(values).view(np.recarray),
    "objects": lambda values: values.astype(object),
    "arrays in an array": lambda values: np.array([*map(list, values), None], object)[:-1],
    "strings": lambda values: values.astype(str),
    "list of strings": lambda values: values.astype(str).tolist(),
    "bytes": lambda values: values.astype(str).astype(bytes),
    "complex": lambda values: values + 0j,
    "sparse": Sparse,
    "sparse matrix": of_scipy("csr_matrix"),
    "sparse array": of_scipy("csc_array"),
    "sparse array by places": of_scipy("coo_array"),
    "sparse tensor": of_torch(lambda torch, one: one.to_sparse()),
    "compressed tensor": of_torch(lambda torch, one: one.to_sparse_csr()),
    "quantized tensor": of_torch(
        lambda torch, one: torch.quantize_per_tensor(one, 1e-4, 0, torch.qint32)
    ),
}
"""Of which the message says what to write."""


def network(backend="numpy"):
    return Network([GELU(), Dense(2)], (3,), backend, seed=1)


def trainer():
    return Trainer(network(), xpnn.mean_squared_error, SGD(0.1))


def after_step(x, y, weight=None):
    value = trainer()
    return float(value.step(x, y, weight))


def after_fit(*data, **more):
    one = trainer()
    one.fit(*data, progress=False, **more)
    return one.network.numpy_arrays()["1.dense.weight"]


def validated(x):
    return trainer().fit(X, Y, validation=(x, Y), progress=False)["val_loss"]


def loaded(values):
    one = Network([Dense(3)], (12,))
    one.load({"0.dense.weight": values, "0.dense.bias": np.zeros(3)})
    return one.numpy_arrays()["0.dense.weight"]


ENTRANCES = {
    "predict x": lambda x: network().predict(x),
    "forward x": lambda x: network()(x),
    "asarray x": lambda x: network().asarray(x),
    "step x": lambda x: after_step(x, Y),
    "fit x": lambda x: after_fit(x, Y),
    "batches x": lambda x: after_fit([(x, Y)]),
    "evaluate x": lambda x: trainer().evaluate(x, Y)["loss"],
    "validation x": validated,
    "load x": loaded,
    "loss x": lambda x: xpnn.mean_squared_error(x, X * 2)[1],
    "metric x": lambda x: Accuracy()(x, np.arange(12) % 3),
    "guide x": lambda x: InputLayer(x).z,
}
OF_TARGETS = {
    "step y": lambda y: after_step(X, y),
    "fit y": lambda y: after_fit(X, y),
    "batches y": lambda y: after_fit([(X, y)]),
    "evaluate y": lambda y: trainer().evaluate(X, y)["loss"],
    "loss y": lambda y: xpnn.mean_squared_error(Y * 2, y)[1],
}


ALL = [(name, run, X) for name, run in ENTRANCES.items()]
ALL += [(name, run, Y) for name, run in OF_TARGETS.items()]


@functools.cache
def right(run, hidden=False):
    """What an entrance gives of the numbers alone."""
    values = next(values for _, one, values in ALL if one is run)
    return run(without_last(values) if hidden else values)


def rows(kinds):
    """Each kind at each entrance; what needs no library is looked at once."""
    found = []
    for kind, made in kinds.items():
        needed = hasattr(made, "marks")
        make, marks = (made.values[0], made.marks) if needed else (made, pytest.mark.host_only)
        found += [pytest.param(make, *one, id=f"{kind}-{name}", marks=marks) for name, *one in ALL]
    return found


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize(("make", "run", "values"), rows(WORKED_ON))
def test_worked_on_as_the_numbers_in_it(make, run, values):
    np.testing.assert_allclose(run(make(values)), right(run), rtol=1e-6)


def advice(error):
    """The line that a message says to write."""
    return re.search(r"; write (.*)$", str(error))[1]


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.parametrize(("make", "run", "values"), rows(REFUSED))
def test_what_a_refusal_says_to_write_helps(make, run, values):
    given = make(values)
    with pytest.raises(DataError) as refused:
        run(given)
    line = advice(refused.value)
    written = eval(line, {"np": np, "x": given, "X": given, "y": given})
    tolerance = {"rtol": 1e-2, "atol": 1e-3} if "dequantize" in line else {"rtol": 1e-5}
    np.testing.assert_allclose(run(written), right(run, "filled" in line), **tolerance)
