"""How many kernels, copies and products layers launch on a GPU, counted in a captured graph.

A small network spends its time on them. Where a number here goes down, write it down; where it goes
up, something has come apart that was one kernel.
"""

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import needs
from xpnn import (
    GELU,
    GRU,
    LSTM,
    SGD,
    Adam,
    AveragePool2D,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    GroupNorm,
    LayerNorm,
    LearnedPositions,
    MaxPool2D,
    MultiHeadAttention,
    Network,
    ReLU,
    RMSNorm,
    SimpleRNN,
    Softmax,
    cross_entropy,
    get_backend,
    mean_squared_error,
)
from xpnn.training.stepping.step import make_train_step

pytestmark = needs("cupy")

# by its name in docs/gpu.md: the layer, its input shape, and (launches, products among them)
# forward and backward
LAYERS = {
    "Dense": (lambda: Dense(8), (5,), (2, 1), (3, 2)),
    "ReLU": (ReLU, (5,), (1, 0), (1, 0)),
    "GELU": (GELU, (5,), (1, 0), (1, 0)),
    "Softmax": (Softmax, (5,), (3, 0), (2, 0)),
    "Dropout": (lambda: Dropout(0.5), (5,), (3, 0), (1, 0)),
    "BatchNorm": (BatchNorm, (5,), (6, 0), (3, 0)),
    "BatchNorm of images": (BatchNorm, (8, 8, 2), (8, 0), (5, 0)),
    "LayerNorm": (LayerNorm, (5,), (4, 0), (6, 0)),
    "RMSNorm": (RMSNorm, (5,), (2, 0), (4, 0)),
    "GroupNorm of images": (lambda: GroupNorm(2), (4, 4, 6), (12, 0), (15, 0)),
    "Embedding": (lambda: Embedding(7, 8), (6,), (1, 0), (2, 0)),
    "LearnedPositions": (LearnedPositions, (6, 8), (1, 0), (2, 0)),
    "MultiHeadAttention": (lambda: MultiHeadAttention(2), (6, 8), (13, 4), (20, 8)),
    "MultiHeadAttention, causal": (
        lambda: MultiHeadAttention(2, causal=True),
        (6, 8),
        (14, 4),
        (20, 8),
    ),
    "MultiHeadAttention, `rotate=True`": (
        lambda: MultiHeadAttention(2, rotate=True),
        (6, 8),
        (15, 4),
        (22, 8),
    ),
    "LSTM, 4 steps": (lambda: LSTM(6), (4, 3), (18, 5), (25, 7)),
    "LSTM, 8 steps": (lambda: LSTM(6), (8, 3), (31, 9), (41, 11)),
    "GRU, 4 steps": (lambda: GRU(6), (4, 3), (17, 5), (34, 7)),
    "SimpleRNN, 4 steps": (lambda: SimpleRNN(6), (4, 3), (13, 5), (21, 7)),
}
# the same of layers that slide a window, first with cuDNN, then without
SLIDING = {
    "Conv2D 3x3": (lambda: Conv2D(4, 3), (8, 8, 2), ((2, 0), (6, 0)), ((6, 1), (20, 10))),
    "Conv2D 3x3, same": (
        *(lambda: Conv2D(4, 3, padding="same"), (8, 8, 2)),
        *(((2, 0), (6, 0)), ((8, 1), (22, 10))),
    ),
    "Conv2D 3x3 of 16 channels": (
        *(lambda: Conv2D(4, 3), (8, 8, 16)),
        *(((2, 0), (6, 0)), ((6, 1), (20, 10))),
    ),
    "MaxPool2D": (lambda: MaxPool2D(2), (8, 8, 2), ((2, 0), (4, 0)), ((3, 0), (5, 0))),
    "AveragePool2D": (lambda: AveragePool2D(2), (8, 8, 2), ((2, 0), (3, 0)), ((3, 0), (4, 0))),
}


@pytest.fixture
def count(monkeypatch):
    """A function that counts what a function launches: (in all, products among them)."""
    from xpnn.backends.cupy.graph import count_launches
    from xpnn.backends.cupy.products import Products

    own, products = Products.product, []

    def product(self, a, b):
        products.append((a.shape, b.shape))
        return own(self, a, b)

    monkeypatch.setattr(Products, "product", product)

    def counted(function):
        products.clear()
        launches = count_launches(function)
        return launches, len(products)

    return counted


def batch_of(network, rng, size=4):
    backend = network.backend
    if isinstance(network.layers[0], Embedding):
        return backend.asarray(rng.integers(0, 5, (size, *network.input_shape)))
    return backend.asarray(rng.standard_normal((size, *network.input_shape)), "float32")


def assert_launches(rng, count, layer, shape, forward, backward):
    network = Network([layer], shape, "cupy", seed=0)
    x, root = batch_of(network, rng), network.root
    delta = network.backend.asarray(rng.standard_normal((4, *network.output_shape)), "float32")
    assert count(lambda: root.forward(x, True)) == forward
    root.forward(x, True)  # what a captured forward has kept was never worked out
    assert count(lambda: root.backward(delta)) == backward


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_launches_no_more_than_that(rng, count, name):
    make, *rest = LAYERS[name]
    assert_launches(rng, count, make(), *rest)


# the same in half precision, in a training step: its options, whether it is masked, by its weights
# and by cuDNN
IN_HALVES = {
    "MultiHeadAttention, float16": ({}, False, ((15, 4), (22, 8)), ((5, 2), (11, 4))),
    "MultiHeadAttention, causal, float16": (
        *({"causal": True}, False),
        *(((16, 4), (22, 8)), ((5, 2), (11, 4))),
    ),
    "MultiHeadAttention, masked, float16": ({}, True, ((19, 4), (22, 8)), ((15, 2), (26, 4))),
}


@pytest.mark.parametrize("attends", [False, True])
@pytest.mark.parametrize("name", IN_HALVES)
def test_attention_in_half_precision_launches_no_more_than_that(
    rng, count, monkeypatch, cupy_that_attends, name, attends
):
    options, masked, *both = IN_HALVES[name]
    forward, backward = both[attends]
    asked, cudnn = [], cupy_that_attends._cudnn
    monkeypatch.setattr(cudnn, "attends", attends)
    monkeypatch.setattr(cudnn, "run", lambda plan, arrays: asked.append(plan))
    layer = MultiHeadAttention(2, **options)
    network = Network([layer], (6, 16), cupy_that_attends, dtype="float16", seed=0)
    layer.inspected, root = False, network.root
    x, delta = (network.asarray(rng.standard_normal((4, 6, 16))) for _ in range(2))
    if masked:
        layer.cache["mask"] = network.backend.asarray(rng.random((4, 6)) < 0.5)
    launches, products = count(lambda: root.forward(x, True))
    assert (launches + attends, products) == forward  # an operation of cuDNN's is asked for alone
    root.forward(x, True)  # what a captured forward has kept was never worked out
    launches, products = count(lambda: root.backward(delta))
    assert (launches + attends, products) == backward
    assert len(asked) == (5 if attends else 0)  # each is counted in two calls


@pytest.mark.parametrize("name", SLIDING)
def test_a_sliding_layer_launches_no_more_than_that(rng, count, name):
    pytest.importorskip("cudnn")
    make, shape, with_cudnn, _ = SLIDING[name]
    assert_launches(rng, count, make(), shape, *with_cudnn)


@pytest.mark.usefixtures("without_cudnn")
@pytest.mark.parametrize("name", SLIDING)
def test_a_sliding_layer_without_cudnn_launches_no_more_than_that(rng, count, name):
    make, shape, _, without = SLIDING[name]
    assert_launches(rng, count, make(), shape, *without)


def listed(numbers):
    return " | ".join(
        f"{all_in_all} ({of})" if of else f"{all_in_all}" for all_in_all, of in numbers
    )


def test_the_page_lists_these():
    page = (Path(__file__).parents[2] / "docs" / "gpu.md").read_text("utf-8")
    rows = {name: numbers for name, (_, _, *numbers) in LAYERS.items()}
    for name, (_, _, *both) in SLIDING.items():
        rows[name], rows[f"{name}, without cuDNN"] = both
    for name, (_, _, *both) in IN_HALVES.items():
        rows[name], rows[f"{name}, by cuDNN"] = both
    for name, numbers in rows.items():
        assert f"| {name} | {listed(numbers)} |\n" in page


@pytest.mark.parametrize(("loss", "launches"), [(cross_entropy, 5), (mean_squared_error, 2)])
def test_a_loss_launches_no_more_than_that(rng, count, loss, launches):
    backend = get_backend("cupy")
    predictions = backend.asarray(rng.standard_normal((4, 3)), "float32")
    if loss is cross_entropy:
        targets = backend.asarray(rng.integers(0, 3, 4))
    else:
        targets = backend.asarray(rng.standard_normal((4, 3)), "float32")
    assert count(lambda: loss(predictions, targets, backend=backend)) == (launches, 0)


def updating(optimizer, layers):
    """What an update of so many dense layers does, once parameters lie where updates leave them."""
    network = Network([Dense(6) for _ in range(layers)], (6,), "cupy", seed=0)
    backend = network.backend
    update = optimizer.make_update(backend)
    grads = {name: param * 0.1 for name, param in network.params.items()}
    params, state = update(network.params, grads, optimizer.init(network.params, backend))
    return lambda: update(params, grads, state)


@pytest.mark.parametrize(("optimizer", "launches"), [(SGD(0.1), 3), (Adam(), 3)])
@pytest.mark.parametrize("layers", [2, 8, 16])
def test_an_update_launches_as_much_for_many_layers_as_for_few(count, optimizer, launches, layers):
    assert count(updating(optimizer, layers)) == (launches, 0)


def test_a_step_of_a_small_network_launches_at_most_14_kernels(rng, count):
    network = Network([Dense(128), ReLU(), Dense(10)], (784,), "cupy", seed=0)
    backend, optimizer = network.backend, Adam()
    step = make_train_step(network, cross_entropy, optimizer, compile=False)
    x, y = batch_of(network, rng, 32), backend.asarray(rng.integers(0, 10, 32).astype(np.int32))
    start = network.params, network.state, optimizer.init(network.params, backend)
    params, state, opt_state, _ = step(*start, x, y)
    launches, products = count(lambda: step(params, state, opt_state, x, y))
    assert products == 5
    assert launches - products <= 14
