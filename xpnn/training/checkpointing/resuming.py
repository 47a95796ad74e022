"""A trainer as what a checkpoint holds, and back."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnn.errors import DataError, FileError, ShapeError
from xpnn.moving import copied_like
from xpnn.training.checkpointing.agreement import check_agreement, what_must_agree
from xpnn.training.checkpointing.contents import (
    Contents,
    NoCheckpointError,
    encoded,
    on_host,
    read_contents,
)
from xpnn.training.checkpointing.fields import (
    ANYTHING,
    COUNT,
    DICTIONARY,
    NUMBER,
    PLAIN,
    TEXT,
    check_fields,
    or_none,
)

if TYPE_CHECKING:
    from xpnn.training.run import Run
    from xpnn.training.trainer import Trainer

logger = logging.getLogger("xpnn")

SUFFIX = ".safetensors"
NUMBERED = "checkpoint-*" + SUFFIX

FIELDS: dict[str, Any] = {
    "network": DICTIONARY,
    "optimizer": or_none(DICTIONARY),
    "trainer": {"epoch": COUNT, "steps": COUNT},
    "run": or_none(DICTIONARY),
    "callbacks": ANYTHING,
    "must_agree": {"data": or_none(DICTIONARY)},
}
"""What has to be in a checkpoint."""
RUN_FIELDS: dict[str, Any] = {
    "first_epoch": COUNT,
    "epoch_steps": COUNT,
    "logged": COUNT,
    "stop_reason": or_none(TEXT),
    "losses": {"total": NUMBER, "weight": NUMBER},
}
"""And in its "run", if it has one."""


def trainer_contents(trainer: "Trainer") -> Contents:
    """All that the rest of the training depends on, copied to the host in one go."""
    network, run = trainer.network, trainer.run
    tree = {
        "network": {**network.params, **network.state},
        "optimizer": trainer.opt_state,
        "trainer": {"epoch": trainer.epoch, "steps": trainer.steps},
        "run": None if run is None else run.position,
        "callbacks": [] if run is None else run.hooks.states(),
        "must_agree": what_must_agree(trainer, None if run is None else run.facts(trainer.batches)),
    }
    tree = on_host(tree, network.backend)
    if run is not None:
        run.settle(tree["run"])
    return encoded(tree)


def put_back(trainer: "Trainer", tree: Any, path: Path) -> None:
    """Make the network, the optimizer state and the counts what a checkpoint holds.

    Raises:
        ShapeError: they do not fit; nothing was changed.
        FileError: they are no numbers; nothing was changed.
    """
    network, opt_state = trainer.network, tree["optimizer"]
    try:
        if opt_state is not None:
            with network.backend.on_device():
                fresh = trainer.fresh_opt_state()
                opt_state = copied_like(
                    opt_state, fresh, network.backend, take=network.backend.asarray
                )
        network.load(tree["network"])
    except ShapeError as error:
        raise ShapeError(f"{path} does not fit this network and optimizer: {error}") from None
    except DataError as error:
        raise FileError(f"{path} is no whole checkpoint: {error}") from None
    trainer.opt_state = opt_state
    trainer.epoch, trainer.steps = tree["trainer"]["epoch"], tree["trainer"]["steps"]
    trainer.epoch_steps, trainer.run = 0, None


def begin(run: "Run", path: str | Path | None) -> list[list[Any]] | None:
    """Let a run begin, or go on from a checkpoint; if it may not, nothing was changed.

    Args:
        run: which has not begun.
        path: of a checkpoint, or of a folder, of which the newest whole one is taken, if it has
            one; or None.

    Returns:
        What the checkpoint has of the callbacks, or None.

    Raises:
        FileError: there are checkpoints, but none is whole; or it is of another run; or a callback
            has something against it.
        FileNotFoundError: there is no such file.
    """
    trainer = run.trainer
    found = None if path is None else _found(Path(path))
    if found is None:
        run.hooks.fit_check(trainer.steps)
        if path is not None:
            logger.info("there is no checkpoint in %s yet: training begins", path)
        run.stand_at_the_beginning()
        return None
    place, tree = found
    batches = run.make_batches(tree["trainer"]["epoch"])
    check_agreement(what_must_agree(trainer, run.facts(batches)), tree["must_agree"], place)
    if tree["run"] is not None:
        _check_run(run, tree, batches.steps, place)
    run.hooks.fit_check(tree["trainer"]["steps"])
    put_back(trainer, tree, place)
    run.stand_at_the_beginning()
    logger.info("training goes on from %s", place)
    if tree["run"] is None:  # it was saved outside of fit
        return None
    run.take_up(tree["run"])
    return tree["callbacks"]


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
    except ValueError as error:
        raise _unusable(path, error) from None
    return tree


def _check_run(run: "Run", tree: Any, steps: int | None, path: Path) -> None:
    """Whether a run can stand where a checkpoint says, and its callbacks with it."""
    done = tree["run"]["epoch_steps"]
    try:
        if steps is not None and done > steps:
            raise ValueError(f"{done} steps of an epoch are done, which has {steps}")
        run.hooks.check_states(tree["callbacks"])
    except ValueError as error:
        raise _unusable(path, error) from None


def _unusable(path: Path, why: ValueError) -> NoCheckpointError:
    return NoCheckpointError(f"{path} is no whole checkpoint: {why}; go on from another one")


def numbered(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the oldest one first."""
    return sorted(path for path in folder.glob(NUMBERED) if number_of(path) is not None)


def number_of(path: Path) -> int | None:
    """The number of steps in the name of a checkpoint; None for another name."""
    number = path.name.removeprefix("checkpoint-").removesuffix(SUFFIX)
    return int(number) if number.isascii() and number.isdigit() else None


def _found(path: Path) -> tuple[Path, Any] | None:
    """The checkpoint to go on from, and what is in it."""
    if path.suffix == SUFFIX or path.is_file():
        return path, read_checkpoint(path)
    broken: list[NoCheckpointError] = []
    for one in reversed(numbered(path)):
        try:
            tree = read_checkpoint(one)
        except NoCheckpointError as error:
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
