"""Where batches come from: arrays that are cut up, or an iterable that has them.

Arrays are looked at before the first step, so that an error changes nothing. What does not fit the
device, or is a file mapped into memory, stays where it is; batches of it are brought over one by
one. Batches of an iterable are looked at when they come.
"""

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

from xpnn.backends.advice import rewording
from xpnn.data.batches import Batches, Samples
from xpnn.data.row_batches import RowBatches
from xpnn.data.splits import held_out_rows
from xpnn.data.stream import Stream
from xpnn.errors import DataError, ShapeError
from xpnn.incoming_batches import has_length, is_array, is_dataset, parts_by_name, refuse_several
from xpnn.local_rows import part_sizes
from xpnn.losses.balancing import is_balanced
from xpnn.losses.by_output import losses_of
from xpnn.metrics import Metric
from xpnn.network import Network
from xpnn.training.intake.balancing import with_numbers
from xpnn.training.intake.identity import of_data
from xpnn.training.intake.incoming import Incoming, inspect
from xpnn.training.state import TrainingState
from xpnn.training.stepping.checks import check_samples
from xpnn.training.stepping.conversion import BatchForm
from xpnn.typing import Loss

logger = logging.getLogger("xpnn")

MakeBatches = Callable[[int], Batches | Stream]
"""The batches of an epoch, by its number from 0."""
Given = tuple[Any, Any, Any]
"""Inputs, targets and, where there are such, the weights of the samples, of any library."""


class Sources(NamedTuple):
    """What is trained on, what is held out or given for validation, and what both are known by.

    With them the loss, with numbers for what all targets of the training decide, and the training
    data where they are to be measured, too.
    """

    loss: Loss
    make_batches: MakeBatches
    held_out: Samples | Stream | None
    identify: Callable[[], dict[str, Any]]
    measured_too: Samples | Stream | None = None

    def expect(self, first_batch: dict[str, Any] | None) -> None:
        """Warn when another first batch comes out of an iterable."""
        batches = self.make_batches(0)
        if isinstance(batches, Stream):
            batches.first.expect(first_batch)


def sources_of_fit(
    state: TrainingState,
    x: Any,
    y: Any,
    *,
    epochs: int,
    batch_size: int | None,
    validation: Any,
    sample_weight: Any,
    shuffle: bool | None,
    train_metrics: bool,
) -> Sources:
    """Look at what was passed to ``fit``, before the first step; see there."""
    if y is not None or has_arrays(x):
        size = 32 if batch_size is None else int(batch_size)
        _check_counts(epochs, size)
        given, shuffled = (x, y, sample_weight), shuffle is not False
        sources = _of_arrays(state, given, validation, size, shuffled, train_metrics)
        _refuse_to_repeat(sources.held_out, epochs)
        return sources
    if is_dataset(x):
        size = 32 if batch_size is None else int(batch_size)
        _check_counts(epochs, size)
        x, validation = _rows_of(x, validation, size, shuffle, state.seed)
        batch_size = shuffle = None
    _check_counts(epochs, 1)
    _refuse_beside_batches(batch_size=batch_size, sample_weight=sample_weight, shuffle=shuffle)
    return _of_iterable(state, x, epochs, validation, train_metrics)


def samples_to_measure(
    state: TrainingState,
    x: Any,
    y: Any,
    sample_weight: Any,
    batch_size: int | None,
    metrics: Sequence[Metric],
) -> Samples | Stream:
    """Look at what was passed to ``evaluate``; see there."""
    if y is not None or has_arrays(x):
        _check_counts(1, 256 if batch_size is None else batch_size)
        given = x, y, sample_weight
        return _samples(state.network, state.loss, given, metrics=metrics)[0]
    if is_dataset(x):
        size = 256 if batch_size is None else int(batch_size)
        _check_counts(1, size)
        x, batch_size = RowBatches(x, size), None
    _refuse_beside_batches(batch_size=batch_size, sample_weight=sample_weight)
    return _stream(state.network, state.loss, x, metrics=metrics)


def _rows_of(
    dataset: Any, validation: Any, size: int, shuffle: bool | None, seed: int
) -> tuple[Any, Any]:
    """Batches of a data set of Hugging Face, and what is held out, if that was a share of it."""
    if not has_length(dataset):
        if shuffle:
            raise ValueError(
                "wanted no shuffle beside a data set that is streamed, whose rows come as they "
                "are; write dataset.shuffle(buffer_size=10_000), or leave it out"
            )
        return RowBatches(dataset, size), validation
    rows = RowBatches(dataset, size, shuffle=shuffle is not False, seed=seed)
    if isinstance(validation, Real) and not isinstance(validation, bool):
        return rows.split(float(validation), seed)
    return rows, validation


def has_arrays(x: Any) -> bool:
    """Whether it is an array, or inputs by name, rather than something that gives batches.

    Raises:
        DataError: these are several data sets of Hugging Face.
    """
    refuse_several(x)
    return is_array(x) or isinstance(x, Mapping)


# Arrays -------------------------------------------------------------------------------------------


def _of_arrays(
    state: TrainingState,
    given: Given,
    validation: Any,
    size: int,
    shuffle: bool,
    train_metrics: bool,
) -> Sources:
    network, loss, seed = state.network, state.loss, state.seed
    of_train = state.metrics if train_metrics else ()
    held_out: Samples | Stream | None = None
    if has_batches(validation):
        (train,) = _samples(network, loss, given, metrics=of_train)
        held_out = _stream(network, loss, validation, whose="validation ", metrics=state.metrics)
    elif isinstance(validation, tuple | list):
        sets = given, _unpacked(validation)
        train, held_out = _samples(network, loss, *sets, metrics=state.metrics)
    elif validation is None:
        (train,) = _samples(network, loss, given, metrics=of_train)
    else:
        (train,) = _samples(network, loss, given, metrics=state.metrics)
        kept, out = held_out_rows(len(train), validation, seed)
        train, held_out = train.of_rows(kept), train.of_rows(out)
    _tell_of_uneven(min(size, len(train)), state)
    whole, rest = divmod(len(train), size)
    for rows in {size if whole else rest, rest or size}:
        _check_batch_size(state, rows)
    return Sources(
        with_numbers(loss, train, network),
        lambda epoch: train.batches(size, seed=seed, epoch=epoch, shuffle=shuffle),
        held_out,
        _identity_of(train, held_out, network),
        train if train_metrics else None,
    )


def _identity_of(
    train: Samples | Stream, held_out: Samples | Stream | None, network: Network
) -> Callable[[], dict[str, Any]]:
    """A function that looks at the data once, when it is first called."""

    @functools.cache
    def identify() -> dict[str, Any]:
        return {**of_data(train, network), "held_out": of_data(held_out, network)}

    return identify


def has_batches(validation: Any) -> bool:
    """Whether it is neither a share nor arrays, but something that has batches."""
    return not (isinstance(validation, Real | tuple | list | None) or is_array(validation))


def _unpacked(validation: Any) -> Given:
    """The three parts of (x, y) or (x, y, sample_weight)."""
    if len(validation) not in (2, 3):
        raise ValueError(
            f"validation is a share, (x, y) or (x, y, sample_weight), got a tuple of "
            f"{len(validation)}"
        )
    x, y, *rest = validation
    return x, y, rest[0] if rest else None


def _samples(
    network: Network, loss: Loss, *sets: Given, whose: str = "", metrics: Sequence[Metric] = ()
) -> list[Samples]:
    """Several data sets, found fit to train on or to measure with; those behind the first validate.

    All of them move to the device, or, where it has no room for them together, none.
    """
    names = [whose, *(["validation "] * (len(sets) - 1))]
    for name, (x, y, _) in zip(names, sets, strict=True):
        if x is None:
            raise DataError(f"wanted {name}inputs x, got None")
        if y is None:
            raise DataError(f"wanted {name}targets y, got None; for an autoencoder pass y=x")
    backend, form = network.backend, BatchForm(network)
    with backend.on_device(), backend.overflowing():  # infinities are told of below
        rows = [form.parts(*given) for given in sets]
        seen = [_inspected(parts, form, network) for parts in rows]
        needed = sum(one.bytes_to_move(network.dtype) for given in seen for one in given if one)
        has_room = backend.has_room_for(needed)
        found = []
        for name, parts, incoming in zip(names, rows, seen, strict=True):
            with rewording(**dict(zip(form.names, parts, strict=True))):
                arrays = tuple(
                    _moved(one, convert, network, has_room)
                    for one, convert in zip(incoming, form.conversions, strict=True)
                )
                check_samples(network, loss, *form.whole(arrays), name, metrics=metrics)
            found.append(Samples(arrays, backend))
        return found


def _inspected(parts: Sequence[Any], form: BatchForm, network: Network) -> list[Incoming | None]:
    return [inspect(name, one, network) for name, one in zip(form.names, parts, strict=True)]


def _moved(
    one: Incoming | None, convert: Callable[[Any, Network], Any], network: Network, has_room: bool
) -> Any:
    """The array as a step wants it, or as NumPy's, if it is to stay where it lies."""
    if one is None:
        return None
    if one.stays_on_host(network.backend, has_room):
        return one.numpy
    return convert(one.values, network)


# Iterables ----------------------------------------------------------------------------------------


def _of_iterable(
    state: TrainingState, source: Any, epochs: int, validation: Any, train_metrics: bool
) -> Sources:
    network, loss = state.network, state.loss
    of_train = state.metrics if train_metrics else ()
    stream, again = (
        _stream(network, loss, source, partial(_check_batch_size, state), metrics=of_train)
        for _ in range(2)  # one to train on, and one to look at beside
    )
    held_out: Samples | Stream | None = None
    if has_batches(validation):
        held_out = _stream(network, loss, validation, whose="validation ", metrics=state.metrics)
    elif isinstance(validation, tuple | list):
        given, metrics = _unpacked(validation), state.metrics
        (held_out,) = _samples(network, loss, given, whose="validation ", metrics=metrics)
    elif validation is not None:
        raise ValueError(
            f"wanted validation=(x, y), or batches, beside an iterable of batches, got "
            f"{validation!r}; a share can only be held out of arrays"
        )
    for one in (stream, held_out):
        _refuse_to_repeat(one, epochs)
    if train_metrics:
        _refuse_once_more(stream, "train_metrics, for which they are gone through after an epoch")
    if any(is_balanced(one) for _, one, _ in losses_of(loss, network.output_names)):
        _refuse_once_more(
            stream, "class_weight='balanced', for which they are counted before the first step"
        )
        loss = with_numbers(loss, again, network)
    return Sources(
        loss,
        stream.at,
        held_out,
        _identity_of(stream, held_out, network),
        again if train_metrics else None,
    )


def _stream(
    network: Network,
    loss: Loss,
    source: Any,
    check_size: Callable[[int], None] = lambda rows: None,
    whose: str = "",
    metrics: Sequence[Metric] = (),
) -> Stream:
    """Batches of an iterable, each looked at when it comes; see ``Stream``.

    Args:
        check_size: raises ShapeError if no step can be made with so many samples.
        whose: what stands before the number of a batch in an error.
        metrics: what is to be measured on them.
    """
    look = partial(_look_at_batch, network, loss, metrics, check_size, whose)
    source = RowBatches(source, 256) if is_dataset(source) else source
    return Stream(source, network.backend, look)


def _look_at_batch(
    network: Network,
    loss: Loss,
    metrics: Sequence[Metric],
    check_size: Callable[[int], None],
    whose: str,
    batch: Any,
    number: int,
) -> tuple[Any, ...]:
    """The arrays of a batch: NumPy's where they lie on the host, else of the network's backend.

    The numbers are looked at where that waits for no device.

    Raises:
        ShapeError, DataError: it cannot be trained on; the message begins with its number.
    """
    try:
        if isinstance(batch, Mapping):
            names = [name for *_, name in network.inputs], network.output_names
            batch = parts_by_name(batch, *names)
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            came = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
            raise DataError(
                f"wanted (x, y), (x, y, sample_weight) or a dict of such, got a "
                f"{type(batch).__name__}{came}; make each batch such a tuple"
            )
        if any(one is None for one in batch[:2]):
            raise DataError("wanted inputs x and targets y, got None for one of them")
        form = BatchForm(network)
        given = form.parts(*(*batch, None)[:3])
        seen = _inspected(given, form, network)
        parts: list[Any] = [one and _sendable(one, network) for one in seen]
        readable = [one is None or one.is_readable(network.backend) for one in seen]
        arrays = [
            one.numpy if one is not None and here else part
            for one, part, here in zip(seen, parts, readable, strict=True)
        ]
        if tuple(arrays[0].shape) == network.inputs[0][0]:
            raise ShapeError(
                f"wanted inputs of shape (batch, ...), got {tuple(arrays[0].shape)}, a single "
                f"sample; let the iterable give several at a time, as "
                f"DataLoader(dataset, batch_size=32) does"
            )
        with rewording(**dict(zip(form.names, given, strict=True))):
            x, y, weight = form.whole(arrays)
            check_samples(network, loss, x, y, weight, metrics=metrics, values=all(readable))
        check_size(arrays[0].shape[0])
    except (ShapeError, DataError) as error:
        raise type(error)(f"{whose}batch {number}: {error}") from error
    return tuple(parts)


def _sendable(one: Incoming, network: Network) -> Any:
    """An array of the backend as it is, and what lies on the host as NumPy's."""
    if one.owned:
        return one.values
    return one.numpy if one.on_host else network.backend.asarray(one.values)


def _refuse_to_repeat(batches: Samples | Stream | None, epochs: int) -> None:
    if epochs > 1 and isinstance(batches, Stream) and batches.one_shot:
        raise DataError(
            f"wanted batches for {epochs} epochs, got a {type(batches.origin).__name__}, which can "
            f"be gone through once; pass a list, an object whose __iter__ starts anew, or a "
            f"function that returns a new iterator"
        )


def _refuse_once_more(batches: Stream, what: str) -> None:
    if batches.one_shot:
        raise DataError(
            f"wanted batches that can be gone through once more beside {what}, got a "
            f"{type(batches.origin).__name__}, which can be gone through once; pass a list, an "
            f"object whose __iter__ starts anew, or a function that returns a new iterator"
        )


def _refuse_beside_batches(**given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"wanted no {name} beside an iterable of batches, which come as they are, got "
                f"{name}={value!r}; leave it out, or let the iterable do it"
            )


# Counts -------------------------------------------------------------------------------------------


def _check_batch_size(state: TrainingState, rows: int) -> None:
    """Whether all layers can train on batches of so many samples; raises ShapeError if not."""
    for length in set(part_sizes(rows, state.accumulate)):
        for layer in state.network.all_layers:
            layer.check_batch(length)


def _tell_of_uneven(rows: int, state: TrainingState) -> None:
    """Warn where each device takes whole batches, as their rows do not come out even."""
    devices, parts = state.network.backend.devices, state.accumulate
    if part_sizes(rows, parts)[0] % devices:
        cut = f" in {parts} parts" if parts > 1 else ""
        logger.warning(
            "batches of %d samples%s do not come out even on %d devices, so that each takes all of "
            "them, which is no faster than one device; take a batch_size of %d",
            *(rows, cut, devices, -(-rows // (devices * parts)) * devices * parts),
        )


def _check_counts(epochs: int, batch_size: int) -> None:
    """Refuse what is not at least 1."""
    if epochs < 1 or batch_size < 1:
        raise ValueError(
            f"wanted epochs and batch_size of at least 1, got epochs={epochs}, "
            f"batch_size={batch_size}"
        )
