"""Lambda: its slope is checked where a network is made, it is called, and files refuse it."""

import numpy as np
import pytest

import xpnn
from tests.layers.oracles import passes
from xpnn import SGD, Dense, Lambda, Network, Trainer, mean_squared_error
from xpnn.errors import GradientError, ShapeError, XpnnError
from xpnn.layers.registration import KINDS
from xpnn.testing import check_gradients

X = np.random.default_rng(0).standard_normal((5, 3, 4)).astype(np.float32)


def cube(xp, Z):
    return Z**3


def cube_slope(xp, Z, delta):
    return 3 * Z**2 * delta


def row_sums(xp, Z):
    return xp.sum(Z, axis=-1)


def row_sums_slope(xp, Z, delta):
    return xp.broadcast_to(delta[..., None], Z.shape)


def test_functions_are_called_forward_and_back(backend):
    network = Network([Lambda(cube, cube_slope), Lambda(row_sums, row_sums_slope, shape=(3,))],
                      (3, 4), backend)  # fmt: skip
    delta = X[:, :, 0]
    found = passes(network, X, delta)
    np.testing.assert_allclose(found["output"], (X**3).sum(-1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["input"], 3 * X**2 * delta[..., None], rtol=1e-5)


RIGHT = {  # rule, slope and an input shape: also with kinks, and finite for some inputs only
    "a kink": (lambda xp, Z: xp.abs(Z), lambda xp, Z, d: d * xp.sign(Z), (200, 200, 3)),
    "logarithm": (lambda xp, Z: xp.log(Z), lambda xp, Z, d: d / Z, (4,)),
    "constant": (lambda xp, Z: 0.0 * Z, lambda xp, Z, d: 0.0 * d, (4,)),
    "far from zero": (lambda xp, Z: 1e4 + Z, lambda xp, Z, d: d, (4,)),
    "along an axis": (
        lambda xp, Z: xp.cumulative_sum(Z, axis=1),
        lambda xp, Z, d: xp.flip(xp.cumulative_sum(xp.flip(d, axis=1), axis=1), axis=1),
        (6,),
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_slopes_pass(name):
    rule, slope, shape = RIGHT[name]
    Network([Lambda(rule, slope)], shape)


WRONG = {
    "the sign": lambda xp, Z, d: -3 * Z**2 * d,
    "a factor": lambda xp, Z, d: Z**2 * d,
    "nothing": lambda xp, Z, d: 0 * d,
    "delta alone": lambda xp, Z, d: d,
    "by a hundredth": lambda xp, Z, d: 3.03 * Z**2 * d,
    "one feature of many": lambda xp, Z, d: 3 * Z**2 * d * (xp.arange(Z.shape[-1]) > 0),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_slopes_are_refused_where_a_network_is_made(name):
    layer = Lambda(cube, WRONG[name])
    with pytest.raises(GradientError, match=r"slope of Lambda\(cube\) is not the derivative of it"):
        Network([layer], (12,))
    with pytest.raises(GradientError, match="WRONG"):  # what the message says to look at
        check_gradients(Lambda(cube, WRONG[name], check=False), (12,))
    assert not layer.built


def test_what_is_no_derivative_can_be_had():
    """Such as a rounding that passes delta straight through (Bengio et al., 2013)."""
    layer = Lambda(lambda xp, Z: xp.round(Z), lambda xp, Z, delta: delta, check=False)
    found = passes(Network([layer], (3, 4)), X, X)
    np.testing.assert_array_equal(found["output"], np.round(X))
    np.testing.assert_array_equal(found["input"], X)


def nowhere(xp, Z):
    return Z / 0.0


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ShapeError, match=r"makes \(2, 3\) of \(2, 3, 4\), .*; say shape=\(3,\)"):
        Network([Lambda(row_sums, row_sums_slope)], (3, 4))
    for made in (1.0, None):
        with pytest.raises(ShapeError, match=r"makes \(\) of \(2, 3, 4\), .* an output for each"):
            Network([Lambda(lambda xp, Z, made=made: made, row_sums_slope)], (3, 4))
    with pytest.raises(ShapeError, match=r"returned \(2, 3\) for inputs of \(2, 3, 4\), .* of Z"):
        Network([Lambda(row_sums, lambda xp, Z, d: d, shape=(3,))], (3, 4))
    with pytest.raises(GradientError, match=r"not finite at normal inputs, .*; pass check=False"):
        Network([Lambda(nowhere, cube_slope)], (3,))
    Network([Lambda(nowhere, cube_slope, check=False)], (3,))
    with pytest.raises(TypeError, match="Lambda wants slope to be a function, got None"):
        Lambda(cube, None)


def test_a_file_refuses_it_and_takes_a_class_that_is_made_of_it(backend, tmp_path):
    path = tmp_path / "net.safetensors"
    with pytest.raises(XpnnError, match=r"'0.lambda' is a Lambda, .*; write class Own\(Lambda\)"):
        Network([Lambda(cube, cube_slope)], (3, 4), backend).save(path)
    assert not path.exists()

    class Cube(Lambda):
        def __init__(self):
            super().__init__(cube, cube_slope)

    xpnn.register("tests.Cube")(Cube)
    try:
        Network([Cube()], (3, 4), backend).save(path)
        twin = xpnn.load(path, backend)
    finally:
        KINDS.pop("tests.Cube")
    np.testing.assert_allclose(backend.to_numpy(twin.predict(X)), X**3, rtol=1e-6)


def test_functions_of_a_user_s_are_called_at_every_step_unless_said_otherwise():
    calls = []

    def rule(xp, Z):
        calls.append(Z.shape)
        return Z**3

    for compile, most in ((None, 5), (True, 2)):  # the first one is taken down, and run
        network = Network([Lambda(rule, cube_slope, check=False), Dense(1)], (4,))
        trainer = Trainer(network, mean_squared_error, SGD(0.1), compile=compile)
        calls.clear()
        for _ in range(5):
            trainer.step(X[:, 0], X[:, 0, :1])
        assert len(calls) == most if compile is None else len(calls) <= most
