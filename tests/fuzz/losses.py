"""The losses by PyTorch, from what each item costs and weighs; and targets for them."""

import math

import numpy as np
import torch
from torch.nn import functional as f

from xpnn.trees import as_tuple


def items_of(name, options, p, y):
    """What each item costs, and what it weighs."""
    if name == "quadratic_cost":
        values = 0.5 * ((p - y) ** 2).flatten(1).sum(1)
    elif name == "mean_squared_error":
        values = (p - y) ** 2
    elif name == "mean_absolute_error":
        values = (p - y).abs()
    elif name == "huber":
        values = f.huber_loss(p, y, reduction="none", delta=options["threshold"])
    elif name == "hinge":
        values = f.relu(1 - y * p)
    elif name == "kl_divergence":
        values = f.kl_div(p.log_softmax(-1), y, reduction="none").sum(-1)
    elif name == "binary_cross_entropy":
        from_logits = options.get("from_logits", True)
        loss = f.binary_cross_entropy_with_logits if from_logits else f.binary_cross_entropy
        values = loss(p, y, reduction="none")
    elif name == "binary_focal":
        log_p, log_q = f.logsigmoid(p), f.logsigmoid(-p)
        gamma = options.get("gamma", 2.0)
        values = -y * log_q.exp() ** gamma * log_p - (1 - y) * log_p.exp() ** gamma * log_q
    elif name == "log_cosh":
        size = (p - y).abs()
        values = size + f.softplus(-2 * size) - math.log(2)
    elif name == "pinball":
        q = options.get("quantile", 0.5)
        values = (1 - q) * f.relu(p - y) + q * f.relu(y - p)
    elif name == "cosine_distance":
        values = 1 - f.cosine_similarity(p, y, -1)
    elif name == "poisson":
        values = f.poisson_nll_loss(p, y, reduction="none")
    elif name == "gaussian":
        mean, log_variance = p.chunk(2, -1)
        values = f.gaussian_nll_loss(mean, y, log_variance.exp(), eps=0, reduction="none")
    elif name == "dice":
        p, axes = p.sigmoid(), tuple(range(1, p.ndim - 1))
        values = 1 - (2 * (p * y).sum(axes) + 1) / ((p + y).sum(axes) + 1)
        values = values.mean(-1)
    elif name == "triplet":
        anchor, positive, negative = p.unbind(1)
        near, far = ((anchor - other).square().sum(-1) for other in (positive, negative))
        values = f.relu(near - far + options.get("margin", 0.2))
    elif name == "contrastive":
        a, b = f.normalize(p, dim=-1).unbind(1)
        scores = a @ b.T / options.get("temperature", 0.1)
        values = f.cross_entropy(scores, torch.arange(len(p)), reduction="none")
    elif name == "ctc":
        log_p, many = p.log_softmax(-1).transpose(0, 1), (y >= 0).sum(-1)
        steps = torch.full((len(p),), p.shape[1])
        values = f.ctc_loss(log_p, y, steps, many, reduction="none")
    else:
        smoothing, classes = options.get("label_smoothing", 0.0), p.shape[-1]
        q = y if y.is_floating_point() else f.one_hot(y.clamp(0), classes).to(p.dtype)
        q = q if y.is_floating_point() else q * (y >= 0)[..., None]  # -1 is ignored
        log_p = p.log_softmax(-1)
        hard = (-log_p.expm1()) ** options["gamma"] if name == "focal" else 1.0
        values = -(((1 - smoothing) * q + smoothing / classes) * hard * log_p).sum(-1)
        weights = torch.tensor(options.get("class_weight", [1.0] * classes), dtype=p.dtype)
        return values, q @ weights
    no, yes = options.get("class_weight", (1.0, 1.0))
    share = (y + 1) / 2 if name == "hinge" else y
    return values, no + (yes - no) * share if no != yes else torch.ones_like(values)


def targets_of(name, shape, rng, labels, ignored=False):
    """Targets for outputs of a shape: of classes labels, some of which are ignored, or shares."""
    if name in ("cross_entropy", "focal", "kl_divergence"):
        if name != "kl_divergence" and (labels or ignored):
            found = rng.integers(0, shape[-1], shape[:-1])
            if ignored:
                found.flat[1::3] = -1
            return found
        powers = rng.exponential(size=shape)
        return powers / powers.sum(-1, keepdims=True)
    if name in ("binary_cross_entropy", "binary_focal", "dice"):
        return rng.uniform(0, 1, shape).round() if labels else rng.uniform(0, 1, shape)
    if name == "hinge":
        return 2.0 * rng.integers(0, 2, shape) - 1
    if name == "poisson":
        return rng.poisson(2.0, shape).astype(float)
    if name == "gaussian":
        return rng.normal(size=(*shape[:-1], shape[-1] // 2))
    if name == "ctc":  # two labels fit into five steps
        return np.where(
            rng.random((shape[0], 2)) < [0.0, 0.3],
            -1,
            1 + rng.integers(0, shape[-1] - 1, (shape[0], 2)),
        )
    return rng.normal(size=shape)


def loss_by_torch(name, options, p, y, weight):
    """The weighted mean of all items."""
    values, weights = items_of(name, options, p, y)
    if weight is not None:
        weights = weights * weight.reshape(*weight.shape, *[1] * (values.ndim - weight.ndim))
    return (values * weights).sum() / weights.sum()


def losses_by_torch(losses, outputs, targets, weight):
    """The loss of each output, and their sum, each times what it counts for."""
    found = [
        loss_by_torch(name, {}, p, y, weight)
        for (name, _), p, y in zip(losses, as_tuple(outputs), as_tuple(targets), strict=True)
    ]
    return found, sum(count * value for (_, count), value in zip(losses, found, strict=True))
