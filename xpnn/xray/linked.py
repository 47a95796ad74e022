"""The guide's linked layers as a network and an optimizer, whose step is their ``backprop``."""

from xpnn.guide import InputLayer, LinkedLayer, OutputLayer
from xpnn.layers import Sequential
from xpnn.moving import copy_with_values
from xpnn.network import Network
from xpnn.optimizers import SGD


def network_of(last: OutputLayer) -> Network:
    """A network with the values of linked layers as they are now, from the input to this one."""
    first, path = _path_to(last)
    layers = [part for layer in path for part in (layer.dense, layer.activation)]
    root = copy_with_values(Sequential(layers))
    shape = (first.units,)
    return Network(root.layers, shape, last.backend, seed=last.seed, dtype=last.dtype)


def descent_of(last: OutputLayer) -> SGD:
    """Gradient descent at the rates that linked layers have.

    On the quadratic cost, a mean over the batch, it does what ``backprop`` does.
    """
    _, path = _path_to(last)
    rates = [layer.learning_rate for layer in path]
    if len({*rates}) == 1:
        return SGD(rates[0])
    return SGD(1.0, factors={f"{2 * k}.*": rate for k, rate in enumerate(rates)})


def _path_to(last: OutputLayer) -> tuple[InputLayer, list[LinkedLayer]]:
    """The layer with the data, and those behind it, up to the last one."""
    path: list[LinkedLayer] = []
    layer: InputLayer | LinkedLayer = last
    while isinstance(layer, LinkedLayer):
        path.insert(0, layer)
        layer = layer.upper_layer
    return layer, path
