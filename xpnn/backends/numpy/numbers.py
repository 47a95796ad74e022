"""The Python numbers of a recording, such as counters and rates, while it is replayed."""

from typing import Any

import numpy as np

from xpnn.backends.recording.calls import Slot


class Numbers:
    """The Python numbers of a program: their values, and the 0-d arrays that follow them."""

    def __init__(self, count: int):
        self.values: list[Any] = [None] * count
        self._arrays: dict[tuple[int, Any], np.ndarray] = {}
        self._followers: list[list[tuple[np.ndarray, int]]] = [[] for _ in range(count)]

    def array(self, slot: Slot, dtype: Any) -> np.ndarray:
        """A 0-d array that always has the value of that number."""
        key = slot.number, dtype
        if key not in self._arrays:
            self._arrays[key] = np.zeros((), dtype)
            self._followers[slot.number].append((self._arrays[key], slot.number))
        return self._arrays[key]

    def set(self, index: int, value: Any) -> None:
        """Give a number its value."""
        self.values[index] = value
        for array, number in self._followers[index]:
            array[()] = self.values[number]

    def set_together(self, first: int, stop: int) -> list[tuple[np.ndarray, int]]:
        """What follows the numbers from ``first`` to ``stop``, in one list that they share.

        It grows with what comes to follow any of them later.
        """
        joint = [pair for followers in self._followers[first:stop] for pair in followers]
        self._followers[first:stop] = [joint] * (stop - first)
        return joint

    def constant(self, value: Any) -> int:
        """The index of a value that stays as it is."""
        self.values.append(value)
        self._followers.append([])
        return len(self.values) - 1
