"""Steps that cannot be compiled: what is refused, what comes out, and what the trainer says."""

import gc
import signal
import time

import numpy as np
import pytest

from tests.backends.refusals import compile_warnings
from tests.conftest import needs
from xpnn import Adam, Dense, Dropout, Layer, Network, Tanh, Trainer, mean_squared_error
from xpnn.backends.recording.lifetimes import MemoryPlan
from xpnn.errors import CompileError
from xpnn.training import make_eval_step

rng = np.random.default_rng(0)
X, Y = (rng.standard_normal((6, width)).astype(np.float32) for width in (5, 3))


def reading(predictions, targets, *, sample_weight=None, backend):
    """A loss of the user's that looks at its value on the host."""
    value, delta = mean_squared_error(
        predictions, targets, sample_weight=sample_weight, backend=backend
    )
    return value, delta * (2.0 if float(value) > 0.5 else 1.0)


def make(backend="numpy", loss=mean_squared_error, compile=None, layers=()):
    layers = [Dense(8), Tanh(), Dropout(0.3), *layers, Dense(3)]
    return Trainer(Network(layers, (5,), backend, seed=1), loss, Adam(0.05), compile=compile)


def values(trainer):
    return {**trainer.network.numpy_arrays(), "steps": trainer.steps}


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


# A value on the host ------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_asked_for_it_is_an_error_that_says_what_stands_in_the_way(backend):
    if backend.name == "array-api-strict":
        with pytest.raises(CompileError, match="'array-api-strict' has nothing that compiles"):
            make(backend, reading, compile=True)
        return
    trainer = make(backend, reading, compile=True)
    x, y = trainer.network.asarray(X), backend.asarray(Y)
    before = values(trainer)
    if backend.name == "cupy":  # the first two steps of a form are not captured
        for _ in range(2):
            trainer.step(x, y)
        before = values(trainer)
    for _ in range(2):
        with pytest.raises(CompileError, match=r"compile=True asked .* cannot be: .*; change"):
            trainer.step(x, y)
    assert_same(values(trainer), before)


def test_measuring_that_was_asked_to_be_compiled(backend):
    if backend.name == "array-api-strict":
        return
    network = make(backend).network
    step = make_eval_step(network, reading, (), compile=True)
    x, y = network.asarray(X), backend.asarray(Y)
    if backend.name == "cupy":  # the first two steps of a form are not captured
        for _ in range(2):
            step(network.params, network.state, x, y)
    with pytest.raises(CompileError, match="change that, or leave compile=True out"):
        step(network.params, network.state, x, y)


@needs("jax")
def test_unasked_jax_warns_once_and_runs_call_by_call():
    one, other = make("jax", reading), make("jax", reading, compile=False)
    assert one.compiled
    with compile_warnings(1) as said:
        for _ in range(4):
            one.step(X, Y)
            other.step(X, Y)
    assert "steps run call by call" in str(said[0].message)
    assert not one.compiled
    assert "steps call by call: " in repr(one)
    assert_same(values(one), values(other))


def test_fused_steps_are_for_backends_that_fuse():
    network = Network([Dense(2)], (3,), "numpy")
    with pytest.raises(CompileError, match="makes kernels for CUDA, and backend 'numpy' runs none"):
        Trainer(network, mean_squared_error, Adam(), compile="fused")
    with pytest.raises(ValueError, match="True, False, None or 'fused', got 'fast'"):
        Trainer(network, mean_squared_error, Adam(), compile="fast")


# What is no refusal -------------------------------------------------------------------------------


@pytest.mark.parametrize("compile", [True, None])
def test_a_fault_of_the_plan_comes_out(monkeypatch, compile):
    trainer = make(compile=compile)
    before = values(trainer)

    def planted(self):
        return 1 / 0

    with monkeypatch.context() as patched:
        patched.setattr(MemoryPlan, "_assign", planted)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                trainer.step(X, Y)
    assert_same(values(trainer), before)
    trainer.step(X, Y)
    assert trainer.compiled
    assert trainer._train_step.run.units


class Interrupted(Layer):
    """Raises at its first call, as when somebody types Ctrl-C."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, z, training=False):
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return z * 1.0

    def backward(self, delta):
        return delta * 1.0


ERRORS = [KeyboardInterrupt, SystemExit, TimeoutError, RuntimeError, NotImplementedError]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_what_the_user_raises_while_a_step_is_compiled_comes_out(backend, error):
    wanted = backend.name != "array-api-strict" or None
    trainer = make(backend, compile=wanted, layers=[Interrupted(error("stop"))])
    x, y = trainer.network.asarray(X), backend.asarray(Y)
    before = values(trainer)
    with pytest.raises(error, match="stop"):
        trainer.step(x, y)
    assert_same(values(trainer), before)
    assert trainer.compiled == (wanted is True)


class AlarmError(Exception):
    """Raised by a timer, as one that limits how long a call may take."""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")
def test_an_alarm_while_a_step_is_recorded_comes_out():
    def deep():
        layers = [layer for _ in range(8) for layer in (Dense(4), Tanh())]
        return Trainer(Network(layers, (5,)), mean_squared_error, Adam(0.1))

    def ring(number, frame):
        if kept:
            rung.append(len(kept))
            raise AlarmError

    x, y = X, Y[:, [0, 1, 2, 0]].copy()
    kept, rung, came = [], [], []
    one, began = deep(), time.perf_counter()
    one.step(x, y)
    longest = 0.8 * (time.perf_counter() - began)
    own = signal.signal(signal.SIGALRM, ring)
    gc.collect()
    gc.disable()  # what is raised where Python frees objects comes out nowhere
    try:
        for attempt in range(600):
            if len(rung) == 60:
                break
            trainer, before = deep(), len(rung)
            kept.append(trainer)
            try:
                signal.setitimer(signal.ITIMER_REAL, longest * (0.05 + attempt % 19 / 20))
                trainer.step(x, y)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except AlarmError:
                came.append(len(kept))
            if len(rung) == before:
                longest *= 0.95  # the step was over: this machine has become faster
    finally:
        signal.signal(signal.SIGALRM, own)
        gc.enable()
    assert came == rung
    assert len(rung) == 60


# What the trainer says ----------------------------------------------------------------------------


def own_loss(predictions, targets, **options):
    return mean_squared_error(predictions, targets, **options)


CASES = {  # loss, compile, whether NumPy compiles it, and why not
    "unasked": (mean_squared_error, None, True, "compiled steps"),
    "own": (own_loss, None, False, "own_loss is not xpnn's.*Trainer.*compile=True"),
    "own, asked for": (own_loss, True, True, "compiled steps"),
    "not wanted": (mean_squared_error, False, False, "compile=False was given"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_trainer_says_whether_steps_are_compiled(name, caplog):
    caplog.set_level("INFO", logger="xpnn")
    loss, choice, compiled, words = CASES[name]
    trainer = make(loss=loss, compile=choice)
    for _ in range(2):
        assert trainer.compiled is compiled
        with pytest.raises(AssertionError, match=words):
            raise AssertionError(repr(trainer))
        trainer.fit(X, Y, epochs=2, progress=False)
    said = [record.getMessage() for record in caplog.records]
    assert said == ([repr(trainer)] if name == "own" else [])
    assert bool(getattr(trainer._train_step.run, "units", ())) is compiled


@pytest.mark.parametrize("compile", [None, True])
def test_backends_say_what_they_do(backend, compile):
    if backend.name == "array-api-strict" and compile:
        return
    trainer = make(backend, compile=compile)
    assert trainer.compiled is (compile is True or backend.compiles != "none")
    assert f"<Trainer on {backend.spec}, Adam(" in repr(trainer)
    if not trainer.compiled:
        assert "compiles no steps unless Trainer(..., compile=True)" in repr(trainer)
