"""The optimizer that CONTRIBUTING.md shows how to add, run as a user would run it."""

import re

import numpy as np
import pytest

from docs.hooks.running import BLOCK
from tests.optimizers.table import gradients, moved, on_host, start, trained
from tests.test_docs import ROOT
from xpnn import Checkpoint, Dense, Network, ReLU, Trainer, mean_squared_error
from xpnn.errors import AssignmentError, BackendUnavailable
from xpnn.optimizers import ClipByGlobalNorm, Cosine, Linear

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CODE = BLOCK.search(PAGE, PAGE.index("## Add an optimizer"))["code"]
NAMESPACE = {"__name__": "contributed"}
exec(compile(CODE, "CONTRIBUTING.md", "exec"), NAMESPACE)
Signum = NAMESPACE["Signum"]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # of its compiler

each_compile = pytest.mark.parametrize("compile", [None, True])


def data():
    rng = np.random.default_rng(7)
    x = rng.normal(size=(24, 3)).astype(np.float32)
    return x, np.sin(x[:, :1])


def skip_unless_it_compiles(backend, compile):
    if compile and backend.name == "array-api-strict":
        pytest.skip("array-api-strict compiles nothing")


def trainer_of(backend, compile=None, **options):
    skip_unless_it_compiles(backend, compile)
    network = Network([Dense(4), ReLU(), Dense(1)], (3,), backend, seed=1)
    optimizer = Signum(Cosine(0.02, steps=60), weight_decay=0.01, clip=ClipByGlobalNorm(1.0))
    return Trainer(network, mean_squared_error, optimizer, compile=compile, **options)


def fit(trainer, epochs=6, **options):
    return trainer.fit(*data(), epochs=epochs, batch_size=8, progress=False, **options)["loss"]


def test_its_class_has_at_most_ten_lines_of_code_beside_the_docstring():
    body = re.sub(r'""".*?"""', "", CODE[CODE.index("class") :], flags=re.DOTALL)
    assert len([line for line in body.splitlines() if line.strip()]) <= 10


def test_it_follows_its_formula(backend):
    beta = Linear(0.5, end=0.9, steps=20)
    params, opt_state = trained(
        Signum(0.03, beta=beta, weight_decay=0.1), backend, start("float32"), gradients("float32")
    )
    slots = on_host(opt_state["m"], backend)
    for name, w in start().items():
        m = 0.0
        for done, grads in enumerate(gradients()):
            kept = 0.5 + 0.4 * done / 20
            m = kept * m + (1 - kept) * (grads[name] + 0.1 * w)
            w = w - 0.03 * np.sign(m)
        np.testing.assert_allclose(params[name], w, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(slots[name], m, rtol=1e-5, atol=1e-5)


@each_compile
def test_it_reaches_the_minimum_of_a_parabola(backend, compile):
    skip_unless_it_compiles(backend, compile)
    update = Signum(Cosine(0.1, steps=200)).make_update(backend)

    def step(params, opt_state):
        return update(params, {"w": params["w"] - 3.0}, opt_state)

    step = backend.compiled(step, wanted=compile)
    with backend.on_device():
        params = moved({"w": np.array([0.5, -2.0], np.float32)}, backend)
        opt_state = Signum().init(params, backend)
        for _ in range(200):
            params, opt_state = step(params, opt_state)
        np.testing.assert_allclose(on_host(params, backend)["w"], [3.0, 3.0], atol=0.02)


@pytest.mark.usefixtures("graphs_as_traced")
@each_compile
def test_a_network_learns_with_it(backend, compile):
    losses = fit(trainer_of(backend, compile), epochs=20)
    assert losses[-1] < 0.3 * losses[0]
    np.testing.assert_allclose(losses, fit(trainer_of(backend, False), epochs=20), rtol=1e-3)


@pytest.mark.usefixtures("graphs_as_traced")
@each_compile
def test_it_resumes_from_a_checkpoint(backend, compile, tmp_path):
    whole = fit(trainer_of(backend, compile))
    fit(trainer_of(backend, compile), epochs=3, callbacks=[Checkpoint(tmp_path)])
    resumed = trainer_of(backend, compile)
    np.testing.assert_array_equal(fit(resumed, resume=tmp_path), whole)
    assert resumed.steps == 18


@pytest.mark.usefixtures("graphs_as_traced")
@each_compile
def test_it_learns_in_mixed_precision(backend, compile):
    try:
        trainer = trainer_of(backend, compile, precision="float16")
    except BackendUnavailable:
        pytest.skip(f"{backend.name} has no float16")
    losses = fit(trainer, epochs=20)
    assert losses[-1] < 0.3 * losses[0]
    assert {one.dtype.name for one in on_host(trainer.opt_state["m"], backend).values()} == {
        "float32"
    }


def test_its_attributes_act_or_are_refused(backend):
    trainer = trainer_of(backend)
    fit(trainer, epochs=1)
    before = trainer.network.numpy_arrays()
    trainer.optimizer.rate = 0.0
    fit(trainer, epochs=1)
    for name, array in trainer.network.numpy_arrays().items():
        np.testing.assert_array_equal(array, before[name])
    with pytest.raises(
        AssignmentError, match="Signum has no attribute 'betas', did you mean 'beta'"
    ):
        trainer.optimizer.betas = 0.5
