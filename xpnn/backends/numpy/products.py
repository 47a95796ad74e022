"""A product that is made only to be added up is a dot product: one call instead of two."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnn.backends.recording.calls import Call, Memory, View

LONGEST_PLAIN_SUM = 1024  # addends: NumPy's own way of summing keeps more digits of longer rows


def dot_products(calls: Sequence[Call], kept: set[Memory]) -> list[Call]:
    """The same calls, with ``np.vdot`` for a multiplication and the sum of all that it makes.

    Args:
        calls: of a tape.
        kept: memory that is read after the calls.
    """
    reads = Counter(view.memory for call in calls for view in call.reads())
    written_over = {view.memory for call in calls if call.in_place for view in call.writes()}
    products = {call.results[0]: call for call in calls if call.function is np.multiply}
    joined: dict[int, Call] = {}
    sums = set()
    for call in calls:
        product = products.get(_all_of(call))
        if product is None or not _pays_as_dot(product):
            continue
        memory = product.results[0].memory
        if reads[memory] == 1 and memory not in kept | written_over:
            joined[id(product)] = Call(np.vdot, "", product.arguments, {}, call.results)
            sums.add(id(call))
    return [joined.get(id(call), call) for call in calls if id(call) not in sums]


def _all_of(call: Call) -> Any:
    """What the call adds up, where it adds up all of it; else None."""
    if call.function is not np.add or call.method != "reduce":
        return None
    plain = all(value is None or value is False for value in call.options.values())
    return call.arguments[0] if plain and "axis" in call.options else None


def _pays_as_dot(product: Call) -> bool:
    """Whether it is a short one of floats, of arrays that lie like it or a constant number."""
    (made,) = product.results
    factors = [one for one in product.arguments if isinstance(one, View)]
    numbers = [one for one in product.arguments if isinstance(one, int | float)]
    return (
        0 < made.nbytes <= LONGEST_PLAIN_SUM * made.dtype.itemsize
        and made.dtype.char in "fd"
        and len(factors) + len(numbers) == 2
        and all(one[2:] == made[2:] for one in factors)
    )
