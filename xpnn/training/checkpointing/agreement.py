"""What has to be the same where a run goes on from a checkpoint, for it to be the same run."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from xpnn.arguments import parameters_of
from xpnn.data.batches import Batches, Samples
from xpnn.data.figures import are_alike
from xpnn.data.stream import Stream
from xpnn.errors import FileError, XpnnError
from xpnn.layers import Layer
from xpnn.saving.tensors import dtype_name
from xpnn.training.checkpointing.upgrades import as_version_2
from xpnn.training.describing import described
from xpnn.training.state import TrainingState
from xpnn.training.stepping import settings

logger = logging.getLogger("xpnn")

MOST_NAMED = 5  # differences in an error message
MISSING, OTHER_NUMBERS = "missing", "other numbers"
TOLD = {"function": ("code", "globals"), "kind": ("private",)}
"""What differs in a function, and in an object, and is no error; see ``describing.py``."""
OF_EVERY_LAYER = frozenset(vars(Layer()))


def what_must_agree(
    state: TrainingState,
    batches: Batches | Stream | None,
    held_out: Samples | Stream | None,
    identify: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    """All on which the next steps depend, beside the values of arrays and counters.

    Args:
        state: whose steps they are.
        batches: of the epoch in which it stands, if it stands in one.
        held_out: what is measured on after each epoch.
        identify: tells of the data what they are known by; asked if there are batches.
    """
    network = state.network
    kinds = [f"{k} {type(layer).__name__}" for k, layer in enumerate(network.all_layers)]
    layers = zip(kinds, network.all_layers, settings.hyperparameters(network), strict=True)
    return {
        "parameters": {
            name: f"{dtype_name(one)} {tuple(one.shape)}" for name, one in network.params.items()
        },
        "layers": {
            kind: {
                name: described(one)
                for name, one in own.items()
                if not _holds_layers(one) and _is_given(layer, name)
            }
            for kind, layer, own in layers
        },
        "options": dict(zip(kinds, map(_options, network.all_layers), strict=True)),
        "network": {"seed": network.seed, "dtype": network.dtype},
        "trainer": {"seed": state.seed, "accumulate": state.accumulate},
        "optimizer": described(state.optimizer),
        "loss": described(state.loss),
        "metrics": described(state.metrics),
        "precision": described(state.precision),
        "data": None if batches is None else _order_of(batches, held_out) | identify(),
    }


def kind_of_optimizer(there: dict[str, Any]) -> str | None:
    """The name of the optimizer's class in what must agree, if a checkpoint says it."""
    described = there.get("optimizer")
    found = described.get("kind") if isinstance(described, dict) else None
    return found if isinstance(found, str) else None


def check_agreement(
    here: dict[str, Any], there: dict[str, Any], path: Path, *, trainable: bool = True
) -> None:
    """Compare what must agree with what stands in a checkpoint.

    Args:
        trainable: whether that of layers has to, too.

    Raises:
        FileError: they differ; the message says in what.
    """
    if there.get("version") == 2:
        here = as_version_2(here) | {"version": 2}
    if here["data"] is None or there["data"] is None:
        here, there = here | {"data": None}, there | {"data": None}
    if not trainable:
        here, there = (
            {**one, "layers": _without_trainable(one.get("layers"))} for one in (here, there)
        )
    differing = list(differences(json.loads(json.dumps(here)), there))
    errors = [words for words, matters in differing if matters]
    if errors:
        more = len(errors) - MOST_NAMED
        raise FileError(
            f"{path} is a checkpoint of another run: {'; '.join(errors[:MOST_NAMED])}"
            f"{f'; and {more} more' if more > 0 else ''}. To resume, make them the same; to go on "
            f"from its values in another way, call trainer.load({str(path)!r}) and fit without "
            f"resume"
        )
    for words, _ in differing:
        logger.warning("%s: %s; the run goes on with what is here", path, words)


def _without_trainable(described: Any) -> Any:
    """A description without that of layers, wherever it stands."""
    if not isinstance(described, dict):
        return described
    return {key: _without_trainable(one) for key, one in described.items() if key != "trainable"}


def _options(layer: Layer) -> dict[str, Any]:
    """The lists, arrays and functions that a layer was made with, but for its starting weights."""
    return {
        name: described(value)
        for name, value in vars(layer).items()
        if not (name.startswith("_") or name.endswith("_init") or name in OF_EVERY_LAYER)
        and not (isinstance(value, settings.PLAIN) or _holds_layers(value))
        and _is_given(layer, name)
    }


def _is_given(layer: Layer, name: str) -> bool:
    """Whether an attribute is what a layer was made with, rather than what it counts as it runs.

    Of a user's layer these are the arguments of its constructor, and what all layers have.
    """
    kind: Any = type(layer)
    if kind.__module__.startswith("xpnn.") or name in OF_EVERY_LAYER:
        return True
    try:
        return name in parameters_of(kind)
    except XpnnError:  # its arguments cannot be told
        return True


def _holds_layers(value: Any) -> bool:
    """Whether it is a layer, or several: each of them is described by itself."""
    parts = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(one, Layer) for one in parts)


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


def differences(here: Any, there: Any, name: str = "") -> Iterator[tuple[str, bool]]:
    """What each difference from a checkpoint is, and whether it makes another run."""
    for path, ours, theirs, matters in differing(here, there, name):
        if theirs == OTHER_NUMBERS:
            yield f"{path} holds {theirs} here than in the checkpoint", matters
        else:
            yield f"{path} is {ours} here and {theirs} in the checkpoint", matters


def differing(
    here: Any, there: Any, name: str = "", matters: bool = True
) -> Iterator[tuple[str, str, str, bool]]:
    """The names of what differs, both values in few words, and whether it makes another run.

    Metrics do not. The code and the globals of a function may, the lists and dictionaries that it
    closes over, which training may fill, and what an object keeps to itself: which of them matter
    nobody knows.
    """
    if isinstance(here, dict) and isinstance(there, dict):
        if name.startswith("data.") and "numbers" in here and "numbers" in there:
            if not are_alike(here, there):
                yield name, "numbers", OTHER_NUMBERS, matters
            here, there = {"row": here["row"]}, {"row": there.get("row")}
        for key in dict.fromkeys((*here, *there)):
            below = f"{name}.{key}" if name else key
            told = below == "metrics" or any(
                mark in here and key in keys for mark, keys in TOLD.items()
            )
            told = told or (name.endswith(".closure") and _is_container(there.get(key)))
            parts = here.get(key, MISSING), there.get(key, MISSING)
            yield from differing(*parts, below, matters and not told)
    elif here != there and json.dumps(here) != json.dumps(there):  # NaN is no other NaN
        yield name, _shown(here), _shown(there), matters


def _is_container(value: Any) -> bool:
    """Whether it describes a list or a dictionary, and no object."""
    return isinstance(value, list) or (
        isinstance(value, dict) and value.keys().isdisjoint(("kind", "function", "array"))
    )


def _shown(value: Any) -> str:
    """A value in few words."""
    if isinstance(value, dict):
        names = ("kind", "function", "array")
        return str(next((value[one] for one in names if value.get(one)), "something else"))
    return value if isinstance(value, str) else repr(value)
