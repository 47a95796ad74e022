"""Attention by JAX's way to cuDNN: what a GPU would be told is read, and worked out by XLA."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from tests.backends.test_attention import Case, by_the_formula
from tests.conftest import needs
from xpnn import Masked, MultiHeadAttention, Network
from xpnn.backends.jax import attention as ours
from xpnn.backends.jax.backend import JaxBackend

pytestmark = needs("jax")


@pytest.fixture
def place(monkeypatch):
    """JAX whose device is taken for a GPU that cuDNN serves."""
    monkeypatch.setattr(ours, "has_cudnn", lambda device: True)
    return JaxBackend()


@pytest.fixture
def lowered(monkeypatch):
    """A function that says what a GPU is told: a version of cuDNN is asked for on the way."""
    import jax
    from jax._src.cudnn import fused_attention_stablehlo as private

    monkeypatch.setattr(private, "check_cudnn_version", lambda: 91_000)

    def lower(step, *arrays):
        forms = [jax.ShapeDtypeStruct(one.shape, one.dtype) for one in arrays]
        return jax.jit(step).trace(*forms).lower(lowering_platforms=("cuda",)).as_text()

    return lower


@pytest.fixture
def by_xla(monkeypatch):
    """cuDNN's part is played by XLA, from the same arguments; in float32, as on CPUs it must."""
    import jax

    played, asked = jax.nn.dot_product_attention, []

    def attend(*arrays, implementation, **options):
        asked.append(implementation)
        wide = [one.astype("float32") for one in arrays]
        return played(*wide, implementation="xla", **options).astype(arrays[0].dtype)

    monkeypatch.setattr(jax.nn, "dot_product_attention", attend)
    return asked


def both_ways(place, case):
    def step(Q, K, V, dA, mask=None):
        options = case.options() | {"mask": mask}
        A, statistics = place.attention(Q, K, V, **options)
        return A, *place.attention_gradients(Q, K, V, A, statistics, dA, **options)

    return step


def given(place, case, rng, dtype):
    arrays = [place.asarray(one, dtype) for one in case.arrays(rng)]
    return arrays if case.seen is None else [*arrays, place.asarray(case.mask())]


HERE_AND_THERE = slice(4, 40), slice(1, None, 3)
CASES = {
    "plain": Case(24, d=16),
    "causal": Case(24, d=16, causal=True),
    "across": Case(9, 40, d=8, heads=3),
    "masked": Case(9, 40, d=8, heads=3, seen=HERE_AND_THERE),
    "a sequence without keys": Case(24, d=16, seen=(slice(0, 0), slice(3, 9))),
}
TIME, LENGTH = 304, 408  # numbers that nothing else here is


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["plain", "causal", "masked"])
def test_a_gpu_is_told_to_ask_cudnn(place, lowered, rng, name, dtype):
    case = Case(TIME, TIME if name == "causal" else LENGTH, d=64, causal=name == "causal")
    case.seen = HERE_AND_THERE if name == "masked" else None
    text = lowered(both_ways(place, case), *given(place, case, rng, dtype))
    assert re.findall(r"custom_call @__cudnn\$(\w+)", text) == [
        "fmhaSoftmax",
        "fmhaSoftmaxBackward",
    ]
    kind = {"plain": "NO_MASK", "causal": "CAUSAL", "masked": "PADDING"}[name]
    assert text.count(f"mask_type\\22: \\22{kind}\\22") == 2
    assert text.count("fmha_scale\\22: 0.125,") == 2
    of_weights = rf"tensor<(\d+x)*({case.time}x{case.length or case.time})(x\d+)*x\w+>"
    assert not re.search(of_weights, text)
    assert re.search(of_weights, f"tensor<2x2x{case.time}x{case.length or case.time}xf32>")


@pytest.mark.parametrize("name", CASES)
def test_what_it_is_told_is_attention(place, by_xla, rng, name):
    case = CASES[name]
    arrays = given(place, case, rng, "float16")
    found = place.compiled(both_ways(place, case), known=True)(*arrays)
    assert by_xla == ["cudnn"]
    wanted = by_the_formula(case, *(np.array(one, dtype=float) for one in arrays[:4]))
    for one, right in zip(found, wanted, strict=True):
        assert one.dtype == arrays[0].dtype
        one, atol = np.array(one, dtype=float), 2**-9 * max(1.0, np.abs(right).max())
        np.testing.assert_allclose(one, right, rtol=0, atol=atol)
        nothing = ~right.any(axis=-1)  # of what sees no key, and of what nobody sees
        assert case.seen is None or not one[nothing].any()


@pytest.mark.parametrize("masked", [False, True])
def test_a_layer_learns_by_it_what_it_learns_by_its_weights(place, by_xla, rng, masked):
    from tests.layers.oracles import passes

    layer, (x, delta) = MultiHeadAttention(2), rng.standard_normal((2, 3, 12, 16))
    if masked:
        layer, x[0, 7:], x[1, ::2], x[2] = Masked([layer]), 0, 0, 0
    network = Network([layer], (12, 16), place, dtype="float16")
    found = passes(network, x, delta)
    assert by_xla == ["cudnn"]
    place.deterministic = True
    for name, one in passes(network, x, delta).items():
        atol = 2**-8 * max(1.0, np.abs(one).max())
        np.testing.assert_allclose(found[name], one, rtol=0, atol=atol, err_msg=name)
    assert by_xla == ["cudnn"]


NOT_SERVED = {
    "float32": (Case(8, d=8), "float32"),
    "odd heads": (Case(8, d=4), "float16"),
    "too wide heads": (Case(8, d=136), "float16"),
    "one of each": (Case(1, d=8), "float16"),
    "no queries": (Case(0, 8, d=8), "float16"),
    "masked, causal": (Case(8, d=8, causal=True, seen=(slice(0, 5), slice(0, 0))), "float16"),
    "causal, of two lengths": (Case(8, 12, d=8, causal=True), "float16"),
}


@pytest.mark.parametrize("name", NOT_SERVED)
def test_the_rest_is_left_to_the_portable_version(place, rng, name):
    case, dtype = NOT_SERVED[name]
    Q, K, V, *_ = given(place, case, rng, dtype)
    options = case.options() | {"mask": case.mask()}
    assert place.prefers_weights(Q, K, V, **options)
    served = *given(place, CASES["plain"], rng, "float16")[:3], {"scale": 1.0}
    assert place._cudnn_attends(*served)
    place.deterministic = True
    assert not place._cudnn_attends(*served)


@pytest.mark.parametrize(
    ("version", "capability", "has"),
    [
        ("PJRT C API\ncuda 12090", "9.0", True),
        ("cuda 12090", "10.0", True),
        ("cuda 12090", "7.5", False),
        ("PJRT C API\nrocm 60300", "9.0", False),
    ],
)
def test_which_gpus_have_it(version, capability, has):
    client = SimpleNamespace(platform_version=version)
    device = SimpleNamespace(client=client, compute_capability=capability)
    assert ours.has_cudnn(device) is has
    assert not ours.has_cudnn(JaxBackend("cpu").device)
