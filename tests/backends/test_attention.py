"""Attention and its gradients on every backend, held to the plain formula in float64."""

import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest

from tests.conftest import needs
from xpnn import MultiHeadAttention, Network, get_backend
from xpnn.backends.portable.attention import BLOCK
from xpnn.backends.portable.base import Backend as Base

pytestmark = pytest.mark.width


@dataclass
class Case:
    """Queries and keys, and which keys they see: of each item so many, from one on."""

    time: int
    length: int | None = None
    causal: bool = False
    seen: tuple[slice, ...] | None = None
    d: int = 4
    heads: int = 2
    batch: int = 2

    def arrays(self, rng, dtype="float32"):
        """Q, K, V and dA as a layer has them: heads behind the features' axis, turned."""
        lengths = [self.time, *[self.length or self.time] * 2, self.time]
        shapes = [(self.batch, length, self.heads, self.d) for length in lengths]
        return [rng.standard_normal(shape).astype(dtype).transpose(0, 2, 1, 3) for shape in shapes]

    def mask(self):
        if self.seen is None:
            return None
        mask = np.zeros((self.batch, self.length or self.time), dtype=bool)
        for row, seen in zip(mask, self.seen, strict=True):
            row[seen] = True
        return mask

    def options(self):
        return {"scale": self.d**-0.5, "causal": self.causal}


B = BLOCK
CASES = {
    "one": Case(1),
    "small": Case(5),
    "small, causal": Case(6, causal=True),
    "one block": Case(B),
    "one block, causal": Case(B, causal=True),
    "blocks": Case(2 * B),
    "a block and a bit": Case(B + 3),
    "a block and a bit, causal": Case(B + 3, causal=True),
    "blocks and most of one, causal": Case(3 * B - 1, causal=True, heads=1),
    "masked": Case(7, seen=(slice(0, 5), slice(2, 7))),
    "masked, over blocks": Case(2 * B + 5, seen=(slice(0, 9), slice(B + 7, 2 * B + 1))),
    "masked, causal": Case(6, causal=True, seen=(slice(0, 4), slice(2, 6))),
    "masked, causal, over blocks": Case(
        2 * B + 9, causal=True, seen=(slice(0, B + 1), slice(B + 5, 2 * B + 2))
    ),
    "an item without keys": Case(5, seen=(slice(0, 0), slice(0, 5))),
    "an item without keys, over blocks": Case(B + 9, seen=(slice(0, 0), slice(0, B + 2))),
    "across": Case(3, 7),
    "across, over blocks": Case(B + 2, 2 * B + 3),
    "across, fewer keys": Case(2 * B + 3, 5),
    "across, masked": Case(B + 4, B + 8, seen=(slice(3, 6), slice(1, B + 3))),
    "one head, many features": Case(20, d=64, heads=1),
}
each_case = pytest.mark.parametrize("case", [pytest.param(c, id=name) for name, c in CASES.items()])


def by_the_formula(case, Q, K, V, dA):
    """A, dQ, dK and dV with all scores at once, in float64."""
    Q, K, V, dA = (one.astype(np.float64) for one in (Q, K, V, dA))
    seen = np.ones((case.time, K.shape[2]), dtype=bool)
    if case.causal:
        seen = np.tril(seen)
    if case.seen is not None:
        seen = seen & case.mask()[:, None, None, :]
    scale = case.options()["scale"]
    S = np.where(seen, scale * Q @ K.swapaxes(2, 3), -1e300)
    P = np.exp(S - S.max(axis=-1, keepdims=True)) * seen
    total = P.sum(axis=-1, keepdims=True)
    P = P / np.where(total > 0, total, 1.0)
    dP = dA @ V.swapaxes(2, 3)
    dS = P * (dP - (dP * P).sum(axis=-1, keepdims=True))
    return P @ V, scale * dS @ K, scale * dS.swapaxes(2, 3) @ Q, P.swapaxes(2, 3) @ dA


def both_ways(kind, backend, case, Q, K, V, dA):
    """The same by a backend, as a class has it."""
    options, mask = case.options(), case.mask()
    options["mask"] = None if mask is None else backend.asarray(mask)
    with backend.on_device():
        Q, K, V, dA = map(backend.asarray, (Q, K, V, dA))
        A, statistics = kind.attention(backend, Q, K, V, **options)
        back = kind.attention_gradients(backend, Q, K, V, A, statistics, dA, **options)
    assert backend.xp.finfo(statistics.dtype).bits >= 32
    return [np.array(backend.to_numpy(one)) for one in (A, *back)]


def assert_near(found, wanted, rounding, dtype):
    """To so many roundings of the largest number: sums are of numbers of either sign."""
    for name, one, right in zip(("A", "dQ", "dK", "dV"), found, wanted, strict=True):
        assert one.dtype == dtype
        np.testing.assert_allclose(
            one, right, rtol=0, atol=rounding * max(1.0, np.abs(right).max()), err_msg=name
        )


@pytest.mark.slow_on_jax  # call by call; compiled, it is held to the same below
@each_case
def test_it_is_what_the_formula_says(backend, rng, case):
    arrays = case.arrays(rng)
    wanted = by_the_formula(case, *arrays)
    for kind in (type(backend), Base):
        found = both_ways(kind, backend, case, *arrays)
        assert_near(found, wanted, 2e-6, np.float32)
        unseeing, unseen = (~wanted[k].any(axis=-1) for k in (0, 3))
        for k, nothing in enumerate((unseeing, unseeing, unseen, unseen)):
            assert not found[k][nothing].any()  # exactly


@pytest.mark.slow_on_jax
@pytest.mark.parametrize("order", [(0, 2, 1, 3), (0, 1, 3, 2), (3, 2, 1, 0)])
@pytest.mark.parametrize("turned", [(0, 1, 2, 3), (0, 1), (2,), (3,)])
def test_arrays_may_lie_in_any_order(backend, rng, order, turned):
    case = CASES["a block and a bit, causal"]
    arrays, back = case.arrays(rng), np.argsort(order)
    given = [backend.asarray(one) for one in arrays]
    for k in turned:
        lying = backend.asarray(np.ascontiguousarray(arrays[k].transpose(order)))
        given[k] = backend.xp.permute_dims(lying, tuple(map(int, back)))
    found = both_ways(type(backend), backend, case, *given)
    assert_near(found, by_the_formula(case, *arrays), 2e-6, np.float32)


@each_case
def test_it_can_be_compiled(backend, rng, case):
    arrays, options, mask = case.arrays(rng), case.options(), case.mask()

    def step(Q, K, V, dA, mask):
        A, statistics = backend.attention(Q, K, V, mask=mask, **options)
        return A, *backend.attention_gradients(*(Q, K, V, A, statistics, dA), mask=mask, **options)

    compiled = backend.compiled(step, known=True)
    wanted = by_the_formula(case, *arrays)
    with backend.on_device():
        lent = [*map(backend.asarray, arrays), None if mask is None else backend.asarray(mask)]
        for _ in range(4):  # taken down, run, run again; CuPy captures the third
            found = [np.array(backend.to_numpy(one)) for one in compiled(*lent)]
            assert_near(found, wanted, 2e-6, np.float32)


@pytest.mark.parametrize("name", ["a block and a bit, causal", "masked, over blocks", "across"])
def test_half_precision_is_worked_out_in_float32(backend, rng, name):
    """So it is as far off as the rounding of what goes in and comes out: 11 bits."""
    if backend.name == "array-api-strict":
        pytest.skip("array-api-strict has no float16")
    case = CASES[name]
    arrays = case.arrays(rng, "float16")
    found = both_ways(type(backend), backend, case, *arrays)
    assert_near(found, by_the_formula(case, *arrays), 2**-9, np.float16)


@pytest.mark.slow_on_jax
@pytest.mark.parametrize("name", ["a block and a bit, causal", "masked, over blocks", "across"])
def test_in_float64_it_is_right_to_float64(backend, rng, name):
    case = CASES[name]
    arrays = case.arrays(rng, "float64")
    with backend.allow_float64():
        for kind in (type(backend), Base):
            found = both_ways(kind, backend, case, *arrays)
            assert_near(found, by_the_formula(case, *arrays), 1e-14, np.float64)


def test_a_query_that_is_sure_of_its_key_learns_nothing(backend, rng):
    """Its dS is 0: for any rounding of D, not about 0."""
    case = Case(2 * BLOCK, causal=True)
    Q, K, V, dA = case.arrays(rng)
    Q = 1e4 * Q
    _, dQ, _, dV = both_ways(Base, backend, case, Q, K, V, dA)
    _, *wanted = by_the_formula(case, Q, K, V, dA)
    sure = ~wanted[0].any(axis=-1)
    assert 0.5 < sure.mean() < 1.0
    assert not dQ[sure].any()
    assert np.abs(dV).max() > 1


def test_large_scores_do_not_overflow(backend, rng):
    for case in (CASES["a block and a bit, causal"], CASES["masked, over blocks"]):
        Q, K, V, dA = case.arrays(rng)
        for one in both_ways(type(backend), backend, case, 1e9 * Q, 1e9 * K, V, dA):
            assert np.isfinite(one).all()


@needs("torch")
@pytest.mark.parametrize("causal", [False, True])
def test_it_is_that_of_torch(backend, rng, causal):
    import torch

    case = Case(BLOCK + 30, causal=causal, d=8)
    arrays = case.arrays(rng)
    Q, K, V, dA = (torch.tensor(one, dtype=torch.float64, requires_grad=True) for one in arrays)
    A = torch.nn.functional.scaled_dot_product_attention(Q, K, V, is_causal=causal)
    A.backward(dA.detach())
    wanted = [one.detach().numpy() for one in (A, Q.grad, K.grad, V.grad)]
    assert_near(both_ways(type(backend), backend, case, *arrays), wanted, 2e-6, np.float32)


def test_memory_grows_with_the_length_alone(rng):
    """Of 4,096 queries and keys on NumPy, scores in float32 take 64 MiB, all arrays here 10."""
    backend = get_backend("numpy")
    case = Case(4096, batch=1, heads=1, d=32)
    Q, K, V, dA = case.arrays(rng)
    tracemalloc.start()
    try:
        A, statistics = backend.attention(Q, K, V, **case.options())
        backend.attention_gradients(Q, K, V, A, statistics, dA, **case.options())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * Q.nbytes


@pytest.mark.parametrize("options", [{}, {"causal": True}])
def test_layers_learn_the_same_with_and_without_weights_kept(backend, rng, monkeypatch, options):
    """In a training step by this primitive, in plain passes by all of P."""
    from tests.layers.oracles import passes

    network = Network([MultiHeadAttention(2, **options)], (BLOCK + 40, 8), backend)
    monkeypatch.setattr(backend, "attention_from", BLOCK)
    x, delta = (rng.standard_normal((2, BLOCK + 40, 8)).astype(np.float32) for _ in range(2))
    found = passes(network, x, delta)
    assert not network.layers[0].cache
    with monkeypatch.context() as patch:
        patch.setattr(backend, "attention_from", 10**9)
        wanted = passes(network, x, delta)
    for name, one in wanted.items():
        atol = 4e-6 * max(1.0, np.abs(one).max())
        np.testing.assert_allclose(found[name], one, rtol=0, atol=atol)


def test_a_reader_finds_the_weights(backend, rng):
    """Behind a plain forward, not behind a prediction, which gives the same."""
    network = Network([MultiHeadAttention(2)], (2 * BLOCK, 4), backend)
    x = rng.standard_normal((1, 2 * BLOCK, 4)).astype(np.float32)
    plain = backend.to_numpy(network.forward(x))
    P = network.layers[0].cache["P"]
    assert P.shape == (1, 2, 2 * BLOCK, 2 * BLOCK)
    np.testing.assert_allclose(backend.to_numpy(network.predict(x)), plain, rtol=0, atol=2e-6)
    assert network.layers[0].inspected
