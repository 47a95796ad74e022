"""What is timed on a GPU: five networks of the sizes that people train there, and small ones."""

from typing import Any

from benchmarks.works import Work, mlp
from xpnn import Dense, ReLU
from xpnn.layers import (
    LSTM,
    BatchNorm,
    Conv2D,
    Embedding,
    GlobalAveragePool,
    Layer,
    LayerNorm,
    LearnedPositions,
    Residual,
    Sequential,
    TransformerBlock,
)


def gpt(width: int, heads: int, blocks: int, time: int, batch: int, vocabulary: int = 8192) -> Work:
    """A causal transformer with norms in front, its blocks four times as wide inside."""

    def layers() -> list[Layer]:
        inner = [TransformerBlock(width, heads, causal=True) for _ in range(blocks)]
        first = [Embedding(vocabulary, width), LearnedPositions()]
        return [*first, *inner, LayerNorm(), Dense(vocabulary)]

    def torch(nn: Any) -> Any:
        import torch

        attention = torch.nn.functional.scaled_dot_product_attention

        class Block(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
                self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
                self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
                self.gelu = nn.GELU()

            def forward(self, z: Any) -> Any:
                parts = self.qkv(self.first(z)).split(width, 2)
                q, k, v = (one.unflatten(2, (heads, -1)).transpose(1, 2) for one in parts)
                a = attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
                z = z + self.out(a)
                return z + self.down(self.gelu(self.up(self.second(z))))

        class Writer(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.ids = nn.Embedding(vocabulary, width)
                self.positions = nn.Parameter(torch.randn(time, width) * 0.02)
                self.blocks = nn.Sequential(*(Block() for _ in range(blocks)))
                self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, vocabulary)

            def forward(self, x: Any) -> Any:
                return self.out(self.norm(self.blocks(self.ids(x) + self.positions))).flatten(0, 1)

        return Writer()

    return Work(layers, (time,), batch, vocabulary, torch, vocabulary=vocabulary)


def resnet(widths: tuple[int, ...], side: int, batch: int) -> Work:
    """Two residual blocks of two 3x3 convolutions for each width, the first with stride 2."""
    stages = [
        (width, 2 if k and not first else 1) for k, width in enumerate(widths) for first in range(2)
    ]

    def block(width: int, stride: int) -> Layer:
        body = [
            Conv2D(width, 3, stride=stride, padding=1, use_bias=False),
            BatchNorm(),
            ReLU(),
            Conv2D(width, 3, padding=1, use_bias=False),
            BatchNorm(),
        ]
        if stride == 1:
            return Residual(body)
        short = [Conv2D(width, 1, stride=stride, use_bias=False), BatchNorm()]
        return Residual(body, Sequential(short))

    def layers() -> list[Layer]:
        blocks = [layer for stage in stages for layer in (block(*stage), ReLU())]
        first = [Conv2D(widths[0], 3, padding=1, use_bias=False), BatchNorm(), ReLU()]
        return [*first, *blocks, GlobalAveragePool(), Dense(10)]

    def torch(nn: Any) -> Any:
        class Block(nn.Module):
            def __init__(self, inputs: int, width: int, stride: int) -> None:
                super().__init__()
                self.body = nn.Sequential(
                    nn.Conv2d(inputs, width, 3, stride, 1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                    nn.Conv2d(width, width, 3, 1, 1, bias=False),
                    nn.BatchNorm2d(width),
                )
                short = nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width)
                self.short = nn.Sequential(*short) if stride > 1 else nn.Identity()
                self.relu = nn.ReLU()

            def forward(self, x: Any) -> Any:
                return self.relu(self.body(x) + self.short(x))

        first = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        inputs = [widths[0], *(width for width, _ in stages)]
        blocks = [Block(before, *stage) for before, stage in zip(inputs, stages, strict=False)]
        last = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10)
        return nn.Sequential(*first, *blocks, *last)

    return Work(layers, (side, side, 3), batch, 10, torch)


def two_lstms(units: int, features: int, time: int, batch: int) -> Work:
    """Two LSTMs, one on top of the other; the last output goes to a Dense."""

    def torch(nn: Any) -> Any:
        class Reader(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.lstm = nn.LSTM(features, units, 2, batch_first=True)
                self.out = nn.Linear(units, 10)

            def forward(self, x: Any) -> Any:
                return self.out(self.lstm(x)[0][:, -1])

        return Reader()

    def layers() -> list[Layer]:
        return [LSTM(units, return_sequences=True), LSTM(units), Dense(10)]

    return Work(layers, (time, features), batch, 10, torch)


WORKS = {
    "GPT 6 blocks, width 512, 512 steps, batch 16": gpt(512, 8, 6, 512, 16),
    "GPT 4 blocks, width 768, 1,024 steps, batch 8": gpt(768, 12, 4, 1024, 8),
    "ResNet 64-128-256, 32x32, batch 256": resnet((64, 128, 256), 32, 256),
    "LSTM 2 x 512, 64 steps, batch 128": two_lstms(512, 128, 64, 128),
    "MLP 784-2048x3-10, batch 512": mlp([784, 2048, 2048, 2048, 10], 512),
}

SMALL = {
    "GPT 6 blocks, small": gpt(16, 2, 6, 8, 2, vocabulary=32),
    "GPT 4 blocks, small": gpt(24, 3, 4, 16, 2, vocabulary=32),
    "ResNet, small": resnet((8, 16, 32), 8, 2),
    "LSTM, small": two_lstms(8, 4, 4, 2),
    "MLP, small": mlp([16, 8, 8, 8, 10], 4),
}
"""The same networks with few units, which any machine trains at once: to try the script itself."""
