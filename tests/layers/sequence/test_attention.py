"""Attention and the transformer's block: against torch.nn, by hand, and behind masks."""

import numpy as np
import pytest

from tests.conftest import needs
from tests.layers.oracles import assert_close, by_differences, host, jax_passes, passes, randomized
from xpnn import (
    GELU,
    Adam,
    Container,
    Dense,
    Dropout,
    Embedding,
    LayerNorm,
    LearnedPositions,
    Masked,
    MultiHeadAttention,
    Network,
    ReLU,
    RMSNorm,
    Trainer,
    TransformerBlock,
)
from xpnn.errors import GradientError, NotBuiltError, ShapeError, XpnnError
from xpnn.layers.sequence.positions import alibi_slopes
from xpnn.losses import cross_entropy
from xpnn.testing import check_gradients

BATCH, TIME, FEATURES, HEADS = 3, 5, 8, 2
SHAPE = (TIME, FEATURES)
LENGTHS = np.array([3, 5, 1])
REAL = np.arange(TIME) < LENGTHS[:, None]


def sequences(seed=0, time=TIME):
    shape = (BATCH, time, FEATURES)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def build(layer, backend, shape=SHAPE):
    """A network of one layer with weights drawn anew, biases and scales too."""
    network = randomized(Network([layer], shape, backend))
    network.load({name: 0.5 * array for name, array in network.numpy_arrays().items()})
    return network


def attention_of(network):
    return next(one for _, one in network.walk() if isinstance(one, MultiHeadAttention))


class Holes(Masked):
    """A mask that is given, not read from the padding."""

    def __init__(self, layers, mask):
        super().__init__(layers)
        self.given = np.asarray(mask, dtype=bool)

    def mask(self, Z):
        return self.backend.asarray(self.given)


class Across(Container):
    """Cross-attention as a layer of one input: the first two steps look at the others."""

    def child_shapes(self, input_shape):
        return [input_shape]

    def output_shape(self, input_shape):
        return (2, input_shape[-1])

    def forward(self, Z, training=False):
        return self.layers[0].attend(Z[:, :2, :], Z[:, 2:, :], self.cache.get("mask"), training)

    def backward(self, delta):
        return self.xp.concat(self.layers[0].attend_back(delta), axis=1)


# Against torch ------------------------------------------------------------------------------------


def load_torch(module, names, network):
    """Copy our parameters into a torch module; ``names`` gives ours by torch's."""
    import torch

    params = host(network, network.params)
    for name, param in module.named_parameters():
        param.data = torch.tensor(np.ascontiguousarray(params[names[name]].T))


def torch_passes(module, names, x, delta, run):
    """Output and gradients of ``run(module, x)`` under our names."""
    import torch

    inputs = [torch.tensor(one, requires_grad=True) for one in x]
    output = run(module, *inputs)
    output.backward(torch.tensor(delta))
    found = {names[name]: param.grad.numpy().T for name, param in module.named_parameters()}
    return output.detach().numpy(), [one.grad.numpy() for one in inputs], found


TORCH_ATTENTION = {
    "in_proj_weight": "weight",
    "in_proj_bias": "bias",
    "out_proj.weight": "output_weight",
    "out_proj.bias": "output_bias",
}


def attention_names(prefix, bias=True, torch_prefix=""):
    return {
        torch_prefix + theirs: f"{prefix}.{ours}"
        for theirs, ours in TORCH_ATTENTION.items()
        if bias or "weight" in theirs
    }


def torch_attend(causal=False, mask=None):
    import torch

    options = {"need_weights": False}
    if causal:
        options["attn_mask"] = torch.triu(torch.ones(TIME, TIME, dtype=torch.bool), diagonal=1)
    if mask is not None:
        options["key_padding_mask"] = torch.tensor(~mask)
    return lambda module, x, context=None: module(
        x, x if context is None else context, x if context is None else context, **options
    )[0]


@needs("torch")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_equals_torch(backend, causal, masked, bias):
    import torch

    layer = MultiHeadAttention(HEADS, causal=causal, use_bias=bias)
    network = build(Holes([layer], REAL) if masked else layer, backend)
    prefix = next(n for n, one in network.walk() if isinstance(one, MultiHeadAttention))
    names = attention_names(prefix, bias)
    module = torch.nn.MultiheadAttention(FEATURES, HEADS, bias=bias, batch_first=True)
    load_torch(module, names, network)
    x, delta = sequences(), sequences(seed=1)
    run = torch_attend(causal, REAL if masked else None)
    output, (back,), grads = torch_passes(module, names, [x], delta, run)
    found = passes(network, x, delta)
    assert found.keys() == {"output", "input", *grads}
    assert_close(found, {"output": output, "input": back, **grads})


@needs("torch")
@pytest.mark.parametrize("masked", [False, True])
def test_cross_attention_equals_torch(backend, masked):
    import torch

    network = build(MultiHeadAttention(HEADS), backend)
    names = attention_names("0.multiheadattention")
    module = torch.nn.MultiheadAttention(FEATURES, HEADS, batch_first=True)
    load_torch(module, names, network)
    x, context, delta = sequences(time=4), sequences(seed=1), sequences(seed=2, time=4)
    mask = REAL if masked else None
    oracle = torch_passes(module, names, [x, context], delta, torch_attend(mask=mask))
    output, (back, context_back), grads = oracle
    lent = [None if one is None else backend.asarray(one) for one in (x, context, mask, delta)]
    with backend.on_device():
        ours = network.layers[0].attend(*lent[:3])
        backs = network.layers[0].attend_back(lent[3])
    found = host(network, {"output": ours, "x": backs[0], "context": backs[1], **network.grads})
    assert_close(found, {"output": output, "x": back, "context": context_back, **grads})


@needs("torch")
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "activation", ["gelu", pytest.param("relu", marks=pytest.mark.slow_to_compile)]
)
def test_block_equals_torch(backend, norm_first, masked, activation):
    import torch

    ours = {"gelu": GELU, "relu": ReLU}[activation]
    options = {"norm_first": norm_first, "activation": ours, "hidden": 6, "causal": masked}
    block = TransformerBlock(FEATURES, HEADS, **options)
    network = build(Holes([block], REAL) if masked else block, backend)
    module = torch.nn.TransformerEncoderLayer(
        FEATURES, HEADS, 6, 0.0, activation, batch_first=True, norm_first=norm_first
    )
    names = {}
    for kind, theirs in (("layernorm", "norm"), ("dense", "linear")):
        found = [n for n, _ in network.walk() if n.endswith(f".{kind}")]
        second = "shift" if kind == "layernorm" else "bias"
        first = "scale" if kind == "layernorm" else "weight"
        for number, name in enumerate(found, start=1):
            names |= {f"{theirs}{number}.weight": f"{name}.{first}"}
            names |= {f"{theirs}{number}.bias": f"{name}.{second}"}
    prefix = next(n for n, one in network.walk() if isinstance(one, MultiHeadAttention))
    names |= attention_names(prefix, torch_prefix="self_attn.")
    load_torch(module, names, network)
    x, delta = sequences(), sequences(seed=1)

    def run(module, x):
        if not masked:
            return module(x)
        later = torch.triu(torch.ones(TIME, TIME, dtype=torch.bool), diagonal=1)
        return module(x, src_mask=later, src_key_padding_mask=torch.tensor(~REAL))

    output, (back,), grads = torch_passes(module, names, [x], delta, run)
    found = passes(network, x, delta)
    assert found.keys() == {"output", "input", *grads}
    assert_close(found, {"output": output, "input": back, **grads}, tolerance=2e-5)


def test_dropout_acts_on_the_weights_and_on_both_ways(backend):
    block = TransformerBlock(FEATURES, HEADS, dropout=0.3)
    names = {name: one.rate for name, one in block.walk() if isinstance(one, Dropout)}
    assert list(names.values()) == [0.3] * 3
    network = Network([block], SHAPE, backend)
    network.forward(sequences(), training=True)
    draws = [int(value) for name, value in network.state.items() if name.endswith("draw")]
    assert draws == [1, 1, 1]


# By hand, by differences, by autodiff -------------------------------------------------------------


def test_two_steps_by_hand(backend):
    """One head of one feature: all queries, keys and values are the inputs 0 and ln 3."""
    network = Network([MultiHeadAttention(1)], (2, 1), backend)
    ones = {n: np.ones(a.shape) * ("weight" in n) for n, a in network.params.items()}
    network.load({**network.numpy_arrays(), **ones})
    ln3 = np.log(3.0)
    even, uneven = 0.5 * ln3, ln3 * 3**ln3 / (1 + 3**ln3)  # weights 1 : 1 and 1 : exp(ln3 ln3)
    output = backend.to_numpy(network.forward([[[0.0], [ln3]]]))
    np.testing.assert_allclose(output, [[[even], [uneven]]], rtol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Holes([MultiHeadAttention(2)], [[1, 1, 0], [0, 1, 1]]),
        lambda: Holes([MultiHeadAttention(2, causal=True)], [[0, 1, 1], [1, 0, 1]]),
        lambda: Holes([Across([MultiHeadAttention(2)])], [[1], [1]]),
        lambda: Across([MultiHeadAttention(1, dropout=0.4)]),
    ],
)
@by_differences
def test_masked_and_cross_gradients_match_finite_differences(backend, make):
    assert check_gradients(make(), (3, 4), backend, batch=2).error < 1e-6


@needs("jax")
@pytest.mark.parametrize("rotate", [False, True])
def test_equals_jax_grad(rotate):
    layers = lambda: [TransformerBlock(FEATURES, HEADS, causal=True, rotate=rotate, norm=RMSNorm)]  # noqa: E731
    found, oracle = jax_passes(layers, SHAPE, sequences(), sequences(seed=1))
    assert_close(found, oracle, tolerance=1e-4)  # weights of size 1 make gradients of size 100


@pytest.mark.parametrize("wrong", ["scale", "total", "heads"])
@by_differences
def test_planted_mistakes_are_found(backend, wrong):
    class Wrong(MultiHeadAttention):
        def fuse(self, elementwise):
            fused = super().fuse(elementwise)
            right = fused["scores_back"]
            if wrong == "scale":
                fused["scores_back"] = lambda P, dP, total: 0.5 * right(P, dP, total)
            elif wrong == "total":
                fused["scores_back"] = lambda P, dP, total: right(P, dP, 0.0 * total)
            return fused

        def _projections_back(self, dQ, dK, dV):
            return super()._projections_back(*((dK, dQ) if wrong == "heads" else (dQ, dK)), dV)

    with pytest.raises(GradientError):
        check_gradients(Wrong(2), (3, 4), backend)


def grouped(backend):
    """Four heads, two of keys; a step sees three, and those far away less."""
    options = {"kv_heads": 2, "causal": True, "window": 3, "alibi": True}
    return build(MultiHeadAttention(4, **options), backend)


@needs("torch")
@pytest.mark.parametrize("kept", [True, False])
def test_groups_windows_and_slopes_equal_torch(backend, kept, monkeypatch):
    """By all of P, and by the primitive, as a step goes."""
    import torch

    network, x, delta = grouped(backend), sequences(), sequences(seed=1)
    arrays = host(network, network.params).items()
    W, W_o, b, b_o = (
        torch.tensor(dict(arrays)[f"0.multiheadattention.{name}"], requires_grad=True)
        for name in ("weight", "output_weight", "bias", "output_bias")
    )
    Z = torch.tensor(x, requires_grad=True)
    Q, K, V = (Z @ W + b).split([8, 4, 4], dim=-1)
    Q, K, V = (one.unflatten(-1, (-1, 2)).transpose(1, 2) for one in (Q, K, V))
    distances = torch.arange(TIME)[:, None] - torch.arange(TIME)
    slopes = torch.tensor([1 / 4, 1 / 16, 1 / 64, 1 / 256])  # the paper's, of 4 heads
    bias = (-slopes[:, None, None] * distances).masked_fill(
        (distances < 0) | (distances >= 3), -torch.inf
    )
    attend = torch.nn.functional.scaled_dot_product_attention
    A = attend(Q, K, V, attn_mask=bias, enable_gqa=True).transpose(1, 2).flatten(2)
    output = A @ W_o + b_o
    output.backward(torch.tensor(delta))
    wanted = dict(
        zip(("weight", "output_weight", "bias", "output_bias"), (W, W_o, b, b_o), strict=True)
    )
    wanted = {f"0.multiheadattention.{n}": one.grad.numpy() for n, one in wanted.items()}
    wanted |= {"output": output.detach().numpy(), "input": Z.grad.numpy()}
    if kept:
        with backend.on_device():
            found = {
                "output": network.forward(x),
                "input": network.backward(backend.asarray(delta)),
            }
        found = host(network, {**found, **network.grads})
    else:
        monkeypatch.setattr(backend, "attention_from", 0)
        found = passes(network, x, delta)
    assert_close(found, wanted)


@pytest.mark.parametrize(
    ("heads", "slopes"),
    [
        (8, [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]),  # the paper's own
        (6, [1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2, 1 / 8]),
    ],
)
def test_slopes_are_those_of_the_paper(heads, slopes):
    assert list(alibi_slopes(heads)) == slopes


def test_every_head_is_an_attention_of_its_own(backend):
    """Two heads are two attentions of one head each, on halves of Q, K and V."""
    network = build(MultiHeadAttention(2, use_bias=False), backend)
    params = host(network, network.params)
    W, W_o = (params[f"0.multiheadattention.{name}"] for name in ("weight", "output_weight"))
    x = sequences().astype(np.float64)
    total = 0.0
    for columns in (slice(0, 4), slice(4, 8)):
        Q, K, V = (x @ part[:, columns] for part in np.split(W, 3, axis=1))
        P = np.exp(Q @ K.transpose(0, 2, 1) / 2.0)  # 2 is the root of 4 features
        total = total + P / P.sum(-1, keepdims=True) @ V @ W_o[columns]
    output = backend.to_numpy(network.forward(sequences()))
    np.testing.assert_allclose(output, total, atol=1e-5)
    seen = backend.to_numpy(network.layers[0].cache["P"])
    assert seen.shape == (BATCH, 2, TIME, TIME)
    np.testing.assert_allclose(seen.sum(-1), 1.0, rtol=1e-6)


# Masks --------------------------------------------------------------------------------------------


def test_attention_that_is_sure_of_itself_learns_nothing(backend):
    """Where P is one-hot, dS = P (dP - sum dP P) is 0: for any rounding of the sum, not about 0."""
    network = build(MultiHeadAttention(2, causal=True), backend)
    values = network.numpy_arrays()
    values["0.multiheadattention.weight"] *= np.float32(1000)
    network.load(values)
    found = passes(network, sequences(), sequences(seed=1))
    weight = found["0.multiheadattention.weight"]
    assert not np.any(weight[:, : 2 * FEATURES])
    assert np.all(np.abs(weight[:, 2 * FEATURES :]).max(axis=0) > 1e-3)


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"causal": True, "rotate": True}])
def test_padding_changes_nothing(backend, options):
    """Whatever stands in the padding, the real steps neither see it nor send it a gradient."""
    network = build(Holes([TransformerBlock(FEATURES, HEADS, **options)], REAL), backend)
    x, delta = sequences(), sequences(seed=1) * REAL[..., None]
    found = passes(network, x, delta)
    other = passes(network, np.where(REAL[..., None], x, 50.0 * x), delta)
    np.testing.assert_allclose(other["output"][REAL], found["output"][REAL], atol=1e-6)
    assert_close(*({n: a for n, a in one.items() if n != "output"} for one in (other, found)))
    assert not found["input"][~REAL].any()
    network.layers[0].given = np.ones((1, 3), dtype=bool)
    short = backend.to_numpy(network.root.forward(backend.asarray(x[:1, :3].copy())))
    # products of other shapes: a rounding or two of numbers of about 8
    np.testing.assert_allclose(short, found["output"][:1, :3], rtol=3e-7, atol=1e-6)


def test_causal_steps_do_not_see_later_ones(backend):
    network = build(MultiHeadAttention(HEADS, causal=True), backend)
    x = sequences()
    before = backend.to_numpy(network.forward(x)).copy()
    x[:, 3:] += 1.0
    after = backend.to_numpy(network.forward(x))
    np.testing.assert_array_equal(after[:, :3], before[:, :3])
    assert np.abs(after[:, 3:] - before[:, 3:]).min(axis=-1).all()


def test_rotation_tells_distances_and_not_places(backend):
    """The same steps further back in time: padding on the left changes nothing."""
    mask = np.arange(TIME) >= 2
    layer = MultiHeadAttention(HEADS, causal=True, rotate=True)
    network = build(Holes([layer], np.broadcast_to(mask, (BATCH, TIME))), backend)
    x = sequences()
    late = backend.to_numpy(network.forward(x))[:, 2:].copy()
    network.layers[0].given = np.ones((BATCH, 3), dtype=bool)
    early = backend.to_numpy(network.root.forward(backend.asarray(x[:, 2:].copy())))
    np.testing.assert_allclose(early, late, atol=1e-5)
    flat = build(MultiHeadAttention(HEADS, causal=True), backend)
    assert np.abs(backend.to_numpy(flat.forward(x))[:, 2:] - late).max() > 1e-2


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_nothing_is_ever_infinite(backend, dtype):
    """Scores of thousands, and steps that may see nothing at all."""
    if dtype == "float16" and backend.name == "array-api-strict":
        pytest.skip("the standard has no float16")
    layer = Holes([MultiHeadAttention(HEADS, causal=True)], ~REAL)
    network = Network([layer], SHAPE, backend, dtype=dtype)
    size = 100.0 if dtype == "float32" else 5.0  # numbers of 16 bits end at 65504
    found = passes(network, size * sequences(), sequences(seed=1))
    for name, array in found.items():
        assert np.isfinite(array).all(), name


def test_masks_come_from_the_padding(backend):
    layers = [Embedding(9, FEATURES), MultiHeadAttention(HEADS)]
    network = Network([Masked(layers, padding=8)], (4,), backend)
    network.forward(np.array([[1, 2, 8, 8], [3, 8, 4, 5]]))
    P = backend.to_numpy(attention_of(network).cache["P"])
    seen = P[:, 0, 0] > 0
    np.testing.assert_array_equal(seen, [[True, True, False, False], [True, False, True, True]])


# Trained ------------------------------------------------------------------------------------------


def test_the_loss_curve_is_that_of_numpy(backend):
    """Compiled, where the backend compiles; 30 steps with dropout and padding, equal to 1e-3."""

    def curve(place):
        block = TransformerBlock(8, 2, causal=True, dropout=0.1)
        layers = [Embedding(7, 8), LearnedPositions(), block, LayerNorm(), Dense(7)]
        trainer = Trainer(Network([Masked(layers)], (6,), place), cross_entropy, Adam(1e-2))
        here = trainer.network.backend
        ids = np.random.default_rng(0).integers(0, 7, (16, 7))
        batch = here.asarray(ids[:, :-1].copy()), here.asarray(ids[:, 1:].copy())
        return [float(here.to_numpy(trainer.step(*batch))) for _ in range(30)]

    here, there = curve(backend), curve("numpy")
    np.testing.assert_allclose(here, there, atol=1e-3)
    assert here[-1] < 0.7 * here[0]


# Refused ------------------------------------------------------------------------------------------


def test_what_is_refused(backend):
    with pytest.raises(ShapeError, match="3 equal heads, got 8 features"):
        Network([MultiHeadAttention(3)], SHAPE)
    with pytest.raises(ShapeError, match="4 equal heads of an even number of features, got 4"):
        Network([MultiHeadAttention(4, rotate=True)], (5, 4))
    with pytest.raises(ShapeError, match=r"shape \(time, features\), got \(8,\)"):
        Network([MultiHeadAttention(2)], (8,))
    with pytest.raises(ValueError, match="at least one head, got heads=0"):
        MultiHeadAttention(0)
    with pytest.raises(ValueError, match="rate in"):
        MultiHeadAttention(2, dropout=1.0)
    with pytest.raises(ShapeError, match="Residual adds two ways of one shape"):
        Network([TransformerBlock(6, 2)], SHAPE)
    x = backend.asarray(sequences())
    with pytest.raises(ValueError, match="they divide heads=4, got kv_heads=3"):
        MultiHeadAttention(4, kv_heads=3)
    for options in ({"window": 0, "causal": True}, {"window": 2}):
        with pytest.raises(ValueError, match="how many steps a causal layer sees, at least 1"):
            TransformerBlock(8, 2, **options)
    for options in ({"causal": True}, {"rotate": True}, {"alibi": True}):
        layer = Network([MultiHeadAttention(2, **options)], SHAPE, backend).layers[0]
        with pytest.raises(XpnnError, match="make it without causal, rotate and alibi"):
            layer.attend(x, x)


def test_what_attend_cannot_look_at_is_refused(backend):
    with pytest.raises(NotBuiltError, match=r"MultiHeadAttention\(2\) has no arrays yet"):
        MultiHeadAttention(2).attend(np.zeros((BATCH, *SHAPE)))
    layer = Network([MultiHeadAttention(2)], SHAPE, backend).layers[0]
    zeros = lambda *shape: backend.zeros(shape, "float32")  # noqa: E731
    x, context = zeros(BATCH, *SHAPE), zeros(BATCH, 7, FEATURES)
    with pytest.raises(ShapeError, match=r"queries of shape \(3, time, 8\), got \(3, 5, 6\)"):
        layer.attend(zeros(BATCH, TIME, 6))
    for shape in ((BATCH, 7, 6), (BATCH, 7, 9), (1, 7, FEATURES), (7, FEATURES)):
        with pytest.raises(ShapeError, match=r"a context of shape \(3, time, 8\), got \("):
            layer.attend(x, zeros(*shape))
    for mask in (zeros(BATCH, TIME) == 0, zeros(1, 7) == 0, zeros(BATCH, 7)):
        with pytest.raises(ShapeError, match=r"a mask of booleans of shape \(3, 7\).*got .*shape"):
            layer.attend(x, context, mask)
