"""What is given to write on: a prompt, and the context that other inputs of a network are."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from xpnn.arguments import in_order
from xpnn.backends.portable.host_arrays import host_array
from xpnn.errors import DataError, ShapeError
from xpnn.layers.nodes import is_several
from xpnn.network import Network
from xpnn.trees import one_or_tuple
from xpnn.typing import Array

Inputs = dict[int, Array]
"""What the inputs of a network are given, but for that of the text, by their numbers."""


def text_and_others(network: Network, prompt: Any, context: Any) -> tuple[np.ndarray, Inputs]:
    """The prompt as (batch, length) integers, and the other inputs, found fit for the network."""
    text = _input_of_the_text(network, context)
    shape, takes, name = network.inputs[text]
    if len(shape) != 1 or takes != "integers":
        raise ShapeError(
            f"wanted a network that reads ids, of input_shape (time,) and with an Embedding first, "
            f"got {network!r}, whose input {name!r} takes {takes} of shape {shape}"
        )
    outputs: Any = network.output_shape
    if is_several(outputs) or len(outputs) != 2:
        raise ShapeError(
            f"wanted a network that gives scores at every position, (time, vocabulary), got "
            f"outputs of shape {outputs}; a recurrent layer needs return_sequences"
        )
    ids = _ids(prompt)
    others = _others(network, text, context, prompt)
    with network.backend.on_device():
        given = {**others, text: network.backend.asarray(ids, "int32")}
        network.root.check_inputs(one_or_tuple([given[number] for number in sorted(given)]))
    return ids, others


def _input_of_the_text(network: Network, context: Any) -> int:
    """The number of the input that is not among the context."""
    names = [name for _, _, name in network.inputs]
    if len(names) == 1 and context is not None:
        raise DataError(
            f"context is for the other inputs of a network of several, got one for {network!r}, "
            f"which has a single input, that of the text"
        )
    if len(names) > 1 and context is None:
        raise DataError(
            f"wanted context for all inputs but that of the text, as the network has several, "
            f"{', '.join(names)}; write context={{{names[0]!r}: ...}}"
        )
    if not isinstance(context, Mapping):
        return len(names) - 1
    left = [number for number, name in enumerate(names) if name not in context]
    if len(left) != 1:
        raise DataError(
            f"wanted context by the names of all inputs but that of the text, of "
            f"{', '.join(names)}, got {', '.join(map(str, context))}"
        )
    return left[0]


def _others(network: Network, text: int, context: Any, prompt: Any) -> Inputs:
    """What the inputs that are not that of the text are given, a row for each prompt."""
    numbers = [number for number in range(len(network.inputs)) if number != text]
    if not numbers:
        return {}
    names, backend = [network.inputs[number][2] for number in numbers], network.backend
    given = in_order(context, names, "context")
    *batch, _ = np.shape(prompt)
    found = {}
    for number, one in zip(numbers, given, strict=True):
        rows = backend.asarray(one)
        found[number] = network.as_input(rows if batch else rows[None, ...], number)
        if batch and found[number].shape[0] != batch[0]:
            raise DataError(
                f"wanted context for {batch[0]} prompts, got {found[number].shape[0]} rows for "
                f"the input {network.inputs[number][2]!r}"
            )
    return found


def _ids(prompt: Any) -> np.ndarray:
    """The prompt as (batch, length) integers."""
    ids = host_array(prompt)
    if ids.ndim not in (1, 2) or ids.size == 0 or ids.dtype.kind not in "iu":
        raise DataError(
            f"wanted a prompt of ids, integers of shape (length,) or (batch, length) with at least "
            f"one id, got {ids.dtype} of shape {ids.shape}"
        )
    if int(ids.min()) < -(2**31) or int(ids.max()) >= 2**31:
        raise DataError(
            f"wanted ids that fit 32 bits, got ids from {ids.min()} to {ids.max()}; count from 0"
        )
    return ids.reshape(-1, ids.shape[-1]).astype(np.int64)
