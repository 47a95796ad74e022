"""PyTorch's kernels of attention for GPUs, asked for shapes alone: no GPU is needed for that."""

import pytest

from tests.conftest import needs
from xpnn import MultiHeadAttention, Network
from xpnn.backends.torch import attention as ours

pytestmark = needs("torch")


@pytest.fixture
def numberless():
    """Tensors have a shape and a dtype alone, and kernels are asked what they would give."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode


def given(dtype="float32", time=40, length=None, d=16, key_heads=4, device="cuda"):
    """Q, K and V as a layer has them."""
    import torch

    keys = (2, length or time, key_heads, d)
    shapes = [(2, time, 4, d), keys, keys]
    dtype = getattr(torch, dtype)
    return [torch.empty(shape, dtype=dtype, device=device).transpose(1, 2) for shape in shapes]


@pytest.fixture
def able(monkeypatch):
    """As a GPU that has both pairs; what PyTorch asks about it is written down."""
    from torch.backends import cuda

    asked = []

    def flash(params):
        asked.append(params)
        return params.attn_mask is None and params.query.dtype.itemsize == 2

    def efficient(params):
        asked.append(params)
        return params.query.dtype.itemsize <= 4

    monkeypatch.setattr(cuda, "can_use_flash_attention", flash)
    monkeypatch.setattr(cuda, "can_use_efficient_attention", efficient)
    return asked


FLASH, EFFICIENT = "flash_attention", "efficient_attention"
CHOSEN = {
    "half": (FLASH, {"dtype": "float16"}),
    "bfloat16": (FLASH, {"dtype": "bfloat16"}),
    "float32": (EFFICIENT, {}),
    "float64": (None, {"dtype": "float64"}),
    "odd heads": (EFFICIENT, {"dtype": "float16", "d": 12}),
    "wide heads": (EFFICIENT, {"dtype": "float16", "d": 256}),
    "across": (FLASH, {"dtype": "float16", "length": 24}),
    "groups": (FLASH, {"dtype": "float16", "key_heads": 2}),
    "no steps": (None, {"time": 0}),
    "on a CPU": ("flash_attention_for_cpu", {"device": "cpu"}),
    "elsewhere": (None, {"device": "meta"}),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_which_pair_serves(numberless, able, name):
    wanted, options = CHOSEN[name]
    assert ours.pair(*given(**options), {"scale": 0.25}) == wanted


def test_masks_and_other_lengths(numberless, able):
    import torch

    mask = torch.ones((2, 40), dtype=torch.bool, device="cuda")
    for causal in (False, True):
        how = {"scale": 0.25, "causal": causal}
        assert ours.pair(*given("float16"), how | {"mask": mask}) == EFFICIENT
    assert ours.pair(*given("float16", length=24), how) is None


def test_windows_and_slopes_go_without_them(numberless, able):
    import torch

    how = {"scale": 0.25, "causal": True}
    assert ours.pair(*given(), how | {"window": 9}) is None
    assert ours.pair(*given(), how | {"slopes": torch.ones(4, device="cuda")}) is None


def test_what_pytorch_refuses_is_not_used(numberless, able, monkeypatch):
    from torch.backends import cuda

    monkeypatch.setattr(cuda, "can_use_flash_attention", lambda params: False)
    how = {"scale": 0.25, "causal": True}
    assert ours.pair(*given("float16"), how) == EFFICIENT
    monkeypatch.setattr(cuda, "can_use_efficient_attention", lambda params: False)
    assert ours.pair(*given("float16"), how) is None


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("causal", "key_heads"), [(False, 4), (True, 4), (True, 2)])
@pytest.mark.parametrize(
    ("pair", "dtype"),
    [(FLASH, "float16"), (FLASH, "bfloat16"), (EFFICIENT, "float32"), (EFFICIENT, "float16")],
)
def test_a_pair_takes_what_it_is_given(numberless, pair, dtype, causal, key_heads, masked):
    """Their schemas are those of the PyTorch that is installed, which checks each argument."""
    import torch

    if masked and pair == FLASH:
        pytest.skip("the flash pair is not asked for masks")
    Q, K, V = given(dtype, time=37, key_heads=key_heads)
    mask = torch.ones((2, 37), dtype=torch.bool, device="cuda") if masked else None
    how = {"scale": 0.25, "causal": causal, "mask": mask}
    A, statistics = ours.attention(Q, K, V, how, pair)
    assert (A.shape, A.dtype, A.device.type) == (Q.shape, Q.dtype, "cuda")
    assert statistics.dtype == torch.float32
    found = ours.attention_gradients(Q, K, V, A, statistics, A, how, pair)
    assert [(one.shape, one.dtype) for one in found] == [
        (one.shape, one.dtype) for one in (Q, K, V)
    ]


def test_a_mask_is_laid_out_as_pytorch_does_it(numberless):
    import torch

    Q, K, _ = given(time=37)
    bias = ours._added(Q, K, torch.ones((2, 37), dtype=torch.bool, device="cuda"))
    assert bias.shape == (2, 4, 37, 37)
    assert bias.stride() == (40, 0, 0, 1)


def test_no_row_of_a_mask_is_infinite_on_a_gpu(monkeypatch):
    """The bias on tensors of the CPU, which are said to be elsewhere."""
    import torch

    mask = torch.tensor([[True, False, False], [False, False, False]])
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        Q = torch.zeros((2, 1, 3, 8), dtype=dtype)
        assert torch.isinf(ours._added(Q, Q, mask)).sum() == 3 * 5
        on_a_gpu = ours._barring(dtype, "cuda")
        assert torch.exp(torch.tensor(0.0, dtype=dtype) + on_a_gpu) == 0
        assert torch.isfinite(torch.tensor(on_a_gpu, dtype=dtype))


@pytest.mark.parametrize("causal", [False, True])
def test_queries_that_see_no_key_give_nothing(causal):
    import torch

    mask = torch.tensor([[False, True, False], [False, False, False]])
    seen = ours._of_those_that_see(torch.ones((2, 2, 3, 4)), causal, mask)[:, 0, :, 0]
    first = [0.0, 1.0, 1.0] if causal else [1.0, 1.0, 1.0]
    assert seen.tolist() == [first, [0.0, 0.0, 0.0]]


@pytest.mark.parametrize(("pair", "dtype"), [(FLASH, "float16"), (EFFICIENT, "float32")])
@pytest.mark.parametrize("options", [{}, {"causal": True}])
def test_a_layer_goes_by_them(numberless, monkeypatch, pair, dtype, options):
    """Both ways; as tensors of the CPU, since others cannot be cut where PyTorch has no CUDA."""
    import torch

    calls = []
    for name in (f"_scaled_dot_product_{pair}", f"_scaled_dot_product_{pair}_backward"):
        own = getattr(torch.ops.aten, name)

        def counted(*arguments, own=own, name=name, **named):
            calls.append(name)
            return own(*arguments, **named)

        monkeypatch.setattr(torch.ops.aten, name, counted)
    monkeypatch.setattr(ours, "pair", lambda *given: pair)
    network = Network([MultiHeadAttention(2, **options)], (40, 16), "torch", dtype=dtype)
    monkeypatch.setattr(network.backend, "attention_from", 0)
    x = torch.empty((3, 40, 16), dtype=getattr(torch, dtype))
    with network.uninspected():
        out = network.root.forward(x, True)
    back = network.root.backward(out)
    assert len(calls) == 2
    assert (out.shape, back.shape) == (x.shape, x.shape)
    assert {one.dtype for one in (out, back, *network.grads.values())} == {x.dtype}
