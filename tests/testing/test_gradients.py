"""check_gradients passes what is right, leaves it as it was, and explains wrong use."""

import numpy as np
import pytest

from tests.testing.mistaken import BadSigmoid, Scale, mistaken
from xpnn.backends import get_backend
from xpnn.errors import GradientError, NotBuiltError
from xpnn.layers import (
    ELU,
    Dense,
    Dropout,
    Embedding,
    Layer,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    Tanh,
)
from xpnn.losses import quadratic_cost
from xpnn.network import Network
from xpnn.testing import check_gradients

# What is right ------------------------------------------------------------------------------------


def test_report_of_a_right_network():
    report = check_gradients(Network([Dense(3), Tanh(), Dense(2)], (4,)))
    assert not report.wrong
    names = ["(input)", "0.dense.weight", "0.dense.bias", "2.dense.weight", "2.dense.bias"]
    assert [row.name for row in report.rows] == names
    assert [row.shape for row in report.rows] == [(3, 4), (4, 3), (3,), (3, 2), (2,)]
    assert report.error < 1e-7
    assert str(report).splitlines()[0].endswith("on numpy: gradients are right")
    assert len(str(report).splitlines()) == 2 + len(names)


def test_numbers_of_a_report_are_derivatives(backend):
    # C = ((2 - 1)^2 + (5 - 3)^2) / (2 * 2), so dC/da = ((2 - 1) / 2, (5 - 3) / 2)
    report = check_gradients(
        quadratic_cost, backend=backend, x=[[2.0], [5.0]], targets=[[1.0], [3.0]]
    )
    row = report["(predictions)"]
    assert row.numeric == pytest.approx({(0, 0): 0.5, (1, 0): 1.0}[row.where], abs=1e-8)
    assert row.given == row.numeric or row.error < 1e-8


def test_tolerance_decides():
    layer = mistaken("weight", lambda m: m.right * (1 + 1e-5))
    assert check_gradients(layer(), (4,), tolerance=1e-4).error == pytest.approx(1e-5, rel=0.01)
    with pytest.raises(GradientError):
        check_gradients(layer(), (4,))


def test_gradients_that_vanish_are_not_blamed_for_rounding(backend):
    assert not check_gradients(Sigmoid(), backend=backend, x=[[30.0, -35.0, 18.0]]).wrong


def test_integer_inputs_have_no_gradient(backend):
    class Table(Layer):
        def init_params(self, input_shape, rng):
            return {"rows": rng.standard_normal((5, 2))}

        def output_shape(self, input_shape):
            return (*input_shape, 2)

        def forward(self, ids, training=False):
            self.cache["ids"] = self.xp.reshape(ids, (-1,))
            rows = self.xp.take(self.params["rows"], self.cache["ids"], axis=0)
            return self.xp.reshape(rows, (*ids.shape, 2))

        def backward(self, delta):
            zeros = self.xp.zeros_like(self.params["rows"])
            rows = self.xp.reshape(delta, (-1, 2))
            self.grads["rows"] = self.backend.scatter_add(zeros, self.cache["ids"], rows)

    report = check_gradients(Table(), backend=backend, x=[[0, 3, 3], [1, 3, 0]])
    assert [(row.name, row.shape) for row in report.rows] == [("rows", (5, 2))]


def test_a_given_input_is_moved_off_its_kinks():
    report = check_gradients(ReLU(), x=np.zeros((3, 4)))
    assert report.notes == ("moved 1 times to get away from a kink",)


def test_a_curve_that_bends_at_the_input_is_no_mistake():
    report = check_gradients(ELU(), x=np.zeros((3, 4)))  # ELU'' jumps at 0
    assert report.notes == ("moved 1 times to get away from a kink",)


def test_kinks_that_cannot_be_left_are_told():
    class Sawtooth(Scale):
        """Up and down again within less than a step, at every g."""

        def forward(self, Z, training=False):
            fine = self.params["g"] * 1e6
            return self.xp.abs(fine - self.xp.round(fine)) * self.xp.astype(Z, fine.dtype)

        def backward(self, delta):
            self.grads["g"] = 0.0 * self.params["g"]

    with pytest.raises(GradientError, match="g: all elements lie on a kink, nothing was checked"):
        check_gradients(Sawtooth(), x=[[1, 2], [3, 4]])


def test_a_layer_that_does_not_compile_is_checked_all_the_same(backend):
    class Host(Tanh):
        """Goes through the host on its way, where no compiler follows."""

        def forward(self, S, training=False):
            return super().forward(self.backend.asarray(self.backend.to_numpy(S).copy()), training)

    assert not check_gradients(Host(), (4,), backend).wrong


def test_prediction_mode_is_checked_too():
    class OnlyWhenTraining(Dropout):
        def backward(self, delta):
            return super().backward(delta) * (1.0 if self.cache["kept"] is not None else 2.0)

    assert not check_gradients(OnlyWhenTraining(0.5), (4,)).wrong
    with pytest.raises(GradientError, match="factor: 2 times"):
        check_gradients(OnlyWhenTraining(0.5), (4,), training=False)


# What is left behind ------------------------------------------------------------------------------


def test_network_is_left_as_it_was(backend):
    net = Network([Dense(3), Dropout(0.5), Residual([Dense(3), Tanh()])], (4,), backend)
    x = np.random.default_rng(3).standard_normal((2, 4))
    output = backend.to_numpy(net.forward(x, training=True))
    params, state, grads = net.params, net.numpy_arrays(), net.grads
    caches = [dict(layer.cache) for _, layer in net.walk()]
    net.root.layers[0].passes_back = False

    assert not check_gradients(net).wrong

    assert all(net.params[name] is array for name, array in params.items())
    assert all(array.dtype == backend.dtype("float32") for array in net.params.values())
    assert all(np.array_equal(state[name], array) for name, array in net.numpy_arrays().items())
    assert net.grads == grads == {}
    assert all(
        layer.cache.keys() == cache.keys() and all(layer.cache[k] is v for k, v in cache.items())
        for (_, layer), cache in zip(net.walk(), caches, strict=True)
    )
    assert net.root.layers[0].passes_back is False
    assert "forward" not in vars(net.root.layers[0])
    backend_again = Network([Dense(3), Dropout(0.5), Residual([Dense(3), Tanh()])], (4,), backend)
    assert np.array_equal(backend.to_numpy(backend_again.forward(x, training=True)), output)


def test_failing_check_leaves_the_network_as_it_was(backend):
    net = Network([Dense(3), BadSigmoid(), Dropout(0.5)], (4,), backend)
    before = net.numpy_arrays()
    with pytest.raises(GradientError):
        check_gradients(net)
    after = net.numpy_arrays()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert all("forward" not in vars(layer) for _, layer in net.walk())


def test_layer_that_is_not_built_stays_so(backend):
    layer = Dense(3)
    check_gradients(layer, (4,), backend)
    assert not layer.built
    with pytest.raises(NotBuiltError, match=r"Dense\(3\) has no arrays yet"):
        layer.params  # noqa: B018


def test_running_state_is_put_back():
    class RunningMean(Layer):
        """Takes a running mean off, which it changes in place, as it should not."""

        def init_state(self, input_shape):
            return {"mean": np.zeros(input_shape, dtype=np.float32)}

        def forward(self, Z, training=False):
            Z = Z - self.state["mean"]
            self.state["mean"] += 1.0
            return Z

        def backward(self, delta):
            return delta

    layer = RunningMean()
    layer.build((4,), get_backend("numpy"))
    mean = layer.state["mean"]
    assert not check_gradients(layer).wrong
    assert layer.state["mean"] is mean
    assert not np.any(mean)
    assert mean.dtype == np.float32


def test_every_backend_is_checked_at_the_same_point(backend):
    layers = lambda: Sequential([Dense(3), Dropout(0.4), Tanh()])  # noqa: E731
    here, there = (check_gradients(layers(), (4,), place) for place in (backend, "numpy"))
    jointly = {row.name: row for row in there.rows}
    for row in here.rows:
        if row.where == jointly[row.name].where:
            assert row.numeric == pytest.approx(jointly[row.name].numeric, abs=1e-8)


# Wrong use ----------------------------------------------------------------------------------------


def test_wrong_use_is_explained():
    with pytest.raises(ValueError, match="needs an input_shape"):
        check_gradients(Dense(3))
    with pytest.raises(TypeError, match=r"takes a layer such as Dense\(3\)"):
        check_gradients(Dense, (4,))
    with pytest.raises(TypeError, match="takes a layer"):
        check_gradients(3.0, (4,))
    with pytest.raises(ValueError, match=r"Embedding.* takes integers, .* give them as x"):
        check_gradients(Network([Embedding(5, 2)], (3,)))
    with pytest.raises(ValueError, match="lives on <backend numpy>"):
        check_gradients(Network([Dense(3)], (4,)), backend="array-api-strict")
