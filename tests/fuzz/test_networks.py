"""Random networks against PyTorch's autograd: outputs, losses, gradients, and four steps of each;
graphs of several inputs and outputs: outputs, what comes back to inputs and parameters, and steps
by the sum of a loss for each output.

``make fuzz N=2000 SEED=7`` tries more of them. One that fails is made smaller, and printed as a
program.
"""

import inspect
import itertools
import re
from pathlib import Path

import pytest

import xpnn.layers
import xpnn.losses
import xpnn.optimizers
from tests.conftest import needs
from tests.reliability.tally import attempt
from xpnn import Layer, Optimizer
from xpnn.layers import Activation, Container, Joint, Recurrent
from xpnn.training.stepping.objective import Objective
from xpnn.trees import as_tuple, one_or_tuple

pytestmark = needs("torch")

GRAPHS = {"numpy": 20, "numpy:numba": 3, "torch": 10, "jax": 2, "cupy": 10}
NETWORKS = {"numpy": 100, "numpy:numba": 12, "torch": 40, "jax": 3, "cupy": 20}
OTHERS = 12
UNDRAWN = {  # and where it is held against PyTorch's, or a paper's formula
    "GaussianSample": "tests/layers/test_sampling.py",  # it draws at every step
    # to these, a gradient of nothing but rounding is as large a step as any
    **dict.fromkeys(("Lion", "LAMB", "Adafactor", "Muon"), "tests/optimizers/table.py"),
}
BASES = {Layer, Activation, Container, Joint, Recurrent, Optimizer}


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
    """As many as are asked for; of the few, those that have what none before had."""
    asked = request.config.getoption("--networks")
    first = request.config.getoption("--networks-seed")
    words = set()
    for seed in range(first, first + (asked or count)):
        case = kind.drawn(seed)
        own = {*re.findall(r"[A-Za-z]\w+", case.code)}  # layers, a loss, options
        if not asked and own <= words:
            continue
        words |= own
        with attempt():
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


def names_of(base, module):
    """The public kinds of something that are drawn."""
    found = {one for one in public(module) if is_kind_of(base, one)} - BASES
    return {one.__name__ for one in found} - {*UNDRAWN}


def test_every_layer_is_drawn():
    """A new layer has a twin in ``layers.py``, and is drawn by ``drawing.py``."""
    from tests.fuzz.drawing import made
    from tests.fuzz.graphs import GraphCase
    from tests.fuzz.networks import Case

    layers, drawn = names_of(Layer, xpnn.layers), set()
    graphs = ([made(GraphCase.drawn(seed).graph)] for seed in range(60))
    chains = (made(Case.drawn(seed).layers) for seed in range(1500))
    for top in itertools.chain(graphs, chains):
        drawn |= {type(one).__name__ for layer in top for _, one in layer.walk()}
        if layers <= drawn:
            break
    assert layers - drawn == set()


def test_every_loss_and_optimizer_is_drawn():
    from tests.fuzz.networks import Case

    cases = [Case.drawn(seed) for seed in range(150)]
    losses = {one.__name__ for one in public(xpnn.losses) if hasattr(one, "check_targets")}
    assert {case.loss for case in cases} == losses
    kinds = names_of(Optimizer, xpnn.optimizers)
    assert {case.optimizer.partition("(")[0] for case in cases} == kinds


@pytest.mark.parametrize("name", UNDRAWN)
def test_what_is_not_drawn_is_compared_elsewhere(name):
    text = (Path(__file__).parents[2] / UNDRAWN[name]).read_text()
    assert re.search(rf"\b{name}\b", text)
    assert "torch" in text


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


def test_a_fault_of_the_steps_of_a_graph_is_made_small(monkeypatch):
    """What a loss counts for is left out of the delta of one output among three."""
    from tests.fuzz.graphs import GraphCase

    case = GraphCase(
        "Graph([Dense(3), Tanh(), Dense(2)], [((3,), 'floats', 'x0')], "
        "[(0, (0,)), (1, (1,)), (0, (2,)), (2, (3,))], (2, 3, 4))",
        (("log_cosh", 1.0), ("mean_squared_error", 0.25), ("cross_entropy", 1.0)),
        "Adam(0.1, epsilon=0.01)", weighed=True, accumulate=2, batch=4, seed=1,
    )  # fmt: skip
    assert case.difference("numpy") is None
    measured = Objective.measured

    def without(self, predictions, y, weight):
        values, deltas = measured(self, predictions, y, weight)
        shares = [share for _, _, share in self.losses]
        return values, one_or_tuple([d / c for d, c in zip(as_tuple(deltas), shares, strict=True)])

    monkeypatch.setattr(Objective, "measured", without)
    assert case.difference("numpy").startswith("step 1: ")
    small = case.shrunken("numpy")
    assert small.graph.count("Dense") == 1
    assert (small.optimizer, small.weighed, small.accumulate) == ("SGD(0.1)", False, 1)
