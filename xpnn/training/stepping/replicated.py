"""A step of which each process takes some rows: what it has to add up to be that of all of them.

With W_r the weight of the rows of process r among the losses' items::

    value = sum_r W_r / W value_r        dL/dw = sum_r W_r / W dL_r/dw         W = sum_r W_r

which is what one process would make of the whole batch, but for rounding. W follows from targets
and weights alone, so the first delta of each process has its share W_r / W in it, and gradients
are only added up. A process without rows adds zeros.
"""

from functools import partial
from typing import Any

from xpnn.layers import Graph, Layer
from xpnn.layers.replica import Replica
from xpnn.local_rows import LocalRows
from xpnn.network import Network
from xpnn.numerics import widened
from xpnn.training.stepping.accumulation import (
    Gradients,
    Sums,
    each_of,
    mean_or_nan,
    term,
    times,
)
from xpnn.training.stepping.objective import Objective
from xpnn.trees import as_tuple
from xpnn.typing import Array, Arrays, Params, State


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


class Replicated:
    """The gradients of a batch of which this process has some rows, as one would work them out.

    Args:
        one: the gradients of the rows of this process.
        replica: what the layers see of the other processes meanwhile.
    """

    def __init__(self, one: Gradients, objective: Objective, replica: Replica):
        self.one, self.objective, self.replica = one, objective, replica
        self.backend = replica.backend

    def __call__(
        self,
        params: Params,
        state: State,
        x: Arrays,
        y: Arrays,
        weight: Array | None,
        factor: Any,
        rows: tuple[LocalRows, ...],
    ) -> tuple[Sums, Any]:
        """What ``one`` would say of the whole batch, and what that weighs."""
        self.replica.begin(rows)
        try:
            shares, whole = self._shares(y, weight)
            value, grads, after = self.one(params, state, x, y, weight, times(factor, shares))
            value, grads = self._summed(value, grads, shares, whole)
        finally:
            self.replica.end()
        return (value, grads, after), whole

    def _shares(self, y: Arrays, weight: Array | None) -> tuple[Any, Any]:
        """W_r / W, zero where W is zero, and W: of each value, where there are several.

        Where each sample weighs 1 they are numbers, which all processes know; else W is added up.
        """
        own, xp = self.objective.weights(y, weight), self.backend.xp
        if self.objective.counts_samples(weight):
            total = float(self.replica.total)
            return each_of(lambda one: one / total, own), each_of(lambda _: total, own)
        each = self.backend.stack([self.objective.as_weight(one) for one in as_tuple(own)])
        whole = self.replica.all_sum(each)
        shares = each / xp.where(whole > 0, whole, 1.0)
        if not isinstance(own, tuple):
            return shares[0], whole[0]
        return tuple(shares[k] for k in range(len(own))), tuple(whole[k] for k in range(len(own)))

    def _summed(self, value: Any, grads: Params, shares: Any, whole: Any) -> tuple[Any, Params]:
        """The value and the gradients of all: what was not begun with in one flat sum."""
        terms = each_of(partial(term, backend=self.backend), value, shares)
        early = self.replica.early_sums()
        left = {name: grad for name, grad in grads.items() if name not in early}
        wide = [widened(one, self.backend.xp) for one in (*as_tuple(terms), *left.values())]
        sums = self.replica.flat_sums(wide)
        count = len(as_tuple(terms))
        own = [one + 0.0 for one in sums[:count]]  # no view: a value would hold all gradients
        found = tuple(own) if isinstance(terms, tuple) else own[0]
        late = dict(zip(left, sums[count:], strict=True))
        return (
            each_of(partial(mean_or_nan, backend=self.backend), found, whole),
            {name: early[name] if name in early else late[name] for name in grads},
        )
