"""What Trainer.step makes of a batch, and which it refuses: at first and later, compiled or not."""

import numpy as np
import pytest

import xpnn
from xpnn import SGD, Adam, Dense, Dropout, Embedding, Flatten, Network, Trainer
from xpnn.errors import DataError, ShapeError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(8, 4)).astype("f4"), RNG.integers(0, 3, 8)
WEIGHT = RNG.uniform(size=8).astype("f4")

each_way = pytest.mark.parametrize(  # on JAX steps are compiled; what is refused is so before
    "compile", [None, pytest.param(False, marks=pytest.mark.slow_to_compile)]
)


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


BAD_NUMBERS = {
    "classes too large": (Y + 1, "class numbers from 0 to 2, .* from 1 to 3"),
    "classes below 0": (Y - 1, "class numbers from 0 to 2, .* from -1 to 1"),
    "too large in lists": ((Y + 1).tolist(), "class numbers from 0 to 2"),
    "shares above 1": (np.ones((8, 3), "f4"), "which sum to 1"),
}


@each_way
@pytest.mark.parametrize(("targets", "text"), BAD_NUMBERS.values(), ids=BAD_NUMBERS)
def test_targets_that_the_loss_cannot_use_are_refused_before_the_first_step(
    backend, compile, targets, text
):
    trainer, other = trainer_on(backend, compile), trainer_on(backend, compile)
    for _ in range(2):
        with pytest.raises(DataError, match=text):
            trainer.step(X, targets)
    assert trainer.steps == 0
    good = X, Y, WEIGHT
    assert losses(trainer, good, good) == losses(other, good, good)


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


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64", "float64"])
@pytest.mark.parametrize("given", ["array", "full device", "iterable"])
def test_a_loss_sees_targets_in_a_dtype_that_every_library_counts_in(
    backend, monkeypatch, given, dtype
):
    """However a batch comes, it is converted once, on its way into the step."""
    seen = set()

    def loss(predictions, targets, *, sample_weight=None, backend=None):
        seen.add(str(targets.dtype).rpartition(".")[2])
        return xpnn.mean_squared_error(
            predictions, backend.xp.astype(targets, predictions.dtype), backend=backend
        )

    monkeypatch.setattr(type(backend), "has_room_for", lambda self, nbytes: given == "array")
    x, y = np.ones((6, 3), np.float32), np.ones((6, 2)).astype(dtype)
    trainer = Trainer(Network([Dense(2)], (3,), backend), loss, SGD(0.1), compile=False)
    batches = ([(x, y)],) if given == "iterable" else (x, y)
    trainer.fit(*batches, progress=False)
    trainer.evaluate(*batches)
    wide = {"int64", "int32"} if dtype == "int64" else {"int32"}  # JAX has 32 bits
    assert len(seen) == 1
    assert seen <= ({"float32"} if dtype == "float64" else wide)


@pytest.mark.parametrize("given", [np.asarray, np.ndarray.tolist], ids=["array", "list"])
def test_ids_that_are_not_looked_up_are_refused(backend, given):
    network = Network([Embedding(5, 3), Flatten(), Dense(2)], (2,), backend)
    trainer = Trainer(network, xpnn.cross_entropy, SGD(0.1))
    for far in (np.array([[1, 5]]), np.array([[-1, 0]])):
        for run in (trainer.step, lambda x, y: xpnn.explain(network, x, y, xpnn.cross_entropy)):
            with pytest.raises(DataError, match="wanted ids from 0 to 4"):
                run(given(far), [1])
    trainer.step(given(np.array([[0, 4]])), [1])
