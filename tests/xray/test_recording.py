"""What is explained is what a trainer does, and whoever is explained stays as it was."""

import copy
import dataclasses
import functools

import numpy as np
import pytest

import xpnn
from tests.layers.table import BATCH, LAYERS, Ids, draw, table
from xpnn import (
    L2,
    SGD,
    Adam,
    Add,
    BatchNorm,
    ClipByGlobalNorm,
    Dense,
    Dropout,
    Identity,
    Input,
    Layer,
    Network,
    ReLU,
    Residual,
    Tanh,
    Trainer,
    explain,
)
from xpnn.errors import BackendUnavailable, DataError, ShapeError
from xpnn.guide import HiddenLayer, InputLayer, OutputLayer
from xpnn.losses import quadratic_cost

FEW_NUMBERS = [row for row in LAYERS if "over-blocks" not in row.id]


def values_of(network):
    return {name: np.array(one) for name, one in network.numpy_arrays().items()}


def targets_of(network, seed=2):
    return np.asarray(draw(network.output_shape, seed))


def check_it_is_the_step(network, x, y, loss, optimizer):
    """Explain a step, take it: to the bit the same became of each parameter; the network stays."""
    before = values_of(network)
    seen = explain(network, x, y, loss, optimizer)
    for name, value in values_of(network).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    trainer = Trainer(copy.deepcopy(network), loss, optimizer, compile=False)
    value = trainer.step(x, y)
    (step,) = seen.steps
    to_numpy = network.backend.to_numpy
    assert step.loss == float(to_numpy(value))
    after = values_of(trainer.network)
    places = {info.name: info.name.partition(", call ")[0] for info in seen.layers}
    updates = {
        f"{place}.{key}": one
        for name, place in places.items()
        for key, one in step.layers[name].updates.items()
    }
    assert updates.keys() == network.params.keys()
    for name, update in updates.items():
        change = after[name] - before[name]
        np.testing.assert_array_equal(update, change, err_msg=name)
    return seen


@pytest.mark.slow_to_compile  # where each call is compiled by itself; a few networks are below
@table(FEW_NUMBERS)
def test_a_step_is_that_of_a_trainer(backend, make, input_shape):
    network = Network([make()], input_shape, backend)
    x, y = draw(input_shape), targets_of(network)
    seen = check_it_is_the_step(network, x, y, "mse", Adam(0.1))
    outer = seen.layers[0]
    assert outer.inside is None
    assert outer.kind == type(network.layers[0]).__name__
    view = seen.steps[0].layers[outer.name]
    np.testing.assert_array_equal(view.inputs[0], x.astype(view.inputs[0].dtype))
    assert view.output.shape == (BATCH, *network.output_shape)
    np.testing.assert_allclose(view.delta, 2 * (view.output - y) / y.size, rtol=1e-4, atol=1e-6)
    assert (view.passed[0] is None) == (isinstance(input_shape, Ids))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_the_network_stays_as_it_is_bit_for_bit(backend, dtype):
    """Values, counters of draws, running statistics, what is kept, and what a step would do."""
    try:
        backend.dtype(dtype)
    except BackendUnavailable as error:
        pytest.skip(str(error))
    layers = [Dense(4), BatchNorm(), Dropout(0.5), ReLU(), Dense(2)]
    network = Network(layers, (3,), backend, seed=4, dtype=dtype)
    network.freeze("0.*")
    x, y = draw((3,)), draw((2,), seed=2)
    network.forward(x, training=True)
    kept = {(n, k): v for n, one in network.walk() for k, v in one.cache.items()}
    state_before, passes = values_of(network), (network.passes, network.awaits_backward)
    shadows = [{*vars(layer)} for layer in network.all_layers]
    seen = explain(network, x, y, "mse", "adam")
    for name, value in values_of(network).items():
        assert value.tobytes() == state_before[name].tobytes(), name
    assert (network.passes, network.awaits_backward) == passes
    now = {(n, k): v for n, one in network.walk() for k, v in one.cache.items()}
    assert now.keys() == kept.keys()
    assert all(now[key] is kept[key] for key in kept)
    assert [{*vars(layer)} for layer in network.all_layers] == shadows
    again = explain(network, x, y, "mse", "adam")  # the same masks, the same statistics
    for name, view in seen.steps[0].layers.items():
        np.testing.assert_array_equal(view.output, again.steps[0].layers[name].output)
    assert not np.any(seen.steps[0].layers["0.dense"].updates["weight"])  # frozen
    assert np.any(seen.steps[0].layers["0.dense"].grads["weight"])
    assert np.any(seen.steps[0].layers["4.dense"].updates["weight"])


class Fails(Identity):
    """``Z = S``, and no way back."""

    def backward(self, delta):
        raise RuntimeError("no way back")


def test_a_step_that_fails_changes_nothing(backend):
    network = Network([Dense(3), BatchNorm(), Dropout(0.5), Fails(), Dense(2)], (3,), backend)
    before, shadows = values_of(network), [{*vars(one)} for one in network.all_layers]
    optimizer = Adam(0.1)
    described = repr(optimizer)
    with pytest.raises(RuntimeError, match="no way back"):
        explain(network, draw((3,)), draw((2,), seed=2), "mse", optimizer)
    for name, value in values_of(network).items():
        assert value.tobytes() == before[name].tobytes(), name
    assert [{*vars(one)} for one in network.all_layers] == shadows
    assert repr(optimizer) == described


def test_what_one_gets_can_be_written_into(backend):
    network = Network([Dense(2)], (3,), backend)
    before = values_of(network)
    view = explain(network, draw((3,)), draw((2,)), "mse").steps[0].layers["0.dense"]
    for array in (*view.params.values(), *view.grads.values(), view.inputs[0], view.output):
        array += 1
    for name, value in values_of(network).items():
        np.testing.assert_array_equal(value, before[name])


class Overwrites(Identity):
    """A layer that writes into whatever it has seen."""

    def forward(self, inputs, training=False):
        self.cache["input"] = inputs
        return 2 * inputs

    def backward(self, delta):
        self.cache["input"][...] = 0
        delta *= 2
        return delta


def test_what_was_seen_stays_though_a_layer_writes_over_it():
    network = Network([Dense(2), Overwrites(), Dense(1)], (3,))
    views = explain(network, draw((3,)), draw((1,)), "mse").steps[0].layers
    sums, doubled, last = views.values()
    np.testing.assert_array_equal(2 * sums.output, last.inputs[0])
    np.testing.assert_array_equal(doubled.delta, last.passed[0])
    np.testing.assert_array_equal(2 * doubled.delta, sums.delta)


@pytest.mark.slow_to_compile  # where each call is compiled by itself
@pytest.mark.parametrize(
    ("loss", "optimizer", "targets"),
    [
        ("cross_entropy", None, [0, 2, 1]),
        (xpnn.focal, "adamw", [1, 1, 0]),
        ("mse", SGD(0.1, momentum=0.9, clip=ClipByGlobalNorm(0.01)), np.ones((3, 3))),
    ],
)
def test_losses_and_optimizers_by_name_or_themselves(backend, loss, optimizer, targets):
    layers = [Dense(5, activation="tanh").regularize(L2(0.3)), Residual([Dense(5)]), Dense(3)]
    network = Network(layers, (4,), backend)
    rule = SGD(1.0) if optimizer is None else optimizer
    x, y = draw((4,)), np.asarray(targets)
    seen = check_it_is_the_step(network, x, y, loss, rule)
    if optimizer is None:
        seen = explain(network, x, y, loss)
        view = seen.steps[0].layers["2.dense"]
        np.testing.assert_allclose(view.updates["weight"], -view.grads["weight"], atol=1e-7)
        assert seen.optimizer == repr(SGD(1.0))


@pytest.mark.slow_to_compile  # where each call is compiled by itself
def test_weights_of_samples_are_those_of_a_step(backend):
    network = Network([Dense(2)], (3,), backend)
    x, y = draw((3,)), draw((2,), seed=2)
    whole = explain(network, x[:1], y[:1], "mse").steps[0]
    weighted = explain(network, x, y, "mse", sample_weight=[2.0, 0.0, 0.0]).steps[0]
    assert weighted.loss == pytest.approx(whole.loss, rel=1e-5)
    grads = (one.layers["0.dense"].grads["weight"] for one in (weighted, whole))
    np.testing.assert_allclose(*grads, rtol=1e-5)


# Graphs, layers in layers, layers that are called twice -----------------------------------------


def test_a_graph_of_two_inputs_and_outputs(backend):
    size, color = Input((2,), name="size"), Input((3,), name="color")
    hidden = Tanh()(Dense(4)(xpnn.Concatenate()(size, color)))
    outputs = {"price": Dense(1)(hidden), "kind": Dense(3)(hidden)}
    network = Network(inputs=[size, color], outputs=outputs, backend=backend)
    x = {"size": draw((2,)), "color": draw((3,), seed=3)}
    y = {"price": draw((1,)), "kind": np.asarray([0, 2, 1])}
    loss = {"price": "mse", "kind": "cross_entropy"}
    seen = explain(network, x, y, loss, "adam")
    assert [(one.name, one.feeds_from) for one in seen.layers] == [
        ("0.concatenate", ("size", "color")),
        ("1.dense", ("0.concatenate",)),
        ("2.tanh", ("1.dense",)),
        ("3.dense", ("2.tanh",)),
        ("4.dense", ("2.tanh",)),
    ]
    (step,) = seen.steps
    assert [one.shape for one in step.targets] == [(3, 1), (3,)]
    assert seen.inputs == ("size", "color")
    assert seen.loss_name == "mean_squared_error, cross_entropy"
    back = [step.layers[name].passed[0] for name in ("3.dense", "4.dense")]
    np.testing.assert_allclose(step.layers["2.tanh"].delta, sum(back), rtol=1e-5)
    joint = step.layers["0.concatenate"]
    np.testing.assert_array_equal(joint.output, np.concatenate(joint.inputs, axis=1))
    trainer = Trainer(copy.deepcopy(network), loss, "adam", compile=False)
    value = trainer.step({name: one for name, one in x.items()}, y)
    assert step.loss == pytest.approx(float(network.backend.to_numpy(value)), rel=1e-5)


def test_a_layer_that_is_called_twice_has_two_views_and_one_update(backend):
    x, dense = Input((3,), name="a"), Dense(3)
    first = dense(x)
    network = Network(inputs=x, outputs=Add()(dense(Tanh()(first)), first), backend=backend)
    given, y = draw((3,)), draw((3,), seed=2)
    seen = check_it_is_the_step(network, given, y, "mse", SGD(1.0))
    assert [(one.name, one.feeds_from) for one in seen.layers] == [
        ("0.dense, call 1", ("a",)),
        ("1.tanh", ("0.dense, call 1",)),
        ("0.dense, call 2", ("1.tanh",)),
        ("2.add", ("0.dense, call 2", "0.dense, call 1")),
    ]
    one, two = (seen.steps[0].layers[f"0.dense, call {k}"] for k in (1, 2))
    np.testing.assert_array_equal(one.inputs[0], given.astype(one.inputs[0].dtype))
    for view in (one, two):
        found = view.inputs[0].T @ view.delta
        np.testing.assert_allclose(view.grads["weight"], found, rtol=1e-4, atol=1e-6)
    whole = one.grads["weight"] + two.grads["weight"]
    np.testing.assert_allclose(one.updates["weight"], -whole, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(one.updates["weight"], two.updates["weight"])


def test_a_call_that_nothing_comes_back_to_is_told_from_the_others():
    """The second one makes a mask, which has no gradient."""
    x = Input((3, 4), name="x")
    scores = xpnn.Sequential([Dense(1), xpnn.Reshape((3,))])
    first, seen = scores(x), scores(Tanh()(x))
    looked = xpnn.Flatten()(xpnn.CrossAttention(2)(x, x, seen))
    network = Network(inputs=x, outputs=Dense(2)(xpnn.Concatenate()(first, looked)))
    views = explain(network, draw((3, 4)), draw((2,), seed=2), "mse").steps[0].layers
    one, two = (views[f"0.sequential.0.dense, call {k}"] for k in (1, 2))
    assert one.delta is not None
    np.testing.assert_allclose(one.updates["weight"], -one.grads["weight"], atol=1e-7)
    assert (two.delta, two.passed, two.grads) == (None, (None,), {})


def test_what_is_handed_on_as_it_is_comes_from_the_last_that_had_it():
    network = Network([Dense(2), Identity(), Identity(), Dense(1)], (3,))
    seen = explain(network, draw((3,)), draw((1,)), "mse")
    assert seen.layers[3].feeds_from == ("2.identity",)


def test_layers_inside_of_layers_say_who_calls_and_who_feeds_them():
    body = Network([Dense(4), Tanh()], (4,))
    x = Input((4,), name="x")
    inner = Residual([Dense(4, activation="relu"), Dense(4)])
    network = Network(inputs=x, outputs=Dense(1)(inner(body(x))))
    seen = explain(network, draw((4,)), draw((1,)), "mse")
    assert [(one.name, one.inside, one.feeds_from) for one in seen.layers] == [
        ("0.sequential", None, ("x",)),
        ("0.sequential.0.dense", "0.sequential", ("x",)),
        ("0.sequential.1.tanh", "0.sequential", ("0.sequential.0.dense",)),
        ("1.residual", None, ("0.sequential",)),
        ("1.residual.body", "1.residual", ("0.sequential",)),
        ("1.residual.body.0.dense", "1.residual.body", ("0.sequential",)),
        ("1.residual.body.0.dense.activation", "1.residual.body.0.dense", ()),
        ("1.residual.body.1.dense", "1.residual.body", ("1.residual.body.0.dense",)),
        ("2.dense", None, ("1.residual",)),
    ]
    kinds = [one.kind for one in seen.layers if one.inside is None]
    assert kinds == ["Sequential", "Residual", "Dense"]
    assert seen.layers[0].text == "Sequential([Dense(4), Tanh()])"
    assert seen.layers[8].forward[0] == "S = Z W + b"


class Twice(xpnn.Container):
    """A layer that goes through the one inside twice, there and back."""

    def __init__(self):
        super().__init__([Tanh()])

    def child_shapes(self, input_shape):
        return [input_shape]

    def forward(self, inputs, training=False):
        return self.layers[0].forward(inputs, training)

    def backward(self, delta):
        self.layers[0].backward(2 * delta)
        return self.layers[0].backward(delta)


def test_of_a_layer_that_is_gone_back_through_again_the_first_time_counts():
    network = Network([Dense(2), Twice()], (3,))
    views = explain(network, draw((3,)), draw((2,)), "mse").steps[0].layers
    inner = views["1.twice.0.tanh"]
    np.testing.assert_array_equal(inner.delta, 2 * views["1.twice"].delta)
    np.testing.assert_array_equal(inner.passed[0], 2 * views["0.dense"].delta)


# What layers keep -------------------------------------------------------------------------------


@pytest.mark.slow_to_compile  # where each call is compiled by itself
def test_attention_maps_and_gates_are_there_by_name(backend):
    layers = [xpnn.Embedding(5, 4), xpnn.TransformerBlock(4, 2), xpnn.LSTM(3), xpnn.Dense(2)]
    network = Network(layers, (6,), backend)
    ids = np.random.default_rng(0).integers(0, 5, (3, 6))
    views = explain(network, ids, [0, 1, 1], "cross_entropy").steps[0].layers
    maps = views["1.transformerblock.0.residual.body.1.multiheadattention"].kept["P"]
    assert maps.shape == (3, 2, 6, 6)
    np.testing.assert_allclose(maps.sum(axis=-1), 1, rtol=1e-5)
    lstm = views["2.lstm"]
    assert {"h", "c before", "i", "f", "g", "o", "tanh c"} < lstm.kept.keys()
    last = lstm.kept["o"][-1] * lstm.kept["tanh c"][-1]  # (time, batch, units)
    np.testing.assert_allclose(lstm.output, last, rtol=1e-5)
    assert views["0.embedding"].passed == (None,)
    assert views["0.embedding"].inputs[0].dtype.kind == "i"


@pytest.mark.slow_to_compile  # where each call is compiled by itself
def test_a_mask_is_that_of_the_step(backend):
    network = Network([Dropout(0.5), Dense(2)], (8,), backend)
    view = explain(network, np.ones((3, 8)), draw((2,)), "mse").steps[0].layers["0.dropout"]
    np.testing.assert_allclose(view.output, 2.0 * view.kept["kept"])
    np.testing.assert_allclose(view.passed[0], view.delta * 2.0 * view.kept["kept"])


# The guide's layers -----------------------------------------------------------------------------


@pytest.mark.slow_to_compile  # where each call is compiled by itself
@pytest.mark.parametrize("own_rate", [None, 0.5])
def test_linked_layers(backend, own_rate):
    x, y = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [[1.0], [1.0], [1.0], [0.0]]
    first = InputLayer(x, backend)
    hidden = HiddenLayer(3, first, learning_rate=own_rate)
    last = OutputLayer(1, hidden, learning_rate=2.0)
    seen = explain(last, x, y)
    (step,), to_numpy = seen.steps, backend.to_numpy
    before = [np.array(to_numpy(one.weights)) for one in (hidden, last)]
    hidden.feedforward()
    last.feedforward()
    last.backprop(y)
    assert [one.name for one in seen.layers] == ["0.dense", "1.sigmoid", "2.dense", "3.sigmoid"]
    for k, layer in enumerate((hidden, last)):
        dense, activation = (step.layers[one.name] for one in seen.layers[2 * k : 2 * k + 2])
        np.testing.assert_allclose(dense.output, to_numpy(layer.S), rtol=1e-5)
        np.testing.assert_allclose(activation.output, to_numpy(layer.z), rtol=1e-5)
        np.testing.assert_allclose(4 * dense.delta, to_numpy(layer.delta), rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(4 * dense.grads["weight"], to_numpy(layer.harp_w), atol=1e-6)
        change = to_numpy(layer.weights) - before[k]
        np.testing.assert_allclose(dense.updates["weight"], change, rtol=1e-3, atol=1e-6)


# By other means ---------------------------------------------------------------------------------


@pytest.mark.needs("jax")
def test_deltas_and_gradients_are_those_of_jax():
    """Each delta is the derivative by what is added to the output of a layer."""
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    network = Network([Dense(4), Tanh(), Dense(3)], (5,), seed=3)
    x, y = draw((5,)), np.asarray([0, 2, 1])
    views = explain(network, x, y, "cross_entropy").steps[0].layers

    def loss(params, added):
        made = x @ params["0.dense.weight"] + params["0.dense.bias"] + added["0.dense"]
        made = jnp.tanh(made) + added["1.tanh"]
        made = made @ params["2.dense.weight"] + params["2.dense.bias"] + added["2.dense"]
        return -jnp.mean(jax.nn.log_softmax(made)[jnp.arange(3), y])

    nothing = {name: np.zeros_like(view.output) for name, view in views.items()}
    grads, deltas = jax.grad(loss, (0, 1))(network.numpy_arrays(), nothing)
    for name, view in views.items():
        np.testing.assert_allclose(view.delta, deltas[name], rtol=1e-5, atol=1e-7)
        for key, grad in view.grads.items():
            np.testing.assert_allclose(grad, grads[f"{name}.{key}"], rtol=1e-5, atol=1e-7)


@pytest.mark.needs("torch")
def test_kernels_and_deltas_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    network = Network([xpnn.Conv2D(2, 3, activation="relu"), xpnn.Flatten(), Dense(1)], (5, 5, 1))
    x, y = draw((5, 5, 1)), draw((1,), seed=2)
    views = explain(network, x, y, "mse").steps[0].layers
    own = {name: torch.tensor(one, requires_grad=True) for name, one in values_of(network).items()}
    images = torch.tensor(x, requires_grad=True)
    kernel = own["0.conv2d.weight"].permute(3, 2, 0, 1)
    sums = torch.nn.functional.conv2d(images.permute(0, 3, 1, 2), kernel, own["0.conv2d.bias"])
    maps = torch.relu(sums).permute(0, 2, 3, 1)
    maps.retain_grad()
    made = maps.reshape(3, -1) @ own["2.dense.weight"] + own["2.dense.bias"]
    torch.mean((made - torch.tensor(y)) ** 2).backward()
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    close(views["0.conv2d"].delta, maps.grad)
    close(views["0.conv2d"].passed[0], images.grad)
    for name in own:
        layer, _, key = name.rpartition(".")
        close(views[layer].grads[key], own[name].grad, err_msg=name)


# What cannot be explained -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"network": [Dense(2)]}, TypeError, "network: wanted Network"),
        ({"loss": None}, TypeError, "explain wants the loss of a network"),
        ({"loss": "mze"}, ValueError, "there is no loss 'mze', did you mean 'mse'"),
        ({"optimizer": "adm"}, ValueError, "there is no optimizer 'adm', did you mean 'adam'"),
        ({"optimizer": 0.1}, TypeError, "optimizer: wanted an object such as Adam"),
        ({"x": np.ones((3, 4))}, ShapeError, "wanted inputs of shape"),
        ({"y": np.ones((2, 2))}, ShapeError, "x has 3, y has 2"),
    ],
)
def test_what_is_wrong_is_told(change, error, message):
    right = {"network": Network([Dense(2)], (3,)), "x": draw((3,)), "y": draw((2,)), "loss": "mse"}
    with pytest.raises(error, match=message):
        explain(**{**right, **change})


class Doubles(Layer):
    def forward(self, inputs, training=False):
        return 2 * inputs

    def backward(self, delta):
        return 2 * delta


@pytest.mark.host_only
def test_a_loss_of_ones_own_need_not_be_hashable():
    @dataclasses.dataclass
    class Halved:
        """``C = 1/(4n) sum_x |a - y|^2``"""

        share: float = 0.5

        def __call__(self, predictions, targets, sample_weight=None, backend=None):
            value, delta = quadratic_cost(predictions, targets, backend=backend)
            return self.share * value, self.share * delta

    net = Network([Dense(1)], (1,))
    x, y = [[1.0], [2.0]], [[3.0], [6.0]]
    seen, plain = explain(net, x, y, Halved()), explain(net, x, y, "quadratic_cost")
    assert seen.steps[0].loss == pytest.approx(plain.steps[0].loss / 2)
    assert seen.loss_equations == ("C = 1/(4n) sum_x |a - y|^2",)


@pytest.mark.host_only
def test_explanations_are_equal_to_themselves_alone():
    net = Network([Dense(1)], (1,))
    some, others = (explain(net, [[1.0], [2.0]], [[3.0], [6.0]], "mse") for _ in range(2))
    for one, other in ((some, others), (some.steps[0], others.steps[0])):
        assert one != other
        assert one in {one}


def test_a_layer_of_ones_own_without_equations():
    seen = explain(Network([Doubles(), Dense(1)], (3,)), draw((3,)), draw((1,)), "mse")
    assert (seen.layers[0].forward, seen.layers[0].backward) == ((), ())
    assert repr(seen) == "<1 step of 2 layers on numpy: Doubles, Dense>"


def test_a_batch_is_refused_as_by_fit_but_for_what_is_not_finite():
    net = Network([Dense(3)], (2,))
    x, y = np.ones((2, 2), np.float32), np.array([0, 1])
    trainer = Trainer(net, "cross_entropy", "sgd")
    batches = {
        "class numbers": (x, y + 2, None),
        "floats": (x, y + 0.0, None),
        "a column": (x, y[:, None].tolist(), None),
        "rows": (x, np.ones((2, 3)), None),
        "weights": (x, y, [1.0, -1.0]),
        "no weights": (x, y, np.ones((2, 0))),
    }
    for name, (inputs, targets, weight) in batches.items():
        with pytest.raises((ShapeError, DataError)) as wanted:
            trainer.fit(inputs, targets, sample_weight=weight, progress=False)
        with pytest.raises(type(wanted.value)) as found:
            explain(net, inputs, targets, "cross_entropy", sample_weight=weight)
        assert str(found.value) == str(wanted.value), name
    x[0, 0] = np.nan
    assert np.isnan(explain(net, x, y, "cross_entropy").steps[0].loss)
