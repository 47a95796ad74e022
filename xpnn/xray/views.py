"""What was seen of a step: arrays on the host, by layer. Nothing here knows a backend."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from xpnn.backends.portable.windows import Slide

Seen: TypeAlias = np.ndarray | None
"""An array, or None where nothing was handed on."""
AllSeen: TypeAlias = Seen | tuple[Seen, ...]
"""One array, or a tuple of those of several outputs."""


@dataclass(frozen=True)
class LayerInfo:
    """What a layer is, the same in all steps.

    Attributes:
        name: as in ``network.walk()``; where it is called several times, each call is one of these,
            and named: "0.dense, call 2".
        kind: the name of its class.
        text: what makes one like it.
        feeds_from: the names of the layers, or inputs of the network, whose outputs it reads; those
            that a layer around it has made of others are not known.
        inside: the name of the layer that called it; None for those of the network itself.
        forward, backward: the equations of its docstring, a line each.

    >>> import xpnn
    >>> net = xpnn.Network([xpnn.Dense(1)], input_shape=(1,))
    >>> info = xpnn.explain(net, [[1.0]], [[3.0]], "mse").layers[0]
    >>> info.name, info.kind, info.text
    ('0.dense', 'Dense', 'Dense(1)')
    """

    name: str
    kind: str
    text: str
    feeds_from: tuple[str, ...]
    inside: str | None
    forward: tuple[str, ...]
    backward: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class LayerView:
    """One layer, or one of its calls, in one step.

    Attributes:
        name: that of its ``LayerInfo``.
        inputs: Z, of each input, (batch, ...).
        output: S, or f(S), (batch, ...); a tuple where there are several.
        delta: dL/d(output), as it came in; None where nothing came back.
        passed: dL/dZ of each input, as it was handed on; None where there is none, as for ids.
        params: before the update. A layer around it may have put others in their place.
        grads: dL/dparam as ``backward`` left them, of this call: before penalties and clipping.
        updates: the parameters after the step less those before, of all calls together.
        kept: what else ``forward`` keeps: attention maps, gates, masks, statistics.
        windows: of a convolution or a pooling, how its window slides along each axis: ``size``,
            ``stride``, ``dilation``, and ``low``, the padding in front.

    >>> import xpnn
    >>> net = xpnn.Network([xpnn.Dense(1, use_bias=False)], input_shape=(1,))
    >>> net.load({"0.dense.weight": [[2.0]]})
    >>> step = xpnn.explain(net, [[1.0], [2.0]], [[3.0], [6.0]], "mse").steps[0]
    >>> step.layers["0.dense"].output.tolist(), step.layers["0.dense"].delta.tolist()
    ([[2.0], [4.0]], [[-1.0], [-2.0]])
    """

    name: str
    inputs: tuple[np.ndarray, ...]
    output: np.ndarray | tuple[np.ndarray, ...]
    delta: AllSeen
    passed: tuple[Seen, ...]
    params: dict[str, np.ndarray]
    grads: dict[str, np.ndarray]
    updates: dict[str, np.ndarray]
    kept: dict[str, np.ndarray]
    windows: tuple[Slide, ...] = ()


@dataclass(frozen=True, eq=False)
class StepView:
    """One training step.

    Attributes:
        number: counted from 1.
        loss: of the batch before the update, with penalties.
        layers: by name, in the order in which they are called.
        targets: what the loss compared outputs with; a tuple where there are several outputs.

    >>> import xpnn
    >>> net = xpnn.Network([xpnn.Dense(1, use_bias=False)], input_shape=(1,))
    >>> net.load({"0.dense.weight": [[2.0]]})
    >>> step = xpnn.explain(net, [[1.0], [2.0]], [[3.0], [6.0]], "mse").steps[0]
    >>> step.number, step.loss, list(step.layers)
    (1, 2.5, ['0.dense'])
    """

    number: int
    loss: float
    layers: dict[str, LayerView]
    targets: np.ndarray | tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class Record:
    """Steps of one network, and what is the same in all of them.

    Attributes:
        layers: in the order in which they are called.
        steps: in their order.
        inputs: the names of the network's inputs, with "input" in front where a layer has it.
        backend, dtype: those of the network.
        loss_name, optimizer: in words.
        loss_equations: those of its docstring, for the numbers of one output.
    """

    layers: tuple[LayerInfo, ...]
    steps: tuple[StepView, ...]
    inputs: tuple[str, ...]
    backend: str
    dtype: str
    loss_name: str
    optimizer: str
    loss_equations: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The kinds of the network's own layers, in a line."""
        kinds = [one.kind for one in self.layers if one.inside is None]
        kinds = kinds or ["no layers"]
        return ", ".join(kinds if len(kinds) <= 7 else [*kinds[:3], "...", *kinds[-3:]])
