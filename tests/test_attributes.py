"""Attributes of public objects: unknown names are refused; arguments act when changed, or are too.

The signatures of the constructors say what there is. What is in neither list below fails.
"""

import functools
import inspect
import math

import numpy as np
import pytest

import xpnn
from tests.layers.table import LAYERS, Ids, draw
from tests.optimizers.table import CASES as OPTIMIZERS
from xpnn.arguments import parameters_of
from xpnn.errors import AssignmentError, ShapeError, XpnnError
from xpnn.layers import (
    ELU,
    GELU,
    GRU,
    L1,
    L2,
    LSTM,
    AlphaDropout,
    AveragePool1D,
    AveragePool2D,
    AveragePool3D,
    BatchNorm,
    Cutout,
    Dense,
    Dropout,
    Embedding,
    GaussianNoise,
    GaussianSample,
    GroupNorm,
    InstanceNorm,
    Layer,
    LayerNorm,
    LeakyReLU,
    Masked,
    MaxNorm,
    MultiHeadAttention,
    PaddingMask,
    RandomFlip,
    Recurrent,
    ReLU,
    RMSNorm,
    SimpleRNN,
    SinusoidalPositions,
    SpatialDropout,
)
from xpnn.network import Network
from xpnn.optimizers import SGD, Adam
from xpnn.training import Trainer

pytestmark = pytest.mark.fault("setting that is changed later")

FLAT, SEQUENCE, IMAGE, VOLUME = (6,), (4, 6), (4, 5, 2), (1, 4, 5, 2)


def masked(**options):
    return Masked([Embedding(5, 4), LSTM(2)], **{"padding": 2, **options})


ACTS = [  # how to make it, the shape of a sample, an argument that may change, and another value
    (LeakyReLU, FLAT, "negative_slope", 0.5),
    (ELU, FLAT, "alpha", 0.3),
    (GELU, FLAT, "approximate", "tanh"),
    (Dropout, FLAT, "rate", 0.8),
    (SpatialDropout, SEQUENCE, "rate", 0.8),
    (AlphaDropout, FLAT, "rate", 0.7),
    (GaussianNoise, FLAT, "spread", 3.0),
    (GaussianSample, FLAT, "beta", 3.0),
    (RandomFlip, IMAGE, "horizontal", 1.0),
    (RandomFlip, IMAGE, "vertical", 1.0),
    (lambda **o: Cutout(2, **o), IMAGE, "rate", 0.0),
    (BatchNorm, FLAT, "momentum", 0.9),
    (BatchNorm, FLAT, "epsilon", 0.5),
    (LayerNorm, FLAT, "epsilon", 0.5),
    (RMSNorm, FLAT, "epsilon", 0.5),
    (lambda **o: GroupNorm(2, **o), FLAT, "epsilon", 0.5),
    (InstanceNorm, SEQUENCE, "epsilon", 0.5),
    (SinusoidalPositions, SEQUENCE, "base", 10.0),
    (lambda **o: MultiHeadAttention(1, **o), SEQUENCE, "causal", True),
    (lambda **o: MultiHeadAttention(1, **o), SEQUENCE, "rotate", True),
    (lambda **o: MultiHeadAttention(1, causal=True, **o), SEQUENCE, "window", 2),
    (lambda **o: MultiHeadAttention(1, **o), SEQUENCE, "alibi", True),
    (lambda **o: AveragePool1D(3, padding=1, **o), SEQUENCE, "count_padding", True),
    (lambda **o: AveragePool2D(3, padding=1, **o), IMAGE, "count_padding", True),
    (lambda **o: AveragePool3D((1, 3, 3), padding=(0, 1, 1), **o), VOLUME, "count_padding", True),
    (lambda **o: SimpleRNN(3, **o), SEQUENCE, "activation", "relu"),
    (masked, Ids((4,)), "padding", 1),
    (PaddingMask, Ids((4,)), "padding", 1),
    *((lambda k=k, **o: k(3, **o), SEQUENCE, n, v)
      for k in (SimpleRNN, LSTM, GRU) for n, v in (("reverse", True), ("truncate", 2))),
]  # fmt: skip
KINDS_THAT_ACT = [type(make()) for make, *_ in ACTS]
ON_JAX = [  # one argument of each kind shows that steps are traced anew
    pytest.param(
        *row, marks=pytest.mark.slow_to_compile if KINDS_THAT_ACT[k] in KINDS_THAT_ACT[:k] else ()
    )
    for k, row in enumerate(ACTS)
]
ACT = {(type(make()), name) for make, _, name, _ in ACTS} | {
    (Recurrent, "reverse"),
    (Recurrent, "truncate"),
}
KINDS = [getattr(xpnn, name) for name in xpnn.__all__ if inspect.isclass(getattr(xpnn, name))]
LAYER_KINDS = [kind for kind in KINDS if issubclass(kind, Layer)]


each_compile = pytest.mark.parametrize("compile", [True, False])


@pytest.fixture(autouse=True)
def _only_where_steps_can_be_compiled(request):
    params = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    backend, compile = str(params.get("backend")), params.get("compile")
    if compile and "array-api-strict" in backend:
        pytest.skip("array-api-strict compiles nothing")
    if compile and "torch" in backend and "make" in params:
        pytest.skip("PyTorch compiles for up to 20 s; that steps are made anew, one layer shows")
    if compile is False and "jax" in backend:
        pytest.skip("JAX takes a step call by call for seconds; its compiled steps are looked at")


def step(network, compile):
    """What one step makes of a network."""
    return next(steps(network, compile))


def steps(network, compile):
    """What a step makes of a network, over and over from the same start."""
    start = network.numpy_arrays()
    trainer = Trainer(network, xpnn.mean_squared_error, SGD(0.1), compile=compile)
    shape = Ids(network.input_shape) if network.root.takes == "integers" else network.input_shape
    x, y = draw(shape), draw(network.output_shape, seed=2)
    x, y = network.backend.asarray(x), network.backend.asarray(y)
    while True:
        loss = float(network.backend.to_numpy(trainer.step(x, y)))
        yield {"loss": loss, **network.numpy_arrays()}
        network.load(start)


def same(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one)


@each_compile
@pytest.mark.parametrize(("make", "shape", "name", "value"), ON_JAX)
def test_an_argument_of_a_layer_that_may_change_acts(backend, make, shape, name, value, compile):
    network = Network([make()], shape, backend)
    taken = steps(network, compile)
    before = next(taken)
    setattr(network.layers[0], name, value)
    found = next(taken)
    assert same(found, step(Network([make(**{name: value})], shape, backend), compile))
    assert not same(found, before)


NONSENSE = [-1, 0, 2, math.nan, "x", ["x"]]  # of which each constructor refuses some


def outcome(run):
    """The kind and the words of the error that comes, or what is returned."""
    try:
        return run()
    except (ValueError, TypeError) as error:
        return type(error), str(error)


@pytest.mark.parametrize("value", NONSENSE, ids=str)
@pytest.mark.parametrize(
    ("make", "name"),
    [
        *((make, name) for make, _, name, _ in ACTS),
        *((xpnn.EarlyStopping, name) for name in ("patience", "min_gain", "monitor")),
        *((lambda **o: xpnn.Checkpoint("x", **o), n) for n in ("every_steps", "every_epochs")),
        *((SGD, name) for name in ("rate", "momentum", "nesterov", "weight_decay", "clip")),
        *((Adam, name) for name in ("beta1", "beta2", "epsilon", "decays")),
        *((lambda **o: small(**o), n) for n in ("optimizer", "metrics", "callbacks", "log_every")),
        *((lambda **o: small(**o), n) for n in ("accumulate", "seed", "compile", "loss")),
    ],
)
def test_what_is_set_later_is_looked_at_as_by_the_constructor(make, name, value):
    """Whatever the constructor refuses is refused, in the same words, and changes nothing."""
    made = make()
    before = getattr(made, name)
    built = outcome(lambda: getattr(make(**{name: value}), name))
    found = outcome(lambda: setattr(made, name, value) or getattr(made, name))
    assert found == built or (found != found and built != built)
    if isinstance(found, tuple):
        assert getattr(made, name) is before


def test_what_is_set_on_a_layer_of_a_user_s_is_looked_at_by_the_class_above():
    class Half(Dropout):
        def __init__(self):
            super().__init__(0.5)

    layer = Half()
    with pytest.raises(ValueError, match=r"Dropout needs a rate in \[0, 1\), got rate=2"):
        layer.rate = 2
    layer.rate = np.float32(0.25)
    assert type(layer.rate) is float


@pytest.mark.parametrize("kind", LAYER_KINDS, ids=lambda kind: kind.__name__)
def test_every_argument_of_a_layer_acts_or_is_fixed(kind):
    acting = {name for name in parameters_of(kind) if (kind, name) in ACT}
    assert {name for name in parameters_of(kind) if name not in kind.fixed} == acting


@pytest.mark.parametrize(("make", "input_shape"), LAYERS)
@pytest.mark.parametrize("built", [False, True])
def test_arguments_of_layers_that_are_fixed_are_refused(make, input_shape, built):
    layer = make()
    if built:
        Network([layer], input_shape)
    for _, one in layer.walk():
        for name in set(parameters_of(type(one))) & set(type(one).fixed):
            with pytest.raises(AssignmentError, match=f"{name} of {type(one).__name__} is fixed"):
                setattr(one, name, getattr(one, name, 3))
        for name in ("input_shape", "dtype", "ties") if built else ():
            with pytest.raises(AssignmentError, match=f"{name} of .* is settled when its network"):
                setattr(one, name, getattr(one, name))
        with pytest.raises(AssignmentError, match="'trainble', did you mean 'trainable'"):
            one.trainble = False


ACTING = {  # read when they are needed
    "Watching": {"monitor", "higher_is_better"},
    "EarlyStopping": {"monitor", "higher_is_better", "patience", "min_gain"},
    "BestWeights": {"monitor", "higher_is_better"},
    "CSVLogger": {"append"},
    "EMA": {"decay"},
    "SWA": {"start"},
    "Checkpoint": {"every_steps", "every_epochs", "keep", "best", "higher_is_better"},
    "Trainer": {
        "loss", "optimizer", "metrics", "callbacks", "seed", "log_every", "compile", "accumulate"
    },
}  # fmt: skip
OTHERS = [
    kind
    for kind in KINDS
    if kind in (Network, Trainer, xpnn.MixedPrecision, L1, L2, MaxNorm)
    or (issubclass(kind, xpnn.Metric | xpnn.Callback))
]


@pytest.mark.parametrize("kind", OTHERS, ids=lambda kind: kind.__name__)
def test_every_argument_of_other_objects_acts_or_is_fixed(kind):
    given = set(inspect.signature(kind).parameters) - {"args", "kwargs"}
    assert given - set(getattr(kind, "fixed", ())) == ACTING.get(kind.__name__, set())


def small(backend="numpy", loss=xpnn.mean_squared_error, optimizer=None, **options):
    network = Network([Dense(4), ReLU(), Dense(1)], (3,), backend)
    return Trainer(network, loss, SGD(0.1) if optimizer is None else optimizer, **options)


def batch():
    x = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    return x, x[:, :1]


@pytest.mark.parametrize(
    "made", [small(), small().network, xpnn.Accuracy(), L2(0.1), xpnn.EarlyStopping()]
)
def test_fixed_and_unknown_attributes_are_refused(made):
    for name in made.fixed:
        with pytest.raises(AssignmentError, match=f"{name} of .* is fixed when it is made"):
            setattr(made, name, 1)
    if not isinstance(made, Network):  # to which a user may pin notes
        with pytest.raises(AssignmentError, match="has no attribute 'batchsize'"):
            made.batchsize = 32


@pytest.mark.usefixtures("graphs_as_traced")
@each_compile
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss", xpnn.mean_absolute_error),
        ("optimizer", SGD(0.3)),
        ("accumulate", 2),
    ],
)
def test_what_a_trainer_is_told_later_acts_from_the_next_step_on(backend, name, value, compile):
    x, y = batch()
    changed, fresh = small(backend, compile=compile), small(backend, compile=compile)
    for trainer in (changed, fresh):
        trainer.step(x, y)
    old = small(backend, compile=compile)
    for _ in range(2):
        old.step(x, y)
    setattr(changed, name, value)
    told = small(backend, **{"compile": compile, name: value})
    told.network.load(fresh.network.params)
    for trainer in (changed, told):
        trainer.step(x, y)
    found = changed.network.numpy_arrays()
    assert same(found, told.network.numpy_arrays())
    assert name == "accumulate" or not same(found, old.network.numpy_arrays())


def test_compile_and_metrics_and_a_wrong_value_later():
    x, y = batch()
    seen = []

    def loss(*arguments, **options):
        seen.append(1)
        return xpnn.mean_squared_error(*arguments, **options)

    trainer = small(loss=loss, compile=True)
    for _ in range(3):
        trainer.step(x, y)
    assert len(seen) == 1
    trainer.compile = False
    for _ in range(3):
        trainer.step(x, y)
    assert len(seen) == 4
    assert trainer.evaluate(x, y).keys() == {"loss"}
    trainer.metrics = [xpnn.MAE()]
    assert trainer.evaluate(x, y).keys() == {"loss", "mae"}
    trainer.state.optimizer = "adam"  # as a callback may
    for _ in range(2):
        with pytest.raises(TypeError, match="optimizer: wanted an object such as Adam"):
            trainer.step(x, y)
    trainer.optimizer, trainer.state.accumulate = SGD(), 0
    with pytest.raises(ValueError, match="accumulate counts the parts"):
        trainer.step(x, y)


@pytest.mark.parametrize("before", OPTIMIZERS, ids=OPTIMIZERS)
def test_an_optimizer_of_another_kind_begins_anew(before, tmp_path):
    """Numbers of one name, such as Adagrad's sum and RMSprop's mean, mean something else."""
    x, y = batch()
    trainer, fresh = small(optimizer=OPTIMIZERS[before].make()), small()
    trainer.step(x, y)
    trainer.save(tmp_path / "before.safetensors")
    start = trainer.network.numpy_arrays()
    others = [c for c in OPTIMIZERS.values() if type(c.make()) is not type(trainer.optimizer)]
    for case in others:
        trainer.optimizer, fresh.optimizer = case.make(), case.make()
        for run in (lambda: trainer.step(x, y), lambda: trainer.save(tmp_path / "between")):
            with pytest.raises(XpnnError, match=r"set trainer\.opt_state = None to begin anew"):
                run()
        with pytest.raises(ShapeError, match=r"numbers of .* mean something else"):
            fresh.load(tmp_path / "before.safetensors")
        assert fresh.opt_state is None
        assert fresh.steps == 0
    after = others[[*OPTIMIZERS].index(before) % len(others)]
    trainer.optimizer, fresh.optimizer = after.make(), after.make()
    fresh.network.load(start)
    trainer.opt_state = None  # as it says
    for one in (trainer, fresh):
        one.step(x, y)
    assert same(trainer.network.numpy_arrays(), fresh.network.numpy_arrays())
    trainer.network.load(start)
    trainer.optimizer = OPTIMIZERS[before].make()
    trainer.load(tmp_path / "before.safetensors")


def log_loss(x, network, y, weights):
    """The weighted mean of -log p, in float64."""
    scores = np.asarray(network.backend.to_numpy(network.predict(x)), np.float64)
    log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return np.average(-log_p[np.arange(len(y)), y], weights=np.asarray(weights)[y])


class OfClasses:
    """A loss of a user's that keeps its weights."""

    def __init__(self, class_weight):
        self.class_weight = class_weight

    def __call__(self, *arguments, **options):
        return xpnn.cross_entropy(*arguments, **options, class_weight=self.class_weight)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda weights: functools.partial(xpnn.cross_entropy, class_weight=weights), list),
        (OfClasses, np.array),
    ],
)
def test_what_is_changed_inside_of_what_a_loss_was_given_acts_in_the_next_call(backend, make, kind):
    weights = kind([1.0, 1.0, 1.0])
    network = Network([Dense(3)], (4,), backend)
    compile = True if backend.name == "numpy" else None
    trainer = Trainer(network, make(weights), SGD(0.0), compile=compile)
    x, y = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32), np.arange(12) % 3
    for now in ([1.0, 1.0, 1.0], [1.0, 0.0, 5.0]):
        weights[:] = now
        fitted = trainer.fit(x, y, batch_size=12, progress=False)["loss"][0]
        assert fitted == pytest.approx(log_loss(x, network, y, now), rel=1e-5)
        for later in (now[::-1], [3.0, *now[1:]]):  # the step of the first one is at hand
            weights[:] = later
            found = trainer.evaluate(x, y)["loss"]
            assert found == pytest.approx(log_loss(x, network, y, later), rel=1e-5)


def test_seed_callbacks_and_log_points_act_in_the_next_fit():
    x, y = batch()
    logged = []

    class Log(xpnn.Callback):
        def on_fit_begin(self, state, epochs):
            self.begun = True  # a callback of the user's keeps what it likes

        def on_log(self, state, step, logs):
            logged.append(step)

    trainer, other = small(), small(seed=5)
    trainer.callbacks, trainer.log_every, trainer.seed = (Log(),), 2, 5
    for one in (trainer, other):
        one.fit(x, y, batch_size=2, progress=False)
    assert logged == [2, 4]
    assert same(trainer.network.numpy_arrays(), other.network.numpy_arrays())


def test_patience_acts():
    x, y = batch()
    stopping = xpnn.EarlyStopping("loss", patience=9, min_gain=1e9)
    stopping.patience = 2
    history = small(callbacks=[stopping]).fit(x, y, epochs=9, progress=False)
    assert len(history) == 3


def test_freezing_and_regularizing_between_steps(backend):
    x, y = batch()
    trainer, fresh = small(backend), small(backend)
    trainer.step(x, y)
    trainer.network.layers[0].trainable = False
    trainer.network.layers[2].regularize(L2(0.5))
    before = trainer.network.numpy_arrays()
    fresh.network.load(before)
    fresh.network.layers[2].regularize(L2(0.5))
    for one in (trainer, fresh):
        one.step(x, y)
    after, wanted = trainer.network.numpy_arrays(), fresh.network.numpy_arrays()
    np.testing.assert_array_equal(after["0.dense.weight"], before["0.dense.weight"])
    np.testing.assert_array_equal(after["2.dense.weight"], wanted["2.dense.weight"])
    trainer.network.layers[2].regularizers = ()
    fresh.network.load(after)
    fresh.network.layers[2].regularizers = ()
    for one in (trainer, fresh):
        one.step(x, y)
    after, wanted = trainer.network.numpy_arrays(), fresh.network.numpy_arrays()
    np.testing.assert_array_equal(after["2.dense.weight"], wanted["2.dense.weight"])


# Layers of users ----------------------------------------------------------------------------------


class Times(Layer):
    """A layer of a user's, with a rule that reads a hyperparameter."""

    def __init__(self, factor=2.0):
        super().__init__()
        self.factor = factor

    def fuse(self, elementwise):
        return {"times": elementwise(lambda xp, x: x * self.factor)}

    def forward(self, Z, training=False):  # noqa: N803
        return self.fused["times"](Z)

    def backward(self, delta):
        return self.fused["times"](delta)


class Bound(Times):
    """Its rule holds the hyperparameter, as one that is compiled does."""

    def fuse(self, elementwise):
        factor = self.factor
        return {"times": elementwise(lambda xp, x: x * factor)}


@each_compile
@pytest.mark.parametrize("kind", [Times, Bound])
def test_a_hyperparameter_of_a_user_s_layer_acts(backend, kind, compile):
    network = Network([kind(), Dense(2)], (3,), backend)
    taken = steps(network, compile)
    next(taken)
    network.layers[0].factor = 0.5
    assert same(next(taken), step(Network([kind(0.5), Dense(2)], (3,), backend), compile))


def test_a_layer_of_a_user_s_makes_its_attributes_in_its_constructor():
    class Counting(Dense):
        calls = 0

        def __init__(self, units):
            super().__init__(units)
            self.seen = []

        def forward(self, Z, training=False):  # noqa: N803
            self.calls += 1
            self.seen.append(Z.shape)
            self._last = Z.shape
            if self.calls == 2:
                self.second = True
            return super().forward(Z, training)

    layer = Counting(2)
    network = Network([layer], (3,))
    network(np.zeros((4, 3)))
    assert (layer.calls, layer.seen, layer._last) == (1, [(4, 3)], (4, 3))
    with pytest.raises(AssignmentError, match="makes its attributes in __init__, or names them"):
        network(np.zeros((4, 3)))


def test_a_forgotten_constructor_of_layer_is_named():
    class Lazy(Layer):
        def __init__(self, size):
            self.size = size

    with pytest.raises(XpnnError, match=r"of Lazy does not call that of Layer; write super\(\)\."):
        Network([Dense(2), Lazy(3)], (3,))
    with pytest.raises(XpnnError, match=r"write super\(\)\.__init__\(\) as its first line"):
        Network([xpnn.Residual([Lazy(3)])], (3,))


def test_a_fuse_that_returns_nothing_is_told_what_to_return():
    class Old(Times):
        def fuse(self, elementwise):
            self._times = elementwise(lambda xp, x: x)

    with pytest.raises(XpnnError, match=r"fuse of Old returned None; return the sweeps by name"):
        Network([Old()], (3,))


@pytest.mark.parametrize("where", ["class", "base", "object"])
def test_a_method_that_was_replaced_is_called_at_every_step(monkeypatch, where):
    calls = []
    trainer = small()
    x, y = batch()
    trainer.fit(x, y, batch_size=8, progress=False)  # recorded before
    layer = trainer.network.layers[1]
    owner = {"class": ReLU, "base": xpnn.Activation, "object": layer}[where]
    kept = type(layer).forward

    def forward(self, *arguments):
        calls.append(1)
        return kept(self, *arguments)

    if where == "object":
        layer.forward = lambda *arguments: forward(layer, *arguments)
    else:
        monkeypatch.setattr(owner, "forward", forward)
    for _ in range(3):
        trainer.fit(x, y, batch_size=2, progress=False)
    assert len(calls) == 12
