"""Layers of sequences by PyTorch; those of ``layers.py`` that look at steps and their padding."""

import math

import torch
from torch.nn import functional as f

import xpnn.layers as kinds

FAR = -1e30  # added to what attention does not see


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
    Q, K, V = queries_keys_values(twin, name, layer, Z, Z)
    if layer.rotate:
        Q, K = turned(Q), turned(K)
    distances = torch.arange(Z.shape[1])[:, None] - torch.arange(Z.shape[1])
    seen = distances >= 0 if layer.causal else torch.ones_like(distances, dtype=torch.bool)
    seen = seen & (distances < layer.window) if layer.window else seen
    seen = seen if mask is None else seen & mask[:, None, None, :]
    # slopes: of one head 2^-8, of two 2^-4 and 2^-8
    slopes = torch.tensor([2.0 ** (-8 * (h + 1) / layer.heads) for h in range(layer.heads)])
    far = slopes.to(Z.dtype)[:, None, None] * distances.abs() if layer.alibi else 0.0
    return attended(twin, name, Q, K, V, seen, far)


def cross_attention(twin, name, layer, Z, mask):
    """The mask around it is that of its queries, which does not matter."""
    steps, context, *real = Z
    Q, K, V = queries_keys_values(twin, name, layer, steps, context)
    seen = real[0][:, None, None, :] != 0 if real else torch.tensor(True)
    return attended(twin, name, Q, K, V, seen)


def queries_keys_values(twin, name, layer, steps, context):
    """Each (batch, heads, steps, d); the keys and values of a head that several look at, again."""
    features = steps.shape[-1]
    d, key_heads = features // layer.heads, layer.kv_heads or layer.heads
    W, b = twin.array(name, "weight"), twin.array(name, "bias")
    of_context = twin.array(name, "context_weight")
    W, U = (W[:, :features], W[:, features:]) if of_context is None else (W, of_context)
    b, c = (None, None) if b is None else (b[:features], b[features:])
    Q, joint = f.linear(steps, W.T, b), f.linear(context, U.T, c)
    Q, K, V = (one.unflatten(-1, (-1, d)).transpose(1, 2) for one in (Q, *joint.chunk(2, -1)))
    return Q, *(one.repeat_interleave(layer.heads // key_heads, dim=1) for one in (K, V))


def attended(twin, name, Q, K, V, seen, far=0.0):
    """What is not seen has no part; ``far`` is taken from the scores."""
    scores = Q @ K.transpose(-1, -2) / math.sqrt(Q.shape[-1]) - far
    P = torch.where(seen, scores, FAR).softmax(-1) * seen
    A = (P @ V).transpose(1, 2).flatten(-2)
    return f.linear(A, twin.array(name, "output_weight").T, twin.array(name, "output_bias"))


def decoder_block(twin, name, layer, Z, mask):
    steps, context, *real = Z
    mask = real.pop() != 0 if len(real) == 2 else mask
    look, norm, across, _, think = twin.inside(name, layer, Z, mask)
    steps = look(steps)
    steps = steps + across((norm(steps) if layer.norm_first else steps, context, *real))
    return think(steps if layer.norm_first else norm(steps))


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
