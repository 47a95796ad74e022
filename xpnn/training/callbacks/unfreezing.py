"""Layers that join in a training one after another."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, ClassVar

from xpnn.arguments import KnownAttributes
from xpnn.freezing import flags_for, matched, set_trained
from xpnn.training.callbacks.hooks import Callback
from xpnn.training.checkpointing.fields import COUNT, LIST, check_fields
from xpnn.training.state import TrainingState


class GradualUnfreezing(KnownAttributes, Callback):
    """Lets layers join in the training epoch by epoch (Howard and Ruder, 2018, section 3.3).

    What the schedule names is frozen before its epoch, and trained from there on; all else stays as
    it is. The last layers are best first, as they know the least.

    Args:
        schedule: patterns of names, as ``Network.freeze`` takes them, by the first epoch in which
            they are trained, counted from 1 over all calls of ``fit``: ``{4: "2.*", 7: "0.*"}``. A
            pattern, or a list. Where two match, the earlier counts.

    Raises:
        ValueError: from ``fit``: a pattern matches nothing, or a layer in parts.

    >>> from xpnn import SGD, Dense, Network, ReLU, Trainer, mean_squared_error
    >>> net = Network([Dense(8), ReLU(), Dense(1)], input_shape=(1,))
    >>> last_first = GradualUnfreezing({3: "0.*"})
    >>> trainer = Trainer(net, mean_squared_error, SGD(0.1), callbacks=[last_first])
    >>> history = trainer.fit([[1.0], [2.0]], [[1.0], [0.0]], epochs=2, progress=False)
    >>> sorted(net.trainable())
    ['2.dense.bias', '2.dense.weight']
    """

    steers_trainable: ClassVar[bool] = True
    fixed: ClassVar[tuple[str, ...]] = ("schedule",)

    def __init__(self, schedule: Mapping[int, str | Sequence[str]]):
        if not isinstance(schedule, Mapping) or not schedule:
            raise TypeError(
                f"GradualUnfreezing wants patterns by epochs, such as {{4: '2.*'}}, "
                f"got {schedule!r}"
            )
        for epoch in schedule:
            if isinstance(epoch, bool) or not isinstance(epoch, Integral) or epoch < 1:
                raise ValueError(f"GradualUnfreezing counts epochs from 1, got {epoch!r}")
        self.schedule = {
            int(epoch): (one,) if isinstance(one, str) else tuple(one)
            for epoch, one in sorted(schedule.items())
        }
        self._now: dict[str, Any] = {}  # the epoch that runs, from 1, and what is trained in it

    def _trained_in(self, epoch: int, state: TrainingState) -> set[str]:
        """The names of the parameters that are trained in an epoch, counted from 1."""
        root, wanted = state.network.root, state.network.trainable()
        for patterns in self.schedule.values():
            wanted -= matched(root, patterns)
        for start, patterns in self.schedule.items():
            wanted |= matched(root, patterns) if start <= epoch else set()
        return wanted

    def on_fit_check(self, state: TrainingState, steps: int) -> None:
        for epoch in (0, *self.schedule):
            flags_for(state.network.root, self._trained_in(epoch, state))

    def on_epoch_begin(self, state: TrainingState, steps: int | None) -> None:
        epoch = state.epoch + 1
        wanted = self._trained_in(epoch, state)
        set_trained(state.network.root, wanted)
        self._now = {"epoch": epoch, "trained": sorted(wanted)}

    # In a checkpoint -----------------------------------------------------------------------------

    def state(self) -> dict[str, Any] | None:
        return self._now or None

    def check_state(self, state: TrainingState, saved: dict[str, Any]) -> None:
        check_fields(saved, {"epoch": COUNT, "trained": LIST}, type(self).__name__)
        here = sorted(self._trained_in(saved["epoch"], state))
        if here != saved["trained"]:
            before = ", ".join(map(str, saved["trained"]))
            raise ValueError(
                f"in epoch {saved['epoch']} it trained {before or 'nothing'}, and here that would "
                f"be {', '.join(here) or 'nothing'}"
            )

    def load_state(self, saved: dict[str, Any]) -> None:
        self._now = saved
