"""XRay: some of the steps of a run looked into, evenly over all of it."""

from pathlib import Path
from typing import Any, ClassVar

from xpnn.arguments import KnownAttributes, checked
from xpnn.errors import XpnnError
from xpnn.files import replacement
from xpnn.training.callbacks.hooks import Callback
from xpnn.training.state import TrainingState
from xpnn.xray.data import FILE, Told, as_data
from xpnn.xray.explanation import Explanation
from xpnn.xray.page import as_json
from xpnn.xray.recording import explanation_of, recorded_step
from xpnn.xray.views import LayerInfo, StepView


class XRay(KnownAttributes, Callback):
    """Keeps all that is seen in every so many-th step of a run, as ``xpnn.explain`` does in one.

    Such a step is taken twice: call by call on a copy of the network, and by the run itself, which
    goes on as it would without. Where more steps come together than are kept, every second one is
    dropped, and from then on twice as many lie between two: those that are left are spread evenly
    over the run.

    Of layers that are not called in each step ``layers`` has all; those that the newest step has
    not called come last.

    With ``accumulate`` a step is looked into as one of the whole batch. A checkpoint holds nothing
    of this: after ``resume`` it begins with the step that comes next.

    Args:
        every: steps from one that is looked into to the next, the first of the run being one.
        most: how many are kept, at least 2. Each takes the memory of the arrays of a step, on the
            host.
        folder: into which ``xray.json`` is written after each step that was looked into, for
            ``xpnn xray --watch folder``, whose page follows the run; made where it is missing.

    Raises:
        ValueError: less than that; or, from ``fit``, several processes train together.
        FileError, OSError: from ``fit``: the file cannot be written.

    >>> import xpnn
    >>> net = xpnn.Network([xpnn.Dense(1)], input_shape=(1,))
    >>> xray = XRay(every=2)
    >>> trainer = xpnn.Trainer(net, "mse", "sgd", callbacks=[xray])
    >>> x = [[0.0], [1.0], [2.0], [3.0]]
    >>> history = trainer.fit(x, x, epochs=3, batch_size=2, progress=False)
    >>> [step.number for step in xray.explanation.steps]
    [1, 3, 5]
    """

    steers: ClassVar[bool] = False
    fixed: ClassVar[tuple[str, ...]] = ("every", "most", "folder")

    @checked
    def __init__(self, every: int = 10, *, most: int = 50, folder: str | Path | None = None):
        if every < 1:
            raise ValueError(f"XRay wants every to be at least 1 step, got {every}")
        if most < 2:
            raise ValueError(f"XRay wants most to be at least 2 steps, got {most}")
        self.every, self.most = int(every), int(most)
        self.folder = None if folder is None else Path(folder)
        self._training: object = None
        self._between = self.every
        self._layers: dict[str, LayerInfo] = {}
        self._steps: list[StepView] = []
        self._explanation: Explanation | None = None
        self._told: Told = {}

    def on_fit_begin(self, state: TrainingState, epochs: int) -> None:
        if state.by_rows is not None:
            raise ValueError(
                f"XRay: wanted a training in one process, got {state.by_rows.size} that each have "
                f"some rows of a batch; look into a step by itself, xpnn.explain(network, x, y, "
                f"loss)"
            )
        if self._training is not state.training:
            self._training, self._explanation = state.training, None
            self._layers, self._steps, self._between = {}, [], self.every

    def on_step_begin(self, state: TrainingState, batch: tuple[Any, ...]) -> None:
        number = state.steps + 1
        # one that was looked into may not have been taken, as a fit was stopped before
        self._steps = [one for one in self._steps if one.number < number]
        first = self._steps[0].number if self._steps else number
        if (number - first) % self._between:
            return
        about = state.network, state.loss, state.optimizer
        layers, step = recorded_step(
            *(*about, *batch),
            opt_state=state.opt_state,
            precision=state.precision,
            number=number,
        )
        self._steps.append(step)
        if len(self._steps) > self.most:
            self._steps, self._between = self._steps[::2], 2 * self._between
        self._layers = {one.name: one for one in layers} | self._layers
        self._explanation = explanation_of(*about, tuple(self._layers.values()), self._steps)
        if self.folder is not None:
            with replacement(self.folder / FILE) as file:
                file.write(as_json(as_data(self._explanation, self._told)).encode())

    @property
    def explanation(self) -> Explanation:
        """The steps that were looked into so far.

        Raises:
            XpnnError: there are none.
        """
        if self._explanation is None:
            raise XpnnError(
                "wanted steps that were looked into, got none; pass this XRay to fit, as in "
                "trainer.fit(x, y, callbacks=[xray]), and look afterwards"
            )
        return self._explanation
