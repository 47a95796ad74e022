"""A loss of another form than Trainer calls is refused in words, before or in the first step."""

from functools import partial

import numpy as np
import pytest

from xpnn import SGD, Dense, Network, Trainer, cross_entropy, mean_squared_error
from xpnn.errors import ShapeError

pytestmark = pytest.mark.fault("layer or loss that breaks its promise")


def trainer_of(loss, backend="numpy"):
    return Trainer(Network([Dense(2)], (3,), backend), loss, SGD(0.1))


def batch(trainer):
    asarray = trainer.network.backend.asarray
    return asarray(np.ones((4, 3), np.float32)), asarray(np.zeros((4, 2), np.float32))


def bare(p, t):
    return mean_squared_error(p, t)


def without_backend(p, t, *, sample_weight=None):
    return mean_squared_error(p, t)


def with_more(p, t, scale, *, sample_weight=None, backend=None):
    return mean_squared_error(p, t)


@pytest.mark.host_only
@pytest.mark.parametrize("loss", [bare, without_backend, with_more, partial(bare), lambda p, t: 0])
def test_arguments_that_it_does_not_take_are_named_where_it_is_given(loss):
    words = r"a loss is called as loss\(predictions, targets, .* write def \S+\(predictions, target"
    with pytest.raises(TypeError, match=words):
        trainer_of(loss)
    trainer = trainer_of(mean_squared_error)
    with pytest.raises(TypeError, match=words):
        trainer.loss = loss
    assert trainer.loss is mean_squared_error


@pytest.mark.host_only
@pytest.mark.parametrize("loss", [3, None, type("MSE", (), {})])
def test_what_is_no_function_is_refused(loss):
    with pytest.raises(TypeError, match="function"):
        trainer_of(loss)


@pytest.mark.host_only
def test_what_takes_them_in_its_own_way_is_a_loss():
    def by_name(p, t, **options):
        return mean_squared_error(p, t, **options)

    class Loss:
        def __call__(self, *arguments, **options):
            return mean_squared_error(*arguments, **options)

    for loss in (by_name, Loss(), partial(with_more, scale=1.0), Loss().__call__):
        trainer = trainer_of(loss)
        trainer.step(*batch(trainer))


def value_alone(p, t, **_):
    return mean_squared_error(p, t, **_)[0]


def one_value_a_row(p, t, **_):
    _, delta = mean_squared_error(p, t, **_)
    return delta[:, 0], delta


def one_delta_a_row(p, t, **_):
    value, delta = mean_squared_error(p, t, **_)
    return value, delta[:, 0]


def no_delta(p, t, **_):
    return mean_squared_error(p, t, **_)[0], None


@pytest.mark.parametrize(
    ("loss", "error", "words"),
    [
        (
            value_alone,
            TypeError,
            r"returns \(value, dL/d\(predictions\)\), but value_alone returned",
        ),
        (one_value_a_row, ShapeError, r"the value of one_value_a_row is a 0-d array.* \(4,\)"),
        (one_delta_a_row, ShapeError, r"delta of one_delta_a_row .* \(4, 2\), got .* shape \(4,\)"),
        (no_delta, ShapeError, r"the delta of no_delta .* \(4, 2\), got a NoneType"),
    ],
)
def test_what_it_returns_is_looked_at(backend, loss, error, words):
    trainer = trainer_of(loss, backend)
    before = trainer.network.numpy_arrays()
    for run in (trainer.step, trainer.evaluate):
        with pytest.raises(error, match=words):
            run(*batch(trainer))
    for name, array in trainer.network.numpy_arrays().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.host_only
def test_a_number_of_python_s_is_a_value():
    def number(p, t, **options):
        value, delta = mean_squared_error(p, t, **options)
        return float(value), delta

    trainer, usual = trainer_of(number), trainer_of(mean_squared_error)
    assert float(trainer.step(*batch(trainer))) == float(usual.step(*batch(usual)))
    assert trainer.evaluate(*batch(trainer)) == usual.evaluate(*batch(usual))


@pytest.mark.host_only
def test_losses_of_xpnn_take_what_trainer_gives():
    trainer_of(partial(cross_entropy, class_weight=[1.0, 2.0]))
