"""Random networks against PyTorch's autograd: outputs, losses, gradients, and four steps of each;
graphs of several inputs and outputs: outputs, and what comes back to inputs and parameters.

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
from xpnn.layers import Activation, Container, Joint, Recurrent

pytestmark = needs("torch")

GRAPHS = {"numpy": 20, "numpy:numba": 5, "torch": 10, "jax": 2, "cupy": 10}
NETWORKS = {"numpy": 100, "numpy:numba": 20, "torch": 50, "jax": 3, "cupy": 20}
OTHERS = 30
# what looks at a second sequence and its padding: held against PyTorch's in layers/sequence alone
UNDRAWN = {"CrossAttention", "PaddingMask", "TransformerDecoderBlock"}
BASES = {Layer, Activation, Container, Joint, Recurrent}


@pytest.mark.fault("random network, against PyTorch's autograd", fuzzed=True)
def test_networks(backend, request):
    from tests.fuzz.networks import Case

    try_cases(Case, NETWORKS.get(backend.spec, OTHERS), backend, request)


@pytest.mark.fault("random graph, against PyTorch's autograd", fuzzed=True)
def test_graphs(backend, request):
    """Of several inputs and outputs, whose ways part and come together, with shared layers."""
    from tests.fuzz.graphs import GraphCase

    try_cases(GraphCase, GRAPHS.get(backend.spec, 5), backend, request)


def try_cases(kind, count, backend, request):
    count = request.config.getoption("--networks") or count
    first = request.config.getoption("--networks-seed")
    for seed in range(first, first + count):
        with attempt():
            case = kind.drawn(seed)
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
        if {one.__name__ for one in layers - drawn} == UNDRAWN:
            break
    assert {one.__name__ for one in layers - drawn} == UNDRAWN


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


def test_a_fault_of_a_graph_is_made_small(monkeypatch):
    """A delta with the wrong sign, in one joint of a graph of two inputs and three outputs."""
    from tests.fuzz.graphs import GraphCase

    case = GraphCase(
        "Graph([Dense(3), Tanh(), Graph([Add(), Softplus()], [((3,), 'floats', 'a'), ((3,), "
        "'floats', 'b')], [(0, (0, 1)), (1, (2,))], (2, 3)), Subtract(), Dropout(0.0)], "
        "[((3,), 'floats', 'x0'), ((3,), 'floats', 'x1')], "
        "[(0, (0,)), (1, (2,)), (0, (3,)), (2, (4, 1)), (3, (6, 5)), (4, (7,))], (3, 7, 8))",
        batch=4,
    )
    assert case.difference("numpy") is None
    monkeypatch.setattr(xpnn.Subtract, "backward", lambda self, d: self.gathered([d, d]))
    assert "eager pass" in case.difference("numpy")
    small = case.shrunken("numpy")
    assert small.graph.startswith("Graph([Subtract()], ")
    names = {"GraphCase": GraphCase}
    exec(small.code.replace("print(", "again = ", 1), names)
    assert names["again"].difference("numpy") is not None
