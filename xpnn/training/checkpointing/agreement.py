"""What has to be the same where a run goes on from a checkpoint, for it to be the same run."""

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.backends import Backend
from xpnn.data.batches import Batches, Samples
from xpnn.data.stream import Stream
from xpnn.errors import FileError
from xpnn.layers import Layer
from xpnn.network import Network
from xpnn.saving.tensors import dtype_name
from xpnn.training.state import TrainingState
from xpnn.training.stepping.settings import described

MOST_NAMED = 5  # differences in an error message
MISSING = "missing"


def what_must_agree(
    state: TrainingState, batches: Batches | Stream | None, held_out: Samples | Stream | None
) -> dict[str, Any]:
    """All on which the next steps depend, beside the values of arrays and counters.

    Args:
        state: whose steps they are.
        batches: of the epoch in which it stands, if it stands in one.
        held_out: what is measured on after each epoch.
    """
    network = state.network
    kinds = [type(layer).__name__ for layer in network.all_layers]
    layers = zip(kinds, described(network), strict=True)
    return {
        "parameters": {
            name: f"{dtype_name(one)} {tuple(one.shape)}" for name, one in network.params.items()
        },
        "layers": {f"{k} {kind}": _described(own) for k, (kind, own) in enumerate(layers)},
        "network": {"seed": network.seed, "dtype": network.dtype},
        "trainer": {"seed": state.seed, "accumulate": state.accumulate},
        "optimizer": _described(state.optimizer),
        "loss": _described(state.loss),
        "precision": _described(state.precision),
        "data": None if batches is None else _order_of(batches, held_out),
    }


def kind_of_optimizer(there: dict[str, Any]) -> str | None:
    """The name of the optimizer's class in what must agree, if a checkpoint says it."""
    described = there.get("optimizer")
    found = described.get("kind") if isinstance(described, dict) else None
    return found if isinstance(found, str) else None


def check_agreement(here: dict[str, Any], there: dict[str, Any], path: Path) -> None:
    """Compare what must agree with what stands in a checkpoint.

    Raises:
        FileError: they differ; the message says in what.
    """
    if here["data"] is None or there["data"] is None:
        here, there = here | {"data": None}, there | {"data": None}
    differing = list(_differences(json.loads(json.dumps(here)), there))
    if differing:
        more = len(differing) - MOST_NAMED
        raise FileError(
            f"{path} is a checkpoint of another run: {'; '.join(differing[:MOST_NAMED])}"
            f"{f'; and {more} more' if more > 0 else ''}. To resume, make them the same; to go on "
            f"from its values in another way, call trainer.load({str(path)!r}) and fit without "
            f"resume"
        )


def _order_of(batches: Batches | Stream, held_out: Samples | Stream | None) -> dict[str, Any]:
    """What is known of the data, as the order of batches depends on it."""
    size = held_out.steps if isinstance(held_out, Stream) else held_out and len(held_out)
    if isinstance(batches, Stream):
        return {"batches": batches.steps, **batches.order, "validation": size}
    return {
        "samples": batches.rows,
        "batch_size": batches.batch_size,
        "shuffle": batches.shuffle,
        "validation": size,
    }


def _described(value: Any, within: tuple[Any, ...] = ()) -> Any:
    """What an object was made with, in JSON's words: its kind, and its public attributes.

    A network that a loss may hold is a matter of its own, and so is what comes back to itself:
    of these only the kind counts.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Network | Layer | Backend) or any(value is one for one in within):
        return {"kind": type(value).__name__}
    below = functools.partial(_described, within=(*within, value))
    if isinstance(value, Mapping):
        return {str(key): below(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [below(one) for one in value]
    if isinstance(value, functools.partial):
        kept = {"function": below(value.func), "arguments": below(value.args)}
        return kept | below(value.keywords)
    if isinstance(value, type) or hasattr(value, "__qualname__"):
        return value.__qualname__
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"an array of {dtype_name(value)} {tuple(value.shape)}"
    public = {k: v for k, v in getattr(value, "__dict__", {}).items() if not k.startswith("_")}
    return {"kind": type(value).__name__, **below(public)}


def _differences(here: Any, there: Any, name: str = "") -> Iterator[str]:
    if isinstance(here, dict) and isinstance(there, dict):
        for key in dict.fromkeys((*here, *there)):
            below = f"{name}.{key}" if name else key
            yield from _differences(here.get(key, MISSING), there.get(key, MISSING), below)
    elif here != there:
        yield f"{name} is {_shown(here)} here and {_shown(there)} in the checkpoint"


def _shown(value: Any) -> str:
    """A value in few words."""
    if isinstance(value, dict):
        return str(value.get("kind") or value.get("function") or "something else")
    return value if isinstance(value, str) else repr(value)
