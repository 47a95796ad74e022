"""Writing with another sequence at hand: what is kept of it against the whole network run again."""

import numpy as np
import pytest

from tests.test_generation import drawn
from xpnn import (
    LSTM,
    Add,
    Concatenate,
    Conv1D,
    CrossAttention,
    Dense,
    Embedding,
    Flatten,
    GlobalAveragePool,
    Graph,
    Input,
    LayerNorm,
    LearnedPositions,
    Masked,
    Network,
    PaddingMask,
    Reshape,
    Sequential,
    SinusoidalPositions,
    TransformerBlock,
    TransformerDecoderBlock,
)
from xpnn.errors import DataError, ShapeError, XpnnError
from xpnn.generation import Reader, beam_search, generate
from xpnn.layers.sequence.attention import MultiHeadAttention

VOCABULARY, WIDTH, TIME, LENGTH = 9, 8, 8, 5
SOURCE = np.array([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8], [8, 1, 0, 0, 0]])


def sequences():
    return (
        Input((n,), takes="integers", name=name) for n, name in ((LENGTH, "source"), (TIME, "text"))
    )


def transformer():
    """Padding of both sides is not seen; the ids of both have the same vectors."""
    source, text = sequences()
    vectors, seen = Embedding(VOCABULARY, WIDTH), PaddingMask()
    encoder = Masked([Dense(WIDTH), LearnedPositions(), TransformerBlock(WIDTH, 2)], padding=99)
    context = encoder(vectors(source))
    steps = SinusoidalPositions()(vectors(text))
    steps = TransformerDecoderBlock(WIDTH, 2)(steps, context, seen(source), seen(text))
    last = TransformerDecoderBlock(WIDTH, 4, kv_heads=2, norm_first=False, rotate=True)
    return [source, text], Dense(VOCABULARY)(last(steps, context))


def recurrent():
    """Each position looks at the source, and knows its mean; of no length."""
    source, text = sequences()
    context = LSTM(WIDTH, return_sequences=True)(Embedding(VOCABULARY, WIDTH)(source))
    mean = Reshape((1, WIDTH))(GlobalAveragePool()(context))
    steps = LSTM(WIDTH, return_sequences=True)(Embedding(VOCABULARY, WIDTH)(text))
    looked = CrossAttention(2)(steps, context)
    joined = Concatenate()(LayerNorm()(Add()(looked, mean)), steps)
    return [source, text], Dense(VOCABULARY)(LSTM(WIDTH, return_sequences=True)(joined))


def nested():
    """A decoder that is a graph by itself, the text before the source, which is less wide."""
    source, text = sequences()
    steps, context = Input((TIME, WIDTH)), Input((LENGTH, 6))
    looked = Add()(steps, CrossAttention(2, kv_heads=1)(LayerNorm()(steps), Dense(5)(context)))
    decoder = Graph.of([steps, context], looked)
    block = TransformerBlock(WIDTH, 2, causal=True, rotate=True)
    steps = Sequential([Embedding(VOCABULARY, WIDTH), block])(text)
    encoded = Conv1D(6, 3, padding="same")(Embedding(VOCABULARY, WIDTH)(source))
    return [text, source], Dense(VOCABULARY)(decoder(steps, encoded))


MADE = {one.__name__: one for one in (transformer, recurrent, nested)}
each_network = pytest.mark.parametrize("make", MADE)


def build(make, backend):
    inputs, outputs = MADE[make]()
    return drawn(Network(inputs=inputs, outputs=outputs, backend=backend, seed=3))


def whole(network, ids, source=SOURCE):
    """The scores after each of ``ids``, by all of the network on all of them."""
    backend, given = network.backend, {"source": source, "text": ids}
    arrays = tuple(backend.asarray(given[name], "int32") for _, _, name in network.inputs)
    with backend.on_device():
        scores = backend.compiled(network.root.forward)(arrays)
    return np.array(backend.to_numpy(scores))


@each_network
def test_greedy_writing_equals_running_all_again(backend, make):
    network, prompts = build(make, backend), np.array([[1, 2], [3, 4], [5, 0]])
    found = generate(network, prompts, 6, context={"source": SOURCE}, temperature=0)
    np.testing.assert_array_equal(found[:, :2], prompts)
    assert not any(layer.cache for _, layer in network.walk())
    likeliest = whole(network, found[:, :-1]).argmax(axis=2)
    np.testing.assert_array_equal(found[:, 2:], likeliest[:, 1:])


@pytest.mark.slow_to_compile  # above, greedy writing goes by the past there
@each_network
def test_scores_equal_those_of_running_all_again(backend, make):
    network = build(make, backend)
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (3, TIME))
    ids[:, 0] = 1
    place = [name for _, _, name in network.inputs].index("source")
    reader = Reader(network, 3, {place: backend.asarray(SOURCE, "int32")})
    for length in (1, 2, 5, TIME):
        scores, wanted = reader.scores_after(ids[:, :length]), whole(network, ids[:, :length])
        np.testing.assert_allclose(scores, wanted[:, -1], rtol=1e-5, atol=1e-5)
    assert reader.bounded is (make != "recurrent")


@pytest.mark.slow_to_compile
def test_beyond_its_length_a_text_still_knows_the_source(backend):
    network, ids = build("transformer", backend), np.arange(1, 31).reshape(3, 10) % 8 + 1
    reader = Reader(network, 3, {0: backend.asarray(SOURCE, "int32")})
    scores = reader.scores_after(ids)
    wanted = whole(network, ids[:, reader.start :])[:, -1]
    np.testing.assert_allclose(scores, wanted, rtol=1e-5, atol=1e-5)
    assert reader.start == 6


def test_the_source_is_worked_through_once(monkeypatch):
    network, calls = build("transformer", "numpy"), []
    encoder = next(one for _, one in network.walk() if isinstance(one, TransformerBlock))
    forward = encoder.forward
    vars(encoder)["forward"] = lambda *given: (calls.append("encoder"), forward(*given))[1]
    of_keys = MultiHeadAttention._queries_keys_values

    def counted(layer, *given):
        calls.append("keys" if isinstance(layer, CrossAttention) else "itself")
        return of_keys(layer, *given)

    monkeypatch.setattr(MultiHeadAttention, "_queries_keys_values", counted)
    generate(network, [1, 2, 3], 5, context=SOURCE[0])
    assert (calls.count("encoder"), calls.count("keys")) == (1, 2)  # of two blocks


def test_one_seed_draws_one_text_on_every_backend(backend):
    options = {"context": SOURCE, "top_p": 0.8, "stop": 5, "seed": 5}
    found, wanted = (
        generate(build("transformer", place), [[1], [2], [3]], 7, **options)
        for place in (backend, "numpy")
    )
    np.testing.assert_array_equal(found, wanted)
    assert 5 not in found[0]
    assert (found[1, 2:] == 5).all()


@pytest.mark.slow_to_compile
@pytest.mark.parametrize("make", ["transformer", "recurrent"])
def test_beams_know_what_their_text_is_worth(backend, make):
    """Each by the source of its own prompt."""
    network, prompts = build(make, backend), np.array([[1], [2], [1]])
    taken, _ = beam_search(network, prompts, 5, context=SOURCE, beams=1)
    greedy = generate(network, prompts, 5, context=SOURCE, temperature=0)
    np.testing.assert_array_equal(taken, greedy)
    texts, scores = beam_search(network, prompts, 5, context=SOURCE, beams=3)
    rows = whole(network, texts[:, :-1]).astype(float)
    logs = rows - np.log(np.exp(rows).sum(axis=2, keepdims=True))
    worth = np.take_along_axis(logs, texts[:, 1:, None], axis=2).sum(axis=(1, 2))
    np.testing.assert_allclose(scores, worth, rtol=1e-4)


def test_a_single_prompt_has_a_single_context():
    network = build("transformer", "numpy")
    alone = generate(network, [1, 2], 4, context=SOURCE[1], temperature=0)
    among = generate(network, [[1, 2]] * 3, 4, context=SOURCE, temperature=0)
    np.testing.assert_array_equal(alone, among[1])
    assert len({tuple(row) for row in among}) > 1


@pytest.mark.slow_to_compile
def test_a_graph_of_one_input_writes(backend):
    ids = Input((TIME,), takes="integers")
    shared = Dense(WIDTH)
    steps = shared(Embedding(VOCABULARY, WIDTH)(ids))
    looked = TransformerBlock(WIDTH, 2, causal=True, rotate=True)(steps)
    outputs = Dense(VOCABULARY)(Concatenate()(shared(looked), steps))
    network = drawn(Network(inputs=ids, outputs=outputs, backend=backend))
    found = generate(network, [[1, 2, 3]], 5, temperature=0)
    with backend.on_device():
        scores = network.root.forward(backend.asarray(found[:, :-1], "int32"))
    np.testing.assert_array_equal(backend.to_numpy(scores)[:, 2:].argmax(axis=2), found[:, 3:])


# Refused ------------------------------------------------------------------------------------------


def writer(join):
    """A network of both sequences, which ``join`` makes one of."""
    source, text = sequences()
    vectors = Embedding(VOCABULARY, WIDTH)
    steps = LSTM(WIDTH, return_sequences=True)(vectors(text))
    outputs = Dense(VOCABULARY)(join(steps, vectors(source)))
    return Network(inputs=[source, text], outputs=outputs)


def step_by_step(steps, context):
    return Add()(steps, Reshape((TIME, WIDTH))(Dense(TIME * WIDTH)(Flatten()(context))))


@pytest.mark.parametrize(
    ("join", "message"),
    [
        (step_by_step, r"^layer \d.add: Add\(\) goes by more than the newest position"),
        (
            lambda steps, context: Concatenate(0)(context, steps),
            r"^layer \d.concatenate: .* without remembering",
        ),
        (
            lambda steps, context: Add()(CrossAttention(2)(context, steps), context),
            r"crossattention: .* cannot write where that follows from the text itself",
        ),
        (
            lambda steps, context: (lambda look: look(look(steps, context), context))(
                TransformerDecoderBlock(WIDTH, 2)
            ),
            r"block, call 1: TransformerDecoderBlock\(8, 2\) is called several times on the text",
        ),
    ],
)
def test_graphs_that_cannot_write_are_told(join, message):
    with pytest.raises(XpnnError, match=message):
        generate(writer(join), [1], 1, context=SOURCE[0])


def test_context_that_does_not_fit_is_told():
    network = build("transformer", "numpy")
    with pytest.raises(DataError, match=r"several, source, text; write context=\{'source': ...\}"):
        generate(network, [1], 1)
    with pytest.raises(DataError, match="by the names of all inputs but that of the text, of sour"):
        generate(network, [1], 1, context={"sauce": SOURCE[0]})
    with pytest.raises(DataError, match="wanted context by the names source, got source, x"):
        generate(network, [1], 1, context={"source": SOURCE[0], "x": 1})
    with pytest.raises(
        DataError, match="wanted context for 2 prompts, got 3 rows for the input 'so"
    ):
        generate(network, [[1], [1]], 1, context=SOURCE)
    with pytest.raises(ShapeError, match="input 'source': "):
        generate(network, [[1]], 1, context=SOURCE[0])
    with pytest.raises(DataError, match="ids from 0 to 8"):
        generate(network, [1], 1, context=SOURCE[0] + 7)
    plain = Network([Embedding(5, 4), LSTM(4, return_sequences=True), Dense(5)], (4,))
    with pytest.raises(DataError, match="which has a single input, that of the text"):
        beam_search(plain, [1], 1, context=SOURCE[0])
    source, text = sequences()
    two = [Dense(2)(Embedding(5, 4)(source)), Dense(2)(Embedding(5, 4)(text))]
    with pytest.raises(ShapeError, match=r"got outputs of shape \(\(5, 2\), \(8, 2\)\)"):
        generate(Network(inputs=[source, text], outputs=two), [1], 1, context=SOURCE[0])
