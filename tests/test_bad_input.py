"""Bad input: it works as a person expects, or it says what was wanted, what came and what to do.

Whatever happens, a call that fails has changed nothing.
"""

import functools

import numpy as np
import pytest

import xpnn
from xpnn import SGD, Adam, Dense, Network, ReLU, Trainer
from xpnn.backends import get_backend
from xpnn.errors import BackendUnavailable, DataError, ShapeError

X = np.random.default_rng(0).random((20, 4), dtype=np.float32)
Y = np.arange(20) % 3
NAN = np.where(np.arange(80).reshape(20, 4) == 41, np.nan, X)


def make_trainer(backend="numpy", loss=xpnn.cross_entropy):
    return Trainer(Network([Dense(5), ReLU(), Dense(3)], (4,), backend), loss, Adam(1e-2))


# id: what is passed to fit, the error, and what its message has to say: wanted, came, do
REFUSED = {
    "too few features": (
        (X[:, :3], Y),
        {},
        ShapeError,
        r"wanted inputs of shape \(batch, 4\), got \(20, 3\); reshape the inputs",
    ),
    "one sample without its batch axis": (
        (X[0], Y[:1]),
        {},
        ShapeError,
        r"wanted inputs of shape \(batch, 4\), got \(4,\); for a single sample add the batch axis",
    ),
    "a number": ((3.0, Y), {}, ShapeError, r"wanted inputs of shape \(batch, 4\), got \(\)"),
    "strings": (
        (np.full((20, 4), "a"), Y),
        {},
        DataError,
        r"wanted numbers .* got dtype <U1, strings; replace them by numbers",
    ),
    "objects": ((X.astype(object), Y), {}, DataError, r"wanted numbers .* got dtype object"),
    "complex numbers": ((X + 1j, Y), {}, DataError, r"wanted numbers .* got dtype complex64"),
    "ragged lists": (([[1, 2], [3]], [0, 1]), {}, DataError, r"wanted an array of numbers"),
    "labels too large": (
        (X, Y + 1),
        {},
        DataError,
        r"wanted class numbers from 0 to 2, .*, got numbers from 1 to 3; count classes from 0",
    ),
    "negative labels": ((X, Y - 1), {}, DataError, r"wanted class numbers from 0 to 2"),
    "labels as floats": (
        (X, Y.astype(float)),
        {},
        DataError,
        r"wanted class numbers of an integer dtype, got .*float32; write y.astype\('int64'\)",
    ),
    "labels in a column": (
        (X, Y[:, None]),
        {},
        ShapeError,
        r"wanted class numbers of shape \(batch,\) or one-hot",
    ),
    "no targets": ((X, None), {}, DataError, r"wanted targets y, got None; for an autoencoder"),
    "NaN in the inputs": (
        (NAN, Y),
        {},
        DataError,
        r"wanted finite numbers, but 1 of 80 in x are NaN or infinite; remove these samples",
    ),
    "infinity in the inputs": ((np.where(X > 0.9, np.inf, X), Y), {}, DataError, "in x are NaN or"),
    "empty data": ((X[:0], Y[:0]), {}, DataError, "wanted at least one sample, got none"),
    "mismatched lengths": (
        (X, Y[:19]),
        {},
        ShapeError,
        r"wanted one row for each sample everywhere, but x has 20, y has 19; align the data",
    ),
    "mismatched weights": (
        (X, Y),
        {"sample_weight": np.ones(3)},
        ShapeError,
        "sample_weight has 3",
    ),
    "negative weights": (
        (X, Y),
        {"sample_weight": -np.ones(20)},
        DataError,
        r"sample_weight of at least 0, got neg",
    ),
    "NaN weights": (
        (X, Y),
        {"sample_weight": np.full(20, np.nan)},
        DataError,
        "20 of 20 in sample_weight",
    ),
    "bad validation inputs": (
        (X, Y),
        {"validation": (X[:, :2], Y)},
        ShapeError,
        r"got \(20, 2\)",
    ),
    "bad validation labels": (
        (X, Y),
        {"validation": (X, Y + 7)},
        DataError,
        "got numbers from 7 to 9",
    ),
    "NaN in validation": (
        (X, Y),
        {"validation": (NAN, Y)},
        DataError,
        "1 of 80 in validation x are NaN",
    ),
    "validation of one array": ((X, Y), {"validation": (X,)}, ValueError, "got a tuple of 1"),
    "validation of everything": ((X, Y), {"validation": 1.0}, ValueError, r"in \(0, 1\), got 1.0"),
    "validation of nothing": ((X, Y), {"validation": 0.01}, DataError, "leaves one part empty"),
    "no epochs": ((X, Y), {"epochs": 0}, ValueError, "at least 1, got epochs=0"),
    "empty batches": ((X, Y), {"batch_size": 0}, ValueError, "batch_size=0"),
}


@pytest.mark.fault("bad input to fit")
@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_a_clear_text_and_nothing_changed(backend, case):
    data, settings, error, text = REFUSED[case]
    trainer = make_trainer(backend)
    before = trainer.network.numpy_arrays()
    with pytest.raises(error, match=text):
        trainer.fit(*data, progress=False, **settings)
    assert trainer.steps == trainer.epoch == 0
    for name, value in trainer.network.numpy_arrays().items():
        np.testing.assert_array_equal(value, before[name])
    assert trainer.fit(X, Y, progress=False)["loss"][0] > 0  # and good data still train


@functools.cache
def reference_losses(backend):
    return make_trainer(backend).fit(X, Y, epochs=2, progress=False)["loss"]


# id: the same samples in another form
ACCEPTED = {
    "lists": (X.tolist(), Y.tolist()),
    "float64": (X.astype(np.float64), Y),
    "big-endian": (X.astype(">f4"), Y.astype(">i4")),
    "Fortran order": (np.asfortranarray(X), Y),
    "every second of twice as many": (np.repeat(X, 2, axis=0)[::2], np.repeat(Y, 2)[::2]),
    "backwards and back again": (X[::-1].copy()[::-1], Y[::-1].copy()[::-1]),
    "one-hot rows": (X, np.eye(3)[Y]),
    "labels as uint8": (X, Y.astype(np.uint8)),
    "labels as int16": (X, Y.astype(np.int16)),
    "another library's arrays": (
        get_backend("array-api-strict:device1").asarray(X),
        get_backend("array-api-strict:device1").asarray(Y),
    ),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted_in_another_form(backend, case):
    history = make_trainer(backend).fit(*ACCEPTED[case], epochs=2, progress=False)
    assert history["loss"] == pytest.approx(reference_losses(backend), rel=1e-5)


def test_a_batch_larger_than_the_data_is_all_of_them(backend):
    history = make_trainer(backend).fit(X, Y, batch_size=1000, progress=False)
    whole = make_trainer(backend).fit(X, Y, batch_size=20, progress=False)
    assert history["loss"] == pytest.approx(whole["loss"], rel=1e-6)


@pytest.mark.parametrize("name", ["numpi", "", "torch:xpu9", "numpy:gpu", "array-api-strict:x"])
def test_unknown_backends_are_refused_with_the_choices(name):
    with pytest.raises(BackendUnavailable, match=r"numpy|device|install"):
        Network([Dense(2)], (3,), name)


def test_layers_that_do_not_fit_are_named():
    with pytest.raises(ShapeError, match=r"layer 1.reshape: Reshape\(\(3, 3\)\) cannot hold the 8"):
        Network([Dense(8), xpnn.Reshape((3, 3))], (4,))


def test_layer_classes_in_place_of_layers_are_explained():
    with pytest.raises(TypeError, match=r"is made of layers, got .*ReLU.*; write ReLU\(\)"):
        Network([Dense(2), ReLU], (4,))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((Network, xpnn.cross_entropy, Adam()), r"network: wanted Network\(.*, got <class"),
        ((None, 3, Adam()), "Trainer wants loss to be a function, or a name, got 3"),
        ((None, xpnn.cross_entropy, Adam), r"optimizer: wanted an object such as Adam\(1e-3\)"),
        ((None, xpnn.cross_entropy, 3), r"optimizer: .*, got 3"),
    ],
)
def test_wrong_parts_of_a_trainer_are_explained(arguments, text):
    network, *rest = arguments
    with pytest.raises(TypeError, match=text):
        Trainer(network or Network([Dense(2)], (4,)), *rest)


def test_predict_refuses_what_fit_refuses():
    network = Network([Dense(2)], (4,))
    with pytest.raises(ShapeError, match=r"wanted inputs of shape \(batch, 4\), got \(20, 3\)"):
        network.predict(X[:, :3])


@pytest.mark.parametrize("rate", [-1.0, "fast", None, float("nan")])
def test_rates_that_are_none_are_refused(rate):
    with pytest.raises((ValueError, TypeError), match="rate"):
        SGD(rate)
