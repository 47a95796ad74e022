"""Hyperparameters: each may be a schedule, and bad ones are refused in words."""

import math

import numpy as np
import pytest

from tests.optimizers.table import CASES, RATE, gradients, moved, on_host, start, trained
from xpnn.backends import get_backend
from xpnn.optimizers import (
    SGD,
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    AdamW,
    ClipByValue,
    Constant,
    Cosine,
    Linear,
    Lion,
    NAdam,
    OneCycle,
    RMSprop,
    WarmUp,
)

pytestmark = [pytest.mark.width, pytest.mark.fault("setting that is changed later")]

STEPS = 6
SCHEDULED = [  # each by itself, and all at once, which shows on JAX that none has to be a number
    pytest.param(case, ends, id=f"{kind}-{name}", marks=marks)
    for kind, case in CASES.items()
    for every in [{"rate": 0.01, "weight_decay": 0.2, **case.schedulable}]
    for name, ends, marks in [
        *((name, {name: end}, pytest.mark.slow_to_compile) for name, end in every.items()),
        ("all", every, ()),
    ]
]


@pytest.mark.parametrize(("case", "ends"), SCHEDULED)
def test_any_hyperparameter_may_be_a_schedule(backend, case, ends):
    begin = case.make(weight_decay=0.1).hyper
    schedules = {name: Linear(begin[name], end=end, steps=STEPS) for name, end in ends.items()}
    params, _ = trained(
        case.make(**{"weight_decay": 0.1, **schedules}),
        backend,
        start("float32"),
        gradients("float32", STEPS),
    )
    # the same by hand: another optimizer for each step, which takes over what the last one left
    numpy = get_backend("numpy")
    expected = start()
    opt_state = case.make().init(expected, numpy)
    for done, grads in enumerate(gradients(steps=STEPS)):
        values = {k: begin[k] + (end - begin[k]) * done / STEPS for k, end in ends.items()}
        update = case.make(**{"weight_decay": 0.1, **values}).make_update(numpy)
        expected, opt_state = update(expected, grads, opt_state)
    for key, array in params.items():
        np.testing.assert_allclose(array, expected[key], rtol=2e-5, atol=1e-5)


def test_adam_corrects_betas_that_change_by_their_product(backend):
    beta = Linear(0.5, end=0.99, steps=STEPS)
    adam = Adam(RATE, beta1=beta, beta2=beta)
    params, _ = trained(adam, backend, start("float32"), gradients("float32", STEPS))
    for key, w in start().items():
        m = v = 0.0
        product = 1.0
        for done, grads in enumerate(gradients(steps=STEPS)):
            g, kept = grads[key], 0.5 + 0.49 * done / STEPS
            product *= kept
            m, v = kept * m + (1 - kept) * g, kept * v + (1 - kept) * g**2
            w = w - RATE * (m / (1 - product)) / (np.sqrt(v / (1 - product)) + 1e-8)
        np.testing.assert_allclose(params[key], w, rtol=1e-5, atol=1e-5)


def test_constant_schedules_are_numbers(backend):
    adam = Adam(Constant(RATE), beta1=Constant(0.8), epsilon=WarmUp(1, 1e-3))
    plain = Adam(RATE, beta1=0.8, epsilon=1e-3)
    runs = [
        trained(one, backend, start("float32"), gradients("float32"))[0] for one in (adam, plain)
    ]
    for key in runs[0]:
        np.testing.assert_allclose(runs[0][key], runs[1][key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), np.int64(1), 1])
def test_numbers_of_numpy_are_taken_and_widen_nothing(backend, number):
    assert type(SGD(number).hyper["rate"]) is float
    params, _ = trained(SGD(number), backend, start("float32"), gradients("float32", 1))
    for key, array in params.items():
        assert array.dtype == np.float32
        expected = start()[key] - float(number) * gradients(steps=1)[0][key]
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: SGD(-0.1), r"SGD needs rate of at least 0, got -0\.1"),
        (lambda: SGD(math.nan), r"SGD needs rate of at least 0, got nan"),
        (lambda: Adam(math.inf), r"Adam needs rate of at least 0, got inf"),
        (lambda: SGD(0.1, momentum=1.0), r"SGD needs momentum in \[0, 1\), got 1\.0"),
        (lambda: SGD(0.1, nesterov=True), r"nesterov=True needs momentum above 0, such as 0\.9"),
        (lambda: Adam(beta1=1.5), r"Adam needs beta1 in \[0, 1\), got 1\.5"),
        (lambda: AdamW(beta2=-0.5), r"AdamW needs beta2 in \[0, 1\), got -0\.5"),
        (lambda: NAdam(beta1=1), r"NAdam needs beta1 in \[0, 1\), got 1"),
        (lambda: NAdam(momentum_decay=-1), r"NAdam needs momentum_decay of at least 0, got -1"),
        (lambda: Lion(beta2=2), r"Lion needs beta2 in \[0, 1\), got 2"),
        (lambda: RMSprop(rho=1), r"RMSprop needs rho in \[0, 1\), got 1"),
        (lambda: RMSprop(epsilon=-1e-8), r"RMSprop needs epsilon of at least 0, got -1e-08"),
        (lambda: Adagrad(weight_decay=-1), r"Adagrad needs weight_decay of at least 0, got -1"),
        (lambda: Adafactor(threshold=0), r"Adafactor needs threshold above 0, got 0"),
        (lambda: Adafactor(epsilon1=0.0), r"Adafactor needs epsilon1 above 0, got 0\.0"),
        (lambda: Adadelta(epsilon=0), r"Adadelta needs epsilon above 0, got 0"),
        (lambda: SGD(Constant(-0.1)), r"SGD needs rate of at least 0, got Constant\(start=-0\.1\)"),
        (lambda: SGD(Linear(0.1, end=-1, steps=3)), r"SGD needs rate of at least 0, got Linear"),
        (lambda: SGD(Cosine(math.nan, steps=3)), r"SGD needs rate of at least 0, got Cosine"),
        (lambda: SGD(WarmUp(2, math.inf)), r"SGD needs rate of at least 0, got WarmUp"),
        (lambda: Adam(beta1=Linear(0.5, end=1.0, steps=3)), r"Adam needs beta1 in \[0, 1\), got L"),
        (lambda: Adam(beta1=OneCycle(1.5, steps=9)), r"Adam needs beta1 in \[0, 1\), got OneCycle"),
        (
            lambda: OneCycle(1.0, steps=9, start_ratio=0),
            r"OneCycle needs ratios above 0, got start",
        ),
    ],
)
def test_numbers_out_of_range_are_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: SGD("fast"), r"rate is a number or a Schedule, got 'fast'"),
        (lambda: SGD({"w": 1}), r"rate is a number or a Schedule, got a dict; parameters are not"),
        (lambda: Adam(beta1=None), r"beta1 is a number or a Schedule, got None"),
        (lambda: Adam(lr=0.1), r"unexpected keyword argument 'lr'"),
        (lambda: SGD(0.1, momentun=0.9), r"unexpected keyword argument 'momentun'"),
        (lambda: NAdam(0.1, nesterov=True), r"unexpected keyword argument 'nesterov'"),
        (lambda: SGD(0.1, clip=1.0), r"clip is an object such as ClipByGlobalNorm\(1\.0\), got 1"),
    ],
)
def test_arguments_of_another_kind_are_refused(make, text):
    with pytest.raises(TypeError, match=text):
        make()


def test_hyperparameters_can_be_read_at_any_step():
    adam = AdamW(Linear(1.0, end=0.0, steps=4), weight_decay=0.5)
    assert adam.hyper_at(1)["rate"] == 1.0
    assert adam.hyper_at(3) == {
        "rate": 0.5,
        "weight_decay": 0.5,
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-8,
    }
    assert repr(SGD(0.1)) == "SGD(rate=0.1, weight_decay=0.0, momentum=0.0)"


ELEMENTWISE = {
    k: one for k, one in CASES.items() if not one.make().sees_whole("w", np.ones((2, 2)))
}


@pytest.mark.parametrize("case", ELEMENTWISE.values(), ids=ELEMENTWISE)
def test_large_arrays_are_updated_like_small_ones_and_their_memory_used_again(case):
    """NumPy sweeps over large arrays block by block, into donated memory."""
    numpy, rows = get_backend("numpy"), 30_000
    optimizer = case.make(weight_decay=0.1)
    expected, _ = trained(optimizer, numpy, start("float32"), gradients("float32", 3))
    params = {"weight": np.tile(start("float32")["weight"], (rows, 1))}
    opt_state, update = optimizer.init(params, numpy), optimizer.make_update(numpy)
    memory = params["weight"]
    for grads in gradients("float32", 3):
        given = np.tile(grads["weight"], (rows, 1))
        params, opt_state = update(params, {"weight": given}, opt_state)
        np.testing.assert_array_equal(given[:3], grads["weight"])
    assert np.shares_memory(memory, params["weight"])
    rows_after = params["weight"].reshape(rows, 3, 2)
    np.testing.assert_allclose(rows_after[0], expected["weight"], rtol=1e-6)
    np.testing.assert_array_equal(rows_after, np.broadcast_to(rows_after[0], rows_after.shape))


@pytest.mark.parametrize("rows", [1, 30_000])
def test_read_only_parameters_are_never_written_to(rows):
    numpy, adam = get_backend("numpy"), Adam(0.1)
    params = {"weight": np.ones((rows, 2), dtype=np.float32)}
    params["weight"].flags.writeable = False
    grads = {"weight": np.ones((rows, 2), dtype=np.float32)}
    after, _ = adam.make_update(numpy)(params, grads, adam.init(params, numpy))
    np.testing.assert_array_equal(params["weight"], 1)
    np.testing.assert_allclose(after["weight"], 0.9, rtol=1e-6)  # Adam's first step is the rate


def test_a_clip_by_value_comes_before_weight_decay(backend):
    sgd = SGD(1.0, weight_decay=0.5, clip=ClipByValue(0.25))
    with backend.on_device():
        params = moved({"w": np.full(2, 2.0, np.float32)}, backend)
        grads = moved({"w": np.array([9.0, -9.0], np.float32)}, backend)
        after, _ = sgd.make_update(backend)(params, grads, sgd.init(params, backend))
        np.testing.assert_allclose(on_host(after, backend)["w"], [0.75, 1.25])
