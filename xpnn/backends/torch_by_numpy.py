"""Steps of PyTorch tensors on the CPU that NumPy computes, in the memory of the tensors.

A tensor on the CPU and a NumPy array can be the same memory. So a step that is known for arrays of
NumPy, too, is recorded and replayed there, and only the tensors go in and come out.
"""

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from xpnn.backends.replay.calls import mapped
from xpnn.typing import StepMaker

logger = logging.getLogger("xpnn")

Pairs: TypeAlias = dict[int, tuple[Any, np.ndarray]]
"""Tensors, each with the array that is the same memory, under the ids of both objects."""


class StepByNumpy:
    """A pure step of nested dicts and tuples of tensors and numbers, replayed by NumPy.

    Where NumPy cannot compute it (it has no bfloat16, and functions of PyTorch do not take its
    arrays), steps run on tensors, one operation at a time, and the reason is logged.

    Args:
        step: on tensors; returns a tuple.
        on: makes the same step on the arrays of another backend.
        donate: positions of arguments whose memory the first results take.
    """

    def __init__(self, step: Callable[..., Any], on: StepMaker, donate: Sequence[int] = ()):
        import torch

        self.step, self.on, self.donate = step, on, frozenset(donate)
        self.Tensor, self.from_numpy = torch.Tensor, torch.from_numpy
        self.replayable = True
        self._donated: list[Pairs] = [{}, {}]  # of the last two sets that were donated, and now
        self._now: Pairs = {}

    def __call__(self, *arguments: Any) -> Any:
        if not self.replayable:
            return self.step(*arguments)
        try:
            return self._by_numpy(arguments)
        except Exception as reason:  # the step itself decides whether it is an error
            results = self.step(*arguments)
            self.replayable = False
            logger.info("steps run one operation at a time, as NumPy cannot take them: %s", reason)
            return results

    def _by_numpy(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        self._now = {}
        arrays = [
            mapped(self._kept_array if place in self.donate else self._array, argument)
            for place, argument in enumerate(arguments)
        ]
        with np.errstate(all="ignore"):  # tensors overflow without a warning
            results = self.replayed(*arrays)
        tensors = tuple(
            mapped(self._kept_tensor if place < len(self.donate) else self._tensor, result)
            for place, result in enumerate(results)
        )
        last, before = self._donated
        self._donated = [self._now, before if self._now.keys() <= last.keys() else last]
        return tensors

    @functools.cached_property
    def replayed(self) -> Callable[..., Any]:
        """The step on arrays."""
        from xpnn.backends import get_backend

        numpy = get_backend("numpy")
        return numpy.compile(self.on(numpy), tuple(self.donate))

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
        last, before = self._donated
        pair = last.get(id(leaf)) or before.get(id(leaf)) or (leaf, leaf.numpy())
        return self._keep(*pair)[1]

    def _kept_tensor(self, leaf: Any) -> Any:
        """The tensor that was donated, for what was made in its place."""
        if not isinstance(leaf, np.ndarray):
            return leaf
        return (self._now.get(id(leaf)) or self._keep(self.from_numpy(leaf), leaf))[0]

    def _keep(self, tensor: Any, array: np.ndarray) -> tuple[Any, np.ndarray]:
        pair = self._now[id(tensor)] = self._now[id(array)] = tensor, array
        return pair
