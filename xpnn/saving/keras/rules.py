"""How the arrays of Keras' layers lie, and what becomes of them here.

Both have features and channels last, so most arrays lie alike; a rule says what does not. Keras
numbers the arrays of a layer in the order in which it makes them.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from xpnn.layers import (
    GRU,
    LSTM,
    BatchNorm,
    Bidirectional,
    Dense,
    Embedding,
    GroupNorm,
    InstanceNorm,
    Layer,
    LayerNorm,
    MultiHeadAttention,
    PReLU,
    RMSNorm,
    SimpleRNN,
    TiedDense,
)
from xpnn.layers.sliding.convolution import Convolution
from xpnn.layers.sliding.separable import SeparableConvolution
from xpnn.layers.sliding.transposed import TransposedConvolution

Arrays = Mapping[str, np.ndarray]


class Rule(NamedTuple):
    """What a kind of layer is in Keras.

    Attributes:
        kinds: as files spell them.
        take: our arrays by name, of theirs; raises KeyError or ValueError where these are others.
    """

    kinds: tuple[str, ...]
    take: Callable[[Layer, Arrays], dict[str, np.ndarray]]


def numbered(*names: str) -> Callable[[Layer, Arrays], dict[str, np.ndarray]]:
    """For arrays that lie as they do here.

    Args:
        names: ours, in the order of Keras.
    """

    def take(layer: Layer, theirs: Arrays) -> dict[str, np.ndarray]:
        return {
            name: _array(theirs, str(number))
            for number, name in enumerate(name for name in names if _has(layer, name))
        }

    return take


def _has(layer: Layer, name: str) -> bool:
    return name in layer.params or name in layer.state


def _array(theirs: Arrays, key: str) -> np.ndarray:
    if key not in theirs:
        raise ValueError(f"there is no array {key}")
    return theirs[key]


def _depthwise(weight: np.ndarray) -> np.ndarray:
    """(*window, inputs, multiplier) as (*window, 1, inputs multiplier)."""
    return weight.reshape(*weight.shape[:-2], 1, -1)


def _convolution(layer: Layer, theirs: Arrays) -> dict[str, np.ndarray]:
    """Of a depthwise one, each input has kernels of its own: as many groups as inputs."""
    assert isinstance(layer, Convolution)
    ours = numbered("weight", "bias")(layer, theirs)
    wanted, weight = layer.params["weight"].shape, ours["weight"]
    if weight.shape != wanted and layer.groups == weight.shape[-2] > 1 == wanted[-2]:
        ours["weight"] = _depthwise(weight)
    return ours


def _separable(layer: Layer, theirs: Arrays) -> dict[str, np.ndarray]:
    ours = numbered("depthwise_weight", "pointwise_weight", "bias")(layer, theirs)
    return {**ours, "depthwise_weight": _depthwise(ours["depthwise_weight"])}


def _transposed(layer: Layer, theirs: Arrays) -> dict[str, np.ndarray]:
    """(*window, outputs, inputs) as (*window, inputs, outputs)."""
    ours = numbered("weight", "bias")(layer, theirs)
    return {**ours, "weight": np.swapaxes(ours["weight"], -1, -2)}


def _slope(layer: Layer, theirs: Arrays) -> dict[str, np.ndarray]:
    """Of the shape of a sample; axes of one entry are those that it is shared along."""
    slope = _array(theirs, "0")
    if any(length > 1 for length in slope.shape[:-1]):
        raise ValueError(
            f"its slopes differ along more than the last axis, {slope.shape}, which PReLU does not "
            f"do here"
        )
    return {"slope": slope.reshape(slope.shape[-1:])}


def _recurrent(layer: Layer, theirs: Arrays) -> dict[str, np.ndarray]:
    cell = {key.removeprefix("cell/"): value for key, value in theirs.items()}
    ours = numbered("weight", "recurrent_weight", "bias")(layer, cell)
    if isinstance(layer, GRU):
        if "bias" in ours:
            if ours["bias"].ndim != 2:
                raise ValueError(
                    "it was made with reset_after=False, a GRU that xpnn does not have"
                )
            ours["bias"], ours["recurrent_bias"] = ours["bias"]
        ours = {key: _reset_first(value) for key, value in ours.items()}
    return ours


def _reset_first(value: np.ndarray) -> np.ndarray:
    """The blocks of a GRU in the order r, z, n; Keras has z, r, n."""
    update, reset, new = np.split(value, 3, axis=-1)
    return np.concatenate([reset, update, new], axis=-1)


def _attention(layer: Layer, theirs: Arrays) -> dict[str, np.ndarray]:
    """Queries, keys and values side by side; the heads of each are an axis of their own there."""
    theirs = {key.lstrip("_"): value for key, value in theirs.items()}
    parts = [f"{name}_dense" for name in ("query", "key", "value")]
    matrices = [_array(theirs, f"{part}/0") for part in parts]
    out = _array(theirs, "output_dense/0")
    ours = {
        "weight": np.concatenate([one.reshape(one.shape[0], -1) for one in matrices], axis=1),
        "output_weight": out.reshape(-1, out.shape[-1]),
    }
    if "bias" in layer.params:
        ours["bias"] = np.concatenate([_array(theirs, f"{part}/1").reshape(-1) for part in parts])
        ours["output_bias"] = _array(theirs, "output_dense/1")
    return ours


def _both_ways(layer: Layer, theirs: Arrays) -> dict[str, np.ndarray]:
    ours: dict[str, np.ndarray] = {}
    for name, child in layer.children().items():
        prefix = f"{name}_layer/"
        inside = {k.removeprefix(prefix): v for k, v in theirs.items() if k.startswith(prefix)}
        ours |= {f"{name}.{key}": value for key, value in _recurrent(child, inside).items()}
    return ours


RULES: dict[type[Layer], Rule] = {
    Dense: Rule(("dense",), numbered("weight", "bias")),
    SeparableConvolution: Rule(("separable_conv1d", "separable_conv2d"), _separable),
    TransposedConvolution: Rule(tuple(f"conv{k}d_transpose" for k in (1, 2, 3)), _transposed),
    Convolution: Rule(
        ("conv1d", "conv2d", "conv3d", "depthwise_conv1d", "depthwise_conv2d"), _convolution
    ),
    BatchNorm: Rule(
        ("batch_normalization",), numbered("scale", "shift", "running_mean", "running_variance")
    ),
    LayerNorm: Rule(("layer_normalization",), numbered("scale", "shift")),
    RMSNorm: Rule(("rms_normalization",), numbered("scale")),
    GroupNorm: Rule(("group_normalization",), numbered("scale", "shift")),
    InstanceNorm: Rule(("group_normalization",), numbered("scale", "shift")),
    PReLU: Rule(("p_re_lu",), _slope),
    Embedding: Rule(("embedding",), numbered("weight")),
    MultiHeadAttention: Rule(("multi_head_attention", "grouped_query_attention"), _attention),
    SimpleRNN: Rule(("simple_rnn",), _recurrent),
    LSTM: Rule(("lstm",), _recurrent),
    GRU: Rule(("gru",), _recurrent),
    Bidirectional: Rule(("bidirectional",), _both_ways),
}

KINDS = {kind for rule in RULES.values() for kind in rule.kinds}


def rule_of(layer: Layer) -> Rule | None:
    """The rule for a layer, or None if it has no arrays or Keras does not have it."""
    if isinstance(layer, TiedDense):
        return None
    return next((RULES[kind] for kind in type(layer).__mro__ if kind in RULES), None)
