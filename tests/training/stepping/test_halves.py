"""What lies in memory in a step of mixed precision: all that is as large as activations is half."""

import weakref

import pytest

from tests.layers.table import IN_FLOAT32, build, draw, each_layer
from tests.layers.test_contract import MISSING, traced
from xpnn import SGD, Dense, Identity, MixedPrecision, Network, make_train_step, mean_squared_error
from xpnn.layers import PaddingMask

WIDE = {*IN_FLOAT32, "running_mean", "running_variance", "statistics"}
"""Few numbers for each feature, sample or query, kept in float32: of normalisations, attention."""
pytestmark = pytest.mark.width


@pytest.fixture(params=["float16", pytest.param("bfloat16", marks=pytest.mark.slow_to_compile)])
def half(request, backend):
    if request.param in MISSING.get(backend.name, ()):
        pytest.skip(f"{backend.name} has no {request.param}")
    return request.param


@each_layer
def test_all_that_layers_take_give_and_keep_is_half(backend, half, make, input_shape, monkeypatch):
    network, precision = build(make, input_shape, backend), MixedPrecision(half)
    optimizer, seen = SGD(), {}
    step = make_train_step(
        network, mean_squared_error, optimizer, precision=precision, compile=False
    )
    x, y = (backend.asarray(draw(shape)) for shape in (input_shape, network.output_shape))
    opt_state = optimizer.init(network.params, backend, precision.scaling)
    watch(network, seen, monkeypatch)
    traced(backend, lambda: step(network.params, network.state, opt_state, x, y))
    assert any(what.startswith("output") for what in seen)
    assert any(what.startswith("delta") for what in seen)
    wanted = backend.dtype(half)
    assert {what: str(dtype) for what, dtype in seen.items() if dtype != wanted} == {}


def watch(network, seen, monkeypatch):
    """Write down in ``seen`` the dtypes of the floats that come past, by what they are."""
    names = {layer: name or "network" for name, layer in network.walk()}
    masks = []  # of ids, in the network's dtype: zeros and ones that nobody computes with
    isdtype = network.backend.xp.isdtype

    def note(what, value):
        if isinstance(value, dict):
            for key, one in value.items():
                note(f"{what}.{key}", one)
        elif isinstance(value, tuple | list):
            for k, one in enumerate(value):
                note(f"{what}[{k}]", one)
        elif what.rpartition(".")[2].partition("[")[0] in WIDE or any(
            value is mask for mask in masks
        ):
            pass
        elif hasattr(value, "dtype") and isdtype(value.dtype, "real floating"):
            seen[what] = value.dtype

    def forward_of(method):
        def forward(layer, x, training=False):
            note(f"input of {names[layer]}", x)
            out = method(layer, x, training)
            if isinstance(layer, PaddingMask):
                masks.append(out)
            note(f"output of {names[layer]}", out)
            note(f"cache of {names[layer]}", layer.cache)
            return out

        return forward

    def backward_of(method):
        def backward(layer, delta, *others):
            note(f"delta of {names[layer]}", delta)
            back = method(layer, delta, *others)
            note(f"dL/d(input) of {names[layer]}", back)
            note(f"gradients of {names[layer]}", layer.grads)
            return back

        return backward

    methods = {(type(one), name) for one in names for name in ("forward", "backward")}
    for kind, name, method in [(kind, name, getattr(kind, name)) for kind, name in methods]:
        monkeypatch.setattr(kind, name, (forward_of if name == "forward" else backward_of)(method))


class Asks(Identity):
    """Keeps what is left of the arrays of the loss when the layers go backward."""

    found = ()

    def __init__(self, lent):
        super().__init__()
        self.lent = lent

    def backward(self, delta):
        self.found = [one() for one in self.lent]
        return delta


def test_no_float32_of_the_loss_is_left_on_the_way_back(backend, half):
    lent = []

    def loss(predictions, targets, *, sample_weight=None, backend=None):
        value, delta = mean_squared_error(predictions, targets, backend=backend)
        assert predictions.dtype == delta.dtype == backend.xp.float32
        lent.extend((weakref.ref(predictions), weakref.ref(delta)))
        return value, delta

    asks = Asks(lent)
    network, precision = Network([Dense(2), asks], (3,), backend), MixedPrecision(half)
    optimizer = SGD()
    step = make_train_step(network, loss, optimizer, precision=precision, compile=False)
    opt_state = optimizer.init(network.params, backend, precision.scaling)
    x, y = (backend.asarray(draw((n,))) for n in (3, 2))
    step(network.params, network.state, opt_state, x, y)
    assert asks.found == [None, None]
