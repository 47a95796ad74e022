"""What ``to_onnx`` takes: names, dtypes, opset, texts, several inputs and outputs; and refuses."""

import builtins

import numpy as np
import pytest

import xpnn
from tests.onnx.running import exported, model_in, of_random_values, outputs_of
from xpnn import (
    BackendUnavailable,
    Concatenate,
    Dense,
    Embedding,
    ExportError,
    GlobalAveragePool,
    Input,
    Network,
    ReLU,
    Standardize,
    XpnnError,
)


def two_in_two_out():
    price, words = Input((3,), name="price"), Input((4,), takes="integers", name="words")
    mean = GlobalAveragePool()(Embedding(7, 5)(words))
    hidden = Concatenate()(Dense(4)(price), mean)
    return Network(
        inputs=[price, words], outputs={"label": Dense(3)(hidden), "score": Dense(1)(hidden)}
    )


def test_several_inputs_and_outputs(tmp_path):
    network, rng = two_in_two_out(), np.random.default_rng(0)
    session = exported(
        network,
        tmp_path,
        batch="rows",
        free={"words": {1: "length"}},
        names={"price": "numbers", "label": "class"},
        dtypes={"price": "uint8", "words": "int32", "score": "float64"},
    )
    inputs = {one.name: (one.type, one.shape) for one in session.get_inputs()}
    assert inputs == {
        "numbers": ("tensor(uint8)", ["rows", 3]),
        "words": ("tensor(int32)", ["rows", "length"]),
    }
    outputs = {one.name: (one.type, one.shape) for one in session.get_outputs()}
    assert outputs == {
        "class": ("tensor(float)", ["rows", 3]),
        "score": ("tensor(double)", ["rows", 1]),
    }
    for count in (1, 2, 5):
        price = rng.integers(0, 256, (count, 3)).astype(np.uint8)
        words = rng.integers(0, 7, (count, 4)).astype(np.int32)
        found = outputs_of(session, numbers=price, words=words)
        wanted = network.predict({"price": price, "words": words})
        np.testing.assert_allclose(found["class"], wanted["label"], rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(found["score"], wanted["score"], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64"])
def test_ids_of_any_integers(dtype, tmp_path):
    network = Network([Embedding(5, 3)], (2,))
    x = np.asarray([[0, 4], [2, 2]], dtype)
    (found,) = exported(network, tmp_path, dtypes={"x": dtype}).run(None, {"x": x})
    np.testing.assert_array_equal(found, network.predict(x))


def test_a_fixed_batch(tmp_path):
    session = exported(of_random_values([Dense(2)], (3,)), tmp_path, batch=np.int64(4))
    assert [one.shape for one in (*session.get_inputs(), *session.get_outputs())] == [
        [4, 3],
        [4, 2],
    ]


@pytest.mark.parametrize("loss", [xpnn.cross_entropy, xpnn.binary_cross_entropy])
def test_probabilities(loss, tmp_path):
    network = of_random_values([Dense(3)], (4,))
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    (found,) = exported(network, tmp_path, probabilities=loss).run(None, {"x": x})
    np.testing.assert_allclose(found, network.predict(x, probabilities=loss), rtol=1e-5)


def test_texts_and_versions(tmp_path):
    network, path = of_random_values([Dense(2)], (3,)), tmp_path / "models" / "small.onnx"
    network.to_onnx(path, opset=21, description="Two lines.", metadata={"licence": str(1)})
    model = model_in(path)
    assert model.opset_import[0].version == 21
    assert (model.producer_name, model.producer_version) == ("xpnn", xpnn.__version__)
    assert model.doc_string == "Two lines."
    assert {one.key: one.value for one in model.metadata_props} == {"licence": "1"}
    network.to_onnx(path)
    assert model_in(path).opset_import[0].version == 18
    first = path.read_bytes()
    network.to_onnx(path)
    assert path.read_bytes() == first


def test_the_network_stays_as_it_is(tmp_path):
    network = two_in_two_out()
    x = {"price": np.ones((2, 3)), "words": np.ones((2, 4), int)}
    before = network.predict(x)["label"]
    network.to_onnx(tmp_path / "network.onnx")
    np.testing.assert_array_equal(network.predict(x)["label"], before)
    assert all("forward" not in vars(layer) for layer in network.all_layers)
    network.to_onnx(tmp_path / "network.onnx", names={"price": "p"})  # once more


WRONG = [
    ({"names": "p"}, TypeError, r"names is a dict, such as \{'x': 'pixels'\}, got 'p'"),
    ({"free": "time"}, TypeError, "free is a dict"),
    ({"metadata": {"year": 2026}}, TypeError, r"texts by texts, got 2026; write str\(2026\)"),
    ({"batch": 0}, ValueError, "batch to be a name"),
    ({"batch": ""}, ValueError, "batch to be a name"),
    ({"free": {3: "time"}}, ValueError, "free of price, words, got one of 3"),
    ({"free": {"words": {2: "time"}}}, ValueError, "from 1 to 1.*got 2: 'time'"),
    ({"free": {"words": "time"}}, TypeError, r"free=\{'words': \{1: 'time'\}\}"),
    (
        {"names": {"prize": "p"}},
        ValueError,
        "names of price, words, label, score, got one of 'prize'",
    ),
    ({"names": {"price": ""}}, TypeError, "texts for names"),
    ({"dtypes": {"price": "complex64"}}, ValueError, "dtype of price is one of bool, uint8"),
    ({"dtypes": {"words": "float32"}}, ValueError, "dtype of words is one of uint8, int8"),
    ({"opset": 17}, ValueError, "opset from 18 to .*got 17"),
    ({"opset": 1000}, ValueError, "got 1000"),
    ({"past": 3}, XpnnError, "one input, which is that of the text"),
    ({"probabilities": True}, ValueError, "does not know by itself"),
]


@pytest.mark.parametrize(("options", "error", "message"), WRONG)
def test_what_does_not_fit_the_network(options, error, message, tmp_path):
    path = tmp_path / "network.onnx"
    path.write_bytes(b"as it was")
    with pytest.raises(error, match=message):
        two_in_two_out().to_onnx(path, **options)
    assert path.read_bytes() == b"as it was"


@pytest.mark.needs("torch")
def test_operators_for_bfloat16_are_newer(tmp_path):
    network = Network([Dense(2)], (3,), backend="torch", dtype="bfloat16")
    network.to_onnx(tmp_path / "network.onnx")
    assert model_in(tmp_path / "network.onnx").opset_import[0].version == 22
    with pytest.raises(ValueError, match=r"from 22 to .* for bfloat16 .* got 21"):
        network.to_onnx(tmp_path / "network.onnx", opset=21)


def test_what_is_not_ready_says_so(tmp_path):
    with pytest.raises(XpnnError, match="adapt"):
        Network([Standardize()], (3,)).to_onnx(tmp_path / "network.onnx")


def test_more_than_a_file_holds(tmp_path, monkeypatch):
    monkeypatch.setattr("xpnn.onnx.exporting.LARGEST", 100)
    network = Network([Dense(10), ReLU()], (3,))
    with pytest.raises(ExportError, match=r"take 160 bytes.*half precision"):
        network.to_onnx(tmp_path / "network.onnx")
    network.save(tmp_path / "network.safetensors")
    half = xpnn.load(tmp_path / "network.safetensors", dtype="float16")
    half.to_onnx(tmp_path / "network.onnx")


def test_two_of_one_name(tmp_path):
    network, wrong = two_in_two_out(), {"price": "words"}
    with pytest.raises(ValueError, match=r"names=\{'words': 'other'\}"):
        network.to_onnx(tmp_path / "network.onnx", names=wrong)
    session = exported(network, tmp_path, names={**wrong, "words": "other"})
    assert [one.name for one in session.get_inputs()] == ["words", "other"]


def test_without_the_package(tmp_path, monkeypatch):
    found = builtins.__import__

    def without(name, *rest):
        if name == "onnx":
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BackendUnavailable, match=r"pip install 'xpnn\[onnx\]'"):
        Network([Dense(2)], (3,)).to_onnx(tmp_path / "network.onnx")


@pytest.mark.parametrize("taken", ["0.dense.weight", "0.dense/MatMul", "constant_1"])
def test_a_name_that_something_in_the_graph_would_have(taken, tmp_path):
    network = of_random_values([Dense(4, activation="gelu"), Dense(2)], (3,))
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    for own in ("x", "output_0"):
        session = exported(network, tmp_path, names={own: taken})
        ends = [one.name for one in (*session.get_inputs(), *session.get_outputs())]
        assert ends == [taken if name == own else name for name in ("x", "output_0")]
        (found,) = session.run(None, {ends[0]: x})
        np.testing.assert_allclose(found, network.predict(x), rtol=1e-5, atol=1e-6)
