"""What is timed: six networks with their batches, as layers of xpnn and as modules of peers."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnn import Adam, Dense, Flatten, Network, ReLU, Trainer, cross_entropy, get_backend
from xpnn.layers import (
    LSTM,
    Conv2D,
    Embedding,
    Layer,
    LayerNorm,
    LearnedPositions,
    MaxPool2D,
    TransformerBlock,
)

Run = Callable[[int], None]
"""``run(n)``: n training steps on one batch, then wait for the device."""

RATE = 1e-4


@dataclass(frozen=True)
class Work:
    """A network to train with Adam and cross-entropy on a batch of noise.

    Attributes:
        layers: makes xpnn's layers.
        input_shape: of one sample.
        batch: samples a step.
        classes: of each label.
        torch: makes the same network of torch.nn, with channels first where torch wants that.
        hidden: the widths of an MLP's hidden layers, which scikit-learn can train too.
        vocabulary: how many ids there are, where the inputs are ids.
    """

    layers: Callable[[], list[Layer]]
    input_shape: tuple[int, ...]
    batch: int
    classes: int
    torch: Callable[[Any], Any]
    hidden: tuple[int, ...] = ()
    vocabulary: int = 0

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """A batch of noise with labels, one for each sample or one for each id."""
        rng = np.random.default_rng(0)
        shape = (self.batch, *self.input_shape)
        if self.vocabulary:
            return tuple(rng.integers(0, self.vocabulary, shape) for _ in range(2))  # type: ignore[return-value]
        return rng.standard_normal(shape, dtype=np.float32), rng.integers(
            0, self.classes, self.batch
        )


def mlp(sizes: list[int], batch: int) -> Work:
    """Dense layers with ReLU between them."""
    inputs, *hidden, outputs = sizes

    def layers() -> list[Layer]:
        inner = [layer for units in hidden for layer in (Dense(units), ReLU())]
        return [*inner, Dense(outputs)]

    def torch(nn: Any) -> Any:
        pairs = [(nn.Linear(a, b), nn.ReLU()) for a, b in itertools.pairwise(sizes[:-1])]
        return nn.Sequential(*itertools.chain(*pairs), nn.Linear(*sizes[-2:]))

    return Work(layers, (inputs,), batch, outputs, torch, tuple(hidden))


def cnn() -> Work:
    """Two convolutions with pooling and two Dense, on images of 28 x 28."""

    def layers() -> list[Layer]:
        images = [Conv2D(16, 3), ReLU(), MaxPool2D(2), Conv2D(32, 3), ReLU(), MaxPool2D(2)]
        return [*images, Flatten(), Dense(128), ReLU(), Dense(10)]

    def torch(nn: Any) -> Any:
        first = nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2)
        second = nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2)
        last = nn.Flatten(), nn.Linear(800, 128), nn.ReLU(), nn.Linear(128, 10)
        return nn.Sequential(*first, *second, *last)

    return Work(layers, (28, 28, 1), 64, 10, torch)


def lstm() -> Work:
    """An LSTM over 32 steps of 32 features, its last output to a Dense."""

    def torch(nn: Any) -> Any:
        class Reader(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.lstm, self.out = nn.LSTM(32, 128, batch_first=True), nn.Linear(128, 10)

            def forward(self, x: Any) -> Any:
                return self.out(self.lstm(x)[0][:, -1])

        return Reader()

    return Work(lambda: [LSTM(128), Dense(10)], (32, 32), 32, 10, torch)


def transformer() -> Work:
    """A causal transformer of two blocks over 64 characters."""
    width, heads, time, vocabulary = 128, 4, 64, 96

    def layers() -> list[Layer]:
        blocks = [TransformerBlock(width, heads, causal=True) for _ in range(2)]
        first = [Embedding(vocabulary, width), LearnedPositions()]
        return [*first, *blocks, LayerNorm(), Dense(vocabulary)]

    def torch(nn: Any) -> Any:
        import torch

        class Writer(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.ids = nn.Embedding(vocabulary, width)
                self.positions = nn.Parameter(torch.randn(time, width) * 0.02)
                block = nn.TransformerEncoderLayer(
                    width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
                )
                self.blocks = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
                self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, vocabulary)
                mask = nn.Transformer.generate_square_subsequent_mask(time)
                self.register_buffer("mask", mask)

            def forward(self, x: Any) -> Any:
                z = self.blocks(self.ids(x) + self.positions, mask=self.mask, is_causal=True)
                return self.out(self.norm(z)).flatten(0, 1)

        return Writer()

    return Work(layers, (time,), 16, vocabulary, torch, vocabulary=vocabulary)


WORKS = {
    "MLP 64-32-10, batch 32": mlp([64, 32, 10], 32),
    "MLP 784-128-10, batch 32": mlp([784, 128, 10], 32),
    "MLP 784-1024-1024-10, batch 128": mlp([784, 1024, 1024, 10], 128),
    "CNN 28x28, 16 and 32 filters, batch 64": cnn(),
    "LSTM 32 to 128, 32 steps, batch 32": lstm(),
    "Transformer, 2 blocks, width 128, 64 steps, batch 16": transformer(),
}


# How each column trains it ------------------------------------------------------------------------


def xpnn_run(
    work: Work,
    backend: str,
    compile: bool | None = None,
    precision: str | None = None,
    tf32: bool | None = None,
) -> Run:
    """xpnn's Trainer on a backend."""
    network = Network(work.layers(), work.input_shape, get_backend(backend, tf32=tf32))
    trainer = Trainer(network, cross_entropy, Adam(RATE), compile=compile, precision=precision)
    x, y = work.data()
    x, y = network.asarray(x), network.backend.asarray(y, "int32")

    def run(count: int) -> None:
        for _ in range(count):
            value = trainer.step(x, y)
        network.backend.to_numpy(value)
        network.backend.synchronize()

    return run


def torch_run(
    work: Work,
    device: str = "cpu",
    autocast: str | None = None,
    compile: bool = False,
    tf32: bool | None = None,
    tuned: bool = False,
) -> Run:
    """torch.nn, autograd and torch.optim.Adam, one operation at a time.

    Args:
        device: where.
        autocast: the dtype to compute in, "float16" or "bfloat16", with a loss scale.
        compile: by torch.compile, with CUDA graphs on a GPU, and Adam as one fused kernel.
        tf32: whether a GPU may round float32 factors; None: as installed, where it may in
            convolutions and LSTMs, but not in other products.
        tuned: channels last, Adam as one fused kernel, and the fastest algorithms of cuDNN.
    """
    import torch

    model = work.torch(torch.nn).to(device)
    form = torch.channels_last if tuned else torch.contiguous_format
    model, torch.backends.cudnn.benchmark = model.to(memory_format=form), tuned
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=compile or tuned)
    if compile:
        model = torch.compile(model, mode="reduce-overhead")
    scaler = torch.amp.GradScaler(device, enabled=autocast == "float16")
    half = torch.autocast(device, getattr(torch, autocast or "float16"), enabled=bool(autocast))
    x, y = (torch.from_numpy(array).to(device) for array in work.data())
    if len(work.input_shape) == 3:
        x = x.permute(0, 3, 1, 2).contiguous(memory_format=form)
    y = y.flatten()

    def step() -> Any:
        optimizer.zero_grad()
        with half:
            loss = torch.nn.functional.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss

    def run(count: int) -> None:
        switches = torch.backends.cuda.matmul, torch.backends.cudnn
        before = [switch.allow_tf32 for switch in switches]
        for switch, own in zip(switches, before, strict=True):
            switch.allow_tf32 = own if tf32 is None else tf32
        for _ in range(count):
            loss = step()
        loss.item()
        for switch, own in zip(switches, before, strict=True):
            switch.allow_tf32 = own

    return run


def sklearn_run(work: Work) -> Run:
    """scikit-learn's MLPClassifier; it has no other networks."""
    from sklearn.neural_network import MLPClassifier

    if not work.hidden:
        raise NotImplementedError("scikit-learn trains MLPs only")
    model = MLPClassifier(work.hidden, alpha=0.0, batch_size=work.batch, learning_rate_init=RATE)
    x, y = work.data()
    classes = np.arange(work.classes)

    def run(count: int) -> None:
        for _ in range(count):
            model.partial_fit(x, y, classes=classes)

    return run


def size(work: Work) -> str:
    """How many parameters and inputs a step has, for a title."""
    network = Network(work.layers(), work.input_shape)
    count = sum(math.prod(param.shape) for param in network.params.values())
    return f"{count:,} parameters"
