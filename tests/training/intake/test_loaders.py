"""Batches of PyTorch's DataLoader, data sets of Hugging Face, generators of dicts."""

import numpy as np
import pytest

import xpnn
from tests.conftest import on_device_of
from xpnn import SGD, Accuracy, Concatenate, Dense, Embedding, Flatten, Input, Network, Trainer
from xpnn.errors import DataError, ShapeError
from xpnn.incoming_batches import batches_of

X, Y = (array[:90] for array in xpnn.datasets.digits())
WEIGHT = np.linspace(0.5, 1.5, 90).astype(np.float32)
QUIET = {"progress": False}


def trainer(backend, **more):
    network = Network([Dense(10)], (64,), backend, seed=1)
    return Trainer(network, xpnn.cross_entropy, SGD(0.1), metrics=[Accuracy()], **more)


def history(backend, *data, **more):
    one = trainer(backend)
    found = one.fit(*data, epochs=2, **more, **QUIET)
    return found.epochs, one.network.numpy_arrays()


def assert_same(one, two):
    assert one[0] == two[0]
    for name, array in one[1].items():
        np.testing.assert_array_equal(array, two[1][name])


def host(network, array):
    return network.backend.to_numpy(array)


def test_all_three_work_on_the_same_batches_of_dicts(backend):
    """In fit, evaluate and predict, with weights, by the names that such batches have."""

    def batches(x="image", y="label", weight="weight"):
        for k in range(0, 90, 32):
            rows = slice(k, k + 32)
            found = {y: Y[rows], x: X[rows], weight: WEIGHT[rows]}
            yield {name: one for name, one in found.items() if name}

    wanted = history(backend, X, Y, sample_weight=WEIGHT, shuffle=False, batch_size=32)
    assert_same(history(backend, batches), wanted)
    assert_same(history(backend, lambda: batches("x", "targets", "sample_weight")), wanted)
    one = trainer(backend)
    found = one.evaluate(batches())
    assert found == pytest.approx(one.evaluate(X, Y, sample_weight=WEIGHT), rel=1e-5)
    predicted = host(one.network, one.network.predict(X))
    for source in (batches, batches(), [batches]):
        made = one.network.predict(source[0] if isinstance(source, list) else source)
        np.testing.assert_allclose(host(one.network, made), predicted, rtol=1e-5, atol=1e-6)
    without = one.network.predict(lambda: batches(y="", weight=""))
    np.testing.assert_allclose(host(one.network, without), predicted, rtol=1e-5, atol=1e-6)


def of_two_inputs(backend):
    size, shop = Input((2,), name="size"), Input((1,), takes="integers", name="shop")
    both = Concatenate()(size, Flatten()(Embedding(5, 3)(shop)))
    outputs = {"price": Dense(1)(both), "kind": Dense(3)(both)}
    network = Network(inputs=[size, shop], outputs=outputs, backend=backend, seed=3)
    losses = {"price": xpnn.mean_squared_error, "kind": xpnn.cross_entropy}
    return Trainer(network, losses, SGD(0.1))


def test_dicts_of_several_inputs_and_targets(backend):
    rng = np.random.default_rng(0)
    flat = {
        "size": rng.standard_normal((20, 2)).astype(np.float32),
        "shop": rng.integers(0, 5, (20, 1)),
        "price": rng.standard_normal((20, 1)).astype(np.float32),
        "kind": rng.integers(0, 3, 20),
    }
    x, y = ({name: flat[name] for name in names} for names in (("size", "shop"), ("price", "kind")))
    forms = [(x, y), flat, {"x": x, "y": y}, {**x, "targets": y}]
    histories = [of_two_inputs(backend).fit([one], **QUIET)["loss"] for one in forms]
    assert all(one == histories[0] for one in histories)
    network = of_two_inputs(backend).network
    wanted = network.predict(x)
    for one in forms:
        found = network.predict(iter([one]))
        for name in wanted:
            np.testing.assert_array_equal(host(network, found[name]), host(network, wanted[name]))


def test_what_lies_on_the_device_is_not_brought_to_the_host(backend, monkeypatch):
    if backend.on_host:
        pytest.skip(f"arrays of {backend.spec} lie on the host")
    x, y = backend.asarray(X, "float32"), backend.asarray(Y)
    one, read, plain = trainer(backend), [], type(backend).to_numpy
    monkeypatch.setattr(
        type(backend), "to_numpy", lambda self, a: read.append(a.shape) or plain(self, a)
    )
    one.fit([{"x": x, "y": y}], **QUIET)
    one.network.predict(iter([{"x": x, "y": y}]))
    assert read
    assert not [shape for shape in read if shape in (x.shape, y.shape)]


WRONG = {
    "two that are left": (
        {"a": X, "b": X, "y": Y},
        DataError,
        "batch 1: .*inputs by the names 'x'",
    ),
    "two targets": ({"x": X, "y": Y, "label": Y}, DataError, "got x, y, label; rename them"),
    "no target": ({"x": X}, DataError, "batch 1: wanted inputs x and targets y, got None"),
    "one sample": ({"x": X[0], "y": Y[0]}, ShapeError, "batch 1: .*a single sample"),
    "nothing": ({}, DataError, "got nothing"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_dict_is_said(case):
    batch, error, said = WRONG[case]
    with pytest.raises(error, match=said):
        trainer("numpy").fit([batch], **QUIET)


def test_what_is_wrong_with_batches_to_predict_from_is_said():
    network = trainer("numpy").network
    with pytest.raises(DataError, match="at least one batch to predict from"):
        network.predict(iter([]))
    with pytest.raises(ShapeError, match="batch 2: wanted inputs of shape"):
        network.predict(iter([(X, Y), (X[:, :3], Y)]))


# PyTorch ------------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("by_name", [False, True])
def test_a_loader_of_pytorch(backend, by_name):
    torch = pytest.importorskip("torch")
    data = torch.utils.data

    class Rows(data.Dataset):
        def __len__(self):
            return len(X)

        def __getitem__(self, k):
            x, y = torch.as_tensor(X[k]), int(Y[k])
            return {"pixels": x, "label": y} if by_name else (x, y)

    loader = data.DataLoader(Rows(), batch_size=32)
    wanted = history(backend, X, Y, shuffle=False, batch_size=32)
    assert_same(history(backend, loader), wanted)
    one = trainer(backend)
    assert one.evaluate(loader) == pytest.approx(one.evaluate(X, Y), rel=1e-5)
    found, plain = (host(one.network, one.network.predict(given)) for given in (loader, X))
    np.testing.assert_allclose(found, plain, rtol=1e-5, atol=1e-6)
    validated = trainer(backend).fit(X, Y, validation=loader, **QUIET)
    assert (
        validated["val_accuracy"]
        == trainer(backend).fit(X, Y, validation=(X, Y), **QUIET)["val_accuracy"]
    )


@pytest.mark.torch
def test_tensors_of_a_loader_stay_where_they_are(backend):
    """Of PyTorch's own backend a step gets the loader's tensors themselves."""
    torch = pytest.importorskip("torch")
    if backend.name != "torch":
        pytest.skip(f"{backend.name} has arrays of its own")
    x, y = (on_device_of(backend, torch.as_tensor(one)) for one in (X.astype(np.float32), Y))
    one, seen = trainer(backend, compile=False), []
    plain = one.network.root.forward
    one.network.root.forward = lambda z, training=False: seen.append(z) or plain(z, training)
    one.fit([{"image": x, "label": y}], **QUIET)
    assert seen[0].data_ptr() == x.data_ptr()


# Hugging Face -------------------------------------------------------------------------------------


@pytest.fixture
def rows():
    datasets = pytest.importorskip("datasets", reason="data sets of Hugging Face are its own")
    return datasets.Dataset.from_dict({"image": X.tolist(), "label": Y.tolist()})


@pytest.mark.slow_to_compile
def test_a_data_set_of_hugging_face_trains_as_its_arrays(backend, rows):
    """In the same order, shuffled or not, with the same rows held out, and formatted or not."""
    for more in ({}, {"shuffle": False}, {"batch_size": 20}, {"validation": 0.2}):
        assert_same(history(backend, rows, **more), history(backend, X, Y, **more))
    formatted = rows.with_format("numpy")
    assert_same(history(backend, formatted), history(backend, X, Y))


@pytest.mark.slow_to_compile
def test_what_else_takes_a_data_set_of_hugging_face(backend, rows):
    one = trainer(backend)
    for given in (rows, rows.to_iterable_dataset()):
        for size in (None, 7):
            assert one.evaluate(given, batch_size=size) == pytest.approx(
                one.evaluate(X, Y), rel=1e-5
            )
        found = host(one.network, one.network.predict(given, batch_size=40))
        np.testing.assert_allclose(
            found, host(one.network, one.network.predict(X)), rtol=1e-5, atol=1e-6
        )
        validated = trainer(backend).fit(X, Y, validation=given, **QUIET)
        assert (
            validated["val_accuracy"]
            == trainer(backend).fit(X, Y, validation=(X, Y), **QUIET)["val_accuracy"]
        )


def test_a_streamed_data_set_comes_as_it_is(backend, rows):
    streamed = rows.to_iterable_dataset()
    wanted = history(backend, X, Y, shuffle=False, batch_size=16)
    assert_same(history(backend, streamed, batch_size=16), wanted)
    with pytest.raises(ValueError, match=r"write dataset\.shuffle\(buffer_size"):
        trainer(backend).fit(streamed.shuffle(buffer_size=10), shuffle=True, **QUIET)
    with pytest.raises(ValueError, match="a share can only be held out"):
        trainer(backend).fit(streamed, validation=0.2, **QUIET)


def test_training_goes_on_with_a_data_set_of_hugging_face(tmp_path, rows):
    whole = history("numpy", rows)
    one = trainer("numpy", callbacks=[xpnn.Checkpoint(tmp_path)])
    one.fit(rows, epochs=1, **QUIET)
    other = trainer("numpy", callbacks=[xpnn.Checkpoint(tmp_path)])
    found = other.fit(rows, epochs=2, resume=tmp_path, **QUIET)
    assert_same((found.epochs, other.network.numpy_arrays()), whole)
    with pytest.raises(xpnn.FileError, match="data"):
        trainer("numpy").fit(rows.select(range(50)), epochs=2, resume=tmp_path, **QUIET)


def test_several_data_sets_by_name_are_refused(rows):
    datasets = pytest.importorskip("datasets")
    several, one = datasets.DatasetDict({"train": rows}), trainer("numpy")
    for act in (one.fit, one.evaluate, one.network.predict):
        with pytest.raises(DataError, match=r"got several, train; pass one of them, such as data"):
            act(several)
    one.evaluate(several["train"])


def test_tensors_of_hugging_face_stay_tensors(rows):
    torch = pytest.importorskip("torch")
    batch = next(batches_of(rows.with_format("torch"), 8, np.arange(10)))
    assert isinstance(batch["image"], torch.Tensor)
    assert isinstance(next(batches_of(rows, 8))["image"], np.ndarray)
