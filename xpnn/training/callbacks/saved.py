"""What a checkpoint keeps of callbacks, and which of them takes up what of it."""

import inspect
import logging
from collections.abc import Sequence
from typing import Any

from xpnn.training.callbacks.hooks import Callback, acts_here
from xpnn.training.checkpointing.agreement import differences
from xpnn.training.checkpointing.fields import (
    ANYTHING,
    DICTIONARY,
    PLAIN,
    TEXT,
    check_fields,
    or_none,
)
from xpnn.training.describing import described
from xpnn.training.state import TrainingState

logger = logging.getLogger("xpnn")

Saved = dict[str, Any]
"""What a checkpoint has of one callback: the fields below."""

FIELDS = {
    "kind": TEXT,
    "known_by": or_none(TEXT),
    "options": or_none(DICTIONARY),
    "state": ANYTHING,
}


def saved_states(callbacks: Sequence[Any], state: TrainingState) -> list[Saved]:
    """What is to be kept of the callbacks, of those of which there is something."""
    found = [_saved(one, state) for one in callbacks if acts_here(one, state)]
    return [one for one in found if one["state"] is not None or one["options"]]


def _saved(callback: Callback, state: TrainingState) -> Saved:
    return {
        "kind": type(callback).__name__,
        "known_by": callback.known_by(state),
        "options": options_of(callback) if callback.steers else None,
        "state": callback.state(),
    }


def options_of(callback: Callback) -> dict[str, Any]:
    """What it was made with, as far as it keeps that under the names of the arguments."""
    try:
        names = inspect.signature(type(callback)).parameters
    except ValueError:
        return {}
    own = vars(callback)
    return {name: described(own[name]) for name in names if name in own}


def check_saved(callbacks: Sequence[Callback], state: TrainingState, saved: list[Saved]) -> None:
    """Raise ValueError if ``take_up`` could not hand these out; nothing is changed."""
    for one in saved:
        check_fields(one, FIELDS, "callbacks")
        check_fields(one["options"], or_none(PLAIN), "options")
    for callback, one in _pairs(callbacks, state, saved):
        if one["state"] is not None and acts_here(callback, state):
            callback.check_state(state, one["state"])


def take_up(callbacks: Sequence[Callback], state: TrainingState, saved: list[Saved]) -> None:
    """Hand to each callback what the one of its kind had that was known by the same.

    A callback that finds nothing begins anew. What differs is told: what it was made with, too.
    """
    pairs = _pairs(callbacks, state, saved)
    for callback, one in pairs:
        if not acts_here(callback, state):
            continue
        if one["state"] is not None:
            callback.load_state(one["state"])
        if one["options"] is not None:
            for words, _ in differences(options_of(callback), one["options"], one["kind"]):
                logger.warning("%s; the run goes on with what is here", words)
    for callback in callbacks:
        others = (other for other, one in pairs if one["state"] is not None)
        if acts_here(callback, state) and not any(callback is other for other in others):
            here = _saved(callback, state)
            if here["state"] is not None:
                logger.warning(
                    "the checkpoint knows of no %s more; it starts anew", _in_words(here)
                )
    for one in saved:
        if not any(one is other for _, other in pairs):
            logger.log(
                logging.INFO if one["state"] is None else logging.WARNING,
                "there is no %s that takes up what the checkpoint has of one",
                _in_words(one),
            )


def _pairs(
    callbacks: Sequence[Callback], state: TrainingState, saved: list[Saved]
) -> list[tuple[Callback, Saved]]:
    """Each callback with what it takes up, if there is such: of several the last with the last.

    So the history that ``fit`` returns, which comes behind all others, takes up its own.
    """
    left, found = list(saved), []
    for callback in reversed(callbacks):
        kind, known_by = type(callback).__name__, callback.known_by(state)
        fitting = [
            one for one in left if one["kind"] == kind and one["known_by"] in (None, known_by)
        ]
        if fitting:
            left = [one for one in left if one is not fitting[-1]]
            found.append((callback, fitting[-1]))
    return found[::-1]


def _in_words(one: Saved) -> str:
    return one["kind"] if one["known_by"] is None else f"{one['kind']} of {one['known_by']}"
