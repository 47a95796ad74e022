"""A summary's numbers are those that one counts by hand."""

import dataclasses

import numpy as np
import pytest

from xpnn.layers import (
    Add,
    Dense,
    Dropout,
    Flatten,
    Graph,
    Input,
    Layer,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    Tanh,
)
from xpnn.network import Network
from xpnn.optimizers import SGD, Adam
from xpnn.summary import Row

pytestmark = pytest.mark.width

FLOAT = 4  # bytes


def classifier(backend="numpy", dtype="float32"):
    return Network([Dense(128), ReLU(), Dense(10)], (784,), backend, dtype=dtype)


class Scaled(Layer):
    """Keeps one array that does not grow with the batch, and a list of two that do."""

    def forward(self, x, training=False):
        xp = self.xp
        self.cache["scale"] = xp.ones((1000,), dtype=x.dtype, device=self.backend.device)
        self.cache["steps"] = [x + 1.0, (x + 2.0, "not an array")]
        return x * 2.0

    def backward(self, delta):
        return delta * 2.0


@pytest.mark.any_width
def test_a_known_network(backend):
    summary = classifier(backend).summary()
    assert summary.params == summary.trainable_params == 101_770
    assert summary.frozen_params == 0
    assert summary.multiply_adds == 784 * 128 + 128 * 10
    assert summary.param_bytes == summary.grad_bytes == 101_770 * FLOAT
    assert summary.rows == (
        Row("0.dense", 0, (128,), 784 * 128 + 128, 784 * 128),
        Row("1.relu", 0, (128,), 0, 0),
        Row("2.dense", 0, (10,), 128 * 10 + 10, 128 * 10),
    )


def test_cached_activations_are_counted_once_though_two_layers_keep_them(backend):
    # 784 inputs of the first Dense; 128 outputs of ReLU, which are the inputs of the second Dense
    assert classifier(backend).summary().cache_bytes_per_sample == (784 + 128) * FLOAT


@pytest.mark.any_width
def test_a_mask_of_booleans_takes_a_byte_for_each(backend):
    net = Network([Dense(6), Dropout(0.5), Dense(2)], (4,), backend)
    inputs, mask, dropped = 4 * FLOAT, 6, 6 * FLOAT
    assert net.summary().cache_bytes_per_sample == inputs + mask + dropped


def test_a_view_of_an_array_takes_no_memory_of_its_own(backend):
    net = Network([ReLU(), Flatten(), Dense(10)], (28, 28), backend)
    copies = 1 if backend.name in ("numpy", "torch", "cupy") else 2  # the others reshape by copying
    assert net.summary().cache_bytes_per_sample == copies * 784 * FLOAT


def test_what_does_not_grow_with_the_batch_is_not_counted_for_each_sample(backend):
    net = Network([Scaled()], (5,), backend)
    assert net.summary().cache_bytes_per_sample == 2 * 5 * FLOAT


def test_layers_at_every_depth_have_a_row():
    net = Network([Residual([Dense(3), Sequential([Tanh(), Dense(3)])]), Dense(2)], (3,))
    assert [(row.name, row.depth, row.params, row.multiply_adds) for row in net.summary().rows] == [
        ("0.residual", 0, 24, 18),
        ("0.residual.body", 1, 24, 18),
        ("0.residual.body.0.dense", 2, 12, 9),
        ("0.residual.body.1.sequential", 2, 12, 9),
        ("0.residual.body.1.sequential.0.tanh", 3, 0, 0),
        ("0.residual.body.1.sequential.1.dense", 3, 12, 9),
        ("1.dense", 0, 8, 6),
    ]


@pytest.mark.parametrize(
    ("optimizer", "slots"),
    [(SGD(0.1), 0), (SGD(0.1, momentum=0.9), 1), (Adam(), 2)],
    ids=["sgd", "momentum", "adam"],
)
def test_optimizer_memory_is_that_of_its_slots(backend, optimizer, slots):
    summary = classifier(backend).summary(optimizer)
    assert summary.optimizer_bytes == slots * 101_770 * FLOAT


def test_half_precision_halves_all_but_the_slots():
    summary = classifier(dtype="float16").summary(Adam())
    assert summary.param_bytes == summary.grad_bytes == 101_770 * 2
    assert summary.optimizer_bytes == 2 * 101_770 * FLOAT
    assert summary.cache_bytes_per_sample == (784 + 128) * 2


def test_frozen_parameters_are_told_apart():
    net = classifier()
    net.layers[0].trainable = False
    summary = net.summary()
    assert (summary.trainable_params, summary.frozen_params) == (1290, 100_480)


@pytest.mark.any_width
def test_the_network_is_left_as_it_was(backend):
    net = Network([Dense(4), Dropout(0.5), Dense(2)], (3,), backend, seed=1)
    x = backend.asarray(np.ones((5, 3), dtype="float32"))
    net.backward(net.forward(x, training=True))
    kept = {
        name: {kind: dict(getattr(layer, kind)) for kind in ("params", "state", "cache", "grads")}
        for name, layer in net.walk()
    }
    net.summary(Adam())
    for name, layer in net.walk():
        for kind, before in kept[name].items():
            after = getattr(layer, kind)
            assert after.keys() == before.keys()
            assert all(after[key] is before[key] for key in before), (name, kind)


def test_a_failing_layer_too_leaves_the_network_as_it_was():
    class Broken(Layer):
        def backward(self, delta):
            raise RuntimeError("broken")

        def forward(self, x, training=False):
            return x

    net = Network([Dropout(0.5), Broken()], (3,))
    with pytest.raises(RuntimeError, match="broken"):
        net.summary()
    assert net.state == {"0.dropout.draw": 0}
    assert net.layers[0].cache == {}


def test_it_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        classifier().summary().params = 0


def test_it_reads_as_a_table():
    net = Network([Dense(128), Residual([Dense(128), Sigmoid()]), Dense(10)], (784,))
    net.layers[2].trainable = False
    assert str(net.summary(Adam())) == (
        "layer          output shape  parameters  multiply-adds\n"
        "------------------------------------------------------\n"
        "0.dense        (128,)           100,480        100,352\n"
        "1.residual     (128,)            16,512         16,384\n"
        "  body         (128,)            16,512         16,384\n"
        "    0.dense    (128,)            16,512         16,384\n"
        "    1.sigmoid  (128,)                 0              0\n"
        "2.dense        (10,)              1,290          1,280\n"
        "------------------------------------------------------\n"
        "parameters          118,282 (116,992 trainable, 1,290 frozen)\n"
        "multiply-adds       118,016 a sample\n"
        "parameter memory    473.1 kB\n"
        "gradient memory     473.1 kB\n"
        "optimizer memory    946.3 kB\n"
        "cached activations  4.7 kB a sample"
    )
    assert "optimizer memory" not in str(net.summary())


def graph(shared):
    size, color = Input((3,), name="size"), Input((4,), name="color")
    first = shared(Dense(4)(size))
    both = Add()(first, shared(color))
    return Network(inputs=[size, color], outputs={"sum": both, "other": Dense(1)(first)})


OF_GRAPH = """\
layer            output shape  reads                               parameters  multiply-adds
--------------------------------------------------------------------------------------------
size             (3,)
color            (4,)
0.dense          (4,)          size                                        16             12
1.dense, call 1  (4,)          0.dense                                     20             16
1.dense, call 2  (4,)          color                             as in call 1             16
2.add            (4,)          1.dense, call 1; 1.dense, call 2             0              0
3.dense          (1,)          1.dense, call 1                              5              4
--------------------------------------------------------------------------------------------
outputs             sum from 2.add; other from 3.dense
parameters          41 (41 trainable, 0 frozen)
"""


def test_a_graph_says_who_feeds_whom():
    assert str(graph(Dense(4)).summary()).startswith(OF_GRAPH)


def test_a_graph_for_programs():
    summary = graph(Sequential([Dense(4), Tanh()])).summary()
    outer = [row for row in summary.rows if row.depth == 0]
    assert sum(row.params for row in outer) == summary.params
    assert sum(row.multiply_adds for row in outer) == summary.multiply_adds == 12 + 16 + 16 + 4
    assert [row.name for row in outer if row.is_input] == ["size", "color"]
    assert summary.rows[6] == Row("1.sequential", 0, (4,), 0, 16, ("color",), call=2)
    assert summary.outputs == (("sum", "2.add"), ("other", "3.dense"))


def test_a_graph_inside_of_a_chain_has_rows_for_its_inputs():
    x = Input((3,), name="x")
    summary = Network([Dense(3), Graph.of(x, Tanh()(x))], (2,)).summary()
    assert [(row.name, row.reads) for row in summary.rows] == [
        ("0.dense", ()),
        ("1.graph", ()),
        ("1.graph.x", ()),
        ("1.graph.0.tanh", ("x",)),
    ]


def test_a_network_of_no_layers_has_an_empty_table():
    summary = Network([], (3,)).summary()
    assert (summary.rows, summary.params, summary.cache_bytes_per_sample) == ((), 0, 0)
