"""Fits of small networks to a whole data set at once, by L-BFGS."""

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from xpnn.data.batches import Samples
from xpnn.errors import DataError
from xpnn.layers.regularization import Constraint
from xpnn.network import Network
from xpnn.optimizers import SGD
from xpnn.optimizers.quasi_newton import LBFGS
from xpnn.training.intake.balancing import with_numbers
from xpnn.training.intake.sources import has_arrays, samples_to_measure
from xpnn.training.stepping.compiling import own_part, parts_of
from xpnn.training.stepping.conversion import BatchForm
from xpnn.training.stepping.step import make_gradients
from xpnn.training.trainer import Trainer
from xpnn.typing import Array, Loss, Params


@dataclass
class Minimum:
    """What ``minimize`` has come to.

    Attributes:
        losses: before the first step, and after each; penalties are in them.
        evaluations: how often loss and gradients were worked out.
        reason: why it ended.

    >>> from xpnn import Dense, Network, mean_squared_error, minimize
    >>> net = Network([Dense(1)], input_shape=(1,), seed=1)
    >>> found = minimize(net, mean_squared_error, [[0.0], [1.0], [2.0]], [[1.0], [3.0], [5.0]])
    >>> found.losses[0] > found.losses[-1] == found.loss
    True
    """

    losses: list[float] = field(default_factory=list)
    evaluations: int = 0
    reason: str = ""

    @property
    def loss(self) -> float:
        """The last one."""
        return self.losses[-1]


def minimize(
    network: Network,
    loss: Loss | str | Mapping[str, Loss | str] | Sequence[Loss | str],
    x: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    steps: int = 100,
    memory: int = 10,
    tolerance: float = 1e-5,
    accumulate: int = 1,
    by: Literal["scipy", "xpnn"] | None = None,
) -> Minimum:
    """Fit a network to a whole data set by L-BFGS: every step sees all samples.

    For small networks and smooth losses, where it ends at a minimum in tens of steps (Liu and
    Nocedal, 1989; Nocedal and Wright, 2006, algorithm 7.5). The network is changed in place, step
    by step. Penalties of ``regularize`` are part of what is minimised, and frozen layers stay.

    Args:
        network: without layers that carry anything from batch to batch, such as Dropout and
            BatchNorm: the loss has to be a function of the parameters.
        loss, x, y, sample_weight: as for ``Trainer``; arrays.
        steps: the most that are taken.
        memory: how many steps tell of the curvature.
        tolerance: it ends where no number of the gradient is larger.
        accumulate: in how many parts the data are gone through, to save memory.
        by: "scipy" for SciPy's L-BFGS-B, which computes its steps in float64 on the host; "xpnn"
            for ours, on the device of the network. None takes SciPy's where it is installed and
            the network lies on the host.

    Returns:
        The losses of all steps, and why it ended.

    Raises:
        ShapeError, DataError: the data do not fit the network or the loss.
        ValueError: the network carries a state, has constraints, or nothing that is trained.

    >>> from xpnn import Dense, Network, mean_squared_error
    >>> net = Network([Dense(1)], input_shape=(1,), seed=1)
    >>> found = minimize(net, mean_squared_error, [[0.0], [1.0], [2.0]], [[1.0], [3.0], [5.0]])
    >>> found.loss < 1e-6
    True
    """
    _check(network, steps, memory, tolerance, by)
    if by is None:
        installed = importlib.util.find_spec("scipy") is not None
        by = "scipy" if installed and network.backend.on_host else "xpnn"
    backend = network.backend
    with backend.on_device(), network.in_training():
        state = Trainer(network, loss, SGD()).state  # which knows names, and how data look
        if y is None and not has_arrays(x):
            raise DataError(
                f"minimize goes by all samples in each step, and wanted arrays x and y, got a "
                f"{type(x).__name__} and no y"
            )
        samples = samples_to_measure(state, x, y, sample_weight, None, ())
        assert isinstance(samples, Samples)
        batch = BatchForm(network).whole(samples.batches(len(samples))[0])
        flat = _Flat(network, with_numbers(state.loss, samples, network), accumulate, batch)
        found = Minimum()
        if by == "scipy":
            _by_scipy(flat, steps, memory, tolerance, found)
        else:
            _by_xpnn(flat, steps, memory, tolerance, found)
        found.evaluations = flat.evaluations
    return found


def _by_xpnn(flat: "_Flat", steps: int, memory: int, tolerance: float, found: Minimum) -> None:
    """Our L-BFGS, on the device."""
    search = LBFGS(flat.evaluate, memory, flat.backend.xp, flat.number)
    for here in search.steps(flat.join(flat.network.params)):
        flat.put(here.w)
        found.losses.append(here.value)
        if flat.number(flat.backend.xp.max(flat.backend.xp.abs(here.gradient))) <= tolerance:
            found.reason = "no number of the gradient is larger than the tolerance"
            return
        if len(found.losses) > steps:
            found.reason = f"{steps} steps were taken"
            return
    found.reason = "no step lowers the loss any more"


def _by_scipy(flat: "_Flat", steps: int, memory: int, tolerance: float, found: Minimum) -> None:
    """SciPy's L-BFGS-B, without bounds."""
    from scipy.optimize import minimize as minimize_by_scipy

    backend, dtype = flat.backend, flat.network.dtype

    def evaluate(w: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = flat.evaluate(backend.asarray(w, dtype))
        if not found.losses:
            found.losses.append(value)
        return value, backend.to_numpy(gradient).astype(np.float64)

    def step_taken(intermediate_result: Any) -> None:
        flat.put(backend.asarray(intermediate_result.x, dtype))
        found.losses.append(float(intermediate_result.fun))

    start = backend.to_numpy(flat.join(flat.network.params)).astype(np.float64)
    # of a loss that is right to so much, no less is gained
    least = float(backend.xp.finfo(backend.dtype(dtype)).eps)
    options = {"maxiter": steps, "maxcor": memory, "gtol": tolerance, "ftol": least}
    result = minimize_by_scipy(
        evaluate, start, jac=True, method="L-BFGS-B", callback=step_taken, options=options
    )
    found.reason = str(result.message)


def _check(network: Any, steps: int, memory: int, tolerance: float, by: Any) -> None:
    if not isinstance(network, Network):
        raise TypeError(f"minimize wants a Network, got {network!r}")
    for name, count in {"steps": steps, "memory": memory}.items():
        if count < 1 or count != int(count):
            raise ValueError(f"minimize needs {name} of at least 1, got {count}")
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"minimize needs a tolerance of at least 0, got {tolerance}")
    if by not in (None, "scipy", "xpnn"):
        raise ValueError(f"by is 'scipy', 'xpnn' or None, got {by!r}")
    if network.state:
        raise ValueError(
            f"minimize wants a loss that depends on parameters alone, but the network carries "
            f"{', '.join(network.state)} from batch to batch; leave Dropout, BatchNorm and the "
            f"like out, or train with a Trainer"
        )
    if not network.trainable():
        raise ValueError(
            "minimize wants parameters that are trained, and the network has none; add a layer "
            "with some, or let those that are frozen train again by network.unfreeze()"
        )
    rules = [rule for of_name in network.regularizers().values() for rule in of_name]
    if held := [rule for rule in rules if isinstance(rule, Constraint)]:
        raise ValueError(
            f"minimize knows penalties and no constraints, got {held[0]!r}; take a penalty in its "
            f"place, or train with a Trainer"
        )


class _Flat:
    """The loss of a network over a batch as a function of one flat array of what is trained."""

    def __init__(self, network: Network, loss: Loss, accumulate: int, batch: tuple[Any, ...]):
        self.network, self.backend, self.evaluations = network, network.backend, 0
        trained = network.trainable()
        self._shapes = {k: one.shape for k, one in network.params.items() if k in trained}
        gradients = make_gradients(network, loss, accumulate)
        others = {k: one for k, one in network.params.items() if k not in trained}

        def step(w: Array, others: Params, *batch: Any) -> tuple[Array, Array]:
            value, grads = gradients({**others, **self.split(w)}, *batch)
            return value, self.join(grads)

        known = own_part(*parts_of(network, loss, SGD())) is None
        self._step = self.backend.compiled(step, known=known)
        self._others, self._batch = others, batch

    def join(self, arrays: Params) -> Array:
        xp = self.backend.xp
        return xp.concat([xp.reshape(arrays[name], (-1,)) for name in self._shapes])

    def split(self, w: Array) -> Params:
        xp, found, start = self.backend.xp, {}, 0
        for name, shape in self._shapes.items():
            stop = start + math.prod(shape)
            found[name] = xp.reshape(w[start:stop], shape)
            start = stop
        return found

    def put(self, w: Array) -> None:
        """Let the network have these values."""
        self.network.params = {**self.network.params, **self.split(w)}

    def evaluate(self, w: Array) -> tuple[float, Array]:
        self.evaluations += 1
        value, gradient = self._step(w, self._others, *self._batch)
        return self.number(value), gradient

    def number(self, value: Array) -> float:
        return float(self.backend.to_numpy(value))
