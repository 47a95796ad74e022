"""Which process keeps the optimizer's slots of which parameter, and updates it.

Each parameter has one owner (Rajbhandari et al., 2020, section 5.1, the first stage, by whole
parameters): it has the slots, updates the parameter from gradients that all have, and the others
get it by one more sum, in which they have zeros.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from xpnn.backends import Communicator
from xpnn.layers.replica import Replica
from xpnn.network import Network
from xpnn.numerics import widened
from xpnn.optimizers import Optimizer
from xpnn.typing import OptState, Params


def owned(params: Mapping[str, Any], communicator: Communicator) -> set[str]:
    """The names of those that this process owns: the next largest one goes to who has least."""
    sizes = {name: math.prod(one.shape) for name, one in params.items()}
    held, own = [0] * communicator.size, set()
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        owner = held.index(min(held))
        held[owner] += sizes[name]
        if owner == communicator.rank:
            own.add(name)
    return own


def gathered(updated: Params, own: set[str], replica: Replica) -> Params:
    """All parameters as their owners have them."""
    xp = replica.backend.xp
    given = {n: one if n in own else xp.zeros_like(one) for n, one in updated.items()}
    sums = replica.flat_sums([widened(one, xp) for one in given.values()])
    replica.end()
    return {
        name: xp.astype(total, updated[name].dtype, copy=False)
        for name, total in zip(given, sums, strict=True)
    }


def whole_slots(
    opt_state: OptState, optimizer: Optimizer, network: Network, communicator: Communicator
) -> OptState:
    """The optimizer's state with the slots of all parameters, on the host; to be called by all.

    One slot after another is added up; a process that writes no file keeps none of those that are
    not its own.
    """
    backend = network.backend
    wide = np.float64 if network.dtype == "float64" else np.float32
    whole: OptState = {**opt_state, **{slot: {} for slot in optimizer.slots}}
    for slot in optimizer.slots:
        own = opt_state[slot]
        for name, param in network.params.items():
            shape = optimizer.slots_of(name, param).get(slot)
            if shape is None:
                continue
            given = backend.to_numpy(own[name]) if name in own else np.zeros(shape, wide)
            found = np.asarray(communicator.all_sum(given))
            if communicator.is_first:
                whole[slot][name] = found
    return whole


def own_slots(opt_state: OptState, optimizer: Optimizer, own: set[str]) -> OptState:
    """The optimizer's state, of whose slots those of other processes are left out."""
    slots = {
        slot: {name: one for name, one in opt_state[slot].items() if name in own}
        for slot in optimizer.slots
    }
    return {**opt_state, **slots}
