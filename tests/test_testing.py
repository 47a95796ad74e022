"""check_gradients catches planted mistakes and names them, and passes what is right."""

import math

import numpy as np
import pytest

from xpnn.backends import get_backend
from xpnn.errors import GradientError
from xpnn.layers import (
    ELU,
    GELU,
    Dense,
    Dropout,
    Layer,
    Parallel,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from xpnn.losses import cross_entropy, mean_squared_error, quadratic_cost
from xpnn.network import Network
from xpnn.optimizers import Adam
from xpnn.testing import check_gradients, training_curve

# Planted mistakes ---------------------------------------------------------------------------------


class Mistaken(Dense):
    """Dense with one gradient replaced by ``plant(xp, Z, delta, weight, right one)``."""

    def __init__(self, units, where, plant):
        super().__init__(units)
        self.where, self.plant = where, plant

    def backward(self, delta):
        back = super().backward(delta)
        right = back if self.where == "(input)" else self.grads[self.where]
        wrong = self.plant(self.xp, self.cache["Z"], delta, self.params["weight"], right)
        if self.where == "(input)":
            return wrong
        self.grads[self.where] = wrong
        return back


def mistaken(where, plant, units=2):
    return lambda: Mistaken(units, where, plant)


def slope(kind, formula):
    """The activation with another ``backward``, given S, Z and delta."""

    class Wrong(kind):
        def forward(self, S, training=False):
            self.cache["S"], self.cache["Z"] = S, super().forward(S, training)
            return self.cache["Z"]

        def backward(self, delta):
            return formula(self, self.cache["S"], self.cache["Z"], delta)

    return Wrong


class Square(Layer):
    """``Z^2``, but the 2 of its derivative is forgotten."""

    def forward(self, Z, training=False):
        self.cache["Z"] = Z
        return Z * Z

    def backward(self, delta):
        return delta * self.cache["Z"]


class Scale(Layer):
    """``g Z`` with g = 1 at first, and dL/dZ = delta without the g."""

    def init_params(self, input_shape, rng):
        return {"g": np.ones(input_shape)}

    def forward(self, Z, training=False):
        self.cache["Z"] = Z
        return self.params["g"] * Z

    def backward(self, delta):
        self.grads["g"] = self.xp.sum(self.cache["Z"] * delta, axis=0)
        return delta


class MaskForgotten(Dropout):
    def backward(self, delta):
        return delta / (1 - self.rate)


class NothingInBackward(Dropout):
    def backward(self, delta):
        return delta


class ShortcutForgotten(Residual):
    def backward(self, delta):
        return self.body.backward(delta)


class BranchesSwapped(Parallel):
    def backward(self, delta):
        first, second = self.layers
        half = delta.shape[-1] // 2
        return first.backward(delta[..., half:]) + second.backward(delta[..., :half])


class DiagonalSoftmax(Softmax):
    def backward(self, delta):
        Z = self.cache["output"]
        return delta * Z * (1 - Z)


def last_sample_only(xp, Z, delta, weight, right):
    return xp.reshape(Z[-1, ...], (-1, 1)) * delta[-1, ...]


def rows_for_each_sample(xp, Z, delta, weight, right):
    return Z[:, :, None] * delta[:, None, :]


BadSigmoid = slope(Sigmoid, lambda self, S, Z, delta: delta * S * (1 - S))

MISTAKES = [  # a layer, its input shape, the wrong gradient, how the report begins to explain it
    pytest.param(
        mistaken("weight", lambda xp, Z, d, W, right: -right), (4,), "weight", "sign:", id="sign"
    ),
    pytest.param(
        mistaken("bias", lambda xp, Z, d, W, right: d), (4,), "bias", "missing sum:", id="no-sum"
    ),
    pytest.param(
        mistaken("weight", rows_for_each_sample), (4,), "weight", "missing sum:", id="no-sum-weight"
    ),
    pytest.param(
        mistaken("weight", last_sample_only),
        (4,),
        "weight",
        "missing sum: only sample 2 counts",
        id="one-sample-counts",
    ),
    pytest.param(
        mistaken("bias", lambda xp, Z, d, W, right: xp.sum(d, axis=0)),
        (3, 4),
        "bias",
        "missing sum:",
        id="no-sum-over-time",
    ),
    pytest.param(
        mistaken("bias", lambda xp, Z, d, W, right: xp.sum(d, axis=0, keepdims=True)),
        (4,),
        "bias",
        "shape: an axis of length 1",
        id="keepdims",
    ),
    pytest.param(
        mistaken("bias", lambda xp, Z, d, W, right: xp.mean(d, axis=0)),
        (4,),
        "bias",
        "factor: 0.333333 times the right gradient; 1/3 is one over the batch size",
        id="mean-for-sum",
    ),
    pytest.param(
        mistaken("weight", lambda xp, Z, d, W, right: right * 3.0),
        (4,),
        "weight",
        "factor: 3 times the right gradient; 3 is the batch size",
        id="times-batch-size",
    ),
    pytest.param(
        mistaken("weight", lambda xp, Z, d, W, right: -2.0 * right),
        (4,),
        "weight",
        "sign and factor: -2 times",
        id="sign-and-factor",
    ),
    pytest.param(
        mistaken("weight", lambda xp, Z, d, W, right: 0.01 * right),
        (4,),
        "weight",
        "factor: 0.01 times the right gradient; it looks like a learning rate",
        id="learning-rate",
    ),
    pytest.param(
        mistaken("weight", lambda xp, Z, d, W, right: d.T @ Z),
        (4,),
        "weight",
        "transposed:",
        id="turned",
    ),
    pytest.param(
        mistaken("weight", lambda xp, Z, d, W, right: d.T @ Z, units=4),
        (4,),
        "weight",
        "transposed: the right numbers",
        id="turned-square",
    ),
    pytest.param(
        mistaken("(input)", lambda xp, Z, d, W, right: d @ W, units=4),
        (4,),
        "(input)",
        "transposed: delta times weight where",
        id="weight-not-turned",
    ),
    pytest.param(
        mistaken("(input)", lambda xp, Z, d, W, right: None), (4,), "(input)", "missing:", id="none"
    ),
    pytest.param(
        mistaken("bias", lambda xp, Z, d, W, right: right * math.nan),
        (4,),
        "bias",
        "NaN: 2 of 2",
        id="nan",
    ),
    pytest.param(
        mistaken("bias", lambda xp, Z, d, W, right: 0.0 * right), (4,), "bias", "zero:", id="zero"
    ),
    pytest.param(
        mistaken("weight", lambda xp, Z, d, W, right: right * 1.00001),
        (4,),
        "weight",
        "precision:",
        id="nearly-right",
    ),
    pytest.param(
        BadSigmoid,
        (4,),
        "(input)",
        "f' of the wrong array: evaluated at the input",
        id="sigmoid-of-S",
    ),
    pytest.param(
        slope(Tanh, lambda self, S, Z, d: d * (1 - S * S)),
        (4,),
        "(input)",
        "f' of the wrong array: evaluated at the input",
        id="tanh-of-S",
    ),
    pytest.param(
        slope(SiLU, lambda self, S, Z, d: self.slope(self.xp, Z, d)),
        (4,),
        "(input)",
        "f' of the wrong array: evaluated at the output",
        id="silu-of-Z",
    ),
    pytest.param(
        slope(GELU, lambda self, S, Z, d: self.slope(self.xp, Z, d)),
        (4,),
        "(input)",
        "f' of the wrong array: evaluated at the output",
        id="gelu-of-Z",
    ),
    pytest.param(
        slope(Softplus, lambda self, S, Z, d: self.slope(self.xp, Z, d)),
        (4,),
        "(input)",
        "f' of the wrong array: evaluated at the output",
        id="softplus-of-Z",
    ),
    pytest.param(
        slope(Sigmoid, lambda self, S, Z, d: d * (1 - Z)),
        (4,),
        "(input)",
        "missing factor: times the output",
        id="sigmoid-without-Z",
    ),
    pytest.param(
        slope(Tanh, lambda self, S, Z, d: 1 - Z * Z),
        (4,),
        "(input)",
        "missing factor: times delta",
        id="delta-forgotten",
    ),
    pytest.param(
        slope(Tanh, lambda self, S, Z, d: d * (1 - Z * Z) * Z),
        (4,),
        "(input)",
        "extra factor: the output",
        id="extra-factor",
    ),
    pytest.param(
        Square, (4,), "(input)", "factor: 0.5 times the right gradient; a factor of 2", id="no-2"
    ),
    pytest.param(Scale, (4,), "(input)", "delta unchanged:", id="scale-of-one"),
    pytest.param(
        slope(ReLU, lambda self, S, Z, d: d),
        (4,),
        "(input)",
        "delta unchanged:",
        id="relu-without-slope",
    ),
    pytest.param(lambda: MaskForgotten(0.4), (6,), "(input)", "mask:", id="mask-forgotten"),
    pytest.param(
        lambda: NothingInBackward(0.4),
        (6,),
        "(input)",
        "delta unchanged:",
        id="dropout-without-backward",
    ),
    pytest.param(
        lambda: ShortcutForgotten([Dense(4), Tanh()]),
        (4,),
        "(input)",
        "missing term: with delta added",
        id="shortcut-forgotten",
    ),
    pytest.param(
        lambda: BranchesSwapped([Dense(2), Dense(2)]),
        (4,),
        "(input)",
        "swapped:",
        id="branches-swapped",
    ),
    pytest.param(
        lambda: BranchesSwapped([Dense(2), Dense(2)]),
        (4,),
        "1.dense.weight",
        "swapped:",
        id="branches-swapped-weight",
    ),
    pytest.param(
        DiagonalSoftmax, (4,), "(input)", "unknown: 12 of 12 elements", id="softmax-diagonal"
    ),
]


@pytest.mark.parametrize(("make", "shape", "name", "words"), MISTAKES)
def test_mistake_is_caught_and_named(backend, make, shape, name, words):
    with pytest.raises(GradientError) as caught:
        check_gradients(make(), shape, backend)
    assert f"\n{name}: {words}" in str(caught.value)
    assert "gradients are WRONG" in str(caught.value)


LOSS_MISTAKES = [
    pytest.param(
        lambda value, delta: (value, 3 * delta), "factor: 3 times the right", id="no-mean"
    ),
    pytest.param(
        lambda value, delta: (value, delta / 3), "factor: 0.333333 times", id="mean-twice"
    ),
    pytest.param(lambda value, delta: (value, -delta), "sign:", id="target-minus-prediction"),
    pytest.param(lambda value, delta: (2 * value, delta), "factor: 0.5 times", id="no-2"),
]


@pytest.mark.parametrize(("plant", "words"), LOSS_MISTAKES)
@pytest.mark.parametrize("loss", [cross_entropy, quadratic_cost, mean_squared_error])
def test_mistake_in_a_loss_is_caught_and_named(backend, loss, plant, words):
    def wrong(predictions, targets, **options):
        return plant(*loss(predictions, targets, **options))

    with pytest.raises(GradientError) as caught:
        check_gradients(wrong, (4,), backend)
    assert f"\n(predictions): {words}" in str(caught.value)


def test_the_wrong_layer_of_a_network_is_named(backend):
    layers = [Dense(3), Residual([Sequential([Dense(3), BadSigmoid()])]), Tanh()]
    with pytest.raises(GradientError) as caught:
        check_gradients(Network(layers, (4,), backend))
    culprits = [line for line in str(caught.value).splitlines() if "by itself" in line]
    assert len(culprits) == 1
    assert culprits[0].startswith("1.residual.body.0.sequential.1.wrong is wrong")
    assert "f' of the wrong array: evaluated at the input" in culprits[0]


def test_a_container_whose_layers_are_right_is_named(backend):
    with pytest.raises(GradientError, match="every layer inside is right by itself"):
        check_gradients(BranchesSwapped([Dense(2), Dense(2)]), (4,), backend)


def test_gradient_of_what_has_no_influence():
    class Idle(Scale):
        def forward(self, Z, training=False):
            self.cache["Z"] = Z
            return 1.0 * Z

    with pytest.raises(GradientError, match=r"g: extra: the output does not depend on this"):
        check_gradients(Idle(), (4,))


def test_where_the_wrong_elements_lie():
    def spoilt(xp, Z, delta, weight, right):
        return xp.stack([right[0, :], right[1, :] + 1.0, right[2, :]])

    with pytest.raises(GradientError, match="2 of 6 elements are wrong, all at index 1 of axis 0"):
        check_gradients(mistaken("weight", spoilt)(), (3,))


def test_gradient_missing_from_grads():
    class Forgetful(Scale):
        def backward(self, delta):
            return delta * self.params["g"]

    with pytest.raises(GradientError, match="g: missing: not in grads"):
        check_gradients(Forgetful(), (4,))


def test_writing_into_the_input_is_a_fault():
    class Greedy(ReLU):
        def forward(self, S, training=False):
            S *= S > 0
            return super().forward(S, training)

    with pytest.raises(GradientError, match="the input array was written to"):
        check_gradients(Greedy(), (4,))


def test_leaving_float64_is_a_fault():
    class Narrow(Tanh):
        def forward(self, S, training=False):
            return self.xp.astype(super().forward(S, training), self.xp.float32)

    with pytest.raises(GradientError, match="the output is float32 while all that goes in is"):
        check_gradients(Narrow(), (4,), tolerance=1.0)


def test_forward_that_gives_nan_is_a_fault():
    class Root(Tanh):
        def forward(self, S, training=False):
            return S * math.nan

    with pytest.raises(GradientError, match="forward pass gives values that are not finite"):
        check_gradients(Root(), (4,))


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
    layer = mistaken("weight", lambda xp, Z, d, W, right: right * (1 + 1e-5))
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
    assert layer.backend is None
    assert layer.params == {}


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
    with pytest.raises(ValueError, match="lives on <backend numpy>"):
        check_gradients(Network([Dense(3)], (4,)), backend="array-api-strict")


# Training curves ----------------------------------------------------------------------------------


def small_net():
    return [Dense(8), Tanh(), Dropout(0.2), Dense(3)]


@pytest.mark.parametrize("loss", [mean_squared_error, cross_entropy])
def test_training_curve_is_the_same_on_every_backend(backend, loss):
    options = {"steps": 50, "loss": loss, "optimizer": Adam(0.01)}
    curve = training_curve(small_net, (6,), backend, **options)
    assert curve.shape == (50,)
    np.testing.assert_allclose(curve, training_curve(small_net, (6,), **options), rtol=1e-4)


def test_training_curve_falls_and_depends_on_the_seed():
    curve = training_curve(small_net, (6,), steps=40)
    assert np.mean(curve[-5:]) < 0.7 * np.mean(curve[:5])
    np.testing.assert_array_equal(curve, training_curve(small_net, (6,), steps=40))
    assert training_curve(small_net, (6,), steps=1, seed=1)[0] != curve[0]
