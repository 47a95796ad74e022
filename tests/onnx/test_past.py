"""One step of a network that writes, with what it remembers going in and out."""

import numpy as np
import pytest

from tests.layers.table import Ids
from tests.onnx.running import exported, of_random_values, outputs_of
from xpnn import (
    GRU,
    LSTM,
    Bidirectional,
    Dense,
    Embedding,
    GlobalAveragePool,
    LearnedPositions,
    Masked,
    MultiHeadAttention,
    Network,
    SinusoidalPositions,
    TransformerBlock,
    XpnnError,
    generate,
)

DTYPES = {"tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(bool)": np.bool_}

WRITERS = [
    pytest.param(
        lambda: [
            Embedding(7, 8),
            LearnedPositions(),
            TransformerBlock(8, 2, causal=True),
            MultiHeadAttention(4, kv_heads=2, causal=True, window=4, alibi=True),
            Dense(7),
        ],
        id="attention",
    ),
    pytest.param(
        lambda: [
            Embedding(7, 8),
            SinusoidalPositions(),
            LSTM(8, return_sequences=True),
            MultiHeadAttention(2, causal=True, rotate=True),
            GRU(5, return_sequences=True),
            Dense(7),
        ],
        id="recurrent",
    ),
    pytest.param(
        lambda: [
            Masked([Embedding(7, 8), MultiHeadAttention(2, causal=True)], padding=2),
            Dense(7),
        ],
        id="masked",
    ),
]


def nothing_yet(session, batch):
    """What layers remember before the first position, by the names of inputs: zeros."""
    return {
        one.name: np.zeros(
            [n if isinstance(n, int) else batch for n in one.shape], DTYPES[one.type]
        )
        for one in session.get_inputs()
        if one.name != "x"
    }


@pytest.mark.parametrize("make", WRITERS)
def test_position_by_position_as_all_at_once(make, tmp_path):
    network = of_random_values(make(), Ids((9,)))
    session = exported(network, tmp_path, past=9)
    ids = np.random.default_rng(0).integers(0, 7, (3, 9))
    wanted, past = network.predict(ids), nothing_yet(session, 3)
    assert past
    for t in range(9):
        made = outputs_of(session, x=ids[:, t : t + 1], **past)
        np.testing.assert_allclose(made.pop("output_0")[:, 0], wanted[:, t], rtol=1e-5, atol=2e-6)
        past = {name.removesuffix(".after"): one for name, one in made.items()}


def test_it_writes_what_generate_writes(tmp_path):
    network = of_random_values(WRITERS[0].values[0](), Ids((12,)))
    session = exported(network, tmp_path, past=12)
    prompt, past = np.asarray([[3, 1], [0, 5]]), nothing_yet(session, 2)
    text = prompt
    for t in range(9):
        made = outputs_of(session, x=text[:, t : t + 1], **past)
        scores = made.pop("output_0")[:, 0]
        past = {name.removesuffix(".after"): one for name, one in made.items()}
        if t + 1 == text.shape[1]:
            text = np.concatenate([text, np.argmax(scores, axis=-1)[:, None]], axis=1)
    np.testing.assert_array_equal(text, generate(network, prompt, 8, temperature=0))


def test_only_what_changes_and_is_read_goes_in_and_out(tmp_path):
    network = of_random_values([Embedding(7, 8), MultiHeadAttention(2, causal=True)], Ids((5,)))
    session = exported(network, tmp_path, past=5, batch="texts", names={"x": "id"})
    inputs = {one.name: one.shape for one in session.get_inputs()}
    memory = ["texts", 2, 5, 4]
    assert inputs == {
        "id": ["texts", 1],
        "1.multiheadattention.K": memory,
        "1.multiheadattention.V": memory,
        "1.multiheadattention.position": [],
    }
    after = {f"{name}.after" for name in inputs if name != "id"}
    assert {one.name for one in session.get_outputs()} == {"output_0", *after}


REFUSED = [
    ([Embedding(7, 8), MultiHeadAttention(2)], "looks ahead"),
    ([Embedding(7, 8), Bidirectional(LSTM(4, return_sequences=True))], "begins at the end"),
    ([Embedding(7, 8), GlobalAveragePool()], "more than the newest position"),
]


@pytest.mark.parametrize(("layers", "message"), REFUSED, ids=["ahead", "backwards", "mean"])
def test_what_cannot_write(layers, message, tmp_path):
    with pytest.raises(XpnnError, match=message):
        Network(layers, (5,)).to_onnx(tmp_path / "network.onnx", past=5)


def test_past_is_a_number_of_positions(tmp_path):
    network = Network([Embedding(7, 8), MultiHeadAttention(2, causal=True)], (5,))
    with pytest.raises(ValueError, match="how many positions there is room"):
        network.to_onnx(tmp_path / "network.onnx", past=0)
    with pytest.raises(ValueError, match="leave free out"):
        network.to_onnx(tmp_path / "network.onnx", past=5, free={1: "time"})
