"""Where the batches of ``fit`` come from: arrays that are cut up, or an iterable that has them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from xpnn.data.batches import Batches, Samples
from xpnn.data.stream import Stream
from xpnn.errors import DataError
from xpnn.training.intake.admission import admit, admit_all, admit_stream, admit_validation
from xpnn.training.stepping.accumulation import part_sizes

if TYPE_CHECKING:
    from xpnn.training.trainer import Trainer

MakeBatches = Callable[[int], Batches | Stream]
"""The batches of an epoch, by its number from 0."""
Sources = tuple[MakeBatches, Samples | Stream | None]
"""What is trained on, and what is held out or given for validation."""


def sources_of_fit(
    trainer: "Trainer",
    x: Any,
    y: Any,
    *,
    epochs: int,
    batch_size: int | None,
    validation: Any,
    sample_weight: Any,
    shuffle: bool | None,
) -> Sources:
    """Look at what was passed to ``fit``, before the first step; see there."""
    if y is not None or hasattr(x, "shape"):
        size, shuffled = 32 if batch_size is None else int(batch_size), shuffle in (None, True)
        check_counts(epochs, size)
        sources = _of_arrays(trainer, x, y, sample_weight, validation, size, shuffled)
        _refuse_to_repeat(sources[1], epochs)
        return sources
    check_counts(epochs, 1)
    _refuse_beside_batches(batch_size=batch_size, sample_weight=sample_weight, shuffle=shuffle)
    return _of_iterable(trainer, x, epochs, validation)


def _refuse_beside_batches(**given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"wanted no {name} beside an iterable of batches, which come as they are, got "
                f"{name}={value!r}; leave it out, or let the iterable do it"
            )


def samples_to_measure(
    trainer: "Trainer", x: Any, y: Any, sample_weight: Any, batch_size: int | None
) -> Samples | Stream:
    """Look at what was passed to ``evaluate``; see there."""
    network, loss = trainer.network, trainer.loss
    if y is not None or hasattr(x, "shape"):
        check_counts(1, 256 if batch_size is None else batch_size)
        return admit(network, loss, (x, y, sample_weight))[0]
    _refuse_beside_batches(batch_size=batch_size, sample_weight=sample_weight)
    return admit_stream(network, loss, x)


def _of_arrays(
    trainer: "Trainer", x: Any, y: Any, weight: Any, validation: Any, size: int, shuffle: bool
) -> Sources:
    network, seed = trainer.network, trainer.seed
    train, held = admit_all(network, trainer.loss, x, y, weight, validation, seed=seed)
    whole, rest = divmod(len(train), size)
    for rows in {size if whole else rest, rest or size}:
        check_batch_size(trainer, rows)
    return lambda epoch: train.batches(size, seed=seed, epoch=epoch, shuffle=shuffle), held


def _of_iterable(trainer: "Trainer", source: Any, epochs: int, validation: Any) -> Sources:
    network, loss = trainer.network, trainer.loss
    stream = admit_stream(network, loss, source, lambda rows: check_batch_size(trainer, rows))
    held = admit_validation(network, loss, validation)
    for one in (stream, held):
        _refuse_to_repeat(one, epochs)
    return stream.at, held


def _refuse_to_repeat(batches: Samples | Stream | None, epochs: int) -> None:
    if epochs > 1 and isinstance(batches, Stream) and batches.one_shot:
        raise DataError(
            f"wanted batches for {epochs} epochs, got a {type(batches.origin).__name__}, which can "
            f"be gone through once; pass a list, an object whose __iter__ starts anew, or a "
            f"function that returns a new iterator"
        )


def check_batch_size(trainer: "Trainer", rows: int) -> None:
    """Whether all layers can train on batches of so many samples; raises ShapeError if not."""
    for length in set(part_sizes(rows, trainer.accumulate)):
        for layer in trainer.network.all_layers:
            layer.check_batch(length)


def check_counts(epochs: int, batch_size: int) -> None:
    """Refuse what is not at least 1."""
    if epochs < 1 or batch_size < 1:
        raise ValueError(
            f"wanted epochs and batch_size of at least 1, got epochs={epochs}, "
            f"batch_size={batch_size}"
        )
