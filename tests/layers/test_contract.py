"""What every layer promises, checked for each layer on each backend."""

import contextlib

import numpy as np
import pytest

from xpnn.backends import get_backend
from xpnn.errors import BackendUnavailable, NotBuiltError, XpnnError
from xpnn.initializers import he_normal, normal
from xpnn.layers import (
    ELU,
    GELU,
    AlphaDropout,
    AveragePool1D,
    AveragePool2D,
    BatchNorm,
    Conv1D,
    Conv2D,
    ConvTranspose2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GaussianNoise,
    GlobalAveragePool,
    GlobalMaxPool,
    GroupNorm,
    Identity,
    LayerNorm,
    LeakyReLU,
    LearnedPositions,
    MaxPool1D,
    MaxPool2D,
    Parallel,
    ReLU,
    Reshape,
    Residual,
    RMSNorm,
    Sequential,
    Sigmoid,
    SiLU,
    SinusoidalPositions,
    Softmax,
    Softplus,
    SpatialDropout,
    Tanh,
    TiedDense,
)
from xpnn.network import Network
from xpnn.testing import check_gradients


def maze():
    """Containers in containers in containers."""
    inner = Residual([Dense(3), SiLU()], shortcut=Dense(3, use_bias=False))
    pair = Parallel([Sequential([Dense(2), Tanh()]), inner])
    return Residual([Sequential([pair, Dropout(0.2)]), Parallel([Dense(4), Dense(4)], "sum")])


def tied(first, units):
    """A layer, and one that uses its weight on the way out."""
    return Sequential([first, Tanh(), TiedDense(units, first)])


class Ids(tuple):
    """The input shape of a layer that looks up integers from 0 to 4."""


LAYERS = [  # a new layer joins every test below by adding one line: how to make it, its input shape
    pytest.param(lambda: Dense(3), (4,), id="dense"),
    pytest.param(lambda: Dense(3, use_bias=False), (4,), id="dense-without-bias"),
    pytest.param(lambda: Dense(2), (3, 4), id="dense-over-time"),
    pytest.param(lambda: Dense(2, bias_init=normal(1.0)), (2, 3, 2), id="dense-over-pixels"),
    pytest.param(lambda: Dense(1, weight_init=he_normal), (1,), id="dense-one-to-one"),
    pytest.param(lambda: Dropout(0.4), (6,), id="dropout"),
    pytest.param(lambda: Dropout(0.4), (2, 3), id="dropout-2d"),
    pytest.param(lambda: Dropout(0.0), (4,), id="dropout-of-nothing"),
    pytest.param(Flatten, (2, 3), id="flatten"),
    pytest.param(Flatten, (4,), id="flatten-flat"),
    pytest.param(lambda: Reshape((3, 2)), (6,), id="reshape"),
    pytest.param(lambda: Reshape((4, -1)), (2, 2, 3), id="reshape-rest"),
    pytest.param(Identity, (4,), id="identity"),
    pytest.param(Sigmoid, (5,), id="sigmoid"),
    pytest.param(Tanh, (5,), id="tanh"),
    pytest.param(ReLU, (5,), id="relu"),
    pytest.param(ReLU, (2, 3), id="relu-2d"),
    pytest.param(LeakyReLU, (5,), id="leaky-relu"),
    pytest.param(lambda: LeakyReLU(0.3), (5,), id="leaky-relu-0.3"),
    pytest.param(ELU, (5,), id="elu"),
    pytest.param(lambda: ELU(0.5), (5,), id="elu-0.5"),
    pytest.param(SiLU, (5,), id="silu"),
    pytest.param(Softplus, (5,), id="softplus"),
    pytest.param(GELU, (5,), id="gelu"),
    pytest.param(lambda: GELU("tanh"), (5,), id="gelu-tanh"),
    pytest.param(Softmax, (4,), id="softmax"),
    pytest.param(Softmax, (2, 3), id="softmax-2d"),
    pytest.param(lambda: Conv1D(4, 3, stride=2, padding=1), (7, 3), id="conv1d"),
    pytest.param(lambda: Conv2D(3, (2, 3), padding="same"), (4, 5, 2), id="conv2d"),
    pytest.param(lambda: Conv2D(2, 2, dilation=2, use_bias=False), (4, 3, 9), id="conv2d-channels"),
    pytest.param(lambda: Conv2D(6, 3, stride=2, padding=1, groups=3), (4, 5, 3), id="depthwise"),
    pytest.param(lambda: ConvTranspose2D(2, 3, stride=2), (2, 3, 3), id="transposed"),
    pytest.param(lambda: MaxPool1D(3, stride=1), (5, 2), id="max-pool-1d"),
    pytest.param(lambda: MaxPool2D(2), (4, 5, 2), id="max-pool"),
    pytest.param(lambda: MaxPool2D(3, stride=2, padding=1), (4, 5, 2), id="max-pool-padded"),
    pytest.param(lambda: AveragePool1D(2), (5, 3), id="average-pool-1d"),
    pytest.param(lambda: AveragePool2D(3, stride=2, padding=1), (4, 5, 2), id="average-pool"),
    pytest.param(GlobalAveragePool, (3, 2, 4), id="global-average-pool"),
    pytest.param(GlobalMaxPool, (3, 2, 4), id="global-max-pool"),
    pytest.param(BatchNorm, (4,), id="batch-norm"),
    pytest.param(lambda: BatchNorm(0.5, epsilon=0.1), (3, 2, 4), id="batch-norm-pixels"),
    pytest.param(LayerNorm, (4,), id="layer-norm"),
    pytest.param(LayerNorm, (3, 4), id="layer-norm-over-time"),
    pytest.param(RMSNorm, (3, 4), id="rms-norm"),
    pytest.param(lambda: GroupNorm(2), (4,), id="group-norm"),
    pytest.param(lambda: GroupNorm(3), (3, 2, 6), id="group-norm-pixels"),
    pytest.param(lambda: SpatialDropout(0.4), (3, 2, 5), id="spatial-dropout"),
    pytest.param(lambda: AlphaDropout(0.4), (6,), id="alpha-dropout"),
    pytest.param(lambda: GaussianNoise(0.3), (6,), id="gaussian-noise"),
    pytest.param(lambda: Embedding(5, 3), Ids((4,)), id="embedding"),
    pytest.param(lambda: Embedding(5, 2), Ids((2, 3)), id="embedding-2d"),
    pytest.param(LearnedPositions, (3, 4), id="learned-positions"),
    pytest.param(lambda: LearnedPositions(5), (3, 4), id="learned-positions-to-spare"),
    pytest.param(SinusoidalPositions, (3, 4), id="sinusoidal-positions"),
    pytest.param(lambda: tied(Dense(3), 4), (4,), id="tied-dense"),
    pytest.param(lambda: tied(Embedding(5, 3), 5), Ids((4,)), id="tied-embedding"),
    pytest.param(lambda: Sequential([Dense(3), Tanh(), Dense(2)]), (4,), id="sequential"),
    pytest.param(lambda: Sequential([]), (3,), id="sequential-of-nothing"),
    pytest.param(lambda: Residual([Dense(4), Tanh()]), (4,), id="residual"),
    pytest.param(lambda: Residual([Dense(3)], Dense(3)), (4,), id="residual-shortcut"),
    pytest.param(lambda: Residual([Dropout(0.3)], Identity()), (4,), id="residual-identity"),
    pytest.param(lambda: Parallel([Dense(2), Tanh(), Dense(1)]), (3,), id="parallel"),
    pytest.param(lambda: Parallel([Dense(2), Dense(3)]), (2, 3), id="parallel-2d"),
    pytest.param(lambda: Parallel([Dense(3), Tanh()], "sum"), (3,), id="parallel-sum"),
    pytest.param(lambda: Parallel([Dense(3)]), (3,), id="parallel-of-one"),
    pytest.param(lambda: Parallel([Dropout(0.5), Dropout(0.5)]), (4,), id="parallel-dropouts"),
    pytest.param(maze, (4,), id="nested"),
]
DRAWS = (Dropout, AlphaDropout, GaussianNoise)  # layers that draw random numbers in training
OTHERWISE_IN_TRAINING = (*DRAWS, BatchNorm)  # whose training mode is not their prediction mode
IN_FLOAT32 = {"inverse"}  # what normalisations keep of their statistics, whatever the dtype


def has_two_modes(layer, kinds=OTHERWISE_IN_TRAINING):
    return any(isinstance(x, kinds) and getattr(x, "rate", 1) for _, x in layer.walk())


def table(layers):
    return pytest.mark.parametrize(("make", "input_shape"), layers)


each_layer = table(LAYERS)
each_layer_of_floats = table([row for row in LAYERS if not isinstance(row.values[1], Ids)])
each_layer_of_two_modes = table([row for row in LAYERS if has_two_modes(row.values[0]())])
each_layer_of_one_mode = table([row for row in LAYERS if not has_two_modes(row.values[0]())])
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
BATCH = 3


def build(make, input_shape, backend, dtype="float32", seed=0):
    return Network([make()], input_shape, backend, seed=seed, dtype=dtype)


def draw(shape, seed=1):
    if isinstance(shape, Ids):
        return np.random.default_rng(seed).integers(0, 5, (BATCH, *shape))
    return np.random.default_rng(seed).standard_normal((BATCH, *shape)).astype(np.float32)


def run(network, x, delta=None, training=True):
    """One forward and backward pass; everything that came out of it, on the host."""
    backend = network.backend
    out = network.forward(x, training)
    if delta is None:
        delta = backend.asarray(draw(tuple(out.shape[1:]), seed=2)[: out.shape[0]], network.dtype)
    back = network.backward(delta)
    arrays = {"output": out, **network.grads} | ({} if back is None else {"input": back})
    return {name: np.array(backend.to_numpy(array)) for name, array in arrays.items()}


# Right numbers ------------------------------------------------------------------------------------


@each_layer
def test_backward_matches_finite_differences(backend, make, input_shape):
    ids = draw(input_shape) if isinstance(input_shape, Ids) else None
    report = check_gradients(make(), input_shape, backend, x=ids)
    assert report.rows
    assert report.error < 1e-6
    assert not any(row.left_out for row in report.rows)


@each_layer_of_two_modes
def test_backward_matches_finite_differences_in_prediction(backend, make, input_shape):
    assert check_gradients(make(), input_shape, backend, training=False).error < 1e-6


@each_layer
def test_same_numbers_on_every_backend(backend, make, input_shape):
    x = draw(input_shape)
    here, there = (run(build(make, input_shape, place), x) for place in (backend, "numpy"))
    assert here.keys() == there.keys()
    for name, array in here.items():
        np.testing.assert_allclose(array, there[name], rtol=2e-5, atol=2e-6, err_msg=name)


@each_layer
def test_output_shape_tells_the_truth(backend, make, input_shape):
    network = build(make, input_shape, backend)
    found = run(network, draw(input_shape))
    assert found["output"].shape == (BATCH, *make().output_shape(input_shape))
    assert found["output"].shape == (BATCH, *network.output_shape)
    if not isinstance(input_shape, Ids):  # ids have no gradient
        assert found["input"].shape == (BATCH, *input_shape)
    for name, param in network.params.items():
        assert found[name].shape == tuple(param.shape), name


@each_layer_of_one_mode  # a mask for one sample is another one than a mask for three
def test_a_batch_of_one(backend, make, input_shape):
    network, x = build(make, input_shape, backend), draw(input_shape)
    delta = backend.asarray(draw(network.output_shape, seed=2))
    whole = run(network, x, delta)
    ones = [run(network, x[i : i + 1], delta[i : i + 1, ...]) for i in range(BATCH)]
    for name in whole.keys() & {"output", "input"}:
        parts = np.concatenate([one[name] for one in ones])
        np.testing.assert_allclose(whole[name], parts, rtol=1e-5, atol=1e-6)
    for name in network.grads:
        total = sum(one[name] for one in ones)
        np.testing.assert_allclose(whole[name], total, rtol=1e-5, atol=1e-5, err_msg=name)


@each_layer_of_floats
def test_large_inputs_overflow_nowhere(backend, make, input_shape):
    found = run(build(make, input_shape, backend), 1e4 * np.sign(draw(input_shape)))
    assert all(np.all(np.isfinite(array)) for array in found.values())


# Pure numbers -------------------------------------------------------------------------------------


@each_layer
@each_dtype
def test_dtype_is_kept(backend, make, input_shape, dtype):
    if backend.name == "array-api-strict" and dtype == "float16":  # the standard has none
        with pytest.raises(BackendUnavailable, match="no dtype 'float16'"):
            build(make, input_shape, backend, dtype)
        return
    with backend.allow_float64() if dtype == "float64" else contextlib.nullcontext():
        network, wanted = build(make, input_shape, backend, dtype), backend.dtype(dtype)
        out = network.forward(draw(input_shape), training=True)
        back = network.backward(backend.asarray(draw(network.output_shape), dtype))
        arrays = {"output": out, "dL/d(input)": back, **network.params}
        arrays |= {f"gradient of {name}": array for name, array in network.grads.items()}
        for name, layer in network.walk():
            cache = {k: v for k, v in layer.cache.items() if k not in IN_FLOAT32}
            arrays |= {f"cache of {name}: {k}": v for k, v in cache.items()}
        floats = {
            name: array.dtype
            for name, array in arrays.items()
            if hasattr(array, "dtype") and backend.xp.isdtype(array.dtype, "real floating")
        }
        assert floats == dict.fromkeys(floats, wanted)
        assert "output" in floats
        assert isinstance(input_shape, Ids) != ("dL/d(input)" in floats)


@each_layer
def test_state_keeps_its_dtypes(backend, make, input_shape):
    network = build(make, input_shape, backend)
    before = {name: getattr(value, "dtype", type(value)) for name, value in network.state.items()}
    run(network, draw(input_shape))
    assert before == {n: getattr(value, "dtype", type(value)) for n, value in network.state.items()}


@each_layer
def test_lent_arrays_are_not_written_to(backend, make, input_shape):
    network = build(make, input_shape, backend)
    values = draw(input_shape), draw(network.output_shape)
    x, delta = (backend.asarray(value.copy()) for value in values)
    params = {name: backend.to_numpy(array).copy() for name, array in network.params.items()}
    with backend.on_device():
        network.root.forward(x, training=True)
        network.root.backward(delta)
    np.testing.assert_array_equal(backend.to_numpy(x), values[0])
    np.testing.assert_array_equal(backend.to_numpy(delta), values[1])
    for name, array in network.params.items():
        np.testing.assert_array_equal(backend.to_numpy(array), params[name])


@each_layer
def test_read_only_arrays_will_do(make, input_shape):
    network = build(make, input_shape, "numpy")
    x, delta = draw(input_shape), draw(network.output_shape)
    expected = run(build(make, input_shape, "numpy"), x.copy(), delta.copy())
    x.flags.writeable = delta.flags.writeable = False
    network.params = {name: frozen(array) for name, array in network.params.items()}
    found = run(network, x, delta)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def frozen(array):
    array = array.copy()
    array.flags.writeable = False
    return array


@each_layer
def test_backward_twice_gives_the_same(backend, make, input_shape):
    network = build(make, input_shape, backend)
    network.forward(draw(input_shape), training=True)
    delta = backend.asarray(draw(network.output_shape))
    results = []
    for _ in range(2):
        back = network.backward(delta)
        inputs = {} if back is None else {"input": np.array(backend.to_numpy(back))}
        results.append({**inputs, **host(network, "grads")})
    for name, array in results[0].items():
        np.testing.assert_array_equal(array, results[1][name])


def host(network, kind):
    return {
        name: np.array(network.backend.to_numpy(array))
        for name, array in getattr(network, kind).items()
    }


@each_layer_of_one_mode  # a second batch sees another mask
def test_gradients_are_of_the_last_batch(backend, make, input_shape):
    network, other = build(make, input_shape, backend), draw(input_shape, seed=5)
    run(network, other)
    fresh = run(build(make, input_shape, backend), draw(input_shape))
    again = run(network, draw(input_shape))
    for name, array in fresh.items():
        np.testing.assert_array_equal(array, again[name])


# Compiled, in both modes, from one seed -----------------------------------------------------------


@each_layer
def test_compiled_step_equals_the_plain_one(backend, make, input_shape):
    network, x = build(make, input_shape, backend), draw(input_shape)
    delta = backend.asarray(draw(network.output_shape, seed=2))

    def step(params, state, x, delta):
        with network.holding(params, state):
            out = network.root.forward(x, training=True)
            back = network.root.backward(delta)
            return {"output": out, "input": back, **network.grads}, network.state

    compiled = backend.compile(step)
    state = network.state
    plain = build(make, input_shape, backend)
    with backend.on_device():
        for _ in range(2):  # dropout's second mask is another one, though nothing is traced again
            found, state = compiled(network.params, state, backend.asarray(x), delta)
            for name, array in run(plain, x, delta).items():
                np.testing.assert_allclose(
                    backend.to_numpy(found[name]), array, rtol=1e-5, atol=1e-6, err_msg=name
                )
    for name, value in plain.state.items():
        here, there = (
            np.asarray(v if isinstance(v, int) else backend.to_numpy(v))
            for v in (state[name], value)
        )
        np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-6, err_msg=name)


@each_layer
def test_prediction_differs_from_training_only_where_it_should(backend, make, input_shape):
    network, x = build(make, input_shape, backend), draw(input_shape)
    training = np.array(backend.to_numpy(network.forward(x, training=True)))
    first, second = (np.array(backend.to_numpy(network.forward(x))) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert np.array_equal(training, first) != has_two_modes(make())


@each_layer
def test_prediction_leaves_the_state_alone(backend, make, input_shape):
    network = build(make, input_shape, backend)
    before = host_state(network)
    network.forward(draw(input_shape))
    assert host_state(network) == before
    network.forward(draw(input_shape), training=True)
    assert (host_state(network) != before) == has_two_modes(make())


def host_state(network):
    return {
        name: value if isinstance(value, int) else network.backend.to_numpy(value).tolist()
        for name, value in network.state.items()
    }


@each_layer
def test_a_seed_is_a_start_and_its_masks(backend, make, input_shape):
    x = draw(input_shape)
    one, same, other = (build(make, input_shape, backend, seed=seed) for seed in (3, 3, 4))
    for _ in range(2):
        found, again = run(one, x), run(same, x)
        for name, array in found.items():
            np.testing.assert_array_equal(array, again[name])
    starts = [host(network, "params") for network in (one, other)]  # a norm's are not drawn
    drawn = has_two_modes(make(), DRAWS) or any(
        not np.array_equal(array, starts[1][name]) for name, array in starts[0].items()
    )
    assert np.array_equal(run(other, x)["output"], run(one, x)["output"]) != drawn


@each_layer
def test_starting_weights_are_those_of_numpy(backend, make, input_shape):
    here, there = (host(build(make, input_shape, place), "params") for place in (backend, "numpy"))
    assert here.keys() == there.keys()
    for name, array in here.items():
        np.testing.assert_array_equal(array, there[name])


# Belonging ----------------------------------------------------------------------------------------


@each_layer
def test_building_twice_is_refused(make, input_shape):
    layer = make()
    Network([layer], input_shape)
    with pytest.raises(XpnnError, match="already part of a network.*make another one"):
        Network([layer], input_shape)
    with pytest.raises(XpnnError, match="already part of a network"):
        layer.build(input_shape, get_backend("numpy"))
    fresh = Dense(2)
    with pytest.raises(XpnnError, match="already part of a network"):
        Network([fresh, layer], (4,)) if input_shape == (2,) else Sequential([fresh, layer]).build(
            input_shape, get_backend("numpy")
        )
    assert fresh.backend is None


@each_layer
def test_use_before_building_is_explained(make, input_shape):
    layer, x = make(), draw(input_shape)
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


@each_layer
def test_multiply_adds_count_the_matrix_products(make, input_shape):
    layer, expected = make(), 0
    Network([layer], input_shape)
    for _, one in layer.walk():
        if isinstance(one, Dense):
            expected += one.params["weight"].size * int(np.prod(one.input_shape[:-1]))
        if isinstance(one, TiedDense):
            expected += one.units * int(np.prod(one.input_shape))
        if isinstance(one, Conv1D | Conv2D):
            places = one.output_shape(one.input_shape)[:-1]
            expected += one.params["weight"].size * int(np.prod(places))
        if isinstance(one, ConvTranspose2D):
            expected += one.params["weight"].size * int(np.prod(one.input_shape[:-1]))
    assert layer.multiply_adds(input_shape) == expected
