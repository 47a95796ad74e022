"""Random networks against PyTorch's autograd: outputs, losses, gradients, and four steps of each.

``make fuzz N=2000 SEED=7`` tries more of them. One that fails is made smaller, and printed as a
program.
"""

import inspect

import pytest

import xpnn.layers
import xpnn.losses
import xpnn.optimizers
from tests.conftest import needs
from tests.reliability.tally import attempt
from xpnn import Layer, Optimizer
from xpnn.layers import Activation, Container, Recurrent

pytestmark = needs("torch")

NETWORKS = {"numpy": 100, "numpy:numba": 20, "torch": 50, "jax": 3, "cupy": 20}
OTHERS = 30
BASES = {Layer, Activation, Container, Recurrent}


@pytest.mark.fault("random network, against PyTorch's autograd", fuzzed=True)
def test_networks(backend, request):
    from tests.fuzz.networks import Case

    count = request.config.getoption("--networks") or NETWORKS.get(backend.spec, OTHERS)
    first = request.config.getoption("--networks-seed")
    for seed in range(first, first + count):
        with attempt():
            case = Case.drawn(seed)
            try:
                difference = case.difference(backend.spec)
            except Exception as error:
                error.add_note(report(case, seed, backend.spec))
                raise
            assert difference is None, f"{difference}\n{report(case, seed, backend.spec)}"


def report(case, seed, spec):
    """The seed, and a program that tries a smaller network with the same fault."""
    small = case.shrunken(spec)
    return (
        f"--networks-seed {seed} --networks 1; made smaller:\n\n{small.code}.difference({spec!r}))"
    )


def public(module):
    found = [getattr(module, name) for name in module.__all__]
    return {one for one in found if callable(one)}


def is_kind_of(base, one):
    return inspect.isclass(one) and issubclass(one, base)


def test_every_layer_is_drawn():
    """A new layer has a twin in ``twin.py``, and is drawn by ``drawing.py``."""
    from tests.fuzz.drawing import made
    from tests.fuzz.networks import Case

    # which draws at every step, and is held to torch in tests/layers/test_sampling.py
    left_out = {*BASES, xpnn.layers.GaussianSample}
    layers = {one for one in public(xpnn.layers) if is_kind_of(Layer, one)} - left_out
    drawn = set()
    for seed in range(1500):
        drawn |= {type(one) for layer in made(Case.drawn(seed).layers) for _, one in layer.walk()}
        if drawn >= layers:
            break
    assert {one.__name__ for one in layers - drawn} == set()


def test_every_loss_and_optimizer_is_drawn():
    from tests.fuzz.networks import Case

    cases = [Case.drawn(seed) for seed in range(150)]
    losses = {one.__name__ for one in public(xpnn.losses) if hasattr(one, "check_targets")}
    assert {case.loss for case in cases} == losses
    kinds = {one.__name__ for one in public(xpnn.optimizers) if is_kind_of(Optimizer, one)}
    # to these, a gradient of nothing but rounding is as large a step as any
    left_out = {"Optimizer", "Lion", "LAMB", "Adafactor", "Muon"}
    assert {case.optimizer.partition("(")[0] for case in cases} == kinds - left_out


def test_a_fault_is_found_and_made_small(monkeypatch):
    """A gradient that lacks a factor, in one activation among many layers."""
    from tests.fuzz.networks import Case

    case = Case(
        "[Dense(4), Residual([Tanh(), Dense(4)]), Sequential([Softplus(), Dense(3)]), BatchNorm()]",
        (3,), "huber", {"threshold": 0.5}, "Adam(0.1, epsilon=0.01)", batch=4, seed=1,
    )  # fmt: skip
    assert case.difference("numpy") is None
    back = xpnn.layers.Softplus.backward
    monkeypatch.setattr(xpnn.layers.Softplus, "backward", lambda self, d: 0.5 * back(self, d))
    assert "eager pass" in case.difference("numpy")
    small = case.shrunken("numpy")
    assert small.layers == "[Softplus()]"
    assert (small.loss, small.optimizer) == ("mean_squared_error", "SGD(0.1)")
    names = {"Case": Case}
    exec(small.code.replace("print(", "again = ", 1), names)
    assert names["again"].difference("numpy") is not None
