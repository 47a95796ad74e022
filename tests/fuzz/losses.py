"""The losses by PyTorch, from what each item costs and weighs."""

import torch
from torch.nn import functional as f


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
    else:
        smoothing, classes = options.get("label_smoothing", 0.0), p.shape[-1]
        q = y if y.is_floating_point() else f.one_hot(y, classes).to(p.dtype)
        values = -(((1 - smoothing) * q + smoothing / classes) * p.log_softmax(-1)).sum(-1)
        weights = torch.tensor(options.get("class_weight", [1.0] * classes), dtype=p.dtype)
        return values, q @ weights
    no, yes = options.get("class_weight", (1.0, 1.0))
    share = (y + 1) / 2 if name == "hinge" else y
    return values, no + (yes - no) * share if no != yes else torch.ones_like(values)


def loss_by_torch(name, options, p, y, weight):
    """The weighted mean of all items."""
    values, weights = items_of(name, options, p, y)
    if weight is not None:
        weights = weights * weight.reshape(*weight.shape, *[1] * (values.ndim - weight.ndim))
    return (values * weights).sum() / weights.sum()
