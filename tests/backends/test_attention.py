"""Attention and its gradients on every backend, held to the plain formula in float64."""

import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest

from tests.conftest import needs
from xpnn import MultiHeadAttention, Network, get_backend
from xpnn.backends.portable import attention as portable
from xpnn.backends.portable.attention import BLOCK
from xpnn.backends.portable.base import Backend as Base

pytestmark = pytest.mark.width


@dataclass
class Case:
    """Queries and keys, and which keys they see: of each item so many, from one on.

    Slopes are 1/2, 1/4 and so on, one for each head.
    """

    time: int
    length: int | None = None
    causal: bool = False
    seen: tuple[slice, ...] | None = None
    d: int = 4
    heads: int = 2
    batch: int = 2
    key_heads: int | None = None
    window: int | None = None
    slopes: bool = False

    def arrays(self, rng, dtype="float32"):
        """Q, K, V and dA as a layer has them: heads behind the features' axis, turned."""
        queries = self.batch, self.time, self.heads, self.d
        keys = self.batch, self.length or self.time, self.key_heads or self.heads, self.d
        shapes = [queries, keys, keys, queries]
        return [rng.standard_normal(shape).astype(dtype).transpose(0, 2, 1, 3) for shape in shapes]

    def mask(self):
        if self.seen is None:
            return None
        mask = np.zeros((self.batch, self.length or self.time), dtype=bool)
        for row, seen in zip(mask, self.seen, strict=True):
            row[seen] = True
        return mask

    def options(self):
        return {"scale": self.d**-0.5, "causal": self.causal, "window": self.window}

    def arrays_among_options(self):
        """The mask and the slopes, None where there are none."""
        slopes = 0.5 ** np.arange(1, self.heads + 1, dtype="float32") if self.slopes else None
        return {"mask": self.mask(), "slopes": slopes}

    def bias(self):
        """(heads, time, length), -inf where a key is not seen but for the mask."""
        distances = np.arange(self.time)[:, None] - np.arange(self.length or self.time)
        slopes = 0.5 ** np.arange(1.0, self.heads + 1) * self.slopes
        bias = -slopes[:, None, None] * np.abs(distances)
        bias[:, (distances < 0) & self.causal] = -np.inf
        bias[:, distances >= (self.window or np.inf)] = -np.inf
        return bias


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
    "groups": Case(7, heads=4, key_heads=2),
    "groups, across, masked": Case(3, 8, heads=3, key_heads=1, seen=(slice(2, 5), slice(0, 8))),
    "window": Case(9, causal=True, window=3),
    "window, over blocks": Case(3 * B + 7, causal=True, window=B // 2, heads=1, batch=1),
    "slopes": Case(6, heads=3, slopes=True),
    "slopes, over blocks": Case(B + 3, B + 40, slopes=True),
    "all, over blocks": Case(
        B + 70,
        causal=True,
        window=40,
        slopes=True,
        heads=4,
        key_heads=2,
        seen=(slice(0, B + 9), slice(3, B + 60)),
    ),
}
COMPILED = (  # on JAX and CuPy: each option, within a block and over several
    *("one", "one head, many features", "an item without keys", "across, over blocks", "groups"),
    *("blocks and most of one, causal", "masked, causal, over blocks", "across, masked", "slopes"),
    *("window", "groups, across, masked", "slopes, over blocks"),
)
WITH_64_BITS = ("small, causal", "masked, over blocks", "window, over blocks", "all, over blocks")
each_case = pytest.mark.parametrize("case", [pytest.param(c, id=name) for name, c in CASES.items()])


def marks_of(name):
    """JAX and CuPy compile some of the cases, and JAX others with 64 bits."""
    if name in WITH_64_BITS:
        return ()
    return pytest.mark.any_width if name in COMPILED else pytest.mark.slow_to_compile


def by_the_formula(case, Q, K, V, dA):
    """A, dQ, dK and dV with all scores at once, in float64."""
    Q, K, V, dA = (one.astype(np.float64) for one in (Q, K, V, dA))
    group = Q.shape[1] // K.shape[1]
    K, V = (np.repeat(one, group, axis=1) for one in (K, V))
    bias = case.bias()[None]
    seen = np.isfinite(bias)
    if case.seen is not None:
        seen = seen & case.mask()[:, None, None, :]
    scale = case.options()["scale"]
    S = np.where(seen, scale * Q @ K.swapaxes(2, 3) + bias, -1e300)
    P = np.exp(S - S.max(axis=-1, keepdims=True)) * seen
    total = P.sum(axis=-1, keepdims=True)
    P = P / np.where(total > 0, total, 1.0)
    dP = dA @ V.swapaxes(2, 3)
    dS = P * (dP - (dP * P).sum(axis=-1, keepdims=True))
    dK, dV = scale * dS.swapaxes(2, 3) @ Q, P.swapaxes(2, 3) @ dA
    served = (case.batch, -1, group, *dK.shape[2:])
    return P @ V, scale * dS @ K, *(one.reshape(served).sum(axis=2) for one in (dK, dV))


def lent(backend, case):
    """The arrays among a case's options, as the backend's."""
    given = case.arrays_among_options().items()
    with backend.on_device():
        return {name: None if one is None else backend.asarray(one) for name, one in given}


def both_ways(kind, backend, case, Q, K, V, dA):
    """The same by a backend, as a class has it; JAX would compile each call by itself."""
    options = case.options() | lent(backend, case)

    def step(Q, K, V, dA):
        A, statistics = kind.attention(backend, Q, K, V, **options)
        assert backend.xp.finfo(statistics.dtype).bits >= 32
        return A, *kind.attention_gradients(backend, Q, K, V, A, statistics, dA, **options)

    with backend.on_device():
        found = backend.compiled(step, wanted=backend.name == "jax")(
            *map(backend.asarray, (Q, K, V, dA))
        )
        return [np.array(backend.to_numpy(one)) for one in found]


def assert_near(found, wanted, rounding, dtype):
    """To so many roundings of the largest number: sums are of numbers of either sign."""
    for name, one, right in zip(("A", "dQ", "dK", "dV"), found, wanted, strict=True):
        assert one.dtype == dtype
        np.testing.assert_allclose(
            one, right, rtol=0, atol=rounding * max(1.0, np.abs(right).max()), err_msg=name
        )


@pytest.mark.slow_to_compile  # call by call; compiled, it is held to the same below
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


@pytest.mark.slow_to_compile
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


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=name, marks=marks_of(name)) for name, case in CASES.items()],
)
def test_it_can_be_compiled(backend, rng, case):
    arrays, options, more = case.arrays(rng), case.options(), lent(backend, case)

    def step(Q, K, V, dA, more):
        A, statistics = backend.attention(Q, K, V, **more, **options)
        return A, *backend.attention_gradients(Q, K, V, A, statistics, dA, **more, **options)

    compiled = backend.compiled(step, known=True)
    wanted = by_the_formula(case, *arrays)
    with backend.on_device():
        given = *map(backend.asarray, arrays), more
        # taken down, run, run again; CuPy captures the third
        for _ in range(1 if backend.name == "array-api-strict" else 4):
            found = [np.array(backend.to_numpy(one)) for one in compiled(*given)]
            assert_near(found, wanted, 2e-6, np.float32)


@pytest.mark.parametrize(
    "name",
    [
        "masked, over blocks",  # with 64 bits, too
        *(
            pytest.param(one, marks=pytest.mark.any_width)
            for one in ("a block and a bit, causal", "across", "all, over blocks")
        ),
    ],
)
def test_half_precision_is_worked_out_in_float32(backend, rng, name):
    """So it is as far off as the rounding of what goes in and comes out: 11 bits."""
    if backend.name == "array-api-strict":
        pytest.skip("array-api-strict has no float16")
    case = CASES[name]
    arrays = case.arrays(rng, "float16")
    found = both_ways(type(backend), backend, case, *arrays)
    assert_near(found, by_the_formula(case, *arrays), 2**-9, np.float16)


@pytest.mark.slow_to_compile
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


@pytest.mark.any_width
def test_large_scores_do_not_overflow(backend, rng):
    for case in (CASES["a block and a bit, causal"], CASES["masked, over blocks"]):
        Q, K, V, dA = case.arrays(rng)
        for one in both_ways(type(backend), backend, case, 1e9 * Q, 1e9 * K, V, dA):
            assert np.isfinite(one).all()


@needs("torch")
@pytest.mark.parametrize(
    "options",
    [{}, {"causal": True}, {"causal": True, "window": 50, "slopes": True, "key_heads": 1}],
)
def test_it_is_that_of_torch(backend, rng, options):
    import torch

    case = Case(BLOCK + 30, d=8, **options)
    arrays = case.arrays(rng)
    Q, K, V, dA = (torch.tensor(one, dtype=torch.float64, requires_grad=True) for one in arrays)
    A = torch.nn.functional.scaled_dot_product_attention(
        Q, K, V, attn_mask=torch.tensor(case.bias()), enable_gqa=True
    )
    A.backward(dA.detach())
    wanted = [one.detach().numpy() for one in (A, Q.grad, K.grad, V.grad)]
    assert_near(both_ways(type(backend), backend, case, *arrays), wanted, 2e-6, np.float32)


@pytest.mark.parametrize("options", [{}, {"causal": True, "window": 99, "slopes": True}])
def test_memory_grows_with_the_length_alone(rng, options):
    """Of 4,096 queries and keys on NumPy, scores in float32 take 64 MiB, all arrays here 10."""
    backend = get_backend("numpy")
    case = Case(4096, batch=1, heads=1, d=32, **options)
    (Q, K, V, dA), how = case.arrays(rng), case.options() | lent(backend, case)
    tracemalloc.start()
    try:
        A, statistics = backend.attention(Q, K, V, **how)
        backend.attention_gradients(Q, K, V, A, statistics, dA, **how)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * Q.nbytes


def test_what_a_window_leaves_out_is_not_worked_out(rng, monkeypatch):
    """Of 16 blocks along each axis two of each row, in the portable form, both ways."""
    monkeypatch.setattr(portable, "BLOCK", 16)
    monkeypatch.setattr(portable, "MOST_BLOCKS", 16)
    worked_out, own = [], portable.scores
    monkeypatch.setattr(portable, "scores", lambda *given: worked_out.append(1) or own(*given))
    case = Case(256, causal=True, window=17)
    arrays = case.arrays(rng)
    found = both_ways(Base, get_backend("numpy"), case, *arrays)
    assert_near(found, by_the_formula(case, *arrays), 2e-6, np.float32)
    assert len(worked_out) == 2 * (1 + 15 * 2)


@pytest.mark.any_width
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


@pytest.mark.any_width
def test_a_reader_finds_the_weights(backend, rng):
    """Behind a plain forward, not behind a prediction, which gives the same."""
    network = Network([MultiHeadAttention(2)], (2 * BLOCK, 4), backend)
    x = rng.standard_normal((1, 2 * BLOCK, 4)).astype(np.float32)
    plain = backend.to_numpy(network.forward(x))
    P = network.layers[0].cache["P"]
    assert P.shape == (1, 2, 2 * BLOCK, 2 * BLOCK)
    np.testing.assert_allclose(backend.to_numpy(network.predict(x)), plain, rtol=0, atol=2e-6)
    assert network.layers[0].inspected
