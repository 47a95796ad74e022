"""A block that works its activations out twice: the same gradients from less memory."""

import re
import tracemalloc

import numpy as np
import pytest

import xpnn
from tests.conftest import needs
from tests.layers.oracles import host, passes
from xpnn import (
    GELU,
    LSTM,
    SGD,
    BatchNorm,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    LearnedPositions,
    Masked,
    Network,
    Recompute,
    ReLU,
    Reshape,
    Residual,
    Sequential,
    Tanh,
    Trainer,
    TransformerBlock,
    generate,
)
from xpnn.errors import XpnnError


def mlp(kind):
    return [kind([Dense(16), BatchNorm(), Tanh(), Dropout(0.3), Dense(64)]), Dense(10)], (64,)


def nested(kind):
    inner = kind([Dense(64), Dropout(0.2), kind([GELU(), Dense(64), Dropout(0.2)])])
    return [Residual([inner, kind([])]), kind([ReLU(), Dense(10)])], (64,)


def masked(kind):
    read = kind([LSTM(6, return_sequences=True), kind([LSTM(6)])])
    return [Reshape((8, 8)), Masked([kind([Dense(8), read])]), Dense(10)], (64,)


def inside_out(kind):
    return [kind([Reshape((8, 8)), Masked([LSTM(6)]), Dense(10)])], (64,)


def stateful(kind):
    reader = LSTM(6, stateful=20)
    return [kind([Reshape((8, 8)), reader, Dense(10)])], (64,)


def transformer(kind):
    blocks = [kind([TransformerBlock(8, 2, dropout=0.2)]) for _ in range(2)]
    return [kind([Embedding(17, 8), LearnedPositions(), *blocks]), Flatten(), Dense(10)], (64,)


each_network = pytest.mark.parametrize(
    "make", [mlp, nested, masked, inside_out, stateful, transformer]
)


def data(make, count=40):
    x, y = xpnn.datasets.digits()
    x[::3, 40:] = 0.0  # for Masked: some end before the others
    return (np.round(16 * x).astype(int) if make is transformer else x)[:count], y[:count]


def of_sequential(name):
    return re.sub("recompute", "sequential", name)


def twins(make, backend):
    """A network of Sequentials and one of Recomputes, of the same weights and masks."""
    plain, other = (Network(*make(kind), backend, seed=3) for kind in (Sequential, Recompute))
    for (_, one), (_, two) in zip(plain.walk(), other.walk(), strict=True):
        two.seed = one.seed  # which depends on the layer's name
    other.load(dict(zip(other.numpy_arrays(), plain.numpy_arrays().values(), strict=True)))
    return plain, other


@pytest.mark.slow_to_compile  # call by call; trained, it is the same below
@each_network
def test_gradients_are_those_without_it(backend, make):
    plain, other = twins(make, backend)
    x, _ = data(make, 20)
    delta = np.random.default_rng(0).standard_normal((20, 10)).astype(np.float32)
    for _ in range(2):  # the second batch sees other masks and running statistics
        expected, found = both_ways(plain, x, delta), both_ways(other, x, delta)
        assert list(expected) == [re.sub("recompute", "sequential", name) for name in found]
        for name, array in zip(found, expected.values(), strict=True):
            if backend.name == "numpy":
                np.testing.assert_array_equal(found[name], array, err_msg=name)
            else:  # a GPU adds up an embedding's gradient in any order: large terms, small sums
                atol = 1e-6 * max(1.0, np.abs(array).max())
                np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=atol, err_msg=name)


def both_ways(network, x, delta):
    """All that a forward and a backward pass leave behind, on the host."""
    found = passes(network, x, delta)
    counts = {name: value for name, value in network.state.items() if isinstance(value, int)}
    arrays = {name: value for name, value in network.state.items() if name not in counts}
    return found | host(network, arrays) | counts


@pytest.mark.parametrize(
    "make",
    [
        *(  # what they are made of is in the others, too
            pytest.param(one, marks=pytest.mark.slow_to_compile)
            for one in (mlp, nested, inside_out)
        ),
        *(masked, stateful, transformer),
    ],
)
@pytest.mark.parametrize("compile", [None, pytest.param(False, marks=pytest.mark.slow_to_compile)])
def test_training_is_that_without_it(backend, make, compile):
    if compile is False and backend.name == "array-api-strict":
        pytest.skip("array-api-strict compiles nothing")
    losses = []
    for network in twins(make, backend):
        trainer = Trainer(network, xpnn.cross_entropy, SGD(0.1), compile=compile)
        history = trainer.fit(*data(make), batch_size=20, epochs=2, progress=False)
        losses.append(history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert losses[0][-1] != losses[0][0]


# Memory -------------------------------------------------------------------------------------------


def deep(kind, blocks=6):
    inside = [
        [Dense(64), GELU(), Dense(64), Tanh(), Dropout(0.1), Dense(64)] for _ in range(blocks)
    ]
    return Network([*map(kind, inside), Dense(10)], (64,))


def test_the_summary_counts_what_is_kept():
    whole, less = (deep(kind).summary() for kind in (Sequential, Recompute))
    assert less.cache_bytes_per_sample < whole.cache_bytes_per_sample / 4
    assert less.cache_bytes_per_sample >= 7 * 64 * 4  # the inputs of 6 blocks and of the last layer
    assert whole.params == less.params
    assert "0.recompute" in str(less)
    assert [row.name for row in less.rows[:2]] == ["0.recompute", "0.recompute.0.dense"]


@pytest.mark.parametrize("compile", [False, True])
def test_a_step_takes_less_memory(compile):
    x = np.random.default_rng(0).standard_normal((2048, 64)).astype(np.float32)
    y = np.zeros(2048, dtype=np.int32)

    def peak(kind):
        trainer = Trainer(deep(kind), xpnn.cross_entropy, SGD(0.1), compile=compile)
        if compile:
            trainer.step(x, y)
            return blocks_of(trainer)
        tracemalloc.start()
        try:
            trainer.step(x, y)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(Recompute) < 0.6 * peak(Sequential)


def blocks_of(trainer):
    """The memory of a replayed step."""
    return trainer._train_step.run.arena.nbytes


def test_nothing_is_kept_inside_after_forward_and_backward():
    network = deep(Recompute, blocks=1)
    x = np.ones((3, 64), dtype=np.float32)
    inside = [layer for name, layer in network.walk() if name.startswith("0.recompute.")]
    out = network.forward(x, training=True)
    assert all(not layer.cache for layer in inside)
    network.backward(out)
    assert all(not layer.cache for layer in inside)
    assert inside[0].grads
    network.forward(x)
    assert inside[0].cache


@needs("jax")
def test_jax_is_told_not_to_take_the_second_pass_for_the_first():
    # XLA keeps the barrier on GPUs and TPUs; for the CPU it drops it, also that of jax.checkpoint
    def operations(kind):
        network = Network([kind([Dense(8), Tanh(), Dense(8)]), Dense(2)], (4,), "jax")
        backend, optimizer = network.backend, SGD(0.1)
        step = xpnn.make_train_step(network, xpnn.cross_entropy, optimizer)
        x, y = backend.zeros((16, 4), "float32"), backend.asarray(np.zeros(16, dtype=np.int32))
        opt_state = optimizer.init(network.params, backend)
        program = step.lower(network.params, network.state, opt_state, x, y).as_text()
        return program.count("dot_general"), program.count("optimization_barrier")

    assert operations(Sequential) == (8, 0)  # 3 forward, 3 for weights, 2 for deltas
    assert operations(Recompute)[1] == 1
    assert operations(Recompute)[0] > 8


# Elsewhere ----------------------------------------------------------------------------------------


def test_writing_goes_on_from_the_past(backend):
    def writer(kind):
        return [Embedding(5, 8), kind([TransformerBlock(8, 2, causal=True)]), Dense(5)], (6,)

    texts = [generate(one, [1, 2], 8, temperature=0) for one in twins(writer, backend)]
    np.testing.assert_array_equal(*texts)


def test_backward_leaves_the_state_as_it_finds_it():
    network = Network([Recompute([Dense(3), BatchNorm(), Dropout(0.5)])], (2,))
    out = network.forward(np.ones((4, 2)), training=True)
    network.state = {name: value + 5 for name, value in network.state.items()}
    before = network.numpy_arrays()
    network.backward(out)
    for name, value in network.numpy_arrays().items():
        np.testing.assert_array_equal(value, before[name])


def test_backward_before_forward_is_explained():
    network = Network([Recompute([Dense(3)])], (2,))
    with pytest.raises(XpnnError, match=r"call network.forward"):
        network.backward(np.ones((1, 3), dtype=np.float32))
