"""What a network makes of any number of inputs, a batch at a time, and of layers inside of it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from xpnn.backends import Backend
from xpnn.backends.portable.staging import is_mapped
from xpnn.errors import DataError, XpnnError
from xpnn.incoming_batches import batches_of, gives_batches, inputs_of, is_dataset
from xpnn.layers import Layer
from xpnn.layers.shadowing import shadowed
from xpnn.losses.by_output import losses_of
from xpnn.losses.outputs import link_of, outputs_by_part
from xpnn.named_inputs import NamedInputs
from xpnn.trees import as_tuple, one_or_tuple, tree_map
from xpnn.typing import Array, Arrays


def in_batches(
    network: NamedInputs, x: Any, batch_size: int, finish: Callable[[Arrays], Arrays]
) -> Arrays:
    """What ``finish`` makes of the outputs of each batch, of all batches."""
    if batch_size < 1:
        raise ValueError(f"predict needs a batch_size of at least 1, got {batch_size}")
    what = f"a prediction of {batch_size} samples at a time"
    room = network.backend.room_for(what, "predict fewer samples, or take a smaller batch_size")
    with room, network.backend.on_device(), network.uninspected():
        if gives_batches(x):
            parts = [as_tuple(finish(one)) for one in _outputs_of(network, x, batch_size)]
            network.root.clear()
            return one_or_tuple(
                [_joined(network.backend, own, ()) for own in zip(*parts, strict=True)]
            )
        given = network.inputs_in_order(x)
        on_disk = [is_mapped(one) and one.ndim > 0 for one in given]
        mapped = any(on_disk)
        if mapped:
            given = tuple(
                one if stays else network.as_input(one, number)
                for number, (one, stays) in enumerate(zip(given, on_disk, strict=True))
            )
        else:
            given = as_tuple(network.admit(given if len(given) > 1 else given[0]))
        count = network.count_rows(given)
        parts = []
        for start in range(0, max(count, 1), batch_size):  # of no inputs, an empty batch
            stop = min(start + batch_size, count)
            batch = one_or_tuple([one[start:stop, ...] for one in given])
            batch = network.admit(batch) if mapped else batch
            parts.append(as_tuple(finish(network.root.forward(batch))))
        network.root.clear()
        return one_or_tuple(
            [_joined(network.backend, own, as_tuple(batch)) for own in zip(*parts, strict=True)]
        )


def _outputs_of(network: NamedInputs, source: Any, batch_size: int) -> Iterator[Arrays]:
    """The outputs for each batch that a loader, a generator or a data set gives.

    Raises:
        DataError, ShapeError: the network cannot be given a batch, whose number is named; or there
            are none.
    """
    names = [name for *_, name in network.inputs], network.output_names
    if is_dataset(source):
        source = batches_of(source, batch_size)
    elif not isinstance(source, Iterable):
        source = source()
    number = 0
    for number, batch in enumerate(source, start=1):
        try:
            inputs = network.admit(inputs_of(batch, *names))
        except XpnnError as error:
            raise type(error)(f"batch {number}: {error}") from error
        made = network.root.forward(inputs)
        seen = any(
            network.backend.shares_memory(one, given)
            for one in as_tuple(made)
            for given in as_tuple(inputs)
        )
        yield tree_map(network.backend.copied, made) if seen else made
    if not number:
        raise DataError(
            "wanted at least one batch to predict from, got none; an iterator that was gone "
            "through before is empty: pass a list of inputs, or begin it anew"
        )


def _joined(backend: Backend, parts: Sequence[Array], inputs: Sequence[Array]) -> Array:
    """The outputs of all batches, in memory that is not that of the inputs."""
    if len(parts) > 1:
        return backend.xp.concat(list(parts), axis=0)
    seen = any(backend.shares_memory(parts[0], one) for one in inputs)
    return backend.copied(parts[0]) if seen else parts[0]


def as_probabilities(network: NamedInputs, loss: Any) -> Callable[[Arrays], Arrays]:
    """What makes probabilities of outputs; leaves them as they are where no loss was given."""
    if loss is None or loss is False:
        return lambda outputs: outputs
    if not callable(loss):
        raise ValueError(
            f"a network does not know by itself what its outputs mean: wanted probabilities to "
            f"be the loss that it was trained with, got {loss!r}; write "
            f"predict(x, probabilities=xpnn.cross_entropy), or whichever it was"
        )
    losses = losses_of(loss, network.output_names)
    links = [link_of(one) for _, one, _ in losses]
    outputs_by_part(network.root, network.output_shape, [one for _, one, _ in losses])
    return lambda outputs: one_or_tuple(
        [link(one, network.backend) for link, one in zip(links, as_tuple(outputs), strict=True)]
    )


@contextmanager
def outputs_kept(layer: Layer) -> Iterator[list[Arrays]]:
    """Inside, what a layer's ``forward`` returns is put into a list, call by call."""
    made: list[Arrays] = []
    forward = layer.forward

    def kept(*arguments: Any, **named: Any) -> Arrays:
        made.append(forward(*arguments, **named))
        return made[-1]

    with shadowed([(layer, "forward", kept)]):
        yield made


def output_of_call(calls: list[Arrays], wanted: str) -> Arrays:
    """What a layer has returned in one of its calls, of which the list is emptied.

    Args:
        calls: what it has returned in each.
        wanted: its name, and which of several calls is meant, as in "0.dense, call 2".

    Raises:
        ValueError: it was called several times, and the name does not say which, or never.
    """
    name, _, call = wanted.partition(", call ")
    made = dict(enumerate(map(calls.pop, [0] * len(calls)), start=1))
    number = call or ("1" if len(made) == 1 else "")
    if number not in map(str, made):
        known = ", ".join(repr(f"{name}, call {one}") for one in made)
        raise ValueError(
            f"wanted one call of {name}, got {wanted!r}; its calls are {known or 'none'}"
        )
    return made[int(number)]
