"""The first batch of an epoch: what can be known of batches that come from anywhere."""

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnn.backends import Backend
from xpnn.data.figures import Figures, are_alike, figures, spread

NUMBERS, ROWS = 1 << 14, 8  # of an array that are looked at, but so many rows at least

logger = logging.getLogger("xpnn")


class FirstBatch:
    """How many samples it has, and figures of their numbers where these can be read at once.

    Args:
        backend: which has the arrays that are no NumPy arrays.

    Attributes:
        size: of the last epoch, or None before the first one.
        steady: whether it was the same in all epochs; None where that is not known.
    """

    def __init__(self, backend: Backend):
        self.backend = backend
        self.size: int | None = None
        self.steady: bool | None = None
        self._figures: list[Figures | None] | None = None
        self._expected: dict[str, Any] | None = None

    def state(self) -> dict[str, Any] | None:
        """What a checkpoint keeps of it."""
        if self.size is None:
            return None
        return {"size": self.size, "figures": self._figures, "steady": self.steady}

    def expect(self, saved: dict[str, Any] | None) -> None:
        """Let the next one be compared with that of the run which goes on here."""
        self._expected = saved

    def note(self, parts: Sequence[Any]) -> None:
        """Take note of it, and warn if it is another one than what was expected."""
        before: dict[str, Any] = self._expected or {
            "size": self.size,
            "figures": self._figures,
            "steady": self.steady,
        }
        self._expected = None
        resumed = self.size is None
        self.size = int(parts[0].shape[0])
        self._figures = [self.figures_of(one) for one in parts]
        alike = self._is_alike(before)
        self.steady = before["steady"] if alike is None else alike and before["steady"] is not False
        if not resumed:
            return
        if before["size"] not in (None, self.size):
            logger.warning(
                "the first batch of this epoch has %s samples, and had %s where the checkpoint was "
                "written; with batches of another size it is another run",
                self.size,
                before["size"],
            )
        elif alike is False and before["steady"] is not False:
            logger.warning(
                "the first batch of this epoch holds other numbers than that of the checkpoint; "
                "unless the batches are drawn anew in each epoch, it is another run"
            )

    def _is_alike(self, before: dict[str, Any]) -> bool | None:
        """Whether it is as it was; None where that is not known."""
        here, there = self._figures, before["figures"]
        if here is None or not isinstance(there, list) or len(here) != len(there):
            return None
        found = [are_alike(a, b) for a, b in zip(here, there, strict=True) if a and b]
        return all(found) if found else None

    def figures_of(self, part: Any) -> Figures | None:
        """Figures of some rows of an array; None where they cannot be read at once."""
        if part is None or not (isinstance(part, np.ndarray) or self.backend.on_host):
            return None
        host = part if isinstance(part, np.ndarray) else self.backend.to_numpy(part)
        most = max(ROWS, NUMBERS // max(1, math.prod(host.shape[1:])))
        return figures(host[spread(len(host), most)].reshape(-1))
