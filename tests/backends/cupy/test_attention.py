"""Attention by cuDNN: where it serves, what it reads in place, and what becomes of it without."""

import logging
from dataclasses import replace

import numpy as np
import pytest

import xpnn
from tests.backends.test_attention import Case, by_the_formula
from tests.conftest import needs
from xpnn import (
    Adam,
    Dense,
    Embedding,
    Flatten,
    LearnedPositions,
    Masked,
    MixedPrecision,
    MultiHeadAttention,
    Network,
    Trainer,
    TransformerBlock,
)
from xpnn.backends.cupy import attention as ours
from xpnn.backends.cupy import cudnn as opening
from xpnn.backends.cupy.backend import CupyBackend
from xpnn.backends.portable.base import Backend as Base

pytestmark = needs("cupy")

ROUNDINGS = {"float16": 2**-9, "bfloat16": 2**-6}  # of what goes in and comes out; 8 bits, 11 bits


def test_what_is_stacked_may_be_written_over():
    """By ``xp.stack``, as by any library's; ``Backend.stack`` is to read, and spares the copy."""
    backend = xpnn.get_backend("cupy")
    x = backend.asarray([[1.0, 2.0], [3.0, 4.0]], "float32")
    parts = x[0, ...], x[1, ...]
    stacked = backend.xp.stack(parts)
    stacked += 10.0
    assert backend.to_numpy(x).tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert backend.shares_memory(backend.stack(parts), x)


@pytest.fixture
def place(cupy_that_attends):
    return cupy_that_attends


@pytest.fixture
def refusals(caplog):
    """What cuDNN has refused, one line each."""
    caplog.set_level(logging.INFO, logger="xpnn")

    def refused():
        return [r.getMessage() for r in caplog.records if "cuDNN refuses" in r.getMessage()]

    return refused


def in_half(case, rng, dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    return case.arrays(rng, dtype)


def both_ways(place, case, arrays):
    """A, dQ, dK and dV in float64."""
    options = case.options()
    mask = case.mask()
    options["mask"] = None if mask is None else place.asarray(mask)
    Q, K, V, dA = arrays
    A, statistics = place.attention(Q, K, V, **options)
    back = place.attention_gradients(Q, K, V, A, statistics, dA, **options)
    assert all(one.dtype == Q.dtype for one in (A, *back))
    return [place.to_numpy(one).astype(float) for one in (A, *back)]


def assert_near(found, wanted, rounding):
    for name, one, right in zip(("A", "dQ", "dK", "dV"), found, wanted, strict=True):
        atol = rounding * max(1.0, np.abs(right).max())
        np.testing.assert_allclose(one, right, rtol=0, atol=atol, err_msg=name)


CASES = {
    "small": Case(8, d=8),
    "small, causal": Case(6, d=8, causal=True),
    "wide heads, causal": Case(33, d=128, heads=1, causal=True),
    "odd length": Case(37, d=40, heads=3),
    "across": Case(5, 12, d=16),
    "one query": Case(1, 9, d=8),
    "long, causal": Case(300, d=64, causal=True),
    "masked": Case(8, d=8, seen=(slice(0, 5), slice(0, 8))),
    "masked here and there": Case(37, d=16, heads=3, seen=(slice(1, None, 3), slice(4, 30))),
    "across, masked": Case(5, 12, d=16, seen=(slice(3, 9), slice(0, None, 2))),
    "a sequence without keys": Case(9, d=8, seen=(slice(0, 0), slice(0, 4))),
}
SERVED = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.mark.parametrize("dtype", ROUNDINGS)
@SERVED
def test_it_serves_halves(place, rng, refusals, monkeypatch, case, dtype):
    for name in ("attention", "attention_gradients"):
        monkeypatch.setattr(Base, name, None)
    arrays = in_half(case, rng, dtype)
    Q, K, V, _ = given = [place.asarray(one, dtype) for one in arrays]
    assert not place.prefers_weights(Q, K, V, **case.options(), mask=case.mask())
    found, wanted = both_ways(place, case, given), by_the_formula(case, *arrays)
    assert_near(found, wanted, ROUNDINGS[dtype])
    for one, right in zip(found, wanted, strict=True):
        nothing = ~right.any(axis=-1)  # of what sees no key, and of what nobody sees
        assert case.seen is None or not one[nothing].any()
    assert place._cudnn.plan.cache_info().currsize == 2
    assert not refusals()


def test_what_a_joint_product_has_left_is_read_in_place(place, rng, monkeypatch):
    case = Case(16, d=8, causal=True)
    arrays = case.arrays(rng, "float16")
    Q, K, V, dA = (one.transpose(0, 2, 1, 3).reshape(2, 16, 16) for one in arrays)
    joint = place.asarray(np.concatenate([Q, K, V], axis=-1))
    thirds = [joint[..., 16 * k : 16 * (k + 1)] for k in range(3)]
    given = [one.reshape(2, 16, 2, 8).transpose(0, 2, 1, 3) for one in (*thirds, place.asarray(dA))]
    assert all(one.base is not None for one in given)
    assert all(ours._readable(one) is one for one in given)
    A, _ = place.attention(*given[:3], **case.options())
    assert A.transpose(0, 2, 1, 3).flags.c_contiguous  # heads are put side by side by no copy
    assert_near(both_ways(place, case, given), by_the_formula(case, *arrays), 2**-9)


def test_arrays_in_pieces_and_at_odd_addresses_are_copied(place, rng):
    case = Case(16, d=8)
    arrays = case.arrays(rng, "float16")
    wanted = by_the_formula(case, *arrays)
    apart, shifted, turned = [], [], []
    for one in map(place.asarray, arrays):
        wide = place.xp.zeros((*one.shape, 2), dtype=one.dtype)
        wide[..., 0] = one
        apart.append(wide[..., 0])
        flat = place.xp.zeros(one.size + 1, dtype=one.dtype)
        flat[1:] = one.ravel()
        shifted.append(flat[1:].reshape(one.shape))
        turned.append(place.xp.broadcast_to(one[:1, ...], one.shape))
    for given in (apart, shifted):
        assert not any(ours._readable(one) is one for one in given)
        assert_near(both_ways(place, case, given), wanted, 2**-9)
    same = [one[:1].repeat(2, axis=0) for one in arrays]
    assert_near(both_ways(place, case, turned), by_the_formula(case, *same), 2**-9)


NOT_SERVED = {
    "float32": (Case(8, d=8), "float32", 2e-6),
    "odd heads": (Case(8, d=4), "float16", 2**-9),
    "too wide heads": (Case(8, d=136), "float16", 2**-9),
    "one of each": (Case(1, d=8), "float16", 2**-9),
    "masked, causal": (
        Case(8, d=8, causal=True, seen=(slice(0, 5), slice(0, 0))),
        *("float16", 2**-9),
    ),
}


@pytest.mark.parametrize("name", NOT_SERVED)
def test_the_rest_is_left_to_the_portable_version(place, rng, refusals, name):
    case, dtype, rounding = NOT_SERVED[name]
    arrays = case.arrays(rng, dtype)
    found = both_ways(place, case, [*map(place.asarray, arrays)])
    assert_near(found, by_the_formula(case, *arrays), rounding)
    assert place._cudnn.plan.cache_info().currsize == 0
    assert not refusals()


@pytest.mark.parametrize("refused", ["sdpa", "sdpa_backward"])
def test_what_it_refuses_is_worked_out_by_the_portable_version(
    place, rng, refusals, monkeypatch, refused
):
    cudnn = place._cudnn.module
    own = getattr(cudnn.pygraph, refused)

    def refuse(self, *arguments, **options):
        def support():
            raise cudnn.cudnnGraphNotSupportedError("no engine has it")

        self.check_support = support
        return own(self, *arguments, **options)

    monkeypatch.setattr(cudnn.pygraph, refused, refuse)
    case = Case(9, d=8, causal=True)
    arrays = case.arrays(rng, "float16")
    given = [*map(place.asarray, arrays)]
    for _ in range(2):
        assert_near(both_ways(place, case, given), by_the_formula(case, *arrays), 2**-9)
    assert len(refusals()) == 1
    Q, K, V, _ = given
    assert place.prefers_weights(Q, K, V, **case.options()) is (refused == "sdpa")


@pytest.mark.parametrize(("version", "attends"), [("1.22.1", True), ("1.23.0", False)])
def test_a_release_whose_attention_fails_only_convolves(place, monkeypatch, version, attends):
    cudnn = place._cudnn.module
    monkeypatch.setattr(cudnn, "__version__", version)
    assert opening.Cudnn(cudnn, place.device.id).attends is attends


def test_a_release_whose_attention_fails_is_not_asked(place, rng):
    place._cudnn.attends = False
    case = Case(8, d=8)
    arrays = case.arrays(rng, "float16")
    found = both_ways(place, case, [*map(place.asarray, arrays)])
    assert_near(found, by_the_formula(case, *arrays), 2**-9)
    assert place._cudnn.plan.cache_info().currsize == 0


def test_where_bits_have_to_be_the_same_it_is_told_so(place, rng, monkeypatch):
    cudnn, told = place._cudnn.module, []
    own = cudnn.pygraph.sdpa_backward

    def back(self, *arguments, **options):
        told.append(options["use_deterministic_algorithm"])
        return own(self, *arguments, **options)

    monkeypatch.setattr(cudnn.pygraph, "sdpa_backward", back)
    case = Case(8, d=8)
    given = [*map(place.asarray, case.arrays(rng, "float16"))]
    both_ways(place, case, given)
    place.deterministic = True
    both_ways(place, case, given)
    assert told == [False, True]


@pytest.mark.parametrize("dtype", ROUNDINGS)
@pytest.mark.parametrize("name", ["wide heads, causal", "masked here and there"])
def test_it_can_be_captured(place, rng, name, dtype):
    """With another mask each time, as a graph is replayed with what lies in its arguments then."""
    case, rounding = CASES[name], ROUNDINGS[dtype]
    arrays = in_half(case, rng, dtype)

    def step(Q, K, V, dA, mask):
        options = case.options() | {"mask": mask}
        A, statistics = place.attention(Q, K, V, **options)
        return A, *place.attention_gradients(Q, K, V, A, statistics, dA, **options)

    compiled = place.compiled(step, wanted=True)
    with place.on_device():
        for k in range(4):
            given = [one if k < 3 else (2 * one).astype(one.dtype) for one in arrays]
            if case.seen is not None:
                case = replace(case, seen=(slice(k, None, 2), slice(3 * k)))
            mask = None if case.seen is None else place.asarray(case.mask())
            found = compiled(*(place.asarray(one, dtype) for one in given), mask)
            found = [place.to_numpy(one).astype(float) for one in found]
            assert_near(found, by_the_formula(case, *given), rounding)
    assert len(compiled.context.plans) == 2


# Layers and training ------------------------------------------------------------------------------


def transformer(causal=True):
    block = TransformerBlock(16, 2, causal=causal)
    return [Embedding(17, 16), LearnedPositions(), block, Flatten(), Dense(10)], (64,)


def curve(spec, steps=25, **settings):
    layers, shape = transformer()
    network = Network(layers, shape, spec, seed=3)
    trainer = Trainer(network, xpnn.cross_entropy, Adam(3e-3), **settings)
    x, y = xpnn.datasets.digits()
    x, losses = np.round(16 * x[:200]).astype(int), []
    x, y = network.asarray(x), network.backend.asarray(y[:200], "int32")
    with network.backend.on_device():
        for start in np.arange(steps) * 16 % 160:
            losses.append(trainer.step(x[start : start + 16, ...], y[start : start + 16]))
        return np.asarray([float(network.backend.to_numpy(loss)) for loss in losses])


@pytest.fixture(scope="module")
def in_float32():
    return curve("numpy")


@pytest.mark.parametrize(
    ("half", "exact", "compile"),
    [("float16", 0.01, None), ("float16", 0.01, False), ("bfloat16", 0.05, None)],
)
def test_the_curve_of_a_causal_transformer_is_that_of_float32(
    place, refusals, in_float32, half, exact, compile
):
    if half == "bfloat16":
        pytest.importorskip("ml_dtypes")
    found = curve(place, precision=MixedPrecision(half, initial_scale=1024.0), compile=compile)
    assert np.max(np.abs(found - in_float32)) < exact * in_float32[0]
    assert np.mean(found[-5:]) < 0.9 * np.mean(found[:5])
    assert place._cudnn.plan.cache_info().currsize == 2
    assert not refusals()


@pytest.mark.parametrize(
    ("options", "masked"),
    [({}, False), ({}, True), ({"causal": True}, False), ({"causal": True, "rotate": True}, False)],
)
def test_a_layer_learns_by_it_what_it_learns_by_its_weights(
    place, rng, monkeypatch, options, masked
):
    from tests.layers.oracles import passes

    layer, (x, delta) = MultiHeadAttention(2, **options), rng.standard_normal((2, 3, 12, 16))
    if masked:
        layer, x[0, 7:], x[1, ::2], x[2] = Masked([layer]), 0, 0, 0
    network = Network([layer], (12, 16), place, dtype="float16")
    found = passes(network, x, delta)
    assert place._cudnn.plan.cache_info().currsize == 2
    monkeypatch.setattr(place._cudnn, "attends", False)
    for name, one in passes(network, x, delta).items():
        atol = 2**-8 * max(1.0, np.abs(one).max())
        np.testing.assert_allclose(found[name], one, rtol=0, atol=atol, err_msg=name)


def test_dropout_keeps_the_weights(place, rng):
    network = Network([MultiHeadAttention(2, dropout=0.5)], (8, 16), place, dtype="float16")
    network.layers[0].inspected = False
    x = place.asarray(rng.standard_normal((2, 8, 16)).astype(np.float16))
    network.root.forward(x, True)
    assert place._cudnn.plan.cache_info().currsize == 0


def test_it_is_not_looked_for_in_float32(monkeypatch, rng):
    monkeypatch.setattr("xpnn.backends.cupy.backend.opened", None)
    place, case = CupyBackend(), replace(CASES["small"], batch=1)
    arrays = case.arrays(rng)
    found = both_ways(place, case, [*map(place.asarray, arrays)])
    assert_near(found, by_the_formula(case, *arrays), 2e-6)
    assert "_cudnn" not in vars(place)
