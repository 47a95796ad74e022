"""A training state as what a checkpoint holds, and back."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.agreeing import told_by_all
from xpnn.data.stream import Stream
from xpnn.errors import DataError, FileError, ShapeError
from xpnn.moving import copied_like
from xpnn.saving.attachments import attachments_text, read_attachments
from xpnn.saving.tensors import Tensor
from xpnn.training.callbacks.hooks import CallbackList
from xpnn.training.callbacks.saved import Saved, check_saved, saved_states
from xpnn.training.checkpointing.agreement import (
    check_agreement,
    kind_of_optimizer,
    what_must_agree,
)
from xpnn.training.checkpointing.contents import (
    Contents,
    NoCheckpointError,
    encoded,
    on_host,
    read_contents,
)
from xpnn.training.checkpointing.fields import (
    COUNT,
    DICTIONARY,
    LIST,
    NUMBERS,
    PLAIN,
    TEXT,
    check_fields,
    or_none,
    unusable,
)
from xpnn.training.checkpointing.processes import (
    check_processes,
    kinds_of,
    values_in,
    values_of,
)
from xpnn.training.intake.sources import Sources
from xpnn.training.running_mean import RunningMean
from xpnn.training.state import TrainingState
from xpnn.training.stepping.sharding import own_slots
from xpnn.trees import tree_map
from xpnn.typing import OptState

logger = logging.getLogger("xpnn")

SUFFIX = ".safetensors"
NUMBERED = "checkpoint-*" + SUFFIX

FIELDS: dict[str, Any] = {
    "network": DICTIONARY,
    "optimizer": or_none(DICTIONARY),
    "trainer": {"epoch": COUNT, "steps": COUNT},
    "run": or_none(DICTIONARY),
    "callbacks": LIST,
    "must_agree": {"data": or_none(DICTIONARY)},
}
"""What has to be in a checkpoint."""
RUN_FIELDS: dict[str, Any] = {
    "first_epoch": COUNT,
    "epoch_steps": COUNT,
    "logged": COUNT,
    "stop_reason": or_none(TEXT),
    "first_batch": or_none(DICTIONARY),
    "losses": {"total": NUMBERS, "weight": NUMBERS},
}
"""And in its "run", if it has one."""


def state_contents(state: TrainingState, opt_state: OptState | None = None) -> Contents:
    """All that the rest of the training depends on, copied to the host in one go.

    Args:
        opt_state: that of ``state.whole_opt_state``, where it was asked for already: by all
            processes, of which one writes.
    """
    state.check_opt_state()
    network, batches = state.network, state.batches if state.in_fit else None
    tree = {
        "network": state.set_aside or {**network.params, **network.state},
        "attachments": attachments_text(network.attachments),
        "optimizer": state.whole_opt_state() if opt_state is None else opt_state,
        "trainer": {"epoch": state.epoch, "steps": state.steps},
        "run": _position(state) if state.in_fit else None,
        "callbacks": saved_states(state.callbacks, state),
        "must_agree": what_must_agree(state, batches, state.held_out, state.identify_data),
    }
    tree = on_host(tree, network.backend)
    if state.in_fit:
        values, weights = tree_map(_as_numbers, tree["run"]["losses"])
        total, weight = state.losses.sums(values, weights)
        tree["run"]["losses"] = {"total": total, "weight": weight}
    return encoded(tree)


def _as_numbers(value: Any) -> Any:
    """Of the losses of several outputs a list; a number as it is."""
    return value.values.astype(np.float64).tolist() if isinstance(value, Tensor) else value


def _position(state: TrainingState) -> dict[str, Any]:
    """Where a ``fit`` stands, beside its epoch and its steps."""
    return {
        "first_epoch": state.first_epoch,
        "epoch_steps": state.epoch_steps,
        "logged": state.logged,
        "stop_reason": state.stop_reason,
        "first_batch": state.batches.first.state() if isinstance(state.batches, Stream) else None,
        "losses": state.losses.pending,
    }


def put_back(state: TrainingState, tree: Any, path: Path) -> None:
    """Make the network, the optimizer state and the counts what a checkpoint holds.

    Raises:
        ShapeError: they do not fit; nothing was changed.
        FileError: they are no numbers; nothing was changed.
    """
    network, opt_state = state.network, tree["optimizer"]
    attachments = _attachments(tree, path)
    kind, there = type(state.optimizer).__name__, kind_of_optimizer(tree["must_agree"])
    try:
        if opt_state is not None:
            if there not in (None, kind):
                raise ShapeError(
                    f"it holds the numbers of {there}, which mean something else to {kind}; load "
                    f"it with trainer.optimizer = {there}(...), and then set trainer.optimizer to "
                    f"another one and trainer.opt_state = None"
                )
            with network.backend.on_device():
                fresh, own = state.fresh_opt_state(), state.own_parameters
                if own is not None:
                    opt_state = own_slots(opt_state, state.optimizer, own)
                opt_state = copied_like(
                    opt_state, fresh, network.backend, take=network.backend.asarray
                )
        network.load(tree["network"])
    except ShapeError as error:
        raise ShapeError(f"{path} does not fit this network and optimizer: {error}") from None
    except DataError as error:
        raise FileError(f"{path} is no whole checkpoint: {error}") from None
    network.attachments.update(attachments)
    state.opt_state, state.opt_state_of = opt_state, kind
    state.epoch, state.steps = tree["trainer"]["epoch"], tree["trainer"]["steps"]
    state.epoch_steps, state.in_fit, state.callbacks = 0, False, ()
    state.set_aside = None


def _attachments(tree: Any, path: Path) -> dict[str, Any]:
    """What belongs with the network; older checkpoints have none."""
    try:
        return read_attachments(tree.get("attachments", ""))
    except FileError as error:
        raise FileError(f"{path}: {error}") from error


def begin(
    state: TrainingState,
    sources: Sources,
    hooks: CallbackList,
    epochs: int,
    path: str | Path | None,
    log_every: int,
) -> list[Saved] | None:
    """Let a ``fit`` begin, or go on from a checkpoint; if it may not, nothing was changed.

    Args:
        state: which is to stand before the first step of the fit, or where the checkpoint says.
        sources: of batches.
        hooks: the callbacks.
        epochs: how many, from the first one of the fit on.
        path: of a checkpoint, or of a folder, of which the newest whole one is taken, if it has
            one; or None.
        log_every: steps between two log points.

    Returns:
        What the checkpoint has of the callbacks, or None.

    Raises:
        FileError: there are checkpoints, but none is whole; or it is of another run; or a callback
            has something against it.
        FileNotFoundError: there is no such file.
        XpnnError: other processes are to train otherwise.
    """
    found = None if path is None else _found(Path(path))
    tree = None
    if state.communicator is not None:
        told_by_all(state.communicator, "Trainer.fit")
        of_fit = {
            "epochs": epochs,
            "log_every": log_every,
            "shard_optimizer": state.shard_optimizer,
            "callbacks": kinds_of(hooks.callbacks),
        }
        check_processes(state.communicator, {"fit": of_fit, **_begun(state, sources, found)})
    if found is None:
        hooks.fit_check(state.steps)
        if path is not None:
            _say_that_training_begins(Path(path), hooks)
    else:
        tree = _checked(state, sources, hooks, *found)
        put_back(state, tree, found[0])
        state.training = object()
        logger.info("training goes on from %s", found[0])
    state.begin_fit()
    state.held_out, state.callbacks = sources.held_out, hooks.callbacks
    state.identify_data = sources.identify
    position = None if tree is None else tree["run"]
    if position is not None:  # None where it was saved outside of fit
        state.first_epoch, state.logged = position["first_epoch"], position["logged"]
        state.epoch_steps, state.stop_reason = position["epoch_steps"], position["stop_reason"]
        state.losses = RunningMean(state.network.backend, **position["losses"])
        sources.expect(position["first_batch"])
    state.last_epoch = state.first_epoch + epochs
    return None if tree is None or position is None else tree["callbacks"]


def _begun(
    state: TrainingState, sources: Sources, found: tuple[Path, Any] | None
) -> dict[str, Any]:
    """All on which a ``fit`` depends, for processes to compare."""
    values = values_of(state) if found is None else values_in(found[1])
    batches = sources.make_batches(values["epoch"])
    agreed = what_must_agree(state, batches, sources.held_out, sources.identify)
    return {"goes on from": found and found[0].name, **agreed, **values}


def _say_that_training_begins(path: Path, hooks: CallbackList) -> None:
    """A warning, where the folder looks as if its name were misspelt: nobody writes to it."""
    found = [getattr(one, "folder", None) for one in hooks.callbacks]
    folders = [one for one in found if isinstance(one, Path)]
    if any(folder.absolute() == path.absolute() for folder in folders):
        logger.info("there is no checkpoint in %s yet: training begins", path)
        return
    logger.warning(
        "there is no checkpoint in %s, and no Checkpoint among the callbacks writes there%s: "
        "training begins; if it was to go on from one, look at the name",
        path,
        "".join(f", but to {folder}" for folder in folders),
    )


def _checked(
    state: TrainingState, sources: Sources, hooks: CallbackList, path: Path, tree: Any
) -> Any:
    """What a checkpoint holds, if the run may go on from there; nothing is changed."""
    batches = sources.make_batches(tree["trainer"]["epoch"])
    here = what_must_agree(state, batches, sources.held_out, sources.identify)
    check_agreement(here, tree["must_agree"], path, trainable=not hooks.steering_trainable)
    hooks.fit_check(tree["trainer"]["steps"])
    if tree["run"] is not None:
        done, steps = tree["run"]["epoch_steps"], batches.steps
        try:
            if steps is not None and done > steps:
                raise ValueError(f"{done} steps of an epoch are done, which has {steps}")
            check_saved(hooks.callbacks, state, tree["callbacks"])
        except ValueError as error:
            raise _unusable(path, error) from None
    return tree


def read_checkpoint(path: Path) -> Any:
    """The nesting that a checkpoint holds, in which all is there that resuming takes for granted.

    Raises:
        OSError: the file is not there, or cannot be read.
        NoCheckpointError: it is torn, damaged, or another kind of file, or a part is missing.
        FileError: it is of a newer version.
    """
    tree = read_contents(path)
    wanted = FIELDS
    if isinstance(tree, Mapping) and tree.get("run") is not None:
        wanted = FIELDS | {"run": RUN_FIELDS}
    try:
        check_fields(tree, wanted, "contents")
        check_fields(tree["must_agree"], PLAIN, "must_agree")
        check_fields(tree.get("attachments", ""), TEXT, "attachments")
        _check_place(tree)
    except ValueError as error:
        raise _unusable(path, error) from None
    return tree


def _check_place(tree: Any) -> None:
    """Raise ValueError if no run can stand there."""
    place, done = tree["run"], tree["trainer"]
    if place is None:
        return
    if place["first_batch"] is not None:
        wanted = {"size": COUNT, "figures": LIST, "steady": PLAIN}
        check_fields(place["first_batch"], wanted, "first_batch")
    for name, most in (("first_epoch", done["epoch"]), ("epoch_steps", done["steps"])):
        if place[name] > most:
            raise unusable(place[name], f"at most {most}", name)
    if place["logged"] > place["epoch_steps"]:
        raise unusable(place["logged"], f"at most {place['epoch_steps']}", "logged")


def _unusable(path: Path, why: ValueError) -> NoCheckpointError:
    return NoCheckpointError(f"{path} is no whole checkpoint: {why}; go on from another one")


def numbered(folder: Path) -> list[Path]:
    """What is called like a checkpoint in a folder, that of the fewest steps first."""
    named = ((number_of(path), path) for path in folder.glob(NUMBERED))
    return [path for _, path in sorted(pair for pair in named if pair[0] is not None)]


def number_of(path: Path) -> int | None:
    """The number of steps in the name of a checkpoint; None for another name."""
    number = path.name.removeprefix("checkpoint-").removesuffix(SUFFIX)
    return int(number) if number.isascii() and number.isdigit() else None


def _found(path: Path) -> tuple[Path, Any] | None:
    """The checkpoint to go on from, and what is in it."""
    if not path.is_dir() and (path.suffix == SUFFIX or path.exists()):
        return path, read_checkpoint(path)
    broken: list[Exception] = []
    for one in reversed(numbered(path)):
        try:
            tree = read_checkpoint(one)
        except (NoCheckpointError, FileNotFoundError) as error:
            broken.append(error)
            continue
        for reason in broken:
            logger.warning("%s; training goes on from %s", reason, one)
        return one, tree
    if broken:
        raise FileError(
            f"wanted a whole checkpoint in {path}, but of {len(broken)} none is: {broken[0]}. "
            f"Delete them to train from the beginning"
        )
    return None
