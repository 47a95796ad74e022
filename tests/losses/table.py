"""The table of losses: a line for each configuration, and everything it is held to."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest

from xpnn.losses import (
    binary_cross_entropy,
    binary_focal,
    contrastive,
    cosine_distance,
    cross_entropy,
    ctc,
    dice,
    focal,
    gaussian,
    hinge,
    huber,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_squared_error,
    pinball,
    poisson,
    quadratic_cost,
    triplet,
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


def holed(rng, shape):
    """Class numbers, some of them -1."""
    found = labels(rng, shape)
    return np.where(np.arange(found.size).reshape(found.shape) % 4 == 1, -1, found)


def counts(rng, shape):
    return rng.poisson(2.0, size=shape).astype(float)


def halves(rng, shape):
    return rng.normal(size=(*shape[:-1], shape[-1] // 2))


def nothing(rng, shape):
    return np.zeros(shape[:1])


def read(rng, shape):
    """Steps, and labels in order, filled up with -1: of both kinds, the same one twice, none."""
    labels = [[1, 2, -1], [1, 1, 2], [2, -1, -1], [2, 1, 2], [-1, -1, -1]]
    return np.concatenate([[[3], [4], [1], [4], [2]], labels], axis=1)


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
        apart: whether each sample has a loss of its own, rather than one by those beside it.
    """

    loss: Callable[..., Any]
    shape: Shape
    targets: Draw
    reference: Callable[..., Any]
    predictions: Draw = reals
    apart: bool = True

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


def binary_focal_of(f, p, y, gamma=2.0, no=1.0, yes=1.0):
    log_p, log_q = f.logsigmoid(p), f.logsigmoid(-p)
    values = -y * log_q.exp() ** gamma * log_p - (1 - y) * log_p.exp() ** gamma * log_q
    return mean(values, no + (yes - no) * y)


def focal_of(f, p, y, gamma=2.0, weights=(1.0, 1.0, 1.0)):
    log_p = f.log_softmax(p, -1)
    q = f.one_hot(y, p.shape[-1]).to(p.dtype) if y.ndim < p.ndim else y
    values = -(q * (1 - log_p.exp()) ** gamma * log_p).sum(-1)
    return mean(values, q @ p.new_tensor(weights))


def dice_of(f, p, y, smoothing=1.0):
    p, axes = f.sigmoid(p), tuple(range(1, p.ndim - 1))
    both, whole = (p * y).sum(axes), (p + y).sum(axes)
    return (1 - (2 * both + smoothing) / (whole + smoothing)).mean()


def squared_distance(a, b):
    return ((a - b) ** 2).sum(-1)


def triplet_of(f, p, y, margin=0.2):
    return f.triplet_margin_with_distance_loss(
        *p.unbind(1), distance_function=squared_distance, margin=margin
    )


def contrastive_of(f, p, y, temperature=0.1):
    a, b = f.normalize(p, dim=-1).unbind(1)
    return f.cross_entropy(a @ b.T / temperature, y.new_tensor(range(len(p))).long())


def ctc_of(f, p, y):
    steps, labels = y[:, 0], y[:, 1:]
    log_p = f.log_softmax(p, -1).transpose(0, 1)
    return f.ctc_loss(log_p, labels, steps, (labels >= 0).sum(-1), reduction="none").mean()


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
    "ignoring": Case(
        partial(cross_entropy, ignore_index=-1),
        (5, 3, 4),
        holed,
        lambda f, p, y: f.cross_entropy(p.transpose(1, 2), y, ignore_index=-1),
    ),
    "ignoring-weighted": Case(
        partial(cross_entropy, ignore_index=2, class_weight=RARE, label_smoothing=0.1),
        (5, 3),
        labels,
        lambda f, p, y: classes(f, p[y != 2], y[y != 2], RARE, label_smoothing=0.1),
    ),
    "log-cosh": Case(log_cosh, (5, 3), reals, lambda f, p, y: (p - y).cosh().log().mean()),
    "pinball": Case(
        partial(pinball, quantile=0.9),
        (5, 3),
        reals,
        lambda f, p, y: (0.1 * f.relu(p - y) + 0.9 * f.relu(y - p)).mean(),
    ),
    "cosine": Case(
        cosine_distance, (5, 3), reals, lambda f, p, y: (1 - f.cosine_similarity(p, y, -1)).mean()
    ),
    "poisson": Case(poisson, (5, 3), counts, lambda f, p, y: f.poisson_nll_loss(p, y)),
    "gaussian": Case(
        gaussian,
        (5, 2, 4),
        halves,
        lambda f, p, y: f.gaussian_nll_loss(p[..., :2], y, p[..., 2:].exp(), eps=0),
    ),
    "binary-focal": Case(binary_focal, (5, 3), shares, binary_focal_of),
    "binary-focal-weighted": Case(
        partial(binary_focal, gamma=0.5, class_weight=(0.3, 1.7)),
        (5, 1),
        bits,
        lambda f, p, y: binary_focal_of(f, p, y, 0.5, 0.3, 1.7),
    ),
    "focal": Case(focal, (5, 3), labels, focal_of),
    "focal-rows-weighted": Case(
        partial(focal, gamma=0.5, class_weight=RARE),
        (5, 3),
        rows,
        lambda f, p, y: focal_of(f, p, y, 0.5, RARE),
    ),
    "dice": Case(dice, (5, 2, 3, 2), bits, dice_of),
    "triplet": Case(
        partial(triplet, margin=0.5), (5, 3, 4), nothing, partial(triplet_of, margin=0.5)
    ),
    "contrastive": Case(contrastive, (5, 2, 4), nothing, contrastive_of, apart=False),
    "ctc": Case(partial(ctc, lengths=True), (5, 4, 3), read, ctc_of),
    "divergence": Case(kl_divergence, (5, 3), rows, divergence),
    "divergence-sequences": Case(kl_divergence, (5, 3, 4), rows, divergence),
}

each_loss = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
APART = {name: case for name, case in CASES.items() if case.apart}
each_loss_apart = pytest.mark.parametrize("case", APART.values(), ids=APART)
