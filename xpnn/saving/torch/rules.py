"""How the arrays of a layer are called in PyTorch, and how their axes lie there.

For each kind of layer a pair of functions, there and back: ``give(layer, ours, order)`` returns
the arrays of torch.nn's counterpart by their names there, ``take(layer, theirs, order)`` those of
the layer. ``order`` is None, or says of each input feature of theirs which one of ours it is: after
a Flatten, PyTorch counts channels first and xpnn counts them last.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from xpnn.layers import (
    GRU,
    LSTM,
    BatchNorm,
    CrossAttention,
    Dense,
    Embedding,
    GroupNorm,
    InstanceNorm,
    Layer,
    LayerNorm,
    LearnedPositions,
    MultiHeadAttention,
    PReLU,
    RMSNorm,
    SimpleRNN,
    TiedDense,
    WeightNorm,
)
from xpnn.layers.sliding.convolution import Convolution
from xpnn.layers.sliding.separable import SeparableConvolution
from xpnn.layers.sliding.transposed import TransposedConvolution

Arrays = dict[str, np.ndarray]
Order = np.ndarray | None

COUNT = "num_batches_tracked"
LENGTH, DIRECTION = (f"parametrizations.weight.original{k}" for k in (0, 1))


class Rule(NamedTuple):
    """There and back for one kind of layer."""

    give: Callable[[Layer, Arrays, Order], Arrays]
    take: Callable[[Layer, Arrays, Order], Arrays]
    optional: tuple[str, ...] = ()  # what their file may lack


def renamed(**names: str) -> Rule:
    """For arrays that lie as they do here, but for the order of features.

    Args:
        names: here to there.
    """
    back = {theirs: ours for ours, theirs in names.items()}

    def give(layer: Layer, ours: Arrays, order: Order) -> Arrays:
        return {names[key]: _ordered(value, order) for key, value in ours.items() if key in names}

    def take(layer: Layer, theirs: Arrays, order: Order) -> Arrays:
        unordered = None if order is None else np.argsort(order)
        return {back[k]: _ordered(value, unordered) for k, value in theirs.items() if k in back}

    return Rule(give, take)


def _ordered(value: np.ndarray, order: Order) -> np.ndarray:
    return value if order is None else value[order]


def matrices(**names: str) -> Rule:
    """For matrices (inputs, outputs), which are (outputs, inputs) there; vectors stay.

    Args:
        names: here to there.
    """
    plain = renamed(**names)

    def give(layer: Layer, ours: Arrays, order: Order) -> Arrays:
        turned = {k: _ordered(v, order) if v.ndim == 2 else v for k, v in ours.items()}
        return {key: value.T for key, value in plain.give(layer, turned, None).items()}

    def take(layer: Layer, theirs: Arrays, order: Order) -> Arrays:
        unordered = None if order is None else np.argsort(order)
        ours = plain.take(layer, {key: value.T for key, value in theirs.items()}, None)
        return {k: _ordered(v, unordered) if v.ndim == 2 else v for k, v in ours.items()}

    return Rule(give, take)


def kernels(**names: str) -> Rule:
    """For kernels (*window, inputs, outputs), (outputs, inputs, *window) there; vectors stay.

    Args:
        names: here to there.
    """
    plain = renamed(**names)

    def give(layer: Layer, ours: Arrays, order: Order) -> Arrays:
        theirs = plain.give(layer, ours, None)
        return {k: np.moveaxis(v, (-1, -2), (0, 1)) if v.ndim > 1 else v for k, v in theirs.items()}

    def take(layer: Layer, theirs: Arrays, order: Order) -> Arrays:
        ours = plain.take(layer, theirs, None)
        return {k: np.moveaxis(v, (0, 1), (-1, -2)) if v.ndim > 1 else v for k, v in ours.items()}

    return Rule(give, take)


def _give_transposed(layer: Layer, ours: Arrays, order: Order) -> Arrays:
    """(*window, inputs of a group, outputs) as (inputs, outputs of a group, *window)."""
    assert isinstance(layer, TransposedConvolution)
    weight = ours["weight"]
    *window, inputs, outputs = weight.shape
    by_group = weight.reshape(*window, inputs, layer.groups, outputs // layer.groups)
    turned = np.moveaxis(by_group, (-2, -3, -1), (0, 1, 2))
    return {**ours, "weight": turned.reshape(-1, outputs // layer.groups, *window)}


def _take_transposed(layer: Layer, theirs: Arrays, order: Order) -> Arrays:
    assert isinstance(layer, TransposedConvolution)
    weight = theirs["weight"]
    inputs, outputs, *window = weight.shape
    by_group = weight.reshape(layer.groups, inputs // layer.groups, outputs, *window)
    turned = np.moveaxis(by_group, (0, 1, 2), (-2, -3, -1))
    return {**theirs, "weight": turned.reshape(*window, inputs // layer.groups, -1)}


RECURRENT = matrices(
    weight="weight_ih", recurrent_weight="weight_hh", bias="bias_ih", recurrent_bias="bias_hh"
)


def _give_recurrent(layer: Layer, ours: Arrays, order: Order) -> Arrays:
    """Where xpnn has one bias, all of it goes into the first of PyTorch's two."""
    if "bias" in ours and "recurrent_bias" not in ours:
        ours = {**ours, "recurrent_bias": np.zeros_like(ours["bias"])}
    return RECURRENT.give(layer, ours, None)


def _take_recurrent(layer: Layer, theirs: Arrays, order: Order) -> Arrays:
    ours = RECURRENT.take(layer, theirs, None)
    if "recurrent_bias" in ours and "recurrent_bias" not in layer.params:
        ours["bias"] = ours["bias"] + ours.pop("recurrent_bias")
    return ours


BATCH_NORM = renamed(
    scale="weight", shift="bias", running_mean="running_mean", running_variance="running_var"
)


def _give_batch_norm(layer: Layer, ours: Arrays, order: Order) -> Arrays:
    return {**BATCH_NORM.give(layer, ours, order), COUNT: np.asarray(0, dtype=np.int64)}


def _give_length(layer: Layer, ours: Arrays, order: Order) -> Arrays:
    """(units,) as the lengths of what lies along the axis of units, whose other axes are 1."""
    assert isinstance(layer, WeightNorm)
    axes = len(layer.layer.params["weight"].shape)
    of_units = 1 if isinstance(layer.layer, TransposedConvolution) else 0
    shape = [-1 if axis == of_units else 1 for axis in range(axes)]
    return {LENGTH: ours["length"].reshape(shape)}


def _take_length(layer: Layer, theirs: Arrays, order: Order) -> Arrays:
    return {"length": theirs[LENGTH].reshape(-1)} if LENGTH in theirs else {}


def as_direction(rule: Rule) -> Rule:
    """That of a layer inside of WeightNorm: its weight is one of the parametrizations there."""

    def give(layer: Layer, ours: Arrays, order: Order) -> Arrays:
        theirs = rule.give(layer, ours, order)
        return {DIRECTION if key == "weight" else key: one for key, one in theirs.items()}

    def take(layer: Layer, theirs: Arrays, order: Order) -> Arrays:
        named = {"weight" if key == DIRECTION else key: one for key, one in theirs.items()}
        return rule.take(layer, named, order)

    return Rule(give, take)


RULES: dict[type[Layer], Rule] = {
    Dense: matrices(weight="weight", bias="bias"),
    TiedDense: renamed(weight="weight", bias="bias")._replace(optional=("weight",)),
    Convolution: kernels(weight="weight", bias="bias"),
    SeparableConvolution: kernels(  # an nn.Sequential of two convolutions
        depthwise_weight="0.weight", pointwise_weight="1.weight", bias="1.bias"
    ),
    TransposedConvolution: Rule(_give_transposed, _take_transposed),
    BatchNorm: Rule(_give_batch_norm, BATCH_NORM.take, (COUNT,)),
    LayerNorm: renamed(scale="weight", shift="bias"),
    RMSNorm: renamed(scale="weight"),
    GroupNorm: renamed(scale="weight", shift="bias"),
    InstanceNorm: renamed(scale="weight", shift="bias"),
    PReLU: renamed(slope="weight"),
    WeightNorm: Rule(_give_length, _take_length),
    Embedding: renamed(weight="weight"),
    LearnedPositions: renamed(weight="weight"),
    MultiHeadAttention: matrices(
        weight="in_proj_weight",
        bias="in_proj_bias",
        output_weight="out_proj.weight",
        output_bias="out_proj.bias",
    ),
    **dict.fromkeys((SimpleRNN, LSTM, GRU), Rule(_give_recurrent, _take_recurrent)),
}


QUERIES = matrices(
    weight="q_proj_weight",
    bias="in_proj_bias",
    output_weight="out_proj.weight",
    output_bias="out_proj.bias",
)


def _give_two_widths(layer: Layer, ours: Arrays, order: Order) -> Arrays:
    keys, values = np.split(ours["context_weight"].T, 2)
    theirs = {"k_proj_weight": keys, "v_proj_weight": values}
    return QUERIES.give(layer, ours, order) | theirs


def _take_two_widths(layer: Layer, theirs: Arrays, order: Order) -> Arrays:
    ours = QUERIES.take(layer, theirs, order)
    parts = [theirs[name] for name in ("k_proj_weight", "v_proj_weight") if name in theirs]
    return ours | ({"context_weight": np.concatenate(parts).T} if parts else {})


TWO_WIDTHS = Rule(_give_two_widths, _take_two_widths)
"""For ``CrossAttention`` to a context of other features, there ``kdim`` and ``vdim``."""


def rule_of(layer: Layer) -> Rule | None:
    """The rule for a layer, or None: for layers without arrays, and for those of others.

    ``nn.MultiheadAttention`` has as many heads of keys as of queries, and ``weight_norm`` knows of
    weights that are called so.
    """
    if isinstance(layer, WeightNorm):
        normed = isinstance(layer.layer, Dense | Convolution | TransposedConvolution)
        return RULES[WeightNorm] if normed else None
    if isinstance(layer, MultiHeadAttention) and layer.key_heads != layer.heads:
        return None
    if isinstance(layer, CrossAttention) and "context_weight" in layer.params:
        return TWO_WIDTHS
    return next((RULES[kind] for kind in type(layer).__mro__ if kind in RULES), None)
