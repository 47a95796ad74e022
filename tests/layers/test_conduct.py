"""How every layer of ``table.py`` behaves: compiled, in both modes, from a seed, not yet built."""

import functools
import math
from collections import Counter

import numpy as np
import pytest

from tests.conftest import traced
from tests.layers.oracles import by_compiling
from tests.layers.table import (
    DRAWS,
    LAYERS,
    build,
    draw,
    each_layer,
    each_layer_with_its_modes,
    first_run,
    has_two_modes,
    host,
    one_pass,
    run,
    runs,
    table,
)
from xpnn.backends import get_backend
from xpnn.errors import NotBuiltError, XpnnError
from xpnn.layers import (
    ELU,
    LSTM,
    AlphaDropout,
    BatchNorm,
    Conv2D,
    CrossAttention,
    Dense,
    Dot,
    Dropout,
    GaussianNoise,
    LayerNorm,
    LeakyReLU,
    MultiHeadAttention,
    RMSNorm,
    Sequential,
    Softmax,
    TiedDense,
)
from xpnn.layers.sequence.recurrence import Recurrent
from xpnn.layers.sliding.convolution import Convolution
from xpnn.layers.sliding.transposed import TransposedConvolution
from xpnn.network import Network


def draws(row):
    return has_two_modes(row.values[0](), DRAWS)


# Compiled, in both modes, from one seed -----------------------------------------------------------

# XLA's tanh is right to 2.6e-7 and another one in each program: 1 - tanh^2 moves by 7e-7, times
# deltas of 3, and a bias adds a few of these up.
ATOL = 5e-6


@by_compiling
@each_layer
def test_compiled_step_equals_the_plain_one(backend, make, input_shape):
    network, x = build(make, input_shape, backend), draw(input_shape)
    delta, state = draw(network.output_shape, seed=2), network.state
    # JAX would compile each call by itself: there, the plain one is NumPy's
    plain = build(make, input_shape, "numpy" if backend.name == "jax" else backend)
    if backend.name == "jax":
        compiled = first_run(make, input_shape, backend.spec).step
    else:
        compiled = backend.compiled(one_pass(network), known=True)
    here, there = (place.asarray(delta) for place in (backend, plain.backend))
    with backend.on_device():
        # dropout's next mask is another one, though nothing is traced again; CuPy captures a third
        for _ in range(3 if backend.name == "cupy" else 2):
            found, state = compiled(network.params, state, network.asarray(x), here)
            for name, array in run(plain, x, there).items():
                np.testing.assert_allclose(
                    backend.to_numpy(found[name]), array, rtol=1e-5, atol=ATOL, err_msg=name
                )
    for name, value in plain.state.items():
        here, there = (
            np.asarray(v if isinstance(v, int) else place.to_numpy(v))
            for place, v in ((backend, state[name]), (plain.backend, value))
        )
        np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-6, err_msg=name)


@functools.cache
def in_both_modes(make, input_shape, spec):
    """Outputs, and states as they were before and behind each, of a network that predicts, trains,
    and predicts twice.

    Compiled on JAX: one program for each mode, and the same one where the modes do not differ.
    """
    network, x = build(make, input_shape, spec), draw(input_shape)
    backend, outputs, states = network.backend, [], [host_state(network)]

    def forward(params, state, x, training):
        with network.holding(params, state):
            return network.root.forward(x, training), network.state

    steps = [functools.partial(forward, training=mode) for mode in (False, True)]
    if backend.name == "jax":
        steps = [backend.compiled(step, wanted=True) for step in steps]
    for training in (False, True, False, False):
        if backend.name == "jax":
            out, network.state = steps[training](network.params, network.state, network.asarray(x))
        else:
            out = network.forward(x, training)
        outputs.append(np.array(backend.to_numpy(out)))
        states.append(host_state(network))
    return outputs, states


@each_layer_with_its_modes
def test_prediction_differs_from_training_only_where_it_should(backend, make, input_shape):
    (_, training, first, second), _ = in_both_modes(make, input_shape, backend.spec)
    np.testing.assert_array_equal(first, second)
    assert np.array_equal(training, first) != has_two_modes(make())


@each_layer_with_its_modes
def test_prediction_leaves_the_state_alone(backend, make, input_shape):
    _, (before, predicted, trained, *_) = in_both_modes(make, input_shape, backend.spec)
    assert predicted == before
    assert (trained != before) == has_two_modes(make())


OF_THEIR_OWN_ON_JAX = (Conv2D, LSTM, MultiHeadAttention, Softmax)
"""Which run what JAX's backend has in place of the portable form, and a maximum."""


@each_layer
def test_nothing_goes_through(backend, make, input_shape):
    """A batch of no samples: its gradients are 0, and what runs along stays where it is."""
    network, x = build(make, input_shape, backend), backend.asarray(draw(input_shape)[:0])
    delta = backend.asarray(draw(network.output_shape)[:0])
    if backend.name != "jax":  # which would compile each call for what the step below shows
        outputs = network.predict(x)
        assert tuple(outputs.shape) == (0, *network.output_shape)
        assert outputs.dtype == delta.dtype
    step, start = one_pass(network), network.state
    if backend.name == "jax" and not isinstance(network.root.layers[0], OF_THEIR_OWN_ON_JAX):
        # Which refuses to trace what has no elements; the same formulas give zeros elsewhere.
        found, _ = traced(backend, lambda: step(network.params, start, x, delta))
        shapes = {name: one.shape for name, one in found.items() if one is not None}
        assert shapes.pop("output") == delta.shape
        assert shapes.pop("input", x.shape) == x.shape
        assert shapes == {name: one.shape for name, one in network.params.items()}
        return
    compiled = backend.compiled(step, known=True)
    with backend.on_device():
        # taken down, run, run again
        for _ in range(1 if backend.name == "array-api-strict" else 3):
            found, state = compiled(network.params, start, x, delta)
    found = {name: backend.to_numpy(one) for name, one in found.items() if one is not None}
    assert found.pop("output").shape == delta.shape
    assert found.pop("input", x).shape == x.shape
    assert found.keys() == network.params.keys()
    for name, gradient in found.items():
        np.testing.assert_array_equal(gradient, np.zeros(network.params[name].shape), name)
    for name in (name for name in state if not name.endswith(".draw")):
        np.testing.assert_array_equal(*(backend.to_numpy(s[name]) for s in (state, start)), name)


def host_state(network):
    return {
        name: value if isinstance(value, int) else network.backend.to_numpy(value).tolist()
        for name, value in network.state.items()
    }


@table(
    [  # what a layer draws is a library's own matter, its starting weights are not
        pytest.param(
            *row.values, id=row.id, marks=() if draws(row) else pytest.mark.slow_to_compile
        )
        for row in LAYERS
    ]
)
def test_a_seed_is_a_start_and_its_masks(backend, make, input_shape):
    backend = get_backend(backend.spec, deterministic=True)  # a GPU adds up ids in any order
    x = draw(input_shape)
    one, same, other = (build(make, input_shape, backend, seed=seed) for seed in (3, 3, 4))
    run_one, run_same = runs(one), runs(same)
    both = [(run_one(x), run_same(x)) for _ in range(2)]
    for found, again in both:
        for name, array in found.items():
            np.testing.assert_array_equal(array, again[name])
    starts = [host(network, "params") for network in (one, other)]  # a norm's are not drawn
    drawn = has_two_modes(make(), DRAWS) or any(
        not np.array_equal(array, starts[1][name]) for name, array in starts[0].items()
    )
    assert np.array_equal(run(other, x)["output"], both[0][0]["output"]) != drawn


@each_layer
def test_starting_weights_are_those_of_numpy(backend, make, input_shape):
    here, there = (host(build(make, input_shape, place), "params") for place in (backend, "numpy"))
    assert here.keys() == there.keys()
    for name, array in here.items():
        np.testing.assert_array_equal(array, there[name])


# Hyperparameters that are changed after building --------------------------------------------------

CHANGED = [  # how to make it, the hyperparameter, its value at first and later
    pytest.param(LeakyReLU, "negative_slope", 0.01, 0.5, id="leaky-relu"),
    pytest.param(ELU, "alpha", 1.0, 0.3, id="elu"),
    pytest.param(Dropout, "rate", 0.2, 0.7, id="dropout"),
    pytest.param(AlphaDropout, "rate", 0.2, 0.7, id="alpha-dropout"),
    pytest.param(GaussianNoise, "spread", 0.1, 3.0, id="gaussian-noise"),
    pytest.param(BatchNorm, "momentum", 0.1, 0.9, id="batch-norm"),
    pytest.param(BatchNorm, "epsilon", 1e-5, 0.5, id="batch-norm-epsilon"),
    pytest.param(LayerNorm, "epsilon", 1e-5, 0.5, id="layer-norm"),
    pytest.param(RMSNorm, "epsilon", 1e-6, 0.5, id="rms-norm"),
]


@pytest.mark.parametrize(("kind", "name", "first", "later"), CHANGED)
def test_a_hyperparameter_is_used_as_it_stands(backend, kind, name, first, later):
    """Also where the sweeps were compiled with the value that it had before."""
    shape = (6,)
    network = build(lambda: kind(**{name: first}), shape, backend)
    start = network.state
    before = run(network, draw(shape))
    (layer,) = network.root.layers
    setattr(layer, name, later)
    network.state = start
    fresh = build(lambda: kind(**{name: later}), shape, backend)
    found, expected = run(network, draw(shape)), run(fresh, draw(shape))
    if name != "momentum":
        assert not np.array_equal(found["output"], before["output"])
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array, err_msg=key)
    assert host_state(network) == host_state(fresh)


# Belonging ----------------------------------------------------------------------------------------


@each_layer
def test_building_twice_is_refused(make, input_shape):
    layer = make()
    Network([layer], input_shape)
    with pytest.raises(XpnnError, match=r"already part of a network.*make another one"):
        Network([layer], input_shape)
    with pytest.raises(XpnnError, match="already part of a network"):
        layer.build(input_shape, get_backend("numpy"))
    fresh = Dense(2)
    with pytest.raises(XpnnError, match="already part of a network"):
        Network([fresh, layer], (4,)) if input_shape == (2,) else Sequential([fresh, layer]).build(
            input_shape, get_backend("numpy")
        )
    assert not fresh.built


@each_layer
def test_use_before_building_is_explained(make, input_shape):
    layer, x = make(), draw(input_shape)
    if repr(layer) in ("Identity()", "Sequential([])", "Dropout(0.0)"):  # which have nothing to do
        assert layer.forward(x, training=True) is x
        return
    with pytest.raises(NotBuiltError, match=r"no arrays yet; put it into a Network, or call"):
        layer.forward(x, training=True)


@each_layer
def test_clear_forgets_what_was_kept(make, input_shape):
    network = build(make, input_shape, "numpy")
    run(network, draw(input_shape))
    network.root.clear()
    assert all(layer.cache == layer.grads == {} for _, layer in network.walk())


@each_layer
def test_a_layer_says_what_it_is(make, input_shape):
    layer = make()
    assert repr(layer).startswith(type(layer).__name__ + "(")
    assert repr(make()) == repr(layer)
    assert (type(layer).__doc__ or "").strip()


def products(layer):
    """What one sample takes: each weight once for each place that it is used at."""
    shape = layer.input_shape
    weights = sum(param.size for param in layer.params.values() if param.ndim > 1)
    if isinstance(layer, Convolution):
        return weights * math.prod(layer.output_shape(shape)[:-1])
    if isinstance(layer, Dot):
        return shape[0][-1] * math.prod(layer.output_shape(shape))
    if isinstance(layer, TiedDense):
        return layer.units * math.prod(shape)
    if isinstance(layer, CrossAttention):
        (time, features), (length, _), *_ = shape
        of_queries = 2 * features**2
        return of_queries * time + (weights - of_queries) * length + 2 * time * length * features
    if isinstance(layer, MultiHeadAttention):  # scores of all pairs of times, and their mixture
        return weights * shape[0] + 2 * shape[0] * math.prod(shape)
    if isinstance(layer, Dense | TransposedConvolution | Recurrent):
        return weights * math.prod(shape[:-1])
    return 0


def counted(layer, calls):
    """The forward of a layer, which counts how often it is called."""
    run = layer.forward

    def forward(*arguments):
        calls[layer] += 1
        return run(*arguments)

    return forward


@each_layer
def test_multiply_adds_count_the_matrix_products(make, input_shape):
    layer = make()
    network, calls = Network([layer], input_shape), Counter()
    for _, one in layer.walk():
        vars(one)["forward"] = counted(one, calls)
    network.predict(draw(input_shape)[:1])
    expected = sum(products(one) * calls[one] for _, one in layer.walk())
    assert layer.multiply_adds(input_shape) == expected
