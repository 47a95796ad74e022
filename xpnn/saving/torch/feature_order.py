"""In which order PyTorch counts the features behind a Flatten, where channels lie first there."""

import math
from dataclasses import dataclass, field

import numpy as np

from xpnn.errors import XpnnError
from xpnn.layers import (
    BatchNorm,
    Dense,
    Layer,
    LayerNorm,
    Maxout,
    Parallel,
    Permute,
    PReLU,
    Reshape,
    Residual,
    RMSNorm,
    Sequential,
    TransformerBlock,
    WeightNorm,
)
from xpnn.layers.gated import Gated
from xpnn.layers.sliding.convolution import KernelLayer
from xpnn.layers.sliding.pooling import GlobalPooling, Pooling
from xpnn.layers.sliding.resizing import Resizing


@dataclass
class Flow:
    """What is known of the features on their way through a network that is built.

    Attributes:
        channels_first: whether they lie as images there: channels first.
        order: for flat features, which one of ours each of theirs is; None where that is the same.
        unfolded: whether flat features that layers have made became images, in an order that
            depends on what their network does.
        learned: whether there was a layer with parameters.
        found: orders by the name of the layer whose parameters go by them.
    """

    channels_first: bool = False
    order: np.ndarray | None = None
    unfolded: bool = False
    learned: bool = False
    found: dict[str, np.ndarray] = field(default_factory=dict)

    def through(self, layer: Layer, name: str) -> None:
        """Follow the features through a layer, and through those inside of it."""
        if isinstance(layer, Parallel | Residual):
            self._through_branches(layer, name)
        elif isinstance(layer, Sequential) and not isinstance(layer, TransformerBlock):
            for key, inside in layer.children().items():
                self.through(inside, f"{name}.{key}" if name else key)
        elif isinstance(layer, WeightNorm):
            self.through(layer.layer, f"{name}.layer")
        elif isinstance(layer, Reshape):
            self._through_reshape(layer, name)
        elif isinstance(layer, KernelLayer | Pooling | Resizing):
            if self.unfolded and layer.input_shape and layer.input_shape[-1] > 1:
                raise _unclear(name, "turns features that were learned into channels of images")
            self.channels_first, self.order, self.unfolded = True, None, False
        elif isinstance(layer, GlobalPooling):
            self.channels_first, self.unfolded = False, False
        elif self.order is not None and isinstance(layer, Gated | Maxout):
            raise _unclear(name, "joins features of what a Flatten made of images")
        elif self.channels_first and isinstance(layer, Permute):
            raise _unclear(name, "turns images")
        elif self.order is not None and layer.params:
            self._through_flat(layer, name)
        self.learned = self.learned or any(one.params for _, one in layer.walk())

    def _through_flat(self, layer: Layer, name: str) -> None:
        if isinstance(layer, PReLU) and layer.shared:  # a single number
            return
        if not isinstance(layer, Dense | BatchNorm | LayerNorm | RMSNorm | PReLU):
            raise _unclear(name, "reads what a Flatten made of images")
        assert self.order is not None
        self.found[name] = self.order
        if isinstance(layer, Dense):
            self.order = None

    def _through_reshape(self, layer: Reshape, name: str) -> None:
        shape = layer.input_shape
        assert shape is not None
        flat = len(layer.output_shape(shape)) == 1
        if self.channels_first and flat and len(shape) > 1:
            ours = np.arange(math.prod(shape)).reshape(shape)
            self.order = np.moveaxis(ours, -1, 0).reshape(-1)
        elif self.order is not None and not flat:
            raise _unclear(name, "unfolds what a Flatten made of images")
        self.unfolded = self.learned and not flat and len(shape) == 1
        self.channels_first = False

    def _through_branches(self, layer: Parallel | Residual, name: str) -> None:
        ends = []
        for key, inside in layer.children().items():
            branch = Flow(self.channels_first, self.order, self.unfolded, self.learned, self.found)
            branch.through(inside, f"{name}.{key}")
            ends.append(branch)
        if isinstance(layer, Residual) and layer.shortcut is None:
            ends.append(Flow(self.channels_first, self.order, self.unfolded))
        first = ends[0]
        joined = isinstance(layer, Parallel) and layer.merge == "concatenate" and len(ends) > 1
        flat = first.order is not None
        if (flat and joined) or not all(_same_order(end.order, first.order) for end in ends):
            raise _unclear(name, "joins what a Flatten made of images with other features")
        self.order = first.order
        self.channels_first = any(end.channels_first for end in ends)
        self.unfolded = any(end.unfolded for end in ends)
        if self.channels_first and self.unfolded:
            raise _unclear(name, "joins images with features that were learned")


def _same_order(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)


def _unclear(name: str, does: str) -> XpnnError:
    return XpnnError(
        f"layer {name!r} {does}, in an order that PyTorch's file does not tell; convert this "
        f"network by hand, see network.load"
    )


def feature_orders(root: Layer) -> dict[str, np.ndarray]:
    """Orders by the name of the layer whose parameters go by them.

    Raises:
        XpnnError: a layer sees features in an order that cannot be told.
    """
    flow = Flow()
    flow.through(root, "")
    return flow.found
