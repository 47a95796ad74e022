"""Any data at all: a call works, or says in an error of xpnn's own why not, and changes nothing."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xpnn
from tests.conftest import SPECS
from tests.reliability.conduct import ends_well, everything, fuzz
from tests.reliability.strategies import (
    CLASSES,
    FEATURES,
    any_arrays,
    inputs,
    labels,
    scalars,
    weights,
)
from tests.reliability.tally import attempt
from xpnn import Adam, BatchNorm, Dense, Dropout, Network, ReLU, Trainer
from xpnn.training.intake.sources import has_batches

pytestmark = pytest.mark.host_only

X = np.random.default_rng(0).random((6, FEATURES), dtype=np.float32)
Y = np.arange(6) % CLASSES
SLOW = {spec for spec in SPECS if spec.startswith(("torch", "jax", "cupy", "numpy:numba"))}

each_backend = pytest.mark.parametrize("spec", SPECS)
for_training = pytest.mark.parametrize(
    # array-api-strict is given what evaluate and steps are, and goes through NumPy's loop
    "spec",
    [spec for spec in SPECS if not spec.startswith("array-api-strict")],
)


@functools.cache
def trainer_on(spec):
    """One for all examples: each must leave it fit to train on."""
    layers = [Dense(5), BatchNorm(), ReLU(), Dropout(0.2), Dense(CLASSES)]
    trainer = Trainer(
        Network(layers, (FEATURES,), spec), xpnn.cross_entropy, Adam(1e-3), compile=None
    )
    trainer.fit(X, Y, batch_size=6, progress=False)
    return trainer


def goes_well(spec, call, *arguments, changes=False, **options):
    """It works or is refused; what is refused, or does not train, changes nothing.

    But for batches to validate with, which are looked at when they come, behind the epoch.
    """
    trainer = trainer_on(spec)
    before = everything(trainer)
    with attempt():
        result, error = ends_well(getattr(trainer, call), *arguments, **options)
        if not changes or (error is not None and not has_batches(options.get("validation"))):
            assert everything(trainer) == before
        if error is not None and changes:
            steps = trainer.steps
            trainer.fit(X, Y, batch_size=6, progress=False)
            assert trainer.steps == steps + 1
        bad = [n for n, a in trainer.network.numpy_arrays().items() if not np.isfinite(a).all()]
        if bad:  # huge inputs, or a rate of infinity; the next example starts afresh
            trainer_on.cache_clear()
    return result, error


def fewer(spec, data):
    """Whether to leave out an example on a backend where each takes long."""
    return spec in SLOW and data.draw(st.integers(0, 3)) != 0


@pytest.mark.fault("fit on any data")
@for_training
@fuzz(80)
@given(data=st.data())
def test_fit(spec, data):
    if fewer(spec, data):
        return
    rows = data.draw(st.integers(0, 6))
    x, y = data.draw(inputs(rows)), data.draw(labels(rows))
    given_weights = data.draw(weights(rows))
    kind = data.draw(st.integers(0, 5))
    validation = None
    if kind == 0:
        validation = data.draw(st.tuples(inputs(rows), labels(rows)))
    elif kind == 1:
        validation = data.draw(scalars)
    goes_well(
        spec,
        "fit",
        *(x, y),
        sample_weight=given_weights,
        validation=validation,
        batch_size=6,
        progress=False,
        changes=True,
    )


@pytest.mark.fault("fit with any options")
@for_training
@fuzz(50)
@given(data=st.data())
def test_options_of_fit(spec, data):
    if fewer(spec, data):
        return
    names = ["epochs", "batch_size", "validation", "shuffle", "sample_weight", "callbacks"]
    options = {
        name: data.draw(scalars.filter(lambda value: not (isinstance(value, int) and value > 3)))
        if name == "epochs"
        else data.draw(scalars)
        for name in data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True))
    }
    goes_well(spec, "fit", X, Y, progress=False, changes=True, **options)


@pytest.mark.fault("fit on any batches")
@for_training
@fuzz(40)
@given(data=st.data())
def test_batches(spec, data):
    """The first batch is strange: nothing is done before it."""
    if fewer(spec, data):
        return
    batch = data.draw(
        st.tuples(inputs(6), labels(6)) | st.lists(any_arrays(6), max_size=4) | scalars
    )
    goes_well(spec, "fit", [batch], progress=False, changes=True)


@pytest.mark.fault("evaluate and predict on any data")
@each_backend
@fuzz(60)
@given(data=st.data())
def test_measuring(spec, data):
    if fewer(spec, data):
        return
    rows = data.draw(st.integers(0, 6))
    x = data.draw(inputs(rows))
    size = data.draw(st.just(256) | scalars)
    if data.draw(st.booleans()):
        goes_well(spec, "predict", x, batch_size=size)
    else:
        y, weight = data.draw(labels(rows)), data.draw(weights(rows))
        goes_well(spec, "evaluate", x, y, sample_weight=weight, batch_size=size)


@pytest.mark.fault("forward on any data")
@each_backend
@fuzz(40)
@given(data=st.data())
def test_forward(spec, data):
    if fewer(spec, data):
        return
    trainer, x = trainer_on(spec), data.draw(inputs(data.draw(st.integers(1, 6))))
    before = everything(trainer)
    with attempt():
        ends_well(trainer.network.forward, x)
        assert everything(trainer) == before


@pytest.mark.fault("a step on any arrays")
@each_backend
@fuzz(40)
@given(data=st.data())
def test_step(spec, data):
    """The inner loop looks at shapes and dtypes alone; what the numbers are, ``fit`` looks at."""
    if fewer(spec, data):
        return
    x, y = data.draw(inputs(6)), data.draw(labels(6))
    goes_well(spec, "step", x, y, data.draw(weights(6)), changes=True)


@pytest.mark.fault("weights of any kind")
@each_backend
@fuzz(40)
@given(data=st.data())
def test_loading_weights(spec, data):
    """``network.load`` takes all values or none."""
    network = trainer_on(spec).network
    values, good = network.numpy_arrays(), network.numpy_arrays()
    names = [*sorted(values), "0.dense.wait"]
    for name in data.draw(st.lists(st.sampled_from(names), max_size=2, unique=True)):
        if data.draw(st.booleans()):
            values.pop(name, None)
        else:
            values[name] = data.draw(any_arrays(6))
    before = everything(trainer_on(spec))
    with attempt():
        _, error = ends_well(network.load, values)
        if error is not None:
            assert everything(trainer_on(spec)) == before
    network.load(good)


@pytest.mark.fault("networks of any options")
@fuzz(80)
@given(data=st.data())
def test_network_arguments(data):
    options = {"layers": [Dense(2)], "input_shape": (3,)}
    for name in ("input_shape", "seed", "dtype", "backend", "layers"):
        if data.draw(st.integers(0, 2)) == 0:
            options[name] = data.draw(scalars)
    with attempt():
        network, error = ends_well(Network, **options)
        if error is None:
            ends_well(network.predict, np.zeros((1, *network.input_shape)))


PARTS = {
    "loss": xpnn.cross_entropy,
    "optimizer": Adam(),
    "metrics": (),
    "callbacks": (),
    "seed": 0,
    "log_every": 1,
    "compile": None,
    "precision": None,
    "accumulate": 1,
}


@pytest.mark.fault("trainers of any options")
@fuzz(80)
@given(data=st.data())
def test_trainer_arguments(data):
    chosen = data.draw(st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=2))
    options = {**PARTS, **{name: data.draw(scalars) for name in chosen}}
    network = Network([Dense(CLASSES)], (FEATURES,))
    with attempt():
        trainer, error = ends_well(Trainer, network, **options)
        if error is None and not set(chosen) & {"loss", "compile"}:
            ends_well(trainer.fit, X, Y, progress=False)
