"""A step of which each process takes some rows: what it has to add up to be that of all of them.

With W_r the weight of the rows of process r among the losses' items::

    value = sum_r W_r / W value_r        dL/dw = sum_r W_r / W dL_r/dw         W = sum_r W_r

which is what one process would make of the whole batch, but for rounding. W follows from targets
and weights alone, so the first delta of each process has its share W_r / W in it, and gradients
are only added up. A process without rows adds zeros.
"""

from typing import Any

from xpnn.layers import Graph, Layer
from xpnn.layers.replica import Replica
from xpnn.network import Network
from xpnn.numerics import widened
from xpnn.training.stepping.accumulation import each_of, mean_or_nan, term
from xpnn.training.stepping.objective import Objective
from xpnn.trees import as_tuple
from xpnn.typing import Array, Arrays, Params


def settled_by_backward(network: Network) -> dict[tuple[Layer, str], str]:
    """The gradients that nothing is added to once backward has passed their layer, by name.

    Others are of arrays that are tied, or of layers that a graph calls several times.
    """
    again = {
        inner
        for layer in network.all_layers
        if isinstance(layer, Graph)
        for step in layer.steps
        if step.is_shared
        for _, inner in step.layer.walk()
    }
    tied = {one for layer in network.all_layers if layer.ties for one in layer.ties.values()}
    trainable = network.trainable()
    return {
        (layer, key): f"{name}.{key}"
        for name, layer in network.walk()
        if layer not in again | tied
        for key in layer.params
        if f"{name}.{key}" in trainable
    }


def shares_of(
    objective: Objective, replica: Replica, y: Arrays, weight: Array | None
) -> tuple[Any, Any]:
    """W_r / W, zero where W is zero, and W: of each value, where there are several.

    Where each sample weighs 1 they are numbers, which all processes know; else W is added up.
    """
    own = objective.weights(y, weight)
    if objective.counts_samples(weight):
        total = float(replica.total)
        return each_of(lambda one: one / total, own), each_of(lambda _: total, own)
    backend = objective.network.backend
    xp = backend.xp
    each = backend.stack([objective.as_weight(one) for one in as_tuple(own)])
    whole = replica.all_sum(each)
    shares = each / xp.where(whole > 0, whole, 1.0)
    if not isinstance(own, tuple):
        return shares[0], whole[0]
    return tuple(shares[k] for k in range(len(own))), tuple(whole[k] for k in range(len(own)))


def summed(
    value: Any, grads: Params, shares: Any, whole: Any, replica: Replica
) -> tuple[Any, Params]:
    """The value and the gradients of all processes: what was not begun with in one flat sum."""
    backend = replica.backend
    terms = each_of(lambda one, share: term(one, share, backend), value, shares)
    early = replica.early_sums()
    left = {name: grad for name, grad in grads.items() if name not in early}
    wide = [widened(one, backend.xp) for one in (*as_tuple(terms), *left.values())]
    sums = replica.flat_sums(wide)
    count = len(as_tuple(terms))
    found = tuple(sums[:count]) if isinstance(terms, tuple) else sums[0]
    found = each_of(lambda one, all_of_it: mean_or_nan(one, all_of_it, backend), found, whole)
    late = dict(zip(left, sums[count:], strict=True))
    return found, {name: early[name] if name in early else late[name] for name in grads}
