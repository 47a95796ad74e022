"""Every layer of the table as a model of ONNX, which gives what ``predict`` gives."""

import numpy as np
import pytest

from tests.layers.table import LAYERS, each_layer, table
from tests.onnx.running import (
    batch_of,
    exported,
    model_in,
    of_random_values,
    operators_in,
    outputs_of,
)
from xpnn import (
    GELU,
    GRU,
    LSTM,
    AveragePool2D,
    Conv2D,
    ConvTranspose2D,
    Dense,
    Flatten,
    MaxPool2D,
    MultiHeadAttention,
    Softmax,
)

HALVES = [  # of each kind of layer one, as what makes them narrow is the same for all
    *("dense", "gelu", "softplus", "mish", "softmax", "conv2d", "depthwise", "transposed"),
    *("max-pool-padded", "average-pool", "global-average-pool", "up-sampling-linear"),
    *("batch-norm", "layer-norm", "group-norm-pixels", "embedding", "sinusoidal-positions"),
    *("lstm", "gru", "attention-causal-rotating", "grouped-attention", "masked", "dot-cosine"),
]
each_kind = table([row for row in LAYERS if row.id in HALVES])


def test_each_kind_is_one_of_the_table():
    assert len(HALVES) == len([row for row in LAYERS if row.id in HALVES])


@each_layer
def test_the_model_gives_what_predict_gives(make, input_shape, tmp_path):
    """The batch is free; ``to_onnx`` itself runs ONNX's checker, with inference of shapes."""
    network, rng = of_random_values([make()], input_shape), np.random.default_rng(1)
    session = exported(network, tmp_path)
    for count in (1, 2, 5):
        x = batch_of(count, input_shape, rng)
        (found,) = session.run(None, {"x": x})
        wanted = network.predict(x)
        assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-6)


@each_kind
def test_float16(make, input_shape, tmp_path):
    network, rng = (
        of_random_values([make()], input_shape, dtype="float16"),
        np.random.default_rng(1),
    )
    session = exported(network, tmp_path)
    x = batch_of(3, input_shape, rng)
    (found,) = session.run(None, {"x": x if x.dtype.kind == "i" else x.astype(np.float16)})
    assert found.dtype == np.float16
    wanted = network.predict(x).astype(np.float32)
    scale = max(1.0, np.abs(wanted).max())
    np.testing.assert_allclose(found, wanted, atol=4 * 2**-11 * scale)  # roundings of 11 bits


@pytest.mark.needs("torch")
@each_kind
def test_bfloat16(make, input_shape, tmp_path):
    """Run by ONNX's own evaluator: onnxruntime has hardly any operators for it on a CPU."""
    import ml_dtypes
    from onnx.reference import ReferenceEvaluator

    network = of_random_values([make()], input_shape, "torch", "bfloat16")
    network.to_onnx(tmp_path / "network.onnx")
    x = batch_of(3, input_shape, np.random.default_rng(1))
    given = x if x.dtype.kind == "i" else x.astype(ml_dtypes.bfloat16)
    (found,) = ReferenceEvaluator(str(tmp_path / "network.onnx")).run(None, {"x": given})
    assert found.dtype == ml_dtypes.bfloat16
    wanted = network.backend.to_numpy(network.predict(x))
    scale = max(1.0, np.abs(wanted).max())
    difference = np.abs(found.astype(np.float32) - wanted)
    assert difference.max() <= 4 * 2**-8 * scale  # roundings of 8 bits


WINDOWS = [  # that reach beyond an axis, leave some of it out, or overlap, as none of the table
    lambda: Conv2D(2, 3, stride=3, padding="same"),
    lambda: Conv2D(2, (1, 2), stride=(5, 3), padding="same"),
    lambda: Conv2D(4, 2, dilation=(2, 3), padding=(3, 2), stride=2, groups=2),
    lambda: MaxPool2D(2, stride=3),
    lambda: MaxPool2D(3, stride=2, padding="same"),
    lambda: AveragePool2D(3, stride=2, padding="same"),
    lambda: AveragePool2D(3, stride=4, padding=2, count_padding=True),
    lambda: ConvTranspose2D(2, 3, stride=3, padding=1, output_padding=2),
    lambda: ConvTranspose2D(4, 2, stride=3, padding="same", dilation=2, groups=2),
    lambda: ConvTranspose2D(2, 1, stride=2, output_padding=1),
]


@pytest.mark.parametrize("make", WINDOWS, ids=lambda make: repr(make()))
def test_windows_of_all_kinds(make, tmp_path):
    network = of_random_values([make()], (7, 8, 4))
    x = batch_of(2, (7, 8, 4), np.random.default_rng(1))
    (found,) = exported(network, tmp_path).run(None, {"x": x})
    np.testing.assert_allclose(found, network.predict(x), rtol=1e-5, atol=2e-6)


def test_from_every_backend(backend, tmp_path):
    layers = Conv2D(3, 3, activation="relu"), MaxPool2D(2), Flatten(), Dense(4), GELU()
    network = of_random_values(layers, (6, 6, 2), backend)
    x = batch_of(3, (6, 6, 2), np.random.default_rng(1))
    (found,) = exported(network, tmp_path).run(None, {"x": x})
    np.testing.assert_allclose(found, network.to("numpy").predict(x), rtol=1e-5, atol=2e-6)


def test_what_onnx_has_operators_for_is_one_of_them(tmp_path):
    path = tmp_path / "network.onnx"
    for layers, shape, wanted in (
        ([Conv2D(3, 3), MaxPool2D(2)], (6, 6, 2), {"Transpose", "Conv", "MaxPool"}),
        ([GELU()], (4,), {"Erf", "Sub", "Mul", "Max"}),
        ([Softmax()], (4,), {"Softmax"}),
    ):
        of_random_values(layers, shape).to_onnx(path)
        assert operators_in(path) == wanted
    for layer in (LSTM(3), GRU(3, reverse=True)):
        of_random_values([layer], (50, 2)).to_onnx(path)
        nodes = model_in(path).graph.node
        assert [node.op_type for node in nodes].count("Scan") == 1
        assert len(nodes) < 14
    of_random_values([MultiHeadAttention(2, causal=True)], (40, 4)).to_onnx(path)
    assert len(model_in(path).graph.node) < 30


def test_what_nobody_reads_is_left_out(tmp_path):
    """What ``backward`` would want of each step of an LSTM, and constants of that."""
    network = of_random_values([LSTM(3)], (4, 2))
    session = exported(network, tmp_path)
    assert [one.name for one in session.get_outputs()] == ["output_0"]
    model = model_in(tmp_path / "network.onnx")
    (scan,) = (node for node in model.graph.node if node.op_type == "Scan")
    (body,) = (one.g for one in scan.attribute if one.name == "body")
    assert len(body.output) == 2  # h and c
    names = {one.name for one in model.graph.initializer}
    used = {name for graph in (model.graph, body) for node in graph.node for name in node.input}
    assert names <= used


def test_parameters_keep_their_names(tmp_path):
    from onnx import numpy_helper

    network = of_random_values([Dense(3), Softmax(), Dense(2)], (4,))
    network.to_onnx(tmp_path / "network.onnx")
    model = model_in(tmp_path / "network.onnx")
    arrays = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    assert arrays.keys() == network.params.keys()
    for name, param in network.params.items():
        np.testing.assert_array_equal(arrays[name], param)
    assert [node.name for node in model.graph.node][:2] == ["0.dense/MatMul", "0.dense/Add"]


def test_outputs_that_the_graph_does_not_make(tmp_path):
    """An input itself, a value twice."""
    from xpnn import Input, Network, ReLU

    a, b = Input((3,), name="a"), Input((2,), name="b")
    network = Network(inputs=[a, b], outputs={"same": b, "first": ReLU()(a), "second": ReLU()(a)})
    x = {"a": np.float32([[-1, 0, 2]]), "b": np.float32([[-3, 4]])}
    found = outputs_of(exported(network, tmp_path), **x)
    np.testing.assert_array_equal(found["same"], x["b"])
    np.testing.assert_array_equal(found["first"], [[0, 0, 2]])
    np.testing.assert_array_equal(found["second"], [[0, 0, 2]])
