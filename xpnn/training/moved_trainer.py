"""A trainer on another backend."""

from typing import TYPE_CHECKING, TypeVar

from xpnn.backends import Backend
from xpnn.moving import moved

if TYPE_CHECKING:
    from xpnn.training.trainer import Trainer

AnyTrainer = TypeVar("AnyTrainer", bound="Trainer")


def moved_trainer(trainer: AnyTrainer, backend: str | Backend) -> AnyTrainer:
    """A new trainer on ``backend`` that goes on where this one is; see ``Trainer.to``."""
    network = trainer.network.to(backend)
    there = type(trainer)(
        network,
        trainer.loss,
        trainer.optimizer,
        metrics=trainer.metrics,
        callbacks=trainer.callbacks,
        seed=trainer.seed,
        log_every=trainer.log_every,
        compile=trainer.compile,
        precision=trainer.precision,
        accumulate=trainer.accumulate,
    )
    there.epoch, there.steps = trainer.epoch, trainer.steps
    if trainer.opt_state is not None:
        with network.backend.on_device():
            fresh = there.fresh_opt_state()
            there.opt_state = moved(trainer.opt_state, fresh, network.backend)
    return there
