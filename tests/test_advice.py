"""What errors say to write, run on what was given: arrays, lists, tables, tensors.

A new ``change=`` in an error needs a line here, or in ``test_given_arrays.py``.
"""

import ast
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import xpnn
from tests.conftest import needs
from tests.test_given_arrays import REFUSED, Table
from tests.test_given_arrays import network as of_numbers
from xpnn import SGD, Accuracy, Dense, Embedding, Flatten, Network, Trainer
from xpnn.backends import get_backend
from xpnn.errors import XpnnError
from xpnn.guide import InputLayer, OutputLayer

X = np.random.default_rng(0).random((12, 3), dtype=np.float32)
IDS = np.arange(36).reshape(12, 3) % 5
YES = np.arange(12) % 2
CLASSES = np.arange(12) % 3
QUIET = {"progress": False}


def yes_or_no(**more):
    return Trainer(Network([Dense(1)], (3,)), xpnn.binary_cross_entropy, SGD(0.1), **more)


def of_classes(loss=xpnn.cross_entropy, **more):
    return Trainer(Network([Dense(3)], (3,)), loss, SGD(0.1), **more)


def flattened(predictions, targets, *, sample_weight=None, backend=None):
    """A loss that looks at no shape."""
    labels = backend.xp.reshape(targets, (-1,))
    return xpnn.cross_entropy(predictions, labels, sample_weight=sample_weight, backend=backend)


def of_ids():
    return Network([Embedding(5, 2), Flatten(), Dense(2)], (3,))


def squares():
    return Trainer(of_numbers(), xpnn.mean_squared_error, SGD(0.1))


def one_number(**more):
    return Trainer(Network([Dense(1)], (3,)), xpnn.mean_squared_error, SGD(1e-4), **more)


def linked(y):
    layer = OutputLayer(1, InputLayer(X))
    layer.feedforward()
    layer.backprop(y)


HINTS = {  # what is given and what takes it, which says what to write of it by that name
    "a column is missing": ("y", YES.astype("f4"), lambda y: yes_or_no().fit(X, y, **QUIET)),
    "a column is missing, a step": ("y", YES.astype("f4"), lambda y: yes_or_no().step(X, y)),
    "a column is missing, a batch": ("y", YES, lambda y: yes_or_no().fit([(X, y)], **QUIET)),
    "a column is missing, measured": ("y", YES, lambda y: yes_or_no().evaluate(X, y)),
    "a column is missing, held out": (
        "y",
        YES,
        lambda y: yes_or_no().fit(X, YES[:, None], validation=(X, y), **QUIET),
    ),
    "a column too many": ("y", CLASSES[:, None], lambda y: of_classes().fit(X, y, **QUIET)),
    "a column too many, a step": ("y", CLASSES[:, None], lambda y: of_classes().step(X, y)),
    "labels as floats": ("y", CLASSES.astype("f4"), lambda y: of_classes().fit(X, y, **QUIET)),
    "labels as floats, a step": ("y", CLASSES.astype("f4"), lambda y: of_classes().step(X, y)),
    "labels as floats, measured": (
        "y",
        CLASSES.astype("f4"),
        lambda y: of_classes().evaluate(X, y),
    ),
    "numbers for yes and no": (
        "y",
        CLASSES[:, None],
        lambda y: one_number(metrics=[Accuracy(threshold=0.5)]).evaluate(X, y),
    ),
    "a column too many, for a metric": (
        "y",
        CLASSES[:, None],
        lambda y: of_classes(flattened, metrics=[Accuracy()]).evaluate(X, y),
    ),
    "a column is missing beside a variance": (
        "y",
        YES.astype("f4"),
        lambda y: Trainer(Network([Dense(2)], (3,)), xpnn.gaussian, SGD(0.1)).fit(X, y, **QUIET),
    ),
    "one sample": ("x", X[0], lambda x: of_numbers().predict(x)),
    "one sample, passed on": ("x", X[0], lambda x: of_numbers()(x)),
    "one sample, a step": ("x", X[0], lambda x: squares().step(x, X[:1, :2])),
    "one sample, measured": ("x", X[0], lambda x: squares().evaluate(x, X[:1, :2])),
    "ids as floats": ("x", IDS.astype("f4"), lambda x: of_ids().predict(x)),
    "one sample of the guide": ("X", X[0], InputLayer),
    "a column is missing in the guide": ("y", YES.astype("f4"), linked),
    "strings": ("x", np.array([["1", "2", "3"]]), lambda x: of_numbers().predict(x)),
    "labels in words": (
        "y",
        np.array(["cat", "dog", "cow"] * 4),
        lambda y: of_classes().fit(X, y, **QUIET),
    ),
    "dates": (
        "y",
        np.arange("2020-01-01", "2020-01-13", dtype="datetime64[D]")[:, None],
        lambda y: one_number().fit(X, y, **QUIET),
    ),
    "lengths of time": (
        "y",
        np.arange(12).astype("timedelta64[h]")[:, None],
        lambda y: one_number().fit(X, y, **QUIET),
    ),
}


def in_torch(values):
    import torch

    return torch.tensor(values)


HOLDERS = {
    "array": lambda values: values,
    "list": lambda values: values.tolist() if values.dtype.kind not in "Mm" else list(values),
    "table": Table,
    "strict": lambda values: get_backend("array-api-strict").asarray(values),
    "tensor": pytest.param(in_torch, marks=needs("torch")),
    "jax": pytest.param(lambda values: get_backend("jax").asarray(values), marks=needs("jax")),
}


def rows():
    for holder, made in HOLDERS.items():
        hold, marks = (made.values[0], made.marks) if hasattr(made, "marks") else (made, ())
        for name, (argument, values, run) in HINTS.items():
            if values.dtype.kind in "biuf" or holder in ("array", "list", "table"):
                yield pytest.param(argument, hold, values, run, id=f"{name}-{holder}", marks=marks)


def follow(argument, given, run):
    """Run what an error says to write, and what takes it again."""
    with pytest.raises(XpnnError) as refused:
        run(given)
    line = re.search(r"; write (.*)$", str(refused.value))[1]
    names = {"np": np, "array_api_strict": sys.modules.get("array_api_strict")}
    run(eval(line, {**names, argument: given}))


@pytest.mark.parametrize(("argument", "hold", "values", "run"), list(rows()))
def test_what_an_error_says_to_write_helps(argument, hold, values, run):
    follow(argument, hold(values), run)


# Nothing says what to write that is not tried --------------------------------------------------


ROOT = Path(xpnn.__file__).parent


def places():
    """Where the package makes an error with a change: files, first lines, last lines."""
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and any(one.arg == "change" for one in node.keywords):
                yield path, node.lineno, node.end_lineno


@pytest.mark.host_only
@pytest.mark.filterwarnings("ignore")
def test_every_change_is_tried(monkeypatch):
    seen, made = [], XpnnError.__init__

    def noted(self, *arguments, **named):
        frame = sys._getframe(1)
        seen.append((Path(frame.f_code.co_filename), frame.f_lineno))
        made(self, *arguments, **named)

    monkeypatch.setattr(XpnnError, "__init__", noted)
    for argument, values, run in HINTS.values():
        follow(argument, values.tolist() if values.dtype.kind in "biuf" else values, run)
    for make in REFUSED.values():
        if not hasattr(make, "marks"):
            with pytest.raises(XpnnError):
                get_backend("numpy").asarray(make(X))
    left = [
        f"{path.relative_to(ROOT)}:{first}"
        for path, first, last in places()
        if not any(path == where and first <= line <= last for where, line in seen)
        and path not in OF_LIBRARIES
    ]
    assert not left, f"nobody tries what is said at {left}; add a line to HINTS"


OF_LIBRARIES = {ROOT / "backends" / "torch" / "backend.py"}
"""Tried by ``test_given_arrays.py`` where the library is installed."""
