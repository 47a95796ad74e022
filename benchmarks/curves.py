"""Loss curves of a small GPT and a small ResNet over 200 steps, by backend and by precision.

    python -m benchmarks.curves numpy torch jax cupy

The same weights and batches everywhere. Float32 is held to that of the first backend, as the
largest distance of two losses over the first loss; half precision likewise to float32 of its own
backend. PyTorch's autocast of the same network, trained from the same weights, stands below.
"""

import argparse
from typing import Any

import numpy as np

from xpnn import Adam, Dense, MixedPrecision, Network, ReLU, Trainer, cross_entropy
from xpnn.backends import get_backend
from xpnn.errors import BackendUnavailable
from xpnn.layers import (
    BatchNorm,
    Conv2D,
    Embedding,
    GlobalAveragePool,
    LayerNorm,
    LearnedPositions,
    Residual,
    TransformerBlock,
)

STEPS, BATCH, SCALE = 200, 16, 1024.0
RATES = {"gpt": 1e-3, "resnet": 3e-4}  # at 1e-3 the ResNet makes 3e-4 of the rounding of float32
VOCABULARY, LENGTH, WIDTH, HEADS = 17, 32, 32, 2


def gpt() -> tuple[list[Any], tuple[int, ...]]:
    blocks = [TransformerBlock(WIDTH, HEADS, causal=True) for _ in range(2)]
    first = [Embedding(VOCABULARY, WIDTH), LearnedPositions()]
    return [*first, *blocks, LayerNorm(), Dense(VOCABULARY)], (LENGTH,)


def resnet() -> tuple[list[Any], tuple[int, ...]]:
    def convolution(filters: int, stride: int = 1) -> list[Any]:
        return [Conv2D(filters, 3, stride=stride, padding="same", use_bias=False), BatchNorm()]

    def block(filters: int) -> Residual:
        return Residual([*convolution(filters), ReLU(), *convolution(filters)])

    first = [*convolution(8), ReLU(), block(8), ReLU()]
    second = [*convolution(16, stride=2), ReLU(), block(16), ReLU()]
    return [*first, *second, GlobalAveragePool(), Dense(10)], (8, 8, 3)


def batches(name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Eight: ids of which the next is told by the last two, images of ten patterns under noise."""
    rng, found = np.random.default_rng(0), []
    patterns = rng.standard_normal((10, 8, 8, 3))
    for _ in range(8):
        if name == "gpt":
            ids = rng.integers(0, VOCABULARY, (BATCH, LENGTH + 1))
            for t in range(2, LENGTH + 1):
                ids[:, t] = (2 * ids[:, t - 1] + ids[:, t - 2]) % VOCABULARY
            found.append((ids[:, :-1], ids[:, 1:]))
        else:
            y = rng.integers(0, 10, BATCH)
            x = patterns[y] + rng.standard_normal((BATCH, 8, 8, 3))
            found.append((x.astype(np.float32), y))
    return found


NETWORKS = {"gpt": gpt, "resnet": resnet}


def curve(name: str, backend: str, precision: str | None) -> np.ndarray:
    """The losses of the steps."""
    layers, shape = NETWORKS[name]()
    network = Network(layers, shape, backend, seed=1)
    half = None if precision is None else MixedPrecision(precision, initial_scale=SCALE)
    trainer = Trainer(network, cross_entropy, Adam(RATES[name]), precision=half)
    data, to_numpy = batches(name), network.backend.to_numpy
    losses = [trainer.step(*data[k % len(data)]) for k in range(STEPS)]
    return np.asarray([float(to_numpy(loss)) for loss in losses])


def torch_curve(name: str, precision: str | None) -> np.ndarray:
    """The same by torch.nn.functional, autograd and torch.optim.Adam, from the same weights."""
    import torch

    layers, shape = NETWORKS[name]()
    start = Network(layers, shape, "numpy", seed=1).params
    p = {key: torch.tensor(value, requires_grad=True) for key, value in start.items()}
    forward = {"gpt": _torch_gpt, "resnet": _torch_resnet}[name]
    dtype = getattr(torch, precision or "float16")
    scaler = torch.amp.GradScaler("cpu", SCALE, enabled=precision is not None)
    optimizer = torch.optim.Adam(p.values(), lr=RATES[name], eps=Adam().hyper["epsilon"])
    data, losses = batches(name), []
    for k in range(STEPS):
        x, y = (torch.from_numpy(array) for array in data[k % len(data)])
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype, enabled=precision is not None):
            logits = forward(torch.nn.functional, p, x)
            logits = logits.flatten(0, -2)
            loss = torch.nn.functional.cross_entropy(logits.float(), y.flatten())
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    return np.asarray(losses)


def _torch_gpt(f: Any, p: dict[str, Any], x: Any) -> Any:
    def norm(z: Any, name: str) -> Any:
        return f.layer_norm(z, z.shape[-1:], p[f"{name}.scale"], p[f"{name}.shift"], 1e-5)

    def dense(z: Any, name: str) -> Any:
        return f.linear(z, p[f"{name}.weight"].T, p[f"{name}.bias"])

    z = f.embedding(x, p["0.embedding.weight"]) + p["1.learnedpositions.weight"]
    for block in ("2.transformerblock", "3.transformerblock"):
        one, two = f"{block}.0.residual.body", f"{block}.1.residual.body"
        at = f"{one}.1.multiheadattention"
        qkv = f.linear(norm(z, f"{one}.0.layernorm"), p[f"{at}.weight"].T, p[f"{at}.bias"])
        heads = (*z.shape[:2], HEADS, WIDTH // HEADS)
        q, k, v = (part.reshape(heads).transpose(1, 2) for part in qkv.chunk(3, -1))
        a = f.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
        a = a.reshape(z.shape)
        z = z + f.linear(a, p[f"{at}.output_weight"].T, p[f"{at}.output_bias"])
        hidden = dense(norm(z, f"{two}.0.layernorm"), f"{two}.1.dense")
        z = z + dense(f.gelu(hidden, approximate="tanh"), f"{two}.3.dense")
    return dense(norm(z, "4.layernorm"), "5.dense")


def _torch_resnet(f: Any, p: dict[str, Any], x: Any) -> Any:
    def convolution(z: Any, at: str, first: int, stride: int = 1) -> Any:
        kernel = p[f"{at}{first}.conv2d.weight"].permute(3, 2, 0, 1)
        z = f.conv2d(z if stride == 1 else f.pad(z, (0, 1, 0, 1)), kernel, None, stride, 2 - stride)
        name = f"{at}{first + 1}.batchnorm"
        return f.batch_norm(z, None, None, p[f"{name}.scale"], p[f"{name}.shift"], training=True)

    def block(z: Any, at: str) -> Any:
        return z + convolution(f.relu(convolution(z, at, 0)), at, 3)

    z = f.relu(convolution(x.permute(0, 3, 1, 2), "", 0))
    z = f.relu(block(z, "3.residual.body."))
    z = f.relu(block(f.relu(convolution(z, "", 5, stride=2)), "8.residual.body."))
    return f.linear(z.mean((2, 3)), p["11.dense.weight"].T, p["11.dense.bias"])


def main(given: list[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Loss curves by backend and by precision.")
    parser.add_argument("backends", nargs="+", type=get_backend, metavar="BACKEND")
    backends = [backend.spec for backend in parser.parse_args(given).backends]
    print("network  column                losses: first, last    float32 of the first   of its own")
    for name in NETWORKS:
        reference = None
        columns = [(spec, curve) for spec in backends]
        columns += [("PyTorch", lambda name, _, precision: torch_curve(name, precision))]
        for spec, trained in columns:
            own = None
            for precision in (None, "float16", "bfloat16"):
                try:
                    found = trained(name, spec, precision)
                except BackendUnavailable:
                    continue
                own = found if own is None else own
                reference = found if reference is None else reference
                apart = [np.max(np.abs(found - one)) / one[0] for one in (reference, own)]
                print(
                    f"{name:8} {spec:10} {precision or 'float32':9} {found[0]:8.4f} "
                    f"{np.mean(found[-8:]):8.4f} {apart[0]:14.1e} {apart[1]:14.1e}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
