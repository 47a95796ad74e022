"""One training step as a function of arrays alone, so that a backend may compile it."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

from xpnn.backends import Backend, Communicator
from xpnn.layers.promises import outputs_watched, promises_watched
from xpnn.layers.regularization import Penalty, make_regularization
from xpnn.layers.replica import Replica
from xpnn.local_rows import LocalRows
from xpnn.network import Network
from xpnn.numerics import widened
from xpnn.optimizers import Optimizer
from xpnn.training.stepping.accumulation import Accumulated, Gradients, Sums
from xpnn.training.stepping.batch_weight import Weighed
from xpnn.training.stepping.compiling import (
    FUSED,
    Compile,
    all_losses,
    check_compile,
    own_part,
    parts_of,
    parts_of_update,
)
from xpnn.training.stepping.conversion import BatchConversion
from xpnn.training.stepping.flat_step import FlatStep
from xpnn.training.stepping.objective import Objective
from xpnn.training.stepping.precision import MixedPrecision, state_after
from xpnn.training.stepping.replicated import Replicated, settled_by_backward
from xpnn.training.stepping.sharding import gathered, owned
from xpnn.trees import as_tuple, one_or_tuple, tree_map
from xpnn.typing import Array, Arrays, Loss, Namespace, OptState, Params, Shapes, State

Step = Callable[..., tuple[Params, State, OptState, Array]]


def make_train_step(
    network: Network,
    loss: Loss,
    optimizer: Optimizer,
    *,
    precision: MixedPrecision | None = None,
    accumulate: int = 1,
    compile: bool | None = None,
) -> Step:
    """A training step as a pure function of arrays, for loops of one's own.

    One step is forward, loss, backward, penalties, update, constraints. Inside, the network lends
    its layers the arrays it was given. Parameters, state and optimizer state are donated: keep what
    is returned and do not read what was passed.

    Args:
        network: whose layers run.
        loss: of its outputs, as for ``Trainer``.
        optimizer: whose ``init`` made the optimizer state.
        precision: computes in half precision; the optimizer state then comes from
            ``optimizer.init(params, backend, precision.scaling)``.
        accumulate: in how many parts the batch is gone through (see ``Trainer``).
        compile: whether the step is made one unit (see ``Trainer``).

    Returns:
        ``step(params, state, opt_state, x, y, weight=None)``, which returns ``(params, state,
        opt_state, value)`` after one step.

    >>> from xpnn import SGD, Dense, Network, mean_squared_error
    >>> net, optimizer = Network([Dense(1, use_bias=False)], input_shape=(1,)), SGD(0.1)
    >>> net.load({"0.dense.weight": [[2.0]]})
    >>> step = make_train_step(net, mean_squared_error, optimizer)
    >>> x, y = net.backend.asarray([[1.0], [2.0]]), net.backend.asarray([[3.0], [6.0]])
    >>> opt_state = optimizer.init(net.params, net.backend)
    >>> params, state, opt_state, value = step(net.params, net.state, opt_state, x, y)
    >>> params["0.dense.weight"].tolist(), float(value)
    ([[2.5]], 2.5)
    """
    objective = Objective(network, loss)
    weighing = _make_step(network, loss, optimizer, precision, accumulate)

    def step(
        params: Params,
        state: State,
        opt_state: OptState,
        x: Array,
        y: Array,
        weight: Array | None = None,
    ) -> tuple[Params, State, OptState, Array]:
        *after, (value, _) = weighing(params, state, opt_state, x, y, weight)
        return *after, objective.total(value)

    return _compiled(network, loss, optimizer, precision, compile, step, donate=(0, 1, 2))


def make_flat_step(
    network: Network,
    loss: Loss,
    optimizer: Optimizer,
    precision: MixedPrecision | None,
    accumulate: int,
    compile: Compile,
    communicator: Communicator | None = None,
    sharded: bool = False,
) -> FlatStep:
    """The same step on the arrays of the network where they lie, ``(opt_state, x, y, weight)``.

    It returns the value and what it weighs in a mean over batches.

    Args:
        communicator: of the processes that each take some rows of a batch; which, is one more
            argument of the step.
        sharded: whether each of them updates some of the parameters, whose slots it keeps; without
            a communicator, each device of the network's backend.
    """
    check_compile(compile, network.backend)
    parts = loss, optimizer, precision
    step = _make_step(network, *parts, accumulate, communicator, sharded)
    finish = partial(_compiled, network, *parts, compile)

    def recorded(recorder: Backend) -> tuple[Network, Callable[..., Any]]:
        twin = network.blank_on(recorder)
        return twin, _make_step(twin, *parts, accumulate, communicator, sharded)

    return FlatStep(
        *(network, step, finish, recorded if compile == FUSED else None),
        shares_out=sharded and communicator is None,
    )


def _make_step(
    network: Network,
    loss: Loss,
    optimizer: Optimizer,
    precision: MixedPrecision | None,
    accumulate: int,
    communicator: Communicator | None = None,
    sharded: bool = False,
) -> Callable[..., tuple[Params, State, OptState, Weighed]]:
    """The step by name, not yet compiled; with the value it tells what the batch weighs."""
    objective = Objective(network, loss)
    backend = network.backend
    scaling = None if precision is None else precision.scaling
    replica = None
    if communicator is not None:
        replica = Replica(communicator, backend, settled_by_backward(network))
    own = owned(network.params, communicator) if communicator and sharded else None
    shares_out = sharded and communicator is None and backend.devices > 1
    convert = BatchConversion(network, loss, may_be_empty=replica is not None)
    optimizer.check_factors(network.params)
    update = optimizer.make_update(backend, scaling)
    trainable = network.trainable()
    rules = network.regularizers()
    penalize, constrain = make_regularization(rules, backend)
    has_penalties = any(isinstance(rule, Penalty) for own in rules.values() for rule in own)
    gradients = _make_gradients_of_step(objective, precision, accumulate, replica)

    def step(
        params: Params,
        state: State,
        opt_state: OptState,
        x: Array,
        y: Array,
        weight: Array | None = None,
        rows: tuple[LocalRows, ...] | None = None,
    ) -> tuple[Params, State, OptState, Weighed]:
        x, y, weight = convert(x, y, weight)
        scale = None if scaling is None else opt_state["loss_scale"]
        layered = params
        if precision is not None:
            updated = {name: params[name] for name in params if name in trainable}
            groups = optimizer.updated_together(params, updated, backend)
            layered = precision.lent(params, backend, [names for _, names in groups])
        (value, learned, after), whole = gradients(layered, state, x, y, weight, scale, rows)
        if objective.is_single:
            value, learned = penalize(value, params, learned, scale)
        elif has_penalties:
            nothing = backend.xp.zeros_like(value[0])
            penalty, learned = penalize(nothing, params, learned, scale)
            value = (*value, penalty)
        if own is None:
            params, new_opt_state = update(params, learned, opt_state)
        else:
            assert replica is not None
            mine = {name: grad for name, grad in learned.items() if name in own}
            params, new_opt_state = update(params, mine, opt_state, learned)
            params |= gathered({name: params[name] for name in learned}, own, replica)
        if shares_out:
            new_opt_state = tree_map(backend.shared_out, new_opt_state)
        if scaling is not None:
            taken = scaling.taken(opt_state, new_opt_state)
            after = state_after(after, state, taken, backend)
        samples = None if rows is None else sum(part.total for part in rows)
        weighed = objective.weighed(value, y, weight, whole, samples)
        return constrain(params), after, new_opt_state, weighed

    return step


def make_update_step(
    network: Network,
    optimizer: Optimizer,
    compile: bool | None,
    precision: MixedPrecision | None = None,
) -> Callable[..., tuple[Params, OptState, State, Array]]:
    """``step(params, opt_state, grads, after, before) -> (params, opt_state, state, penalty)``.

    What follows backward: penalties are added to the gradients; update, and constraints. Parameters
    and optimizer state are donated. The penalty is what the loss has grown by. The state is that
    after the passes; that before them, where mixed precision skips the step.
    """
    backend, scaling = network.backend, None if precision is None else precision.scaling
    optimizer.check_factors(network.params)
    update, rules = optimizer.make_update(backend, scaling), network.regularizers()
    penalize, constrain = make_regularization(rules, backend)
    dtype = backend.dtype("float64" if network.dtype == "float64" else "float32")

    def step(
        params: Params, opt_state: OptState, grads: Params, after: State, before: State
    ) -> tuple[Params, OptState, State, Array]:
        nothing = backend.xp.zeros((), dtype=dtype, device=backend.device)
        scale = None if scaling is None else opt_state["loss_scale"]
        penalty, grads = penalize(nothing, params, grads, scale)
        params, new_opt_state = update(params, grads, opt_state)
        if scaling is not None:
            after = state_after(after, before, scaling.taken(opt_state, new_opt_state), backend)
        return constrain(params), new_opt_state, after, penalty

    known = own_part(*parts_of_update(network, optimizer)) is None
    return backend.compiled(step, (0, 1), wanted=compile, known=known)


def make_gradients(
    network: Network, loss: Loss, accumulate: int = 1
) -> Callable[..., tuple[Array, Params]]:
    """``gradients(params, x, y, weight=None) -> (value, grads)`` of all that is trained.

    Penalties are in both. It is not compiled, and for networks that carry no state.
    """
    objective = Objective(network, loss)
    convert, trainable = BatchConversion(network, loss), network.trainable()
    penalize, _ = make_regularization(network.regularizers(), network.backend)
    gradients = _make_gradients(objective, None)
    if accumulate > 1:
        gradients = Accumulated(gradients, objective, accumulate)

    def found(
        params: Params, x: Arrays, y: Arrays, weight: Array | None = None
    ) -> tuple[Array, Params]:
        value, grads, _ = gradients(params, {}, *convert(x, y, weight), None)
        learned = {name: grad for name, grad in grads.items() if name in trainable}
        return penalize(objective.total(value), params, learned, None)

    return found


def make_gradient_norms(
    network: Network,
    loss: Loss,
    precision: MixedPrecision | None,
    accumulate: int,
    communicator: Communicator | None = None,
) -> Callable[..., Array]:
    """``norms(opt_state, x, y, weight, rows) -> (trained parameters,)``: how long each gradient is.

    ::

        n_k = sqrt(sum of (dL/dw_k)^2)        in at least float32, penalties included

    They are the gradients of the step that is next, before any limit: of the same weights, the same
    masks. That step is neither changed nor compiled otherwise; these run beside it, compiled where
    the library compiles everything. Nothing of the network is changed, and nothing waits.

    Args:
        communicator: of the processes that each take some rows of the batch: of all of them are
            the gradients.
    """
    objective, backend = Objective(network, loss), network.backend
    scaling = None if precision is None else precision.scaling
    replica = None if communicator is None else Replica(communicator, backend, {})
    convert = BatchConversion(network, loss, may_be_empty=replica is not None)
    trainable = network.trainable()
    names = [name for name in network.params if name in trainable]  # JAX sorts those of a trace
    penalize, _ = make_regularization(network.regularizers(), backend)
    gradients = _make_gradients_of_step(objective, precision, accumulate, replica)

    def norms(
        params: Params,
        state: State,
        scale: Any,
        x: Arrays,
        y: Arrays,
        weight: Array | None,
        rows: tuple[LocalRows, ...] | None,
    ) -> Array:
        xp = backend.xp
        lent = params if precision is None else precision.lent(params, backend)
        x, y, weight = convert(x, y, weight)
        (value, learned, _), _ = gradients(lent, state, x, y, weight, scale, rows)
        nothing = xp.zeros_like(as_tuple(value)[0])
        _, learned = penalize(nothing, params, learned, scale)
        wide = [widened(learned[name], xp) for name in names]
        found = [xp.astype(xp.sqrt(xp.sum(grad * grad)), wide[0].dtype) for grad in wide]
        return backend.stack(found if scale is None else [one / scale for one in found])

    compiled = backend.compiled(norms, wanted=None if backend.compiles == "all" else False)

    def measured(
        opt_state: OptState | None,
        x: Arrays,
        y: Arrays,
        weight: Array | None,
        rows: tuple[LocalRows, ...] | None = None,
    ) -> Array:
        scale = None
        if scaling is not None:
            scale = (opt_state or scaling.init(backend))["loss_scale"]
        overflows = nullcontext() if precision is None else backend.overflowing()
        with backend.on_device(), overflows:
            return compiled(network.params, network.state, scale, x, y, weight, rows)

    return measured


def _compiled(
    network: Network,
    loss: Loss,
    optimizer: Optimizer,
    precision: MixedPrecision | None,
    compile: Compile,
    step: Callable[..., Any],
    donate: tuple[int, ...],
    recorded: Callable[[Backend], Callable[..., Any]] | None = None,
) -> Callable[..., Any]:
    """The step compiled, on the network's device; half precision may overflow there."""
    backend = network.backend
    known = own_part(*parts_of(network, loss, optimizer)) is None
    if recorded is not None:
        compiled = backend.compile_fused(step, recorded, donate)
    else:
        wanted = None if compile is None else bool(compile)
        compiled = backend.compiled(step, donate, wanted=wanted, known=known)
    if precision is None and isinstance(backend.on_device(), nullcontext):
        return compiled

    def on_device(*arguments: Any) -> Any:
        with backend.on_device(), nullcontext() if precision is None else backend.overflowing():
            return compiled(*arguments)

    on_device.__wrapped__ = compiled  # type: ignore[attr-defined]
    return on_device


def _make_gradients_of_step(
    objective: Objective,
    precision: MixedPrecision | None,
    accumulate: int,
    replica: Replica | None,
) -> Callable[..., tuple[Sums, Any]]:
    """``(params, state, x, y, weight, factor, rows) -> (value, grads, state), whole``.

    The gradients are those of what is trained, of the whole batch, which weighs ``whole`` in all
    processes; None where there is one.
    """
    trainable = objective.network.trainable()
    gradients = _make_gradients(objective, precision, replica)
    if accumulate > 1:
        gradients = Accumulated(gradients, objective, accumulate, replica)

    def learned(*batch: Any) -> Sums:
        value, grads, after = gradients(*batch)
        return value, {name: grad for name, grad in grads.items() if name in trainable}, after

    if replica is not None:
        return Replicated(learned, objective, replica)
    return lambda *batch: (learned(*batch[:-1]), None)


def _make_gradients(
    objective: Objective, precision: MixedPrecision | None, replica: Replica | None = None
) -> Gradients:
    """Forward, loss and backward.

    Where layers break what they promise is found in the first step on inputs of a shape.
    """
    network, backend = objective.network, objective.network.backend
    watch, trainable = partial(promises_watched, network.root), network.trainable()
    first_delta = _make_first_delta(objective, precision)
    seen: set[Shapes] = set()

    def gradients(
        params: Params, state: State, x: Arrays, y: Arrays, weight: Array | None, factor: Any
    ) -> tuple[Any, Params, State]:
        x, y, weight = tree_map(backend.across_devices, (x, y, weight))
        shapes = _shapes_of(x)
        is_new = shapes not in seen
        watched = watch(trainable) if is_new else nullcontext()
        with network.holding(params, state, replica), watched:
            if precision is not None:
                x = tree_map(lambda one: precision.narrowed(one, backend), x)
            try:
                value, *deltas = first_delta(
                    network.root.forward(x, training=True), y, weight, factor
                )
                network.run_back(deltas.pop(), to_input=False)  # nobody here holds it meanwhile
            finally:
                objective.take_factors_back()
            found = value, network.grads, network.state
        seen.add(shapes)
        return found

    return gradients


def _shapes_of(x: Arrays) -> Shapes:
    return tuple([one.shape for one in x]) if isinstance(x, tuple) else x.shape


def _make_first_delta(
    objective: Objective, precision: MixedPrecision | None
) -> Callable[..., tuple[Any, Arrays]]:
    """The losses and their derivatives by the predictions, times factors, as the layers want them.

    What is in float32 for it, in half precision, is gone before the layers go backward.
    """
    backend = objective.network.backend
    half = None if precision is None else backend.dtype(precision.dtype)

    def narrowed_delta(xp: Namespace, delta: Array, factor: Any) -> Array:
        return xp.astype(delta * factor, half)

    narrowed = None if precision is None else backend.elementwise(narrowed_delta)

    def first_delta(
        predictions: Arrays, y: Arrays, weight: Array | None, factor: Any
    ) -> tuple[Any, Arrays]:
        if narrowed is not None:
            predictions = tree_map(lambda one: widened(one, backend.xp), predictions)
        value, deltas = objective.measured(predictions, y, weight)
        if objective.is_single:
            return value, scaled(deltas, factor)
        factors = objective.factors(factor)
        objective.lend_factors(factors)
        pairs = zip(as_tuple(deltas), factors, strict=False)  # behind them are those of layers
        return value, one_or_tuple([scaled(*pair) for pair in pairs])

    def scaled(delta: Array, factor: Any) -> Array:
        if narrowed is not None:
            return narrowed(delta, 1.0 if factor is None else factor)
        return delta if factor is None else delta * factor

    return first_delta


def make_eval_step(
    network: Network, loss: Loss, metrics: tuple[Any, ...], *, compile: bool | None = None
) -> Callable[..., Any]:
    """A step that measures and changes nothing, as a pure function of arrays.

    Args:
        network: whose layers run, in prediction mode.
        loss: of its outputs, as for ``Trainer``.
        metrics: whose statistics are worked out.
        compile: whether the step is made one unit (see ``Trainer``).

    Returns:
        ``step(params, state, x, y, weight=None)``, which returns the loss, and a list of the
        statistics of each metric.

    >>> from xpnn import MAE, Dense, Network, mean_squared_error
    >>> net = Network([Dense(1, use_bias=False)], input_shape=(1,))
    >>> net.load({"0.dense.weight": [[2.0]]})
    >>> step = make_eval_step(net, mean_squared_error, (MAE(),))
    >>> x, y = net.backend.asarray([[1.0], [2.0]]), net.backend.asarray([[3.0], [6.0]])
    >>> value, statistics = step(net.params, net.state, x, y)
    >>> float(value), statistics[0].tolist()  # the sum of errors, and of weights
    (2.5, [3.0, 2.0])
    """
    objective = Objective(network, loss)
    weighing = _make_eval_step(network, loss, metrics)

    def step(
        params: Params, state: State, x: Array, y: Array, weight: Array | None = None
    ) -> tuple[Array, list[Array]]:
        (value, _), statistics = weighing(params, state, x, y, weight)
        return objective.total(value), statistics

    return _compiled_eval(network, loss, metrics, compile, step)


def make_weighing_eval_step(
    network: Network, loss: Loss, metrics: tuple[Any, ...], compile: Compile
) -> Callable[..., Any]:
    """The same step; in place of the value, it and what it weighs in a mean over batches."""
    step = _make_eval_step(network, loss, metrics)
    return _compiled_eval(network, loss, metrics, compile, step)


def _make_eval_step(network: Network, loss: Loss, metrics: tuple[Any, ...]) -> Callable[..., Any]:
    """The step, not yet compiled."""
    objective = Objective(network, loss)
    backend, convert = network.backend, BatchConversion(network, loss)
    metrics = tuple(metric.following(one_or_tuple(objective.outputs)) for metric in metrics)
    seen: set[Shapes] = set()

    def step(
        params: Params, state: State, x: Array, y: Array, weight: Array | None = None
    ) -> tuple[Weighed, list[Array]]:
        x, y, weight = tree_map(backend.across_devices, convert(x, y, weight))
        shapes = _shapes_of(x)
        watch = nullcontext() if shapes in seen else outputs_watched(network.root)
        with network.holding(params, state), watch:
            predictions = network.root.forward(x)
            value, _ = objective.measured(predictions, y, weight)
        seen.add(shapes)
        weighs = objective.weighed(value, y, weight)
        found = [
            metric.statistics(predictions, *objective.counted(y, weight), backend.xp)
            for metric in metrics
        ]
        return weighs, found

    return step


def _compiled_eval(
    network: Network,
    loss: Loss,
    metrics: tuple[Any, ...],
    compile: Compile,
    step: Callable[..., Any],
) -> Callable[..., Any]:
    own_metrics = [getattr(metric, "metric", metric) for metric in metrics]  # of one output
    known = own_part(*network.all_layers, *all_losses(loss), *own_metrics) is None
    wanted = None if compile is None else bool(compile)
    return network.backend.compiled(step, held=(0, 1), wanted=wanted, known=known)
