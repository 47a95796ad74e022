"""One training step, call by call on a copy of the network, and all that is seen in it."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from xpnn.arguments import in_order
from xpnn.backends.advice import rewording
from xpnn.guide import OutputLayer
from xpnn.losses import quadratic_cost
from xpnn.losses.by_output import losses_of
from xpnn.losses.outputs import name_of
from xpnn.losses.weights import unbound
from xpnn.moving import moved
from xpnn.network import Network
from xpnn.optimizers import SGD, Optimizer
from xpnn.training.names import losses_of_names, optimizer_of_name
from xpnn.training.stepping.checks import check_samples
from xpnn.training.stepping.conversion import BatchForm, as_batch
from xpnn.training.stepping.objective import Objective
from xpnn.training.stepping.precision import MixedPrecision
from xpnn.training.trainer_arguments import as_loss, check_parts
from xpnn.training.updater import Updater
from xpnn.trees import one_or_tuple, tree_map
from xpnn.typing import Loss, OptState
from xpnn.xray.calls import Calls, input_names, on_host
from xpnn.xray.equations import equations_of
from xpnn.xray.explanation import Explanation
from xpnn.xray.linked import descent_of, network_of
from xpnn.xray.views import LayerInfo, StepView

Step = tuple[tuple[LayerInfo, ...], StepView]


def explain(
    network: Network | OutputLayer,
    x: Any,
    y: Any,
    loss: Loss | str | Mapping[str, Loss | str] | Sequence[Loss | str] | None = None,
    optimizer: Optimizer | str | None = None,
    *,
    sample_weight: Any = None,
) -> Explanation:
    """Take one training step on a copy of a network, and keep all that is seen on the way.

    For each layer, at every depth and call by call, that is what goes in and comes out, the delta
    that comes back and what is handed on, parameters, gradients and updates, and what the layer
    keeps, such as attention maps. The step is that of a ``Trainer`` without ``compile``, from the
    values that the network has now. The network, its state and the optimizer stay as they are.

    Args:
        network: on any backend; or the last of the guide's linked layers.
        x, y: a batch, as ``Trainer.step`` takes it.
        loss: a function or its name; a dict or a list of such for several outputs. Linked layers
            have their quadratic cost unless there is another.
        optimizer: whose first step it is, an object or a name. Unless given, plain ``SGD(1.0)``, by
            which each update is the gradient with its sign turned; of linked layers by their rates.
        sample_weight: (samples,).

    Returns:
        What was seen: ``print`` it, or look at its arrays.

    Raises:
        TypeError: there is no network, loss or optimizer where one is wanted.
        ShapeError, DataError: the batch does not fit the network or the loss.
        OutOfMemory: there is no room for a copy of the network and all that a step makes.

    >>> import xpnn
    >>> net = xpnn.Network([xpnn.Dense(1, use_bias=False)], input_shape=(1,))
    >>> net.load({"0.dense.weight": [[2.0]]})
    >>> seen = xpnn.explain(net, [[1.0], [2.0]], [[3.0], [6.0]], "mse")
    >>> seen.steps[0].layers["0.dense"].updates["weight"].tolist()
    [[5.0]]
    """
    if isinstance(network, OutputLayer):
        loss = quadratic_cost if loss is None else loss
        optimizer = descent_of(network) if optimizer is None else optimizer
        network = network_of(network)
    rule = SGD(1.0) if optimizer is None else optimizer_of_name(optimizer)
    check_parts(network, rule, (), ())
    if loss is None:
        raise TypeError("explain wants the loss of a network, such as 'cross_entropy', got none")
    objective = as_loss(losses_of_names(loss), None)
    form = BatchForm(network)
    given = dict(zip(form.names, form.parts(x, y, sample_weight), strict=True))
    with rewording(**given):
        layers, step = recorded_step(network, objective, rule, x, y, sample_weight, values=True)
    return explanation_of(network, objective, rule, layers, [step])


def explanation_of(
    network: Network, loss: Any, rule: Optimizer, layers: tuple[LayerInfo, ...], steps: Any
) -> Explanation:
    """The explanation that steps make together."""
    losses = losses_of(loss, network.output_names)
    functions = {id(one): one for one in (unbound(by_output.loss)[0] for by_output in losses)}
    described: list[Any] = [
        one if isinstance(one, Hashable) else type(one) for one in functions.values()
    ]
    equations = [line for one in described for lines in equations_of(one) for line in lines]
    return Explanation(
        layers,
        tuple(steps),
        inputs=input_names(network),
        backend=network.backend.spec,
        dtype=network.dtype,
        loss_name=", ".join(map(name_of, functions.values())),
        optimizer=repr(rule),
        loss_equations=tuple(equations),
    )


def recorded_step(
    network: Network,
    loss: Loss,
    rule: Optimizer,
    x: Any,
    y: Any,
    weight: Any = None,
    *,
    opt_state: OptState | None = None,
    precision: MixedPrecision | None = None,
    number: int = 1,
    values: bool = False,
) -> Step:
    """The next step of a training, taken on a copy of its network.

    Args:
        network, loss, rule, opt_state, precision: of the training.
        x, y, weight: the batch.
        number: of the step.
        values: whether to look at the numbers of the batch as ``fit`` does; NaN and infinities are
            let through, as it is told where they lead to.
    """
    backend = network.backend
    twin = network.to(backend)
    updater = Updater(twin, rule, compile=False, precision=precision)
    if opt_state is not None:
        updater.opt_state = moved(opt_state, updater.state.fresh_opt_state(), backend)
    begun = updater.opt_state or updater.state.begin_opt_state()
    scale = float(backend.to_numpy(begun["loss_scale"])) if "loss_scale" in begun else 1.0
    objective, calls = Objective(twin, loss), Calls(twin, scale)
    with backend.room_for("a step that is looked into", "take a smaller batch"):
        with backend.on_device():
            x, y, weight = as_batch(twin, x, y, weight)
            check_samples(twin, loss, x, y, weight, values=values, finite=False)
        with calls.recorded(), backend.on_device():
            outputs = updater.forward(x)
            predictions = one_or_tuple(in_order(outputs, twin.output_names, "outputs"))
            values, deltas = objective.measured(predictions, y, weight)
            updater.backward(deltas)
        value = objective.total(values)
        if twin.trainable():
            value = value + updater.step()
        layers, views = calls.seen()
    targets = tree_map(lambda one: on_host(one, backend), y)
    return layers, StepView(number, float(backend.to_numpy(value)), views, targets)
