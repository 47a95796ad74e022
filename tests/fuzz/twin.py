"""A network's twin in PyTorch: the same arrays, worked out by torch's functions, with autograd.

Of the layers only what they were made with is read: their arguments and the names of their arrays.
"""

import math

import numpy as np
import torch
from torch.nn import functional as f

import xpnn.layers as kinds
from xpnn import L1, L2, ClipByGlobalNorm, ClipByValue, MaxNorm
from xpnn.optimizers import RMSprop, matrices_only
from xpnn.trees import as_tuple, one_or_tuple

FAR = -1e30  # added to what attention does not see


class Twin:
    """Has the parameters of a network as leaves of autograd, and steps by torch.optim.

    Args:
        network: its arrays are copied, its layers are only read.
        loss: ``(predictions, targets, weight) -> value``.
        optimizer: of xpnn, whose numbers are taken over, or None.
    """

    def __init__(self, network, loss, optimizer=None):
        self.network, self.loss = network, loss
        arrays = network.numpy_arrays()
        self.layers = dict(network.walk())
        self.names = {id(layer): name for name, layer in self.layers.items()}
        self.state = {k: torch.tensor(arrays[k]) for k in network.state}
        self.params = {k: torch.tensor(arrays[k], requires_grad=True) for k in network.params}
        self.trained = [name for name in self.params if not self._is_frozen(name)]
        self.clip = None if optimizer is None else optimizer.clip
        self.optimizer = None if optimizer is None or not self.trained else self._made(optimizer)

    def load(self, arrays):
        """Take over other values."""
        with torch.no_grad():
            for name, param in self.params.items():
                param.copy_(torch.tensor(arrays[name]))

    def _is_frozen(self, name):
        return any(
            not layer.trainable
            for outer, layer in self.layers.items()
            if not outer or name.startswith(f"{outer}.")
        )

    # Training -------------------------------------------------------------------------------------

    def passes(self, x, y, weight):
        """Output, loss, and gradients of all parameters and of the input."""
        x = torch.tensor(x, requires_grad=x.dtype.kind == "f")
        for param in self.params.values():
            param.grad = None
        output, value = self._loss(x, y, weight)
        if value.requires_grad:  # not where there is nothing to learn
            value.backward()
        found = {name: _grad(param) for name, param in self.params.items()}
        found |= {"input": x.grad.numpy()} if x.requires_grad else {}
        return {**found, "output": output.detach().numpy(), "loss": value.item()}

    def measure(self, x, y, weight):
        """In prediction mode, the output and the loss."""
        with torch.no_grad():
            output, value = self._loss(x, y, weight, training=False)
        return {"output": output.numpy()}, {"loss": value.item()}

    def way_back(self, x, deltas):
        """Outputs, and what comes back of deltas to inputs and parameters; the state behind it."""
        x = [torch.tensor(one, requires_grad=one.dtype.kind == "f") for one in x]
        for param in self.params.values():
            param.grad = None
        outputs = as_tuple(self.forward(one_or_tuple(x), training=True))
        pairs = zip(outputs, deltas, strict=True)
        value = sum((one * torch.tensor(delta)).sum() for one, delta in pairs)
        if value.requires_grad:
            value.backward()
        found = {name: _grad(self.params[name]) for name in self.params}
        found |= {f"input {k}": _grad(one) for k, one in enumerate(x) if one.requires_grad}
        found |= {f"output {k}": one.detach().numpy() for k, one in enumerate(outputs)}
        return found | {name: one.numpy().copy() for name, one in self.state.items()}

    def outputs(self, x):
        """In prediction mode."""
        with torch.no_grad():
            found = self.forward(one_or_tuple([torch.tensor(one) for one in x]))
        return [one.numpy() for one in as_tuple(found)]

    def _loss(self, x, y, weight, training=True):
        output = self.forward(torch.as_tensor(x), training)
        weight = None if weight is None else torch.tensor(weight)
        return output, self.loss(output, torch.tensor(y), weight)

    def step(self, x, y, weight):
        """One step with penalties, limits and constraints; returns the loss."""
        for param in self.params.values():
            param.grad = None
        _, value = self._loss(x, y, weight)
        for name, rule in self._rules():
            w = self.params[name]
            if isinstance(rule, L1):
                value = value + rule.strength * w.abs().sum()
            elif isinstance(rule, L2):
                value = value + rule.strength / 2 * (w * w).sum()
        if value.requires_grad:  # not where there is nothing to learn
            value.backward()
        self._limit()
        if self.optimizer is not None:
            torch.set_default_dtype(torch.float64)  # that of NAdam's products
            self.optimizer.step()
            torch.set_default_dtype(torch.float32)
        for name, rule in self._rules():
            if isinstance(rule, MaxNorm):
                self._shorten(self.params[name], rule)
        return value.item()

    def _rules(self):
        for name in self.trained:
            layer, _, _ = name.rpartition(".")
            if self.params[name].ndim > 1:
                yield from ((name, rule) for rule in self.layers[layer].regularizers)

    def _limit(self):
        grads = [self.params[name].grad for name in self.trained]
        grads = [grad for grad in grads if grad is not None]
        if isinstance(self.clip, ClipByGlobalNorm) and grads:
            length = math.sqrt(sum((grad * grad).sum().item() for grad in grads))
            for grad in grads:
                grad *= min(1.0, self.clip.limit / length) if length else 1.0
        if isinstance(self.clip, ClipByValue):
            for grad in grads:
                grad.clamp_(-self.clip.limit, self.clip.limit)

    def _shorten(self, w, rule):
        with torch.no_grad():
            axes = [axis for axis in range(w.ndim) if axis != rule.axis % w.ndim]
            length = (w * w).sum(axes, keepdim=True).sqrt()
            w *= torch.where(length > rule.limit, rule.limit / length, 1.0)

    def _made(self, ours):
        """The optimizer of torch.optim."""
        numbers = dict(ours.hyper)
        decay = numbers.pop("weight_decay")
        options = {"lr": numbers.pop("rate")}
        if "beta1" in numbers:
            options["betas"] = numbers.pop("beta1"), numbers.pop("beta2")
        theirs = {"epsilon": "eps"}
        if isinstance(ours, RMSprop):
            theirs["rho"] = "alpha"
        options |= {theirs.get(name, name): value for name, value in numbers.items()}
        if getattr(ours, "nesterov", False):
            options["nesterov"] = True
        groups = [
            {
                "params": [
                    self.params[k] for k in self.trained if (self.params[k].ndim > 1) == wide
                ],
                "weight_decay": decay if wide or ours.decays is not matrices_only else 0.0,
            }
            for wide in (False, True)
        ]
        groups = [group for group in groups if group["params"]]
        return getattr(torch.optim, type(ours).__name__)(groups, **options)

    # Layers ---------------------------------------------------------------------------------------

    def forward(self, x, training=False):
        self.training = training
        return self._run("", self.network.root, x, None)

    def _run(self, name, layer, Z, mask):
        """The output of a layer; ``mask`` is True at the steps that are no padding."""
        for kind in type(layer).__mro__:
            if kind in RULES:
                return RULES[kind](self, name, layer, Z, mask)
        raise NotImplementedError(f"no twin of {layer!r}")

    def array(self, name, key):
        return self.params.get(f"{name}.{key}" if name else key)

    def inside(self, name, layer, Z, mask):
        """A function for each layer inside, from its input to its output."""
        for key, child in layer.children().items():
            yield lambda z, key=key, child=child: self._run(
                f"{name}.{key}" if name else key, child, z, mask
            )


def _grad(param):
    return np.zeros(param.shape) if param.grad is None else param.grad.numpy().copy()


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


# Sequences ----------------------------------------------------------------------------------------


def rnn_step(layer, P, U, h, c):
    S = P + U
    return (torch.tanh(S) if layer.activation == "tanh" else torch.relu(S)), c


def lstm_step(layer, P, U, h, c):
    i, to_forget, g, o = (P + U).chunk(4, -1)
    c = to_forget.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def gru_step(layer, P, U, h, c):
    (P_r, P_z, P_n), (U_r, U_z, U_n) = P.chunk(3, -1), U.chunk(3, -1)
    r, z = (P_r + U_r).sigmoid(), (P_z + U_z).sigmoid()
    return (1 - z) * (P_n + r * U_n).tanh() + z * h, c


STEPS = {kinds.SimpleRNN: rnn_step, kinds.LSTM: lstm_step, kinds.GRU: gru_step}


def recurrent(twin, name, layer, Z, mask):
    W, R = twin.array(name, "weight"), twin.array(name, "recurrent_weight")
    b, q = twin.array(name, "bias"), twin.array(name, "recurrent_bias")
    h = c = Z.new_zeros(Z.shape[0], layer.units)
    outputs = [h] * Z.shape[1]
    order = range(Z.shape[1])[:: -1 if layer.reverse else 1]
    for count, t in enumerate(order):
        if layer.truncate and count % layer.truncate == 0:
            h, c = h.detach(), c.detach()
        new = STEPS[type(layer)](layer, f.linear(Z[:, t], W.T, b), f.linear(h, R.T, q), h, c)
        outputs[t] = new[0]
        if mask is not None:
            real = mask[:, t, None]
            outputs[t] = torch.where(real, new[0], 0.0)
            new = [torch.where(real, *pair) for pair in zip(new, (h, c), strict=True)]
        h, c = new
    return torch.stack(outputs, 1) if layer.return_sequences else h


def turned(x):
    """Rotary positions: halves are the coordinates of points (Su et al., 2021)."""
    time, features = x.shape[-2:]
    pace = 10_000.0 ** (-2 * torch.arange(features // 2, dtype=x.dtype) / features)
    points = torch.complex(x[..., : features // 2], x[..., features // 2 :])
    angles = torch.arange(time, dtype=x.dtype)[:, None] * pace
    points = points * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([points.real, points.imag], -1)


def attention(twin, name, layer, Z, mask):
    joint = f.linear(Z, twin.array(name, "weight").T, twin.array(name, "bias"))
    d, key_heads = Z.shape[-1] // layer.heads, layer.kv_heads or layer.heads
    parts = joint.split([Z.shape[-1], d * key_heads, d * key_heads], -1)
    Q, K, V = (part.unflatten(-1, (-1, d)).transpose(1, 2) for part in parts)
    if layer.rotate:
        Q, K = turned(Q), turned(K)
    K, V = (one.repeat_interleave(layer.heads // key_heads, dim=1) for one in (K, V))
    distances = torch.arange(Z.shape[1])[:, None] - torch.arange(Z.shape[1])
    seen = distances >= 0 if layer.causal else torch.ones_like(distances, dtype=torch.bool)
    seen = seen & (distances < layer.window) if layer.window else seen
    seen = seen if mask is None else seen & mask[:, None, None, :]
    scores = Q @ K.transpose(-1, -2) / math.sqrt(Q.shape[-1])
    if layer.alibi:  # of one head 2^-8, of two 2^-4 and 2^-8
        slopes = [2.0 ** (-8 * (h + 1) / layer.heads) for h in range(layer.heads)]
        scores = scores - torch.tensor(slopes, dtype=Z.dtype)[:, None, None] * distances.abs()
    P = torch.where(seen, scores, FAR).softmax(-1) * seen
    A = (P @ V).transpose(1, 2).flatten(-2)
    return f.linear(A, twin.array(name, "output_weight").T, twin.array(name, "output_bias"))


def learned_positions(twin, name, layer, Z, mask):
    return Z + twin.array(name, "weight")[: Z.shape[1]]


def sinusoidal_positions(twin, name, layer, Z, mask):
    time, features = Z.shape[1:]
    waves = torch.zeros(time, features, dtype=Z.dtype)
    for t in range(time):
        for i in range(0, features, 2):
            angle = t / layer.base ** (i / features)
            waves[t, i], waves[t, i + 1] = math.sin(angle), math.cos(angle)
    return Z + waves


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
