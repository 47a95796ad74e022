"""The vocabulary of every signature in xpnn."""

from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeAlias

Array: TypeAlias = Any
"""An array of the library in use: numpy.ndarray, cupy.ndarray, torch.Tensor, jax.Array, ..."""

Namespace: TypeAlias = ModuleType | Any
"""The functions of an array library under the names of the Python array API standard."""

Shape: TypeAlias = tuple[int, ...]
"""The shape of one sample, without the batch axis, unless a docstring says otherwise."""

Shapes: TypeAlias = Any
"""The shape of one array, or a tuple of those of several that go into a layer together."""

Arrays: TypeAlias = Any
"""One array, or a tuple of several that go into a layer together, or come out of one."""

Range: TypeAlias = tuple[float, float]
"""The least and the largest number that may occur; infinities where there is no bound."""

Ranges: TypeAlias = Any
"""A range, or None where it is not known; a tuple of such for a layer of several inputs."""

Params: TypeAlias = dict[str, Array]
"""Arrays by name. One layer says "weight", a network says "0.dense.weight"."""

State: TypeAlias = dict[str, Any]
"""What a layer carries from batch to batch without training it: counters, running means."""

OptState: TypeAlias = dict[str, Any]
"""What an optimizer carries from step to step: its step count and its slots."""

Number: TypeAlias = float | Array
"""A Python number, or a 0-d array where the counters of a training step live on the device."""

Loss: TypeAlias = Callable[..., tuple[Array, Array]]
"""``loss(predictions, targets, *, sample_weight, backend) -> (value, delta)``."""
