"""A trainer as what a checkpoint holds, and back."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnn.errors import FileError, ShapeError
from xpnn.moving import copied_like
from xpnn.training.agreement import check_agreement, what_must_agree
from xpnn.training.checkpoint_file import Contents, NoCheckpointError, contents_of, read_contents

if TYPE_CHECKING:
    from xpnn.training.run import Run
    from xpnn.training.trainer import Trainer

logger = logging.getLogger("xpnn")

SUFFIX = ".safetensors"
NUMBERED = "checkpoint-*" + SUFFIX


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
    contents = contents_of(tree, network.backend)
    if run is not None:
        run.settle(contents.tree["run"])
    return contents


def put_back(trainer: "Trainer", tree: Any, path: Path) -> None:
    """Make the network, the optimizer state and the counts what a checkpoint holds.

    Raises:
        ShapeError: they do not fit; nothing was changed.
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
    trainer.opt_state = opt_state
    trainer.epoch, trainer.steps = tree["trainer"]["epoch"], tree["trainer"]["steps"]
    trainer.epoch_steps, trainer.run = 0, None


def resume(run: "Run", path: str | Path) -> list[list[Any]] | None:
    """Let a run go on from a checkpoint; one that has not begun, where there is none in a folder.

    Args:
        run: which has not begun.
        path: of a checkpoint, or of a folder, of which the newest whole one is taken.

    Returns:
        What the checkpoint has of the callbacks, or None.

    Raises:
        FileError: there are checkpoints, but none is whole; or it is of another run.
        FileNotFoundError: there is no such file.
    """
    found = _found(Path(path))
    if found is None:
        logger.info("there is no checkpoint in %s yet: training begins", path)
        return None
    place, tree = found
    trainer = run.trainer
    facts = run.facts(run.make_batches(tree["trainer"]["epoch"]))
    check_agreement(what_must_agree(trainer, facts), tree["must_agree"], place)
    put_back(trainer, tree, place)
    trainer.run = run
    logger.info("training goes on from %s", place)
    if tree["run"] is None:  # it was saved outside of fit
        run.first_epoch = trainer.epoch
        return None
    run.take_up(tree["run"])
    return tree["callbacks"]


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
        return path, read_contents(path)
    broken: list[NoCheckpointError] = []
    for one in reversed(numbered(path)):
        try:
            tree = read_contents(one)
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
