"""Steps of PyTorch tensors on the CPU that NumPy computes, in the memory of the tensors.

A tensor on the CPU and a NumPy array can be the same memory. So a step that is known for arrays of
NumPy, too, is recorded and replayed there, and only the tensors go in and come out.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from xpnn.backends.recording.calls import mapped
from xpnn.typing import StepMaker

logger = logging.getLogger("xpnn")


class Pair(NamedTuple):
    """A tensor, the array in the same memory, and where that lies and how.

    ``tensor.data = ...`` gives the same tensor other memory.
    """

    tensor: Any
    array: np.ndarray
    address: int
    strides: tuple[int, ...]


class StepByNumpy:
    """A pure step of nested dicts and tuples of tensors and numbers, replayed by NumPy.

    A step whose tensors NumPy cannot read, as it has no bfloat16, runs on tensors; the reason is
    logged once.

    Args:
        step: on tensors; returns a tuple.
        on: makes the same step on the arrays of another backend.
        donate: positions of arguments whose memory the first results take, in their order.
    """

    def __init__(self, step: Callable[..., Any], on: StepMaker, donate: Sequence[int] = ()):
        import torch

        from xpnn.backends import get_backend

        numpy = get_backend("numpy")
        self.step, self.replayed = step, numpy.compile(on(numpy), donate)
        self.donate = frozenset(donate)
        self.Tensor, self.from_numpy = torch.Tensor, torch.from_numpy
        self._told = False
        # What was donated, by the ids of tensors and arrays, which stay theirs while they are held:
        # now, and the last two sets of it, as two networks' parameters may take turns in one step.
        self._now: dict[int, Pair] = {}
        self._sets: list[dict[int, Pair]] = [{}, {}]

    def __call__(self, *arguments: Any) -> tuple[Any, ...]:
        self._now = {}
        try:
            arrays = [
                mapped(self._kept_array if place in self.donate else self._array, argument)
                for place, argument in enumerate(arguments)
            ]
        except (TypeError, RuntimeError) as reason:
            if not self._told:
                logger.info("steps run on tensors where NumPy cannot read these: %s", reason)
            self._told = True
            return self.step(*arguments)
        with np.errstate(all="ignore"):  # tensors overflow without a warning
            results = self.replayed(*arrays)
        tensors = tuple(
            mapped(self._kept_tensor if place < len(self.donate) else self._tensor, result)
            for place, result in enumerate(results)
        )
        last, before = self._sets
        self._sets = [self._now, before if self._now.keys() <= last.keys() else last]
        return tensors

    def _array(self, leaf: Any) -> Any:
        """A tensor as an array; anything else as it is."""
        return leaf.numpy() if isinstance(leaf, self.Tensor) else leaf

    def _tensor(self, leaf: Any) -> Any:
        """An array as a tensor; anything else as it is."""
        is_array = isinstance(leaf, np.ndarray | np.generic)
        return self.from_numpy(np.asarray(leaf)) if is_array else leaf

    def _kept_array(self, leaf: Any) -> Any:
        """The same array object at every step, by which a recording knows what is donated."""
        if not isinstance(leaf, self.Tensor):
            return leaf
        last, before = self._sets
        pair = last.get(id(leaf)) or before.get(id(leaf))
        if pair is None or pair[2:] != (leaf.data_ptr(), leaf.stride()):
            return self._keep(leaf, leaf.numpy()).array
        self._now[id(leaf)] = self._now[id(pair.array)] = pair
        return pair.array

    def _kept_tensor(self, leaf: Any) -> Any:
        """The tensor that was donated, for what was made in its place."""
        if id(leaf) in self._now:
            return self._now[id(leaf)].tensor
        tensor = self._tensor(leaf)
        return tensor if tensor is leaf else self._keep(tensor, leaf).tensor

    def _keep(self, tensor: Any, array: Any) -> Pair:
        pair = Pair(tensor, array, tensor.data_ptr(), tensor.stride())
        self._now[id(tensor)] = self._now[id(array)] = pair
        return pair
