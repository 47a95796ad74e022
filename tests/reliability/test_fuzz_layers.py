"""Every layer with arguments of all kinds: it is made and runs, or an error of xpnn's own says why.

Hypothesis draws the arguments; what is right by itself is drawn often enough for layers to be
built, and then get inputs of all shapes.
"""

import resource

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xpnn
import xpnn.layers
from tests.layers.table import each_layer
from tests.reliability.conduct import ends_well, fuzz
from tests.reliability.strategies import any_arrays, scalars
from tests.reliability.tally import attempt
from tests.saving.forgery import little
from xpnn import Dense, Embedding, Network, ReLU
from xpnn.arguments import parameters_of
from xpnn.errors import OutOfMemory, ShapeError
from xpnn.initializers import memory_of_machine, normal, zeros
from xpnn.layers import LSTM, Layer, LayerNorm
from xpnn.layers.registration import KINDS

pytestmark = pytest.mark.host_only

KINDS_OF_LAYERS = sorted(name for name, kind in KINDS.items() if issubclass(kind, Layer))
RULES = sorted(name for name, kind in KINDS.items() if not issubclass(kind, Layer))
SHAPES = [(), (1,), (4,), (3, 4), (4, 4, 4), (2, 3, 4, 4), (10**12,), (2, 10**12), (2**40, 2**40)]


def makes(name):
    """Arguments of that name that are right: new objects each time, as layers have one place."""
    rate = st.sampled_from([0.0, 0.3])
    known = {
        "layers": lambda: st.builds(lambda: [Dense(4), ReLU()]),
        "layer": lambda: st.builds(lambda: LSTM(2)),
        "source": lambda: st.builds(lambda: Embedding(5, 4)),
        "shortcut": lambda: st.builds(lambda: Dense(4)),
        "merge": lambda: st.sampled_from(["concatenate", "sum"]),
        "padding": lambda: st.sampled_from(["valid", "same", 1, 0]),
        "rate": lambda: rate,
        "dropout": lambda: rate,
        "norm": lambda: st.just(LayerNorm),
        "shape": lambda: st.sampled_from([(4,), (2, -1), (-1,)]),
        "axes": lambda: st.sampled_from([(1,), (2, 1), (3, 1, 2)]),
        "axis": lambda: st.sampled_from([0, -1]),
        "activation": lambda: st.sampled_from(["tanh", "relu", ReLU]),
        "approximate": lambda: st.sampled_from(["none", "tanh"]),
        "mode": lambda: st.sampled_from(["nearest", "linear"]),
        "sides": lambda: st.sampled_from([0, 1, ((0, 1),), (1, (2, 0))]),
    }
    if name.endswith("_init"):
        return st.sampled_from([zeros, normal(1.0)])
    if name.startswith(("use_", "return_", "count_")) or name in (
        *("causal", "rotate", "reverse", "shared"),
    ):
        return st.booleans()
    return known.get(name, lambda: st.sampled_from([1, 2, 4, 0.5]))()


def drawn_arguments(data, kind, strange):
    """Arguments of a constructor; ``strange`` says how many in ten are of any kind."""
    arguments = {}
    for name, parameter in parameters_of(kind).items():
        given_at_all = parameter.default is parameter.empty or data.draw(st.integers(0, 2)) == 0
        if given_at_all:
            any_kind = data.draw(st.integers(0, 9)) < strange
            arguments[name] = data.draw(scalars if any_kind else makes(name))
    return arguments


@pytest.mark.fault("layers of any arguments")
@pytest.mark.parametrize("name", KINDS_OF_LAYERS)
@fuzz(12)
@given(data=st.data())
def test_constructors(name, data):
    kind = KINDS[name]
    arguments = drawn_arguments(data, kind, strange=6)
    with attempt():
        layer, error = ends_well(kind, **arguments)
        if error is not None:
            return
        repr(layer)
        shape = data.draw(st.sampled_from(SHAPES))
        network, error = ends_well(Network, [layer], shape)
        if error is None:
            ends_well(network.summary)


@pytest.mark.fault("layers on inputs of any shape")
@pytest.mark.parametrize("name", KINDS_OF_LAYERS)
@fuzz(12)
@given(data=st.data())
def test_inputs(name, data):
    """Layers of sensible arguments, in networks of every input shape, on any array."""
    kind = KINDS[name]
    layers, error = ends_well(lambda: [kind(**drawn_arguments(data, kind, strange=0))])
    with attempt():
        if error is not None:
            return
        shape = data.draw(st.sampled_from(SHAPES[:6]))
        network, error = ends_well(Network, layers, shape)
        if error is not None:
            return
        rows = data.draw(st.integers(0, 3))
        batch = (
            np.random.default_rng(0).integers(0, 2, (rows, *shape)).astype(data.draw(KINDS_OF_X))
        )
        x = data.draw(st.just(batch) | any_arrays(rows))
        if network.root.takes == "floats" or not isinstance(x, np.ndarray):
            ends_well(network.forward, x)
        ends_well(network.predict, x)


KINDS_OF_X = st.sampled_from(["float32", "float64", "int64", "uint8", "bool", ">f4"])


@pytest.mark.fault("regularizers of any arguments")
@pytest.mark.parametrize("name", RULES)
@fuzz(20)
@given(data=st.data())
def test_regularizers(name, data):
    kind = KINDS[name]
    arguments = drawn_arguments(data, kind, strange=6)
    with attempt():
        rule, error = ends_well(kind, **arguments)
        if error is None:
            ends_well(Dense(2).regularize, rule)


HUGE = {
    "units": (lambda: Dense(10**12), (4,)),
    "inputs": (lambda: Dense(2), (10**12,)),
    "a vocabulary": (lambda: Embedding(10**12, 8), (3,)),
    "more than an array has axes for": (lambda: Dense(10**30), (4,)),
    "a recurrence": (lambda: LSTM(10**11), (3, 4)),
    "attention": (lambda: xpnn.MultiHeadAttention(1), (2, 10**8)),
    "a kernel": (lambda: xpnn.Conv2D(10**7, 10**4, padding="same"), (4, 4, 3)),
    "scales": (LayerNorm, (2, 10**13)),
    "a carried memory": (lambda: xpnn.GRU(1, stateful=10**13), (2, 1)),
    "what a kernel reaches": (lambda: xpnn.Conv1D(1, 2, dilation=10**12, padding="same"), (2, 1)),
    "a window": (lambda: xpnn.MaxPool1D(10**12, stride=1, padding="same"), (2, 1)),
    "a window of means": (lambda: xpnn.AveragePool2D(10**6, stride=1, padding="same"), (2, 2, 1)),
    "the entries of a window, if not its width": (
        lambda: xpnn.MaxPool1D(memory_of_machine() // 100, stride=1, padding="same"),
        (2, 1),
    ),
    "what one axis makes before the next": (
        lambda: xpnn.AdaptiveAveragePool((10**7, 1)),
        (4, 10**5, 1),
    ),
    "what is cut away again": (
        lambda: xpnn.ConvTranspose2D(1, 10**7 + 2, padding=5 * 10**6),
        (1, 1, 1),
    ),
    "what strides reach": (
        lambda: xpnn.ConvTranspose2D(1, 2, dilation=10**12, padding="same"),
        (1, 1, 1),
    ),
}


@pytest.mark.fault("layers larger than any memory")
@pytest.mark.parametrize("case", HUGE)
def test_huge_layers_are_refused_before_memory_is_asked_for(backend, case):
    make, shape = HUGE[case]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(OutOfMemory, match=r"wanted .* shape .*; make the layer"):
        Network([make()], shape, backend)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


@pytest.mark.fault("layers larger than any memory")
@each_layer
def test_no_number_of_a_layer_is_too_large_for_it(make, input_shape):
    """One argument after another is 10**12: what is built then runs."""
    arguments = make().arguments()
    for name, value in arguments.items():
        if type(value) is not int and not (
            isinstance(value, tuple) and type((*value, None)[0]) is int
        ):
            continue
        with attempt(), little(seconds=10, megabytes=256):
            layer, error = ends_well(type(make()), **{**arguments, name: 10**12})
            network, error = ends_well(Network, [layer], input_shape)
            if error is None:
                network.predict(np.zeros((1, *input_shape)).astype(KIND[network.root.takes]))


KIND = {"integers": "int64", "floats": "float32"}


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Dense("3"), r"Dense wants units to be an integer, got '3'"),
        (lambda: Dense(True), r"Dense wants units to be an integer, got True"),
        (lambda: Dense(2, use_bias=1), r"Dense wants use_bias to be True or False, got 1"),
        (lambda: Dense(2, weight_init="he"), r"wants weight_init to be a function, got 'he'"),
        (lambda: xpnn.Dropout(float("nan")), r"Dropout wants rate to be a finite number, got nan"),
        (lambda: LSTM(2, truncate=1.5), r"LSTM wants truncate to be an integer or None, got 1.5"),
    ],
)
def test_wrong_types_are_named(make, text):
    with pytest.raises(TypeError, match=text):
        make()


def test_numbers_of_numpy_are_numbers():
    network = Network([Dense(np.int64(3)), xpnn.Dropout(np.float32(0.5))], (np.int64(4),))
    assert network.predict(np.zeros((1, 4))).shape == (1, 3)


def test_a_layer_of_ones_own_checks_its_arguments_itself():
    class Scale(Layer):
        def __init__(self, by: int):
            super().__init__()
            self.by = by

        def forward(self, inputs, training=False):
            return inputs * self.by

    assert Network([Scale(0.5)], (1,)).predict([[2.0]]).tolist() == [[1.0]]


def test_shapes_that_do_not_fit_name_the_layer():
    with pytest.raises(ShapeError, match=r"layer 1\.lstm"):
        Network([Dense(2), LSTM(2)], (4,))


def test_only_layers_of_xpnn_are_drawn():
    """Files of tests that are imported before this one register nothing."""
    assert {*KINDS_OF_LAYERS, *RULES} <= set(xpnn.layers.__all__)
