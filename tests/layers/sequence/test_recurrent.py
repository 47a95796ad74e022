"""Recurrent layers: against torch.nn, in pieces against the whole, and with padding."""

import functools

import numpy as np
import pytest

from tests.conftest import needs
from tests.layers.oracles import assert_close, by_differences, host, jax_passes, passes, randomized
from xpnn import (
    GRU,
    LSTM,
    SGD,
    Adam,
    Bidirectional,
    Dense,
    Embedding,
    Masked,
    Network,
    Recurrent,
    SimpleRNN,
    Trainer,
)
from xpnn.errors import GradientError, NotBuiltError, ShapeError
from xpnn.losses import cross_entropy, mean_squared_error
from xpnn.testing import check_gradients

BATCH, TIME, FEATURES, UNITS = 3, 5, 4, 6
SHAPE = (TIME, FEATURES)
KINDS = {
    "rnn": SimpleRNN,
    "rnn-relu": functools.partial(SimpleRNN, activation="relu"),
    "lstm": LSTM,
    "gru": GRU,
}
each_kind = pytest.mark.parametrize(
    "kind",
    [  # JAX walks along a sequence with any activation alike
        pytest.param(kind, marks=pytest.mark.slow_to_compile if kind == "rnn-relu" else ())
        for kind in KINDS
    ],
)
each_way = pytest.mark.parametrize("way", ["forward", "both"])


def sequences(features=FEATURES, seed=0, batch=BATCH, time=TIME):
    shape = (batch, time, features)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def make(kind, way="forward", **options):
    layer = KINDS[kind](UNITS, **options)
    return Bidirectional(layer) if way == "both" else layer


def build(layer, backend, shape=SHAPE):
    """A network of one layer with weights drawn anew, biases too."""
    network = randomized(Network([layer], shape, backend))
    network.load({name: 0.5 * array for name, array in network.numpy_arrays().items()})
    return network


def lent(backend, arrays):
    return tuple(map(backend.asarray, arrays))


# Against torch ------------------------------------------------------------------------------------


def torch_twin(network, kind):
    """The same layer in torch, and what its parameters are called in ``network``."""
    import torch

    ways = [name for name, layer in network.walk() if isinstance(layer, Recurrent)]
    modules = {"rnn": torch.nn.RNN, "rnn-relu": torch.nn.RNN, "lstm": torch.nn.LSTM}
    options = {"nonlinearity": "relu"} if kind == "rnn-relu" else {}
    options |= {"batch_first": True, "bidirectional": len(ways) == 2}
    module = modules.get(kind, torch.nn.GRU)(FEATURES, UNITS, **options)
    params, names = host(network, network.params), {}
    for way, suffix in zip(ways, ("", "_reverse"), strict=False):
        own = {
            f"weight_ih_l0{suffix}": f"{way}.weight",
            f"weight_hh_l0{suffix}": f"{way}.recurrent_weight",
            f"bias_ih_l0{suffix}": f"{way}.bias",
            f"bias_hh_l0{suffix}": f"{way}.recurrent_bias",  # GRU's; elsewhere the sum counts
        }
        names |= {name: name_here for name, name_here in own.items() if name_here in params}
    for name, param in module.named_parameters():
        value = params[names[name]].T if name in names else np.zeros(param.shape, np.float32)
        param.data = torch.tensor(np.ascontiguousarray(value))
    return module, names


def turned(array):
    return array if array.ndim == 1 else array.T


def torch_run(module, names, x, delta, *, initial=(), final=(), lengths=None):
    """Outputs, memory and all gradients by torch, under the names of the network."""
    import torch

    x = torch.tensor(x, requires_grad=True)
    memory = [torch.tensor(one[None], requires_grad=True) for one in initial]
    inputs, pack = x, torch.nn.utils.rnn
    if lengths is not None:
        inputs = pack.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    outputs, after = module(
        inputs, tuple(memory) if len(memory) > 1 else memory[0] if memory else None
    )
    if lengths is not None:
        outputs, _ = pack.pad_packed_sequence(outputs, True, total_length=x.shape[1])
    after = after if isinstance(after, tuple) else (after,)
    cost = (outputs * torch.tensor(delta)).sum()
    for one, slope in zip(after, final, strict=False):
        cost = cost + (one[0] * torch.tensor(slope)).sum()
    cost.backward()
    found = {"output": outputs, "input": x.grad}
    found |= {own: turned(getattr(module, name).grad) for name, own in names.items()}
    found |= {f"initial {i}": one.grad[0] for i, one in enumerate(memory)}
    found |= {f"final {i}": one for i, one in enumerate(after)}
    return {name: array.detach().numpy() for name, array in found.items()}


@needs("torch")
@each_kind
@each_way
def test_equals_torch(backend, kind, way):
    network = build(make(kind, way, return_sequences=True), backend)
    x, delta = sequences(), sequences(network.output_shape[-1], seed=1)
    oracle = torch_run(*torch_twin(network, kind), x, delta)
    found = passes(network, x, delta)
    assert {name for name in oracle if not name.startswith("final")} == found.keys()
    last = build(make(kind, way), backend)
    found["final 0"] = np.stack(np.split(backend.to_numpy(last.forward(x)), 1 + (way == "both"), 1))
    oracle.pop("final 1", None)
    assert_close(found, oracle)


@needs("torch")
@each_kind
def test_initial_and_final_memory_equal_torch(backend, kind):
    network = build(make(kind), backend)
    layer, x, delta = network.layers[0], sequences(), sequences(UNITS, seed=1)
    count = len(layer.memory)
    initial = [sequences(UNITS, seed=2 + i)[:, 0] for i in range(count)]
    slopes = [sequences(UNITS, seed=4 + i)[:, 0] for i in range(count)]
    oracle = torch_run(*torch_twin(network, kind), x, delta, initial=initial, final=slopes)
    with backend.on_device():
        outputs, final = layer.run(backend.asarray(x), lent(backend, initial))
        back, before = layer.run_back(backend.asarray(delta), lent(backend, slopes))
    found = host(network, {"output": outputs, "input": back, **network.grads})
    for i in range(count):
        found[f"final {i}"] = backend.to_numpy(final[i])[None]
        found[f"initial {i}"] = backend.to_numpy(before[i])
    assert oracle.keys() == found.keys()
    assert_close(found, oracle)


@needs("torch")
@each_kind
@each_way
def test_masks_equal_torch_packed_sequences(backend, kind, way):
    network, lengths = build(Masked([make(kind, way, return_sequences=True)]), backend), [3, 5, 1]
    x, delta = padded(sequences(), lengths), sequences(network.output_shape[-1], seed=1)
    oracle = torch_run(*torch_twin(network, kind), x, delta, lengths=lengths)
    found = passes(network, x, delta)
    assert_close(found, {name: oracle[name] for name in found})


def padded(x, lengths, filling=0.0):
    x = x.copy()
    for row, length in enumerate(lengths):
        x[row, length:] = filling
    return x


@needs("torch")
@each_kind
def test_truncation_equals_torch_detached(backend, kind):
    """Stretches of two steps, the memory handed over by value."""
    import torch

    network = build(make(kind, return_sequences=True, truncate=2), backend)
    x, delta = sequences(), sequences(UNITS, seed=1)
    module, names = torch_twin(network, kind)
    inputs, memory, cost = torch.tensor(x, requires_grad=True), None, 0.0
    for start in range(0, TIME, 2):
        outputs, memory = module(inputs[:, start : start + 2], memory)
        cost = cost + (outputs * torch.tensor(delta[:, start : start + 2])).sum()
        memory = tuple(m.detach() for m in memory) if kind == "lstm" else memory.detach()
    cost.backward()
    oracle = {own: turned(getattr(module, name).grad).numpy() for name, own in names.items()}
    found = passes(network, x, delta)
    assert_close(found, {"input": inputs.grad.numpy(), **oracle})
    whole = passes(build(make(kind, return_sequences=True), backend), x, delta)
    np.testing.assert_array_equal(whole["output"], found["output"])
    assert not np.allclose(whole["input"], found["input"], atol=1e-3)


# Against differences and autodiff -----------------------------------------------------------------


@each_kind
@pytest.mark.parametrize(
    "mask",
    [
        pytest.param([[1, 1, 0], [0, 1, 1]], marks=pytest.mark.slow_to_compile),  # no hole between
        [[1, 0, 1], [1, 1, 1]],
    ],
)
@by_differences
def test_masked_gradients_match_finite_differences(backend, kind, mask):
    """Masks with holes, of which the padding of ``Masked`` is a special case."""

    class Holes(Masked):
        def mask(self, Z):
            return self.backend.asarray(np.array(mask, dtype=bool))

    for sequential in (False, True):
        layer = KINDS[kind](2, return_sequences=sequential, reverse=sequential)
        assert check_gradients(Holes([layer]), (3, 2), backend, batch=2).error < 1e-6


@needs("jax")
@each_kind
@each_way
def test_equals_jax_grad(kind, way):
    network = Network([make(kind, way, return_sequences=True)], SHAPE)
    delta = sequences(network.output_shape[-1], seed=1)
    layers = lambda: [make(kind, way, return_sequences=True)]  # noqa: E731
    assert_close(*jax_passes(layers, SHAPE, sequences(), delta), tolerance=2e-5)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@by_differences
def test_planted_mistakes_are_found(backend, kind):
    class Wrong(KINDS[kind]):
        def slope_rule(self, xp, *arrays):
            first, second, *rest = super().slope_rule(xp, *arrays)
            return second, first, *rest

    with pytest.raises(GradientError):
        check_gradients(Wrong(2), (3, 2), backend)


def test_an_lstm_by_hand():
    """One unit, two steps, all weights 1, all biases 0."""
    layer = LSTM(1, use_bias=False)
    network = Network([layer], (2, 1))
    network.load({name: np.ones(array.shape) for name, array in network.params.items()})
    s = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    c1 = s(1) * np.tanh(1)
    h1 = s(1) * np.tanh(c1)
    c2 = s(2 + h1) * c1 + s(2 + h1) * np.tanh(2 + h1)
    h2 = s(2 + h1) * np.tanh(c2)
    np.testing.assert_allclose(network.forward([[[1.0], [2.0]]]), [[h2]], rtol=1e-6)


# Padding and pieces -------------------------------------------------------------------------------


@each_kind
@pytest.mark.parametrize(
    "way", [pytest.param("forward", marks=pytest.mark.slow_to_compile), "both"]
)
def test_padding_changes_nothing(backend, kind, way):
    """Short sequences in a batch of long ones, and each of them alone."""
    lengths = [3, 5, 1]
    network = build(Masked([make(kind, way)]), backend)
    x, delta = padded(sequences(), lengths), sequences(network.output_shape[-1], seed=1)[:, 0]
    x[0, 0, 1:] = 0.0  # a step is padding only where all its features are
    found, totals = passes(network, x, delta), {}
    for row, length in enumerate(lengths):
        one = slice(row, row + 1)
        short = build(make(kind, way), backend, (length, FEATURES))
        names = dict(zip(short.params, network.params, strict=True))
        short.load({name: network.numpy_arrays()[masked] for name, masked in names.items()})
        alone = passes(short, x[one, :length], delta[one])
        np.testing.assert_allclose(alone["output"], found["output"][one], atol=1e-6)
        np.testing.assert_allclose(alone["input"], found["input"][one, :length], atol=1e-6)
        np.testing.assert_array_equal(found["input"][row, length:], 0.0)
        for name, masked in names.items():
            totals[masked] = totals.get(masked, 0.0) + alone[name]
    assert_close(found, totals)


def test_ids_are_masked_where_they_are_the_padding(backend):
    """An embedding turns the padding into vectors like any other; the mask is from before that."""
    layers = lambda: [Embedding(9, 3), Bidirectional(GRU(4))]  # noqa: E731
    network = Network([Masked(layers(), padding=7)], (5,), backend)
    ids = np.array([[1, 2, 3, 7, 7], [4, 5, 6, 0, 8]])
    short = Network(layers(), (3,), backend)
    short.load({k.split(".", 2)[2]: v for k, v in network.numpy_arrays().items()})
    output = backend.to_numpy(network.forward(ids))
    alone = backend.to_numpy(short.forward(ids[:1, :3]))
    np.testing.assert_allclose(output[:1], alone, atol=1e-6)


def test_padded_outputs_are_zero_and_reach_the_next_layer_as_padding(backend):
    network = build(Masked([LSTM(UNITS, return_sequences=True), GRU(UNITS)]), backend)
    x = padded(sequences(), [3, 5, 1])
    first, second = network.layers[0].layers
    before = backend.to_numpy(network.forward(x))
    outputs = np.array(backend.to_numpy(first.run(backend.asarray(x), mask=first.cache["mask"])[0]))
    assert not outputs[0, 3:].any()
    assert outputs[0, :3].all()
    again, _ = second.run(backend.asarray(outputs[:1, :3].copy()))
    np.testing.assert_allclose(backend.to_numpy(again)[:, -1], before[:1], atol=1e-6)


@each_kind
def test_pieces_make_up_the_whole(backend, kind):
    """The memory handed on, the gradient handed back."""
    network = build(make(kind, return_sequences=True), backend)
    x, delta = sequences(), sequences(UNITS, seed=1)
    whole = passes(network, x, delta)
    layer, cut = network.layers[0], 3
    with backend.on_device():
        first, memory = layer.run(backend.asarray(x[:, :cut].copy()))
        second, _ = layer.run(backend.asarray(x[:, cut:].copy()), memory)
        back_2, slopes = layer.run_back(backend.asarray(delta[:, cut:].copy()))
        grads_2 = host(network, network.grads)
        layer.run(backend.asarray(x[:, :cut].copy()))
        back_1, _ = layer.run_back(backend.asarray(delta[:, :cut].copy()), slopes)
    joined = lambda *parts: np.concatenate(list(map(backend.to_numpy, parts)), axis=1)  # noqa: E731
    found = {"output": joined(first, second), "input": joined(back_1, back_2)}
    found |= {name: grad + grads_2[name] for name, grad in host(network, network.grads).items()}
    assert_close(found, whole)


@each_kind
def test_reverse_reads_from_the_end(backend, kind):
    x, delta = sequences(), sequences(UNITS, seed=1)
    forward = passes(build(make(kind, return_sequences=True), backend), x, delta)
    flipped = [np.ascontiguousarray(one[:, ::-1]) for one in (x, delta)]
    layer = make(kind, return_sequences=True, reverse=True)
    backward = passes(build(layer, backend), *flipped)
    backward |= {name: backward[name][:, ::-1] for name in ("output", "input")}
    assert_close(backward, forward, tolerance=1e-6)


def test_bidirectional_may_add_both_ways(backend):
    joined, summed = (
        build(Bidirectional(LSTM(UNITS), merge=merge), backend) for merge in ("concatenate", "sum")
    )
    left, right = np.split(backend.to_numpy(joined.forward(sequences())), 2, axis=-1)
    assert joined.params.keys() == summed.params.keys()
    np.testing.assert_allclose(
        backend.to_numpy(summed.forward(sequences())), left + right, atol=1e-6
    )


# From batch to batch ------------------------------------------------------------------------------


@each_kind
def test_a_stateful_layer_goes_on_where_it_stopped(backend, kind):
    whole = build(make(kind, return_sequences=True), backend, (2 * TIME, FEATURES))
    parts = build(make(kind, return_sequences=True, stateful=BATCH), backend)
    x = sequences(time=2 * TIME)
    halves = [np.ascontiguousarray(half) for half in np.split(x, 2, axis=1)]
    start = {name: backend.to_numpy(array) for name, array in whole.params.items()}
    parts.load({**parts.numpy_arrays(), **start})
    parts.layers[0].reset()
    outputs = [backend.to_numpy(parts.forward(half, training=True)) for half in halves]
    wanted = backend.to_numpy(whole.forward(x))
    np.testing.assert_allclose(np.concatenate(outputs, axis=1), wanted, atol=1e-6)

    alone = parts.forward(halves[1])  # prediction begins with an empty memory
    wanted = whole.root.forward(backend.asarray(halves[1]))
    np.testing.assert_allclose(*map(backend.to_numpy, (alone, wanted)), atol=1e-6)
    assert np.abs(backend.to_numpy(alone) - outputs[1]).max() > 1e-3
    parts.layers[0].reset()
    again = backend.to_numpy(parts.forward(halves[0], training=True))
    np.testing.assert_array_equal(again, outputs[0])


def test_a_stateful_layer_trains_compiled_and_resumes(backend):
    """The memory is part of the state: saved, loaded, and carried through a compiled step."""

    def trainer():
        layers = [LSTM(4, stateful=BATCH), Dense(2)]
        return Trainer(Network(layers, SHAPE, backend), mean_squared_error, SGD(0.1))

    whole, first, second = trainer(), trainer(), trainer()
    batches = [(sequences(seed=i), sequences(2, seed=9 + i)[:, 0]) for i in range(4)]
    batches = [lent(backend, batch) for batch in batches]
    losses = [float(backend.to_numpy(whole.step(*batch))) for batch in batches]
    begun = [float(backend.to_numpy(first.step(*batch))) for batch in batches[:2]]
    second.network.load(first.network.numpy_arrays())
    resumed = [float(backend.to_numpy(second.step(*batch))) for batch in batches[2:]]
    np.testing.assert_allclose(begun + resumed, losses, rtol=1e-6)
    second.network.load(first.network.numpy_arrays())
    second.network.layers[0].reset()
    forgetful = [float(backend.to_numpy(second.step(*batch))) for batch in batches[2:]]
    assert abs(forgetful[0] - losses[2]) > 1e-4


# Trained ------------------------------------------------------------------------------------------


@each_kind
def test_the_loss_curve_is_that_of_numpy(backend, kind):
    """Compiled, where the backend compiles; 30 steps, equal to 1e-3."""
    here, there = (curve(kind, spec) for spec in (backend.spec, "numpy"))
    np.testing.assert_allclose(here, there, atol=1e-3)
    assert here[-1] < 0.7 * here[0]


@functools.cache
def curve(kind, spec):
    layers = [Embedding(5, 4), make(kind, "both", truncate=4), Dense(5)]
    trainer = Trainer(Network([Masked(layers)], (6,), spec), cross_entropy, Adam(3e-2))
    rng, backend = np.random.default_rng(0), trainer.network.backend
    x, y = lent(backend, (rng.integers(0, 5, (16, 6)), rng.integers(0, 5, 16)))
    return [float(backend.to_numpy(trainer.step(x, y))) for _ in range(30)]


def test_starting_weights():
    """Orthogonal and Glorot gate by gate; an LSTM remembers from the start."""
    params = Network([LSTM(8)], (5, 3)).params
    R = params["0.lstm.recurrent_weight"]
    for gate in np.split(R, 4, axis=1):
        np.testing.assert_allclose(gate.T @ gate, np.eye(8), atol=1e-6)
    limit = np.sqrt(6 / (3 + 8))
    assert 0.9 * limit < np.abs(params["0.lstm.weight"]).max() <= limit
    np.testing.assert_array_equal(params["0.lstm.bias"], np.repeat([0.0, 1.0, 0.0, 0.0], 8))


# Refused ------------------------------------------------------------------------------------------


def test_what_is_refused():
    with pytest.raises(ShapeError, match=r"inputs of shape \(time, features\), got \(4,\)"):
        Network([LSTM(3)], (4,))
    with pytest.raises(ValueError, match="LSTM needs units of at least 1, got 0"):
        LSTM(0)
    with pytest.raises(ValueError, match="GRU needs truncate of at least 1, got 0"):
        GRU(3, truncate=0)
    with pytest.raises(ValueError, match="SimpleRNN knows activation='tanh' and 'relu'"):
        SimpleRNN(3, activation="gelu")
    with pytest.raises(TypeError, match=r"a recurrent layer such as LSTM\(8\), got Dense"):
        Bidirectional(Dense(3))
    with pytest.raises(ValueError, match="no next batch to carry"):
        Bidirectional(LSTM(3, stateful=4))
    network = Network([LSTM(3, stateful=2)], SHAPE)
    with pytest.raises(ShapeError, match=r"carries the memory of 2 sequences.*a batch of 3"):
        network.forward(sequences(), training=True)


def test_what_run_cannot_read_is_refused(backend):
    with pytest.raises(NotBuiltError, match=r"LSTM\(6\) has no arrays yet"):
        LSTM(6).run(np.zeros((BATCH, *SHAPE)))
    with pytest.raises(NotBuiltError, match=r"LSTM\(6, stateful=3\) has no arrays yet"):
        LSTM(6, stateful=3).reset()
    layer = Network([LSTM(UNITS)], SHAPE, backend).layers[0]
    zeros = lambda *shape: backend.zeros(shape, "float32")  # noqa: E731
    x, h = zeros(BATCH, *SHAPE), zeros(BATCH, UNITS)
    for wrong in (zeros(BATCH, TIME, 9), zeros(TIME, FEATURES)):
        with pytest.raises(ShapeError, match=r"reads \(batch, time, 4\), got \("):
            layer.run(wrong)
    for wrong in ((h,), (h, zeros(1, UNITS)), (h, zeros(BATCH, 2)), h):
        with pytest.raises(ShapeError, match=r"memory \(h, c\), each of shape \(3, 6\), got"):
            layer.run(x, wrong)
    with pytest.raises(ShapeError, match=r"mask of shape \(3, 5\).*got \(3, 4\)"):
        layer.run(x, mask=zeros(BATCH, 4) == 0)


def test_a_batch_that_a_stateful_layer_cannot_take_is_refused_before_the_first_step(backend, rng):
    network = Network([LSTM(3, stateful=4), Dense(2)], (5, 2), backend)
    trainer = Trainer(network, mean_squared_error, SGD(0.1))
    before = network.numpy_arrays()
    x, y = rng.standard_normal((10, 5, 2)), rng.standard_normal((10, 2))
    with pytest.raises(ShapeError, match="make all batches of one size"):
        trainer.fit(x, y, batch_size=4, shuffle=False, progress=False)
    assert trainer.steps == 0
    for name, array in network.numpy_arrays().items():
        np.testing.assert_array_equal(array, before[name])
    trainer.fit(x[:8], y[:8], batch_size=4, shuffle=False, progress=False)
    assert trainer.steps == 2
