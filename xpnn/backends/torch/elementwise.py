"""Elementwise rules on PyTorch: half precision is worked out in float32 and rounded once."""

from collections.abc import Callable
from typing import Any

from xpnn.typing import Namespace


def in_float32(rule: Callable[..., Any], xp: Namespace) -> Callable[..., Any]:
    """``rule`` of arrays of which those in half precision are read as float32.

    Call by call each operation of a rule would be rounded to 8 bits, or 11. Which results are to
    be narrow is seen from the rule itself, of one number, when dtypes come for the first time.
    """
    import torch

    seen: dict[tuple[Any, ...], Any] = {}
    halves = torch.float16, torch.bfloat16

    def worked_out(*arrays: Any) -> Any:
        narrow = [getattr(x, "dtype", None) in halves for x in arrays]
        if True not in narrow:
            return rule(xp, *arrays)
        kinds = tuple(getattr(x, "dtype", None) for x in arrays)
        if kinds not in seen:
            results = rule(xp, *map(_one_of, arrays))
            several = isinstance(results, tuple)
            seen[kinds] = tuple(x.dtype for x in results) if several else results.dtype
        dtypes = seen[kinds]
        wide = (x.float() if half else x for x, half in zip(arrays, narrow, strict=True))
        results = rule(xp, *wide)
        if not isinstance(results, tuple):
            return results.to(dtypes)
        return tuple(x.to(dtype) for x, dtype in zip(results, dtypes, strict=True))

    return worked_out


def _one_of(x: Any) -> Any:
    """An array of one number in place of ``x``; numbers as they are."""
    return x.new_ones(1) if getattr(x, "ndim", 0) else x
