"""Writing on: the past that is kept against the whole text read again, and the draws."""

import itertools

import numpy as np
import pytest

from xpnn import (
    GRU,
    LSTM,
    AveragePool1D,
    BatchNorm,
    Bidirectional,
    Container,
    Conv1D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GroupNorm,
    Layer,
    LayerNorm,
    LearnedPositions,
    Masked,
    MaxPool1D,
    Network,
    Parallel,
    ReLU,
    Reshape,
    Residual,
    RMSNorm,
    Sequential,
    SimpleRNN,
    SinusoidalPositions,
    Softmax,
    TransformerBlock,
)
from xpnn.errors import DataError, ShapeError, XpnnError
from xpnn.generation import Reader, beam_search, generate, sample

VOCABULARY, WIDTH, TIME = 11, 8, 10
BODIES = {
    "learned": lambda: [LearnedPositions(), TransformerBlock(WIDTH, 2, causal=True)],
    "sinusoidal": lambda: [
        SinusoidalPositions(),
        TransformerBlock(WIDTH, 2, causal=True, norm_first=False, dropout=0.3),
    ],
    "rotating": lambda: [
        TransformerBlock(WIDTH, 2, causal=True, rotate=True, norm=RMSNorm),
        TransformerBlock(WIDTH, 1, causal=True, rotate=True),
    ],
    "grouped": lambda: [
        TransformerBlock(WIDTH, 4, kv_heads=2, causal=True, window=3, alibi=True),
        TransformerBlock(WIDTH, 2, kv_heads=1, causal=True, rotate=True),
    ],
    "recurrent": lambda: [
        LSTM(WIDTH, return_sequences=True),
        GRU(WIDTH, return_sequences=True),
        SimpleRNN(WIDTH, return_sequences=True),
    ],
    "by position": lambda: [
        Conv1D(WIDTH, 1),
        BatchNorm(),
        Residual([LayerNorm(), Parallel([Dense(3), Sequential([Dense(5), Softmax()])]), ReLU()]),
        LSTM(WIDTH, return_sequences=True),
        Dropout(0.5),
    ],
    "stateful": lambda: [LSTM(WIDTH, return_sequences=True, stateful=4)],
    "mixed": lambda: [
        LSTM(WIDTH, return_sequences=True),
        TransformerBlock(WIDTH, 2, causal=True, rotate=True),
    ],
}
each_body = pytest.mark.parametrize("body", BODIES)


def build(body, backend, time=TIME):
    """A network with weights so large that every id of the past matters."""
    layers = [Embedding(VOCABULARY, WIDTH), *BODIES[body](), Dense(VOCABULARY)]
    return drawn(Network(layers, (time,), backend, seed=3))


def drawn(network):
    rng = np.random.default_rng(1)
    draws = {n: 0.7 * rng.standard_normal(a.shape) for n, a in network.params.items()}
    network.load({**network.numpy_arrays(), **draws})
    return network


def reread(network, ids):
    """The scores after each of ``ids``, by one pass over all of them: no layer looks ahead."""
    with network.backend.on_device():
        forward = network.backend.compiled(network.root.forward)
        scores = forward(network.backend.asarray(ids, "int32"))
    return np.array(network.backend.to_numpy(scores))


# The past -----------------------------------------------------------------------------------------


@pytest.mark.slow_to_compile  # below, greedy writing goes by the past there
@each_body
def test_the_past_says_what_reading_all_again_says(backend, body):
    network = build(body, backend)
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (2, TIME))
    wanted, reader = reread(network, ids), Reader(network, 2)
    for length in (1, 2, 5, 6, TIME):
        scores = reader.scores_after(ids[:, :length])
        np.testing.assert_allclose(scores, wanted[:, length - 1], rtol=1e-5, atol=1e-5)


@pytest.mark.slow_to_compile
def test_padding_is_skipped_as_in_reading_all_again(backend):
    """Also where a text begins with padding, so that its first positions see nothing."""
    block = TransformerBlock(WIDTH, 2, causal=True, rotate=True)
    layers = [Embedding(VOCABULARY, WIDTH), block, LSTM(WIDTH, return_sequences=True)]
    masked = Masked([*layers, Dense(VOCABULARY)], padding=0)
    network = drawn(Network([masked], (TIME,), backend))
    ids = np.array([[0, 0, 3, 4, 0, 5, 6, 7], [1, 2, 0, 0, 3, 0, 9, 0], [1, 2, 3, 4, 5, 6, 7, 8]])
    with backend.on_device():
        wanted = backend.to_numpy(network.root.forward(backend.asarray(ids, "int32")))
    reader = Reader(network, 3)
    for t in range(8):
        scores = reader.scores_after(ids[:, : t + 1])
        np.testing.assert_allclose(scores, wanted[:, t], rtol=1e-5, atol=1e-5)


@each_body
def test_greedy_writing_equals_reading_all_again(backend, body):
    network = build(body, backend)
    ids = np.array([[1, 2, 3], [4, 5, 6]])
    found = generate(network, ids, 6, temperature=0)
    likeliest = reread(network, found[:, :-1]).argmax(axis=2)
    np.testing.assert_array_equal(found[:, :3], ids)
    np.testing.assert_array_equal(found[:, 3:], likeliest[:, 2:])


@pytest.mark.slow_to_compile
@pytest.mark.parametrize("body", ["learned", "rotating", "mixed"])
def test_beyond_the_context_the_last_half_is_read_again(backend, body):
    network = build(body, backend, time=6)
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (1, 15))
    reader = Reader(network, 1)
    for length, start in ((6, 0), (7, 4), (9, 4), (10, 4), (11, 8), (14, 8), (15, 12)):
        scores = reader.scores_after(ids[:, :length])
        if body != "mixed":  # an LSTM below forgets with the attention above it
            wanted = reread(network, ids[:, start:length])[:, -1]
            np.testing.assert_allclose(scores, wanted, rtol=1e-5, atol=1e-5)
        assert reader.start == start
    assert generate(network, ids[0], 9).shape == (24,)


def test_recurrent_networks_read_without_end(backend):
    network = build("recurrent", backend, time=4)
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (1, 20))
    reader = Reader(network, 1)
    scores = reader.scores_after(ids)
    np.testing.assert_allclose(scores, reread(network, ids)[:, -1], rtol=1e-5, atol=1e-5)
    assert reader.start == 0


def test_writing_leaves_the_network_as_it_was(backend):
    network = build("stateful", backend)
    before = network.numpy_arrays()
    generate(network, [1, 2], 5)
    after = network.numpy_arrays()
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)
    assert not any(layer.cache for _, layer in network.walk())


# The draws ----------------------------------------------------------------------------------------


def test_one_seed_writes_one_text_on_every_backend(backend):
    texts = [
        generate(build("learned", place), [[1, 2], [3, 4]], 8, temperature=0.7, top_k=5, seed=9)
        for place in (backend, "numpy")
    ]
    np.testing.assert_array_equal(*texts)
    other = generate(build("learned", backend), [[1, 2], [3, 4]], 8, temperature=0.7, top_k=5)
    assert not np.array_equal(texts[0], other)
    np.testing.assert_array_equal(texts[0][:, :2], [[1, 2], [3, 4]])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_ids_are_drawn_by_their_share(temperature):
    scores = np.log([[0.1, 0.2, 0.7]])
    shares = np.array([0.1, 0.2, 0.7]) ** (1 / temperature)
    rows = np.broadcast_to(scores, (40_000, 3))
    drawn = sample(rows, np.random.default_rng(0), temperature)
    counts = np.bincount(drawn, minlength=3) / len(rows)
    np.testing.assert_allclose(counts, shares / shares.sum(), atol=0.01)  # four sigma


def test_top_k_draws_from_the_k_likeliest():
    rng = np.random.default_rng(0)
    rows = np.broadcast_to([[3.0, 0.0, 2.9, -1.0, 2.8]], (2000, 5))
    assert set(sample(rows, rng, top_k=3)) == {0, 2, 4}
    assert set(sample(rows, rng, temperature=50.0, top_k=99)) == {0, 1, 2, 3, 4}
    assert set(sample(rows, rng, top_k=1)) == {0}
    assert set(sample(rows, rng, temperature=0)) == {0}


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [(0.01, {1}), (0.5, {1}), (0.51, {1, 3}), (0.82, {0, 1, 3}), (1.0, {*range(4)})],
)
def test_top_p_draws_from_the_nucleus(top_p, kept):
    rows = np.broadcast_to(np.log([[0.125, 0.5, 0.0625, 0.3125]]), (2000, 4))
    assert set(sample(rows, np.random.default_rng(0), top_p=top_p)) == kept


def test_the_nucleus_is_that_of_what_temperature_and_top_k_leave():
    rows = np.broadcast_to(np.log([[0.4, 0.1, 0.5]]), (2000, 3))
    assert set(sample(rows, np.random.default_rng(0), top_p=0.52)) == {0, 2}
    assert set(sample(rows, np.random.default_rng(0), 0.5, top_p=0.52)) == {2}  # 25 of 42
    assert set(sample(rows, np.random.default_rng(0), top_k=2, top_p=0.55)) == {2}  # 5 of 9


def test_texts_end_at_a_stop_id(backend):
    """Each by itself, and the others go on as if nothing had been."""
    network, prompts = build("learned", backend), [[1, 2], [3, 4], [5, 6]]
    free = generate(network, prompts, 8, temperature=2.0, seed=3)
    stop = [int(free[0, 4]), int(free[1, 7])]
    found = generate(network, prompts, 8, temperature=2.0, stop=stop, seed=3)
    for one, text in zip(found, free, strict=True):
        ends = np.flatnonzero(np.isin(text[2:], stop))
        last = 2 + int(ends[0]) if ends.size else len(text)
        np.testing.assert_array_equal(one[: last + 1], text[: found.shape[1]][: last + 1])
        assert set(one[last:]) <= set(text[last : last + 1])
    alone = generate(network, prompts[0], 8, temperature=0, stop=range(VOCABULARY))
    assert alone.shape == (3,)


# The likeliest text -------------------------------------------------------------------------------


def all_texts(network, prompts, count, stop, length_penalty):
    """For each prompt all texts of 3 ids with their scores, each read as a whole."""
    texts = [np.array(one) for one in itertools.product(range(3), repeat=count)]
    ids = np.stack([np.concatenate([prompt, text]) for prompt in prompts for text in texts])
    scores = reread(network, ids).astype(float).reshape(len(prompts), len(texts), -1, 3)
    logs = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    found = [{} for _ in prompts]
    for rated, of_a_prompt in zip(found, logs, strict=True):
        for text, rows in zip(texts, of_a_prompt[:, prompts.shape[1] - 1 :], strict=True):
            ends = np.flatnonzero(np.isin(text, stop))
            length = ends[0] + 1 if ends.size else count
            total = sum(rows[t, text[t]] for t in range(length))
            rated[tuple(text[:length])] = total / ((5 + length) / 6) ** length_penalty
    return found


def of_three(body, backend):
    """A network of three ids, of which none is always the likeliest."""
    layers = [Embedding(3, WIDTH), *BODIES[body](), LayerNorm(), Dense(3)]
    network, rng = Network(layers, (TIME,), backend), np.random.default_rng(3)
    for name, array in network.numpy_arrays().items():
        if "weight" in name:
            size = 0.3 if name == f"{len(layers) - 1}.dense.weight" else 0.7
            network.load({**network.numpy_arrays(), name: size * rng.standard_normal(array.shape)})
    return network


PROMPTS = np.array([*itertools.product(range(3), repeat=2)])


@pytest.mark.slow_to_compile
@pytest.mark.parametrize("body", ["mixed", "grouped"])
@pytest.mark.parametrize(("stop", "length_penalty"), [((), 0.0), ((1,), 0.0), ((0, 2), 3.0)])
def test_beams_as_many_as_texts_find_the_best_of_all(backend, body, stop, length_penalty):
    network = of_three(body, backend)
    options = {"beams": 27, "length_penalty": length_penalty, "stop": stop}
    texts, scores = beam_search(network, PROMPTS, 4, **options)
    assert texts.dtype == np.int64
    greedy, beaten = generate(network, PROMPTS, 4, temperature=0, stop=stop), 0
    rated = all_texts(network, PROMPTS, 4, stop, length_penalty)
    for text, score, taken, scored in zip(texts, scores, greedy, rated, strict=True):
        best = max(scored, key=scored.get)
        np.testing.assert_allclose(score, scored[best], rtol=1e-5)
        assert tuple(text[2 : 2 + len(best)]) == best
        assert set(text[2 + len(best) :]) <= {best[-1]}
        beaten += tuple(taken[2 : 2 + len(best)]) != best
    assert beaten or stop  # as the likeliest ids one by one need no other rows of what is kept


def test_few_beams_know_what_their_text_is_worth(backend):
    network = of_three("mixed", backend)
    texts, scores = beam_search(network, PROMPTS, 4, beams=3, length_penalty=0.5, stop=1)
    rated = all_texts(network, PROMPTS, 4, (1,), 0.5)
    for text, score, scored in zip(texts, scores, rated, strict=True):
        ends = np.flatnonzero(text[2:] == 1)
        written = tuple(text[2 : 3 + ends[0]] if ends.size else text[2:])
        np.testing.assert_allclose(score, scored[written], rtol=1e-5)


@pytest.mark.slow_to_compile
def test_one_beam_takes_the_likeliest_id_each_time(backend):
    """Beyond the context, too."""
    network = build("learned", backend, time=6)
    text, _ = beam_search(network, [[1, 2], [3, 4]], 9, beams=1)
    np.testing.assert_array_equal(text, generate(network, [[1, 2], [3, 4]], 9, temperature=0))
    text, score = beam_search(network, [1, 2], 0)
    assert (text.tolist(), float(score)) == ([1, 2], 0.0)


def test_huge_scores_do_not_overflow():
    rows = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, 1e4]], dtype=np.float32)
    np.testing.assert_array_equal(sample(rows, np.random.default_rng(0), 0.1), [0, 2])


# Refused ------------------------------------------------------------------------------------------


class SumSoFar(Layer):
    """Looks at the past, and keeps none."""

    def forward(self, x, training=False):
        return self.xp.cumulative_sum(x, axis=1)


class Places(Layer):
    """Goes by the position, and does not keep it."""

    def forward(self, x, training=False):
        places = self.xp.arange(x.shape[1], dtype=x.dtype, device=self.backend.device)
        return x + places[:, None]


class Backwards(Container):
    """Turns time around the layer inside."""

    def child_shapes(self, input_shape):
        return [input_shape]

    def forward(self, x, training=False):
        return self.layers[0].forward(self.xp.flip(x, axis=1))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Conv1D(WIDTH, 3, padding="same"), "1.conv1d"),
        (lambda: Conv1D(WIDTH, 3, padding="same", dilation=TIME - 1), "1.conv1d"),
        (lambda: Sequential([ReLU(), GroupNorm(2)]), "1.sequential.1.groupnorm"),
        (lambda: AveragePool1D(3, stride=1, padding=1), "1.averagepool1d"),
        (lambda: MaxPool1D(3, stride=1, padding=1), "1.maxpool1d"),
        (lambda: MaxPool1D(2), "1.maxpool1d"),
        (lambda: Reshape((TIME, WIDTH)), "1.reshape"),
        (lambda: Reshape((-1, WIDTH // 2)), "1.reshape"),
        (lambda: Sequential([Flatten(), Reshape((TIME, WIDTH))]), "1.sequential.0.flatten"),
        (lambda: Residual([Dense(WIDTH), SumSoFar()]), "1.residual.body.1.sumsofar"),
        (Places, "1.places"),
        (lambda: Backwards([Dense(WIDTH)]), "1.backwards"),
    ],
)
def test_layers_that_need_more_than_one_position_are_named(backend, make, name):
    layers = [Embedding(VOCABULARY, WIDTH), make(), LSTM(WIDTH, return_sequences=True), Dense(5)]
    network = Network(layers, (TIME,), backend)
    with pytest.raises(XpnnError, match=f"^layer {name}: .* without remembering"):
        generate(network, [1, 2], 3)
    assert not any(layer.cache for _, layer in network.walk())


class Halved(Container):
    """Half of what the layer inside says."""

    def child_shapes(self, input_shape):
        return [input_shape]

    def forward(self, x, training=False):
        return 0.5 * self.layers[0].forward(x)


class Vouched(Halved):
    def empty_past(self, batch, length):
        return {}


class NaNs(Layer):
    """Says nothing of negative numbers."""

    def forward(self, x, training=False):
        nothing = self.xp.full_like(x, float("nan"))
        return self.xp.where(x < 0, nothing, x)


def test_a_container_of_ones_own_vouches_for_the_layers_inside(backend):
    def network(kind):
        inside = TransformerBlock(WIDTH, 2, causal=True, rotate=True)
        layers = [Embedding(VOCABULARY, WIDTH), kind([inside]), Dense(VOCABULARY)]
        return drawn(Network(layers, (TIME,), backend))

    with pytest.raises(XpnnError, match=r"layer 1.halved: .* give it an empty_past"):
        generate(network(Halved), [1, 2], 3)
    ids = np.array([[1, 2, 3]])
    vouched = network(Vouched)
    scores = Reader(vouched, 1).scores_after(ids)
    np.testing.assert_allclose(scores, reread(vouched, ids)[:, -1], rtol=1e-5, atol=1e-5)


def test_a_layer_that_says_nothing_of_some_numbers_is_not_misjudged(backend):
    Reader(Network([Embedding(VOCABULARY, WIDTH), NaNs(), Dense(5)], (TIME,), backend), 1)


@pytest.mark.parametrize("number", [2**32 + 1, 2**64 - 2**32 + 1])  # 32 bits would make 1 of both
def test_ids_beyond_32_bits_are_not_cut(backend, number):
    with pytest.raises(DataError, match=f"got ids from 3 to {number}"):
        generate(build("recurrent", backend), np.array([3, number], dtype="uint64"), 1)


@pytest.mark.parametrize("ruined", [float("nan"), float("inf")])
@pytest.mark.parametrize("write", [generate, beam_search])
def test_scores_that_tell_nothing_are_refused(backend, write, ruined):
    network = build("recurrent", backend)
    name = next(name for name in reversed(network.params) if name.endswith("bias"))
    network.params = {**network.params, name: network.params[name] + ruined}
    with pytest.raises(DataError, match="but the largest is NaN or infinite"):
        write(network, [1], 1)


def test_what_is_refused(backend):
    network = build("learned", backend)
    with pytest.raises(DataError, match="ids from 0 to 10"):
        generate(network, [3, 11], 1)
    with pytest.raises(DataError, match=r"at least one id, got float64 of shape \(2,\)"):
        generate(network, [1.0, 2.0], 1)
    with pytest.raises(DataError, match="at least one id"):
        generate(network, np.zeros((1, 0), dtype=int), 1)
    with pytest.raises(ValueError, match="count is how many ids"):
        generate(network, [1], -1)
    with pytest.raises(ValueError, match="temperature=-1"):
        generate(network, [1], 1, temperature=-1)
    with pytest.raises(ValueError, match="top_k=0"):
        generate(network, [1], 1, top_k=0)
    for top_p in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match=f"at most 1, got .* top_p={top_p}"):
            generate(network, [1], 1, top_p=top_p)
    for stop in (11, [3, -1], 0.5, [[1]]):
        with pytest.raises(ValueError, match="stop: wanted ids from 0 to 10"):
            generate(network, [1], 1, stop=stop)
    for options in ({"beams": 0}, {"length_penalty": -1.0}):
        with pytest.raises(ValueError, match="at least one of beams and a length_penalty of at"):
            beam_search(network, [1], 1, **options)
    for write, options in (
        (generate, {"count": 1.5}),
        (generate, {"count": 1, "top_k": 2.5}),
        (beam_search, {"count": 1, "beams": 2.5}),
    ):
        with pytest.raises(TypeError, match=r"is an integer, got \d\.5"):
            write(network, [1], **options)
    layers = [Embedding(5, 4), LSTM(4, return_sequences=True), Dense(5), Softmax()]
    shares = Network(layers, (4,), backend)
    with pytest.raises(
        ValueError, match=r"beam_search goes by the softmax .* leave the last layer"
    ):
        beam_search(shares, [1], 1)
    with pytest.raises(ShapeError, match="wanted a network that reads ids"):
        generate(Network([Dense(3)], (4,), backend), [1], 1)
    with pytest.raises(ShapeError, match="needs return_sequences"):
        generate(Network([Embedding(5, 4), LSTM(3), Dense(5)], (4,), backend), [1], 1)
    head, tail = lambda: Embedding(5, 4), lambda: Dense(5)
    ahead = Network([head(), TransformerBlock(4, 1), tail()], (4,), backend)
    with pytest.raises(XpnnError, match="looks ahead, so it cannot generate"):
        generate(ahead, [1], 1)
    both = Network([head(), Bidirectional(GRU(3, return_sequences=True)), tail()], (4,), backend)
    with pytest.raises(XpnnError, match="begins at the end of a text"):
        generate(both, [1], 1)
