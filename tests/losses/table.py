"""The table of losses: a line for each configuration, and everything it is held to."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest

from xpnn.losses import (
    binary_cross_entropy,
    cross_entropy,
    hinge,
    huber,
    kl_divergence,
    mean_absolute_error,
    mean_squared_error,
    quadratic_cost,
)
from xpnn.typing import Shape

Draw = Callable[[np.random.Generator, Shape], np.ndarray]


def reals(rng, shape):
    return rng.normal(size=shape)


def shares(rng, shape):
    return rng.uniform(0.05, 0.95, size=shape)


def bits(rng, shape):
    return (np.arange(np.prod(shape)).reshape(shape) % 3 == 0).astype(float)


def signs(rng, shape):
    return 2 * bits(rng, shape) - 1


def labels(rng, shape):
    return np.arange(np.prod(shape[:-1])).reshape(shape[:-1]) % shape[-1]


def one_hot(rng, shape):
    return np.eye(shape[-1])[labels(rng, shape)]


def rows(rng, shape):
    powers = rng.exponential(size=shape)
    powers[0, ..., 0] = 0  # 0 log 0 is met on the way
    return powers / powers.sum(axis=-1, keepdims=True)


@dataclass
class Case:
    """One configuration of a loss.

    Attributes:
        loss: with its options bound.
        shape: of the predictions.
        targets: draws them.
        reference: ``(f, p, y) -> value``, where f is torch.nn.functional.
        predictions: draws them.
    """

    loss: Callable[..., Any]
    shape: Shape
    targets: Draw
    reference: Callable[..., Any]
    predictions: Draw = reals

    def arrays(self, dtype: str = "float64", seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Predictions and targets on the host; class numbers stay integers."""
        rng = np.random.default_rng(seed)
        predictions = self.predictions(rng, self.shape).astype(dtype)
        targets = self.targets(rng, self.shape)
        return predictions, targets if targets.dtype.kind == "i" else targets.astype(dtype)


def mean(values, weights):
    """The weighted mean, for what torch does not weigh."""
    return (values * weights).sum() / weights.sum()


def binary(f, p, y, no=1.0, yes=1.0):
    values = f.binary_cross_entropy_with_logits(p, y, reduction="none")
    return mean(values, no + (yes - no) * y)


def classes(f, p, y, weights, **options):
    values = f.cross_entropy(p, y, reduction="none", **options)
    return mean(values, p.new_tensor(weights)[y if y.ndim == 1 else y.argmax(-1)])


def divergence(f, p, y):
    return f.kl_div(f.log_softmax(p, -1), y, reduction="none").sum(-1).mean()


smooth = partial(cross_entropy, label_smoothing=0.1)
RARE = [1.0, 2.0, 0.3]  # not all of them are numbers of float32
weighted = partial(cross_entropy, class_weight=RARE)
both = partial(cross_entropy, label_smoothing=0.1, class_weight=RARE)
from_shares = partial(binary_cross_entropy, from_logits=False)

CASES = {
    "quadratic": Case(
        quadratic_cost, (5, 3), reals, lambda f, p, y: f.mse_loss(p, y, reduction="sum") / 10
    ),
    "squared": Case(mean_squared_error, (5, 3), reals, lambda f, p, y: f.mse_loss(p, y)),
    "squared-flat": Case(mean_squared_error, (5,), reals, lambda f, p, y: f.mse_loss(p, y)),
    "absolute": Case(mean_absolute_error, (5, 3), reals, lambda f, p, y: f.l1_loss(p, y)),
    "huber": Case(huber, (5, 3), reals, lambda f, p, y: f.huber_loss(p, y)),
    "huber-half": Case(
        partial(huber, threshold=0.5), (5, 3), reals, lambda f, p, y: f.huber_loss(p, y, delta=0.5)
    ),
    "hinge": Case(hinge, (5, 3), signs, lambda f, p, y: f.relu(1 - y * p).mean()),
    "hinge-bits": Case(hinge, (5, 1), bits, lambda f, p, y: f.relu(1 - (2 * y - 1) * p).mean()),
    "hinge-weighted": Case(
        partial(hinge, class_weight=(0.3, 1.7)),
        (5, 3),
        signs,
        lambda f, p, y: mean(f.relu(1 - y * p), 1 + 0.7 * y),
    ),
    "binary": Case(binary_cross_entropy, (5, 3), bits, binary),
    "binary-shares": Case(binary_cross_entropy, (5, 3), shares, binary),
    "binary-weighted": Case(
        partial(binary_cross_entropy, class_weight=(0.3, 1.7)),
        (5, 1),
        shares,
        lambda f, p, y: binary(f, p, y, 0.3, 1.7),
    ),
    "binary-probabilities": Case(
        from_shares, (5, 3), bits, lambda f, p, y: f.binary_cross_entropy(p, y), shares
    ),
    "labels": Case(cross_entropy, (5, 3), labels, lambda f, p, y: f.cross_entropy(p, y)),
    "one-hot": Case(cross_entropy, (5, 3), one_hot, lambda f, p, y: f.cross_entropy(p, y)),
    "rows": Case(cross_entropy, (5, 3), rows, lambda f, p, y: f.cross_entropy(p, y)),
    "sequences": Case(
        cross_entropy, (5, 3, 4), labels, lambda f, p, y: f.cross_entropy(p.transpose(1, 2), y)
    ),
    "smooth": Case(
        smooth, (5, 3), labels, lambda f, p, y: f.cross_entropy(p, y, label_smoothing=0.1)
    ),
    "smooth-rows": Case(
        smooth, (5, 3), rows, lambda f, p, y: f.cross_entropy(p, y, label_smoothing=0.1)
    ),
    "weighted": Case(
        weighted,
        (5, 3),
        labels,
        lambda f, p, y: f.cross_entropy(p, y, weight=p.new_tensor(RARE)),
    ),
    "weighted-smooth": Case(
        both,
        (5, 3),
        labels,
        lambda f, p, y: classes(f, p, y, RARE, label_smoothing=0.1),
    ),
    "weighted-rows": Case(weighted, (5, 3), one_hot, lambda f, p, y: classes(f, p, y, RARE)),
    "weighted-sequences": Case(
        partial(cross_entropy, class_weight=[*RARE, 0.7]),
        (5, 3, 4),
        labels,
        lambda f, p, y: f.cross_entropy(p.transpose(1, 2), y, weight=p.new_tensor([*RARE, 0.7])),
    ),
    "divergence": Case(kl_divergence, (5, 3), rows, divergence),
    "divergence-sequences": Case(kl_divergence, (5, 3, 4), rows, divergence),
}

each_loss = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
