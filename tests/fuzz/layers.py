"""The layers by PyTorch: functions ``(twin, name, layer, Z, mask)``, each for a kind of layer."""

import math

import torch
from torch.nn import functional as f

import xpnn.layers as kinds
from tests.fuzz.sequences import (
    attention,
    cross_attention,
    decoder_block,
    learned_positions,
    recurrent,
    sinusoidal_positions,
)

# Containers ---------------------------------------------------------------------------------------


def sequential(twin, name, layer, Z, mask):
    for run in twin.inside(name, layer, Z, mask):
        Z = run(Z)
    return Z


def masked(twin, name, layer, Z, mask):
    real = layer.padding != Z
    return sequential(twin, name, layer, Z, real if Z.ndim == 2 else real.any(-1))


def residual(twin, name, layer, Z, mask):
    body, *shortcut = twin.inside(name, layer, Z, mask)
    return body(Z) + (shortcut[0](Z) if shortcut else Z)


def parallel(twin, name, layer, Z, mask):
    outputs = [run(Z) for run in twin.inside(name, layer, Z, mask)]
    return torch.cat(outputs, -1) if layer.merge == "concatenate" else sum(outputs)


def graph(twin, name, layer, Z, mask):
    values, children = (
        list(Z) if len(layer.inputs) > 1 else [Z],
        list(twin.inside(name, layer, Z, mask)),
    )
    for number, sources in layer.calls:
        given = tuple(values[k] for k in sources)
        made = children[number](given if layer.layers[number].arity != 1 else given[0])
        values += made if isinstance(made, tuple) else [made]
    outputs = layer.outputs if isinstance(layer.outputs, tuple) else (layer.outputs,)
    found = tuple(values[k] for k in outputs)
    return found if len(found) > 1 else found[0]


# Joints -------------------------------------------------------------------------------------------


def dot(Z, layer):
    if layer.cosine:
        lengths = [one.square().sum(-1, keepdim=True).clamp(min=1e-14).sqrt() for one in Z]
        Z = [one / length for one, length in zip(Z, lengths, strict=True)]
    equation = "bi,bi->b" if Z[0].ndim == 2 else "bni,bmi->bnm"
    S = torch.einsum(equation, *Z)
    return S[:, None] if Z[0].ndim == 2 else S


def concatenated(Z, layer):
    return torch.cat(Z, layer.axis if layer.axis < 0 else layer.axis + 1)


# Products -----------------------------------------------------------------------------------------


def dense(twin, name, layer, Z, mask):
    return f.linear(Z, twin.array(name, "weight").T, twin.array(name, "bias"))


def weight_norm(twin, name, layer, Z, mask):
    full = f"{name}.layer.weight"
    v = twin.params[full]
    axes = tuple(range(v.ndim - 1))
    twin.params[full] = twin.array(name, "length") * v / v.norm(dim=axes)
    try:
        return next(twin.inside(name, layer, Z, mask))(Z)
    finally:
        twin.params[full] = v


def tied_dense(twin, name, layer, Z, mask):
    source = twin.names[id(layer.source)]
    return f.linear(Z, twin.array(source, "weight"), twin.array(name, "bias"))


def embedding(twin, name, layer, Z, mask):
    return f.embedding(Z.long(), twin.array(name, "weight"))


def padding_of(layer, lengths, spans, axis):
    """Entries before and behind the axis."""
    padding = layer.padding
    padding = padding if isinstance(padding, str) else padding[axis]
    if padding == "same":
        stride, length = layer.stride[axis], lengths[axis]
        more = max((math.ceil(length / stride) - 1) * stride + spans[axis] - length, 0)
        return more // 2, more - more // 2
    return (0, 0) if isinstance(padding, str) else (padding, padding)


def padded(layer, Z, spans, value=0.0):
    """Channels first, and padded as the layer says."""
    Z = Z.movedim(-1, 1)
    pads = [padding_of(layer, Z.shape[2:], spans, axis) for axis in range(Z.ndim - 2)]
    return f.pad(Z, [n for pair in reversed(pads) for n in pair], value=value)


def convolution(twin, name, layer, Z, mask):
    spans = [(k - 1) * d + 1 for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    kernel = twin.array(name, "weight").movedim((-1, -2), (0, 1)).contiguous()
    run = getattr(f, f"conv{layer.axes}d")
    options = {"stride": layer.stride, "dilation": layer.dilation, "groups": layer.groups}
    S = run(padded(layer, Z, spans), kernel, twin.array(name, "bias"), **options)
    return S.movedim(1, -1)


def separable(twin, name, layer, Z, mask):
    spans = [(k - 1) * d + 1 for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    V, W = (twin.array(name, f"{kind}wise_weight") for kind in ("depth", "point"))
    run, options = getattr(f, f"conv{layer.axes}d"), {"groups": Z.shape[-1]}
    options |= {"stride": layer.stride, "dilation": layer.dilation}
    D = run(padded(layer, Z, spans), V.movedim((-1, -2), (0, 1)).contiguous(), None, **options)
    return f.linear(D.movedim(1, -1), W.flatten(0, -2).T, twin.array(name, "bias"))


def transposed(twin, name, layer, Z, mask):
    spans = [(k - 1) * d + 1 for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    W = twin.array(name, "weight")  # (*window, inputs / groups, filters)
    blocks = torch.stack(W.chunk(layer.groups, dim=-1))
    kernel = blocks.movedim((-2, -1), (1, 2)).flatten(0, 1)  # (inputs, filters / groups, ...)
    kernel = kernel.contiguous()
    run = getattr(f, f"conv_transpose{layer.axes}d")
    options = {"stride": layer.stride, "dilation": layer.dilation, "groups": layer.groups}
    S = run(Z.movedim(-1, 1), kernel, **options)
    for axis, (span, stride) in enumerate(zip(spans, layer.stride, strict=True)):
        positions, more = Z.shape[1 + axis], layer.output_padding[axis]
        padding = layer.padding if isinstance(layer.padding, str) else layer.padding[axis]
        low = 0 if isinstance(padding, str) else padding
        length = (positions - 1) * stride + span - 2 * low
        if padding == "same":
            length, low = positions * stride, max(span - stride, 0) // 2
        length += more
        shape = list(S.shape)
        shape[2 + axis] = max(0, low + length - shape[2 + axis])
        S = torch.cat([S, S.new_zeros(shape)], 2 + axis).narrow(2 + axis, low, length)
    bias = twin.array(name, "bias")
    S = S.movedim(1, -1)
    return S if bias is None else S + bias


# Pools --------------------------------------------------------------------------------------------


def max_pool(twin, name, layer, Z, mask):
    run = getattr(f, f"max_pool{layer.axes}d")
    Z = padded(layer, Z, layer.pool_size, -math.inf)
    return run(Z, layer.pool_size, layer.stride).movedim(1, -1)


def average_pool(twin, name, layer, Z, mask):
    run = getattr(f, f"avg_pool{layer.axes}d")

    def sums(Z):
        means = run(padded(layer, Z, layer.pool_size), layer.pool_size, layer.stride)
        return means.movedim(1, -1) * math.prod(layer.pool_size)

    counts = math.prod(layer.pool_size) if layer.count_padding else sums(torch.ones_like(Z))
    return sums(Z) / counts


def global_average(twin, name, layer, Z, mask):
    return Z.mean(tuple(range(1, Z.ndim - 1)))


def global_max(twin, name, layer, Z, mask):
    return Z.flatten(1, -2).max(1).values


# Resizing -----------------------------------------------------------------------------------------


def each_axis(option, axes):
    return option if isinstance(option, tuple) else (option,) * axes


def framed(sign):
    def run(twin, name, layer, Z, mask):
        pairs = [each_axis(side, 2) for side in each_axis(layer.sides, Z.ndim - 2)]
        return f.pad(Z, [0, 0, *(sign * n for pair in reversed(pairs) for n in pair)])

    return run


def up_sampled(twin, name, layer, Z, mask):
    axes, linear = Z.ndim - 2, ("linear", "bilinear", "trilinear")
    mode = linear[axes - 1] if layer.mode == "linear" else "nearest"
    factor = [float(n) for n in each_axis(layer.factor, axes)]
    return f.interpolate(Z.movedim(-1, 1), scale_factor=factor, mode=mode).movedim(1, -1)


def shuffled(twin, name, layer, Z, mask):
    """One axis after another, the last one first: its factor counts fastest."""
    factors = each_axis(layer.factor, Z.ndim - 2)
    for axis in reversed(range(len(factors))):
        Z = Z.unflatten(-1, (-1, factors[axis])).movedim(-1, axis + 2).flatten(axis + 1, axis + 2)
    return Z


def adaptive(twin, name, layer, Z, mask):
    run = getattr(f, f"adaptive_avg_pool{Z.ndim - 2}d")
    return run(Z.movedim(-1, 1), each_axis(layer.size, Z.ndim - 2)).movedim(1, -1)


# Norms --------------------------------------------------------------------------------------------


def batch_norm(twin, name, layer, Z, mask):
    mean, variance = (twin.state[f"{name}.running_{key}"] for key in ("mean", "variance"))
    S = f.batch_norm(
        Z.movedim(-1, 1), mean, variance, twin.array(name, "scale"), twin.array(name, "shift"),
        twin.training, layer.momentum, layer.epsilon,
    )  # fmt: skip
    return S.movedim(1, -1)


def layer_norm(twin, name, layer, Z, mask):
    scale, shift = twin.array(name, "scale"), twin.array(name, "shift")
    return f.layer_norm(Z, Z.shape[-1:], scale, shift, layer.epsilon)


def rms_norm(twin, name, layer, Z, mask):
    return f.rms_norm(Z, Z.shape[-1:], twin.array(name, "scale"), layer.epsilon)


def group_norm(twin, name, layer, Z, mask):
    # not by f.group_norm, which crashes where its input needs no gradient (PyTorch 2.13)
    cut = Z.reshape(Z.shape[0], -1, layer.groups, Z.shape[-1] // layer.groups)
    variance, mean = torch.var_mean(cut, (1, 3), correction=0, keepdim=True)
    X = ((cut - mean) / torch.sqrt(variance + layer.epsilon)).reshape(Z.shape)
    return X * twin.array(name, "scale") + twin.array(name, "shift")


def instance_norm(twin, name, layer, Z, mask):
    positions = tuple(range(1, Z.ndim - 1))
    variance, mean = torch.var_mean(Z, positions, correction=0, keepdim=True)
    X = (Z - mean) / torch.sqrt(variance + layer.epsilon)
    return X * twin.array(name, "scale") + twin.array(name, "shift")


def standardize(twin, name, layer, Z, mask):
    mean, variance = (twin.state[f"{name}.{key}"] for key in ("mean", "variance"))
    return (Z - mean) / torch.where(variance > 0, variance.sqrt(), 1.0)


# Elementwise --------------------------------------------------------------------------------------


def prelu(twin, name, layer, Z, mask):
    return torch.where(Z > 0, Z, twin.array(name, "slope") * Z)


def swiglu(Z, layer):
    gate, value = Z.chunk(2, -1)
    return f.silu(gate) * value


def plain(function):
    return lambda twin, name, layer, Z, mask: function(Z, layer)


same = plain(lambda Z, layer: Z)
RULES = {
    kinds.Sequential: sequential,
    kinds.Recompute: sequential,
    kinds.Masked: masked,
    kinds.Residual: residual,
    kinds.Parallel: parallel,
    kinds.Graph: graph,
    kinds.Add: plain(lambda Z, layer: sum(Z)),
    kinds.Average: plain(lambda Z, layer: sum(Z) / len(Z)),
    kinds.Subtract: plain(lambda Z, layer: Z[0] - Z[1]),
    kinds.Multiply: plain(lambda Z, layer: math.prod(Z)),
    kinds.Concatenate: plain(concatenated),
    kinds.Dot: plain(dot),
    kinds.Dense: dense,
    kinds.TiedDense: tied_dense,
    kinds.WeightNorm: weight_norm,
    kinds.Embedding: embedding,
    **dict.fromkeys((kinds.Conv1D, kinds.Conv2D, kinds.Conv3D), convolution),
    **dict.fromkeys((kinds.SeparableConv1D, kinds.SeparableConv2D), separable),
    kinds.ConvTranspose1D: transposed,
    kinds.ConvTranspose2D: transposed,
    kinds.ConvTranspose3D: transposed,
    **dict.fromkeys((kinds.MaxPool1D, kinds.MaxPool2D, kinds.MaxPool3D), max_pool),
    kinds.AveragePool1D: average_pool,
    kinds.AveragePool2D: average_pool,
    kinds.AveragePool3D: average_pool,
    kinds.GlobalAveragePool: global_average,
    kinds.GlobalMaxPool: global_max,
    kinds.ZeroPadding: framed(1),
    kinds.Cropping: framed(-1),
    kinds.UpSampling: up_sampled,
    kinds.PixelShuffle: shuffled,
    kinds.AdaptiveAveragePool: adaptive,
    kinds.BatchNorm: batch_norm,
    kinds.LayerNorm: layer_norm,
    kinds.RMSNorm: rms_norm,
    kinds.GroupNorm: group_norm,
    kinds.InstanceNorm: instance_norm,
    kinds.Standardize: standardize,
    kinds.Recurrent: recurrent,
    kinds.MultiHeadAttention: attention,
    kinds.CrossAttention: cross_attention,
    kinds.TransformerDecoderBlock: decoder_block,
    kinds.PaddingMask: plain(lambda Z, layer: (layer.padding != Z).double()),
    kinds.LearnedPositions: learned_positions,
    kinds.SinusoidalPositions: sinusoidal_positions,
    kinds.Dropout: same,  # which are off
    kinds.SpatialDropout: same,
    kinds.AlphaDropout: same,
    kinds.GaussianNoise: same,
    kinds.RandomFlip: same,
    kinds.RandomShift: same,
    kinds.RandomCrop: same,
    kinds.Cutout: same,
    kinds.Identity: same,
    kinds.Flatten: plain(lambda Z, layer: Z.flatten(1)),
    kinds.Reshape: plain(lambda Z, layer: Z.reshape(Z.shape[0], *layer.shape)),
    kinds.Permute: plain(lambda Z, layer: Z.permute(0, *layer.axes)),
    kinds.Repeat: plain(lambda Z, layer: torch.stack([Z] * layer.times, 1)),
    kinds.Sigmoid: plain(lambda Z, layer: Z.sigmoid()),
    kinds.Tanh: plain(lambda Z, layer: Z.tanh()),
    kinds.ReLU: plain(lambda Z, layer: Z.relu()),
    kinds.LeakyReLU: plain(lambda Z, layer: f.leaky_relu(Z, layer.negative_slope)),
    kinds.PReLU: prelu,
    kinds.Mish: plain(lambda Z, layer: f.mish(Z)),
    kinds.HardSwish: plain(lambda Z, layer: f.hardswish(Z)),
    kinds.Lambda: plain(lambda Z, layer: Z.sin()),  # the only function that is drawn
    kinds.GLU: plain(lambda Z, layer: f.glu(Z)),
    kinds.SwiGLU: plain(swiglu),
    kinds.Maxout: plain(lambda Z, layer: Z.unflatten(-1, (-1, layer.pieces)).max(-1).values),
    kinds.ELU: plain(lambda Z, layer: f.elu(Z, layer.alpha)),
    kinds.SELU: plain(lambda Z, layer: f.selu(Z)),
    kinds.SiLU: plain(lambda Z, layer: f.silu(Z)),
    kinds.Softplus: plain(lambda Z, layer: torch.logaddexp(Z, torch.zeros_like(Z))),
    kinds.GELU: plain(lambda Z, layer: f.gelu(Z, approximate=layer.approximate)),
    kinds.Softmax: plain(lambda Z, layer: Z.softmax(-1)),
}
