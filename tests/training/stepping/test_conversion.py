"""What Trainer.step makes of a batch, and which it refuses: at first and later, compiled or not."""

import numpy as np
import pytest

import xpnn
from xpnn import Adam, Dense, Dropout, Embedding, Flatten, Network, Trainer
from xpnn.errors import DataError, ShapeError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(8, 4)).astype("f4"), RNG.integers(0, 3, 8)
WEIGHT = RNG.uniform(size=8).astype("f4")

each_way = pytest.mark.parametrize("compile", [None, False])


def trainer_on(backend, compile):
    network = Network([Dense(5), Dropout(0.2), Dense(3)], (4,), backend, seed=1)
    return Trainer(network, xpnn.cross_entropy, Adam(0.05), compile=compile)


def losses(trainer, *batches):
    backend = trainer.network.backend
    return [float(backend.to_numpy(trainer.step(*batch))) for batch in batches]


BAD = {
    "features": ((X[:, :3], Y), ShapeError, r"\(batch, 4\)"),
    "axes": ((X[0], Y), ShapeError, r"\(batch, 4\)"),
    "fewer targets": ((X, Y[:1]), ShapeError, "x has 8, y has 1"),
    "fewer weights": ((X, Y, WEIGHT[:1]), ShapeError, "x has 8, y has 8, sample_weight has 1"),
    "fractions of classes": ((X, Y + 0.5), DataError, "class numbers of an integer dtype"),
    "texts": ((X.astype(str), Y), DataError, "wanted numbers"),
    "no targets": ((X, None), DataError, "NoneType|numbers"),
}


@each_way
@pytest.mark.parametrize(("batch", "error", "text"), BAD.values(), ids=BAD)
def test_a_batch_that_does_not_fit_is_refused_and_changes_nothing(
    backend, compile, batch, error, text
):
    trainer, other = trainer_on(backend, compile), trainer_on(backend, compile)
    good = X, Y, WEIGHT
    with pytest.raises(error, match=text):
        trainer.step(*batch)
    assert losses(trainer, good, good) == losses(other, good, good)
    with pytest.raises(error, match=text):
        trainer.step(*batch)
    assert trainer.steps == 2
    assert losses(trainer, good) == losses(other, good)
    for name, array in other.network.numpy_arrays().items():
        np.testing.assert_array_equal(trainer.network.numpy_arrays()[name], array, err_msg=name)


FORMS = {
    "float64": (X.astype("f8"), Y, WEIGHT.astype("f8")),
    "bytes": (X, Y.astype("i1"), WEIGHT),
    "lists": (X.tolist(), Y.tolist(), WEIGHT.tolist()),
    "big endian": (X.astype(">f4"), Y.astype(">i8"), WEIGHT),
}


@each_way
@pytest.mark.parametrize("batch", FORMS.values(), ids=FORMS)
def test_numbers_of_any_form_train_alike(backend, compile, batch):
    good = X, Y, WEIGHT
    expected = losses(trainer_on(backend, compile), good, good, good)
    assert losses(trainer_on(backend, compile), good, batch, good) == expected
    assert losses(trainer_on(backend, compile), batch, batch, good) == expected


@each_way
def test_ids_have_to_be_integers(backend, compile):
    network = Network([Embedding(9, 2), Flatten(), Dense(3)], (4,), backend)
    trainer = Trainer(network, xpnn.cross_entropy, Adam(0.05), compile=compile)
    losses(trainer, (RNG.integers(0, 9, (8, 4)), Y))
    with pytest.raises(DataError, match="integers"):
        trainer.step(X, Y)
    assert trainer.steps == 1
