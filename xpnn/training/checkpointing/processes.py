"""Whether the processes that are to train together were all given the same training."""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpnn.agreeing import texts_of_all, told_by_all
from xpnn.backends import Communicator
from xpnn.data.batches import Batches, Samples
from xpnn.data.first_batch import FirstBatch
from xpnn.data.stream import Stream
from xpnn.errors import XpnnError
from xpnn.numerics import widened
from xpnn.training.callbacks.hooks import Callback
from xpnn.training.callbacks.saved import options_of
from xpnn.training.checkpointing.agreement import MOST_NAMED, differing
from xpnn.training.describing import described
from xpnn.training.state import TrainingState
from xpnn.trees import map_with_path
from xpnn.version import VERSION

TOLD_FIRST = ("fit", "network", "trainer", "data")  # other differences may follow from these
LEFT_TO_EACH = ("globals", "private")
"""What of functions and objects may not be the same: their rank may be in it."""


def values_of(state: TrainingState) -> dict[str, Any]:
    """The arrays and counts that training begins with, in few figures."""
    values = {**state.network.params, **state.network.state}
    return {
        "weights": _figures_of(values),
        "optimizer_state": {} if state.shard_optimizer else _figures_of(state.opt_state or {}),
        "steps": state.steps,
        "epoch": state.epoch,
    }


def values_in(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The same of what a checkpoint holds."""
    return {
        "weights": _figures_of(tree["network"]),
        "optimizer_state": _figures_of(tree["optimizer"] or {}),
        **tree["trainer"],
    }


def kinds_of(callbacks: Sequence[Callback]) -> dict[str, Any]:
    """The callbacks that all processes have to have, and what xpnn's own were made with.

    Others may know their rank; and where a log is written to, the time at which its process began.
    """
    found: dict[str, Any] = {}
    for one in callbacks:
        if one.in_all_processes or not one.first_process_only:
            own = type(one).__module__.startswith("xpnn.")
            options = options_of(one) if own else {}
            if one.first_process_only:
                options = {name: told for name, told in options.items() if isinstance(told, bool)}
            found[f"{len(found)} {type(one).__name__}"] = options
    return found


def check_processes(communicator: Communicator, found: dict[str, Any]) -> None:
    """Compare what each process has found out about its training.

    Raises:
        XpnnError: they differ; raised in all of them, and the message says in what.
    """
    first = {name: found[name] for name in TOLD_FIRST if name in found}
    text = json.dumps({"xpnn": VERSION, **first, **found})
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype="<i8").astype(np.int64)
    digests = communicator.gathered(digest)
    if all(np.array_equal(one, digests[0]) for one in digests):
        return
    first, *others = map(json.loads, texts_of_all(communicator, text))
    differences = {}
    for rank, other in enumerate(others, start=1):
        unlike = [
            f"{name} ({ours}, {theirs})"
            for name, ours, theirs, _ in differing(first, other)
            if name.rpartition(".")[2] not in LEFT_TO_EACH
            and not any(f".{one}." in name for one in LEFT_TO_EACH)
        ]
        if unlike:
            more = len(unlike) - MOST_NAMED
            differences[rank] = (
                f"process {rank} differs from process 0 in: {', '.join(unlike[:MOST_NAMED])}"
                f"{f' and {more} more' if more > 0 else ''}"
            )
    if differences:
        raise XpnnError(
            f"wanted the same training in all processes; {'; '.join(differences.values())}. Give "
            f"all of them the same program, seeds, data and files"
        )


def check_processes_at(place: str, communicator: Communicator, found: dict[str, Any]) -> None:
    """Compare what each process has found out about what it does at one place of the program.

    Raises:
        XpnnError: others are elsewhere, or it differs; raised in all of them.
    """
    told = told_by_all(communicator, place, zlib.crc32(json.dumps(found).encode()))[:, 0]
    if (told != told[0]).any():
        check_processes(communicator, found)


def known_samples(data: Samples | Stream) -> dict[str, Any] | None:
    """The size and some figures of samples; of a stream nothing is known before it is read."""
    if isinstance(data, Stream):
        return None
    first = FirstBatch(data.backend)
    first.note(data.arrays)
    return {"rows": len(data), **known_of(first)["the first batch"]}


def check_first_batch(communicator: Communicator, batches: Batches | Stream) -> None:
    """Compare the first batch of a pass, where each process has drawn its own.

    Raises:
        XpnnError: they differ, as where a loader shuffles by a generator that nobody has seeded.
    """
    if isinstance(batches, Stream) and batches.first.size is not None:
        check_processes(communicator, {"data": known_of(batches.first)})


def known_of(first: FirstBatch) -> dict[str, Any]:
    """The size and the figures of a first batch that was noted."""
    saved = first.state()
    assert saved is not None
    parts = [one and {"row": "", **one} for one in saved["figures"]]
    named = {f"part {k}": one for k, one in enumerate(parts, start=1)}
    return {"the first batch": {"samples": saved["size"], **named}}


def check_same_batches(checksums: Sequence[float], until: str) -> None:
    """Compare what all processes have seen of their batches, where they told it.

    Args:
        until: up to where.

    Raises:
        XpnnError: they differ; raised in all of them.
    """
    for rank, one in enumerate(checksums):
        if one != checksums[0]:
            raise XpnnError(
                f"wanted the same batches in all processes, got others in process {rank} than in "
                f"process 0, up to {until}; give each of them all batches whole, in one order, and "
                f"seed what shuffles them"
            )


def here(state: TrainingState) -> str:
    """Where in its epochs a training stands, in words."""
    return f"step {state.epoch_steps} of epoch {state.epoch + 1}"


def check_measured(communicator: Communicator, batches: Batches | Stream) -> None:
    """Compare what all processes have seen of a set that was measured.

    Raises:
        XpnnError: they differ; raised in all of them.
    """
    seen = batches.seen if isinstance(batches, Stream) else None
    numbers = (seen.checksum, seen.batches, seen.samples) if seen else ()
    told = told_by_all(communicator, "the end of what is measured", *numbers)
    if (told == told[0]).all():
        return
    check_first_batch(communicator, batches)
    rank = int((told != told[0]).any(axis=1).argmax())
    theirs, ours = ("{1:.0f} batches of {2:.0f} samples".format(*told[k]) for k in (rank, 0))
    raise XpnnError(
        f"wanted the same batches in all processes, got others in process {rank} ({theirs}) than "
        f"in process 0 ({ours}); give each of them all batches in one order, and seed what "
        f"shuffles them"
    )


def check_end_of_epoch(state: TrainingState) -> None:
    """Compare batches, and the sums of all parameters, which have the same bits everywhere.

    Raises:
        XpnnError: they have drifted apart, or the epoch has ended in some processes only; raised
            in all of them.
    """
    communicator, backend = state.communicator, state.network.backend
    params = state.network.params
    if communicator is None:
        return
    checksum = 0 if state.batches is None else state.batches.checksum
    more = f", after {state.epoch_steps} steps"
    told = told_by_all(communicator, "the end of an epoch", checksum, more=more)
    check_same_batches(told[:, 0].tolist(), here(state))
    if not params:
        return
    wide = [widened(one, backend.xp) for one in params.values()]
    sums = backend.stack([backend.xp.sum(one) for one in wide])
    first, *others = communicator.gathered(backend.to_numpy(sums).astype(np.float64))
    for rank, other in enumerate(others, start=1):
        unlike = [
            name for name, a, b in zip(params, first, other, strict=True) if a != b and a == a
        ]
        if unlike:
            raise XpnnError(
                f"wanted the same weights in all processes, got others for {unlike[0]} in process "
                f"{rank} than in process 0, since the last epoch; whatever changes the network or "
                f"the optimizer, such as a callback, has to do the same in each"
            )


def _figures_of(values: Any) -> Any:
    return map_with_path(lambda _, leaf: described(leaf), values)
