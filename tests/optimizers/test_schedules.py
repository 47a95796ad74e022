"""Schedules: the curves of torch.optim.lr_scheduler, hand values, and one form for all backends."""

import math

import numpy as np
import pytest

from tests.conftest import needs
from tests.optimizers.schedules import SCHEDULES, each_schedule
from tests.optimizers.table import moved, on_host
from xpnn.optimizers import (
    SGD,
    Chain,
    Cosine,
    CosineRestarts,
    Cyclic,
    Exponential,
    Linear,
    OneCycle,
    Piecewise,
    Polynomial,
    Product,
    ReduceOnPlateau,
    Schedule,
    StepDecay,
    WarmUp,
)

pytestmark = pytest.mark.width

COUNTERPARTS = {  # the class in torch.optim.lr_scheduler, its options, and how long it is the same
    "steps": ("StepLR", {"step_size": 7, "gamma": 0.3}, 45),
    "exponential": ("ExponentialLR", {"gamma": 0.9}, 45),
    "cosine": ("CosineAnnealingLR", {"T_max": 30, "eta_min": 0.1}, 31),  # torch turns back up
    "linear": ("LinearLR", {"start_factor": 1, "end_factor": 0.2, "total_iters": 30}, 45),
    "warm-up": ("LinearLR", {"start_factor": 1 / 8, "total_iters": 7}, 45),
    "one-cycle": ("OneCycleLR", {"max_lr": 0.5, "total_steps": 40}, 40),
    "polynomial": ("PolynomialLR", {"total_iters": 30, "power": 2.0}, 45),
    "restarts": ("CosineAnnealingWarmRestarts", {"T_0": 10, "eta_min": 0.1}, 45),
    "restarts-growing": (
        "CosineAnnealingWarmRestarts",
        {"T_0": 4, "T_mult": 2, "eta_min": 0.1},
        100,
    ),
    "cyclic": (
        "CyclicLR",
        {
            "base_lr": 0.1,
            "max_lr": 0.5,
            "step_size_up": 4,
            "step_size_down": 8,
            "mode": "triangular2",
            "cycle_momentum": False,
        },
        45,
    ),
    "piecewise": (
        "MultiplicativeLR",
        {"lr_lambda": lambda step: {7: 0.2, 20: 3.0}.get(step, 1.0)},
        45,
    ),
    "product": (
        "ChainedScheduler",
        {
            "of": [
                ("ExponentialLR", {"gamma": 0.9}),
                ("LinearLR", {"start_factor": 0.25, "total_iters": 3}),
            ]
        },
        45,
    ),
    "chain": (
        "SequentialLR",
        {
            "of": [
                ("ConstantLR", {"factor": 0.4, "total_iters": 99}),
                ("LinearLR", {"start_factor": 1.0, "end_factor": 0.2, "total_iters": 4}),
                ("LambdaLR", {"lr_lambda": lambda step: 0.8 * 0.5**step}),
            ],
            "milestones": [3, 9],
        },
        45,
    ),
}


def scheduler_of_torch(kind, options, optimizer):
    """That of torch; one that is made ``of`` others gets these."""
    from torch.optim import lr_scheduler

    options = dict(options)
    parts = [scheduler_of_torch(*part, optimizer) for part in options.pop("of", [])]
    if kind == "ChainedScheduler":
        return lr_scheduler.ChainedScheduler(parts)
    given = (parts,) if parts else ()
    return getattr(lr_scheduler, kind)(optimizer, *given, **options)


@needs("torch")
@pytest.mark.parametrize("name", COUNTERPARTS)
def test_the_curve_is_that_of_torch(name):
    import torch

    kind, options, length = COUNTERPARTS[name]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = scheduler_of_torch(kind, options, optimizer)
    theirs = []
    for _ in range(length):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    ours = [SCHEDULES[name].schedule(step) for step in range(1, length + 1)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


@each_schedule
def test_values_by_hand(case):
    for step, value in case.by_hand.items():
        assert case.schedule(step) == pytest.approx(value, rel=1e-9, abs=1e-12)


@each_schedule
def test_the_curve_is_its_formula(case):
    for step in range(1, 101):
        assert case.schedule(step) == pytest.approx(case.value(step), rel=1e-9, abs=1e-12)


@each_schedule
def test_on_the_device_it_is_the_same_as_on_the_host(backend, case):
    schedule = case.schedule
    sweep = backend.elementwise(lambda xp, step: schedule(step, xp) + 0.0 * step)
    steps = np.arange(1, 61, dtype=np.float32)
    with backend.on_device():
        curve = backend.to_numpy(sweep(backend.asarray(steps)))
    expected = [schedule(int(step)) for step in steps]
    np.testing.assert_allclose(curve, expected, rtol=1e-5, atol=1e-7)


@each_schedule
def test_an_optimizer_follows_it(backend, case):
    """The steps of SGD under a gradient of 1 are the rates."""
    schedule = case.schedule
    sgd = SGD(schedule)
    update = backend.compiled(sgd.make_update(backend), (0, 2), known=True)
    with backend.on_device():
        params = moved({"w": np.zeros(1, np.float32)}, backend)
        opt_state, seen = sgd.init(params, backend), [0.0]
        for _ in range(45):
            grads = moved({"w": np.ones(1, np.float32)}, backend)
            params, opt_state = update(params, grads, opt_state)
            seen.append(float(on_host(params, backend)["w"][0]))
    expected = [schedule(step) for step in range(1, 46)]
    # the differences of sums up to 15 in float32
    np.testing.assert_allclose(-np.diff(seen), expected, atol=3e-6)


@pytest.mark.parametrize("every", [3, 7, 49])
def test_stairs_are_exact_after_many_steps(backend, every):
    done = np.arange(0, 100 * every, dtype=np.float32)
    schedule = StepDecay(1.0, every=every, factor=0.99)
    sweep = backend.elementwise(lambda xp, step: schedule(step, xp))
    with backend.on_device():
        curve = backend.to_numpy(sweep(backend.asarray(done + 1)))
    np.testing.assert_allclose(curve, 0.99 ** (done // every), rtol=1e-5)


# Plateaus --------------------------------------------------------------------------------------

LOSSES = [9, 8, 8, 8, 8, 7, 7.0001, 6.9999, 7, 7, 7, 7, -1, -1, -2, 5, 5, 5, 5, 5, 5, 5, 5, 5]


def scales(optimizer, backend, losses):
    """The rate after each of the losses."""
    with backend.on_device():
        opt_state = optimizer.init({}, backend)
        for loss in losses:
            opt_state = optimizer.observe(opt_state, loss, backend)
            yield optimizer.hyper_at(1, opt_state)["rate"]


@needs("torch")
@pytest.mark.parametrize("patience", [0, 1, 3])
def test_plateaus_are_those_of_torch(backend, patience):
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=patience, min_lr=0.02
    )
    expected = []
    for loss in LOSSES:
        theirs.step(loss)
        expected.append(optimizer.param_groups[0]["lr"])
    schedule = ReduceOnPlateau(0.5, factor=0.5, patience=patience, lowest=0.02)
    ours = list(scales(SGD(schedule), backend, LOSSES))
    assert min(expected) < 0.3
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


def test_a_plateau_by_hand(backend):
    schedule = ReduceOnPlateau(1.0, factor=0.5, patience=1, threshold=0.0)
    losses = [4, 4, 4, 4, 4, 3, 3, math.nan, 3]
    #        best, 1, drop, 1, drop, best, 1, NaN is no gain: drop, 1
    expected = [1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125, 0.125]
    assert list(scales(SGD(schedule), backend, losses)) == expected


def test_a_plateau_lowers_the_steps(backend):
    sgd = SGD(WarmUp(2, ReduceOnPlateau(1.0, factor=0.5, patience=0)))
    update, steps = backend.compiled(sgd.make_update(backend), (0, 2), known=True), []
    with backend.on_device():
        params = moved({"w": np.zeros(1, np.float32)}, backend)
        opt_state = sgd.init(params, backend)
        for _ in range(4):
            before = on_host(params, backend)["w"]
            grads = moved({"w": np.ones(1, np.float32)}, backend)
            params, opt_state = update(params, grads, opt_state)
            steps.append(float((before - on_host(params, backend)["w"])[0]))
            opt_state = sgd.observe(opt_state, 7.0, backend)
    assert steps == [0.5, 1.0, 0.5, 0.25]  # warming up, then halved after each epoch but the first


def test_a_plateau_lowers_a_product_and_what_is_chained_in_it(backend):
    sgd = SGD(Product(Chain(1.0, 3.0, at=[1]), ReduceOnPlateau(1.0, factor=0.5, patience=0)))
    with backend.on_device():
        opt_state = sgd.init({}, backend)
        for expected in ([1, 3], [0.5, 1.5]):
            opt_state = sgd.observe(opt_state, 7.0, backend)
            found = [sgd.hyper_at(step, opt_state)["rate"] for step in (1, 2)]
            assert found == expected


def test_growing_restarts_are_exact_after_many_steps(backend):
    """In float32, too: the first and the last step of each cosine, up to 328,000 of them."""
    schedule = CosineRestarts(1.0, steps=100, growth=3)
    begun = [100 * (3**k - 1) // 2 for k in range(1, 9)]
    done = np.array([one - last for one in begun for last in (1, 0)], dtype=np.float32)
    sweep = backend.elementwise(lambda xp, step: schedule(step, xp) + 0.0 * step)
    with backend.on_device():
        curve = backend.to_numpy(sweep(backend.asarray(done + 1)))
    np.testing.assert_allclose(curve, [0.0, 1.0] * 8, atol=3e-4)  # a last step: (pi / 200)^2


def test_one_plateau_serves_two_runs(backend):
    sgd = SGD(ReduceOnPlateau(1.0, factor=0.5, patience=0))
    first = list(scales(sgd, backend, [1, 1, 1]))
    assert list(scales(sgd, backend, [1, 1, 1])) == first == [1, 0.5, 0.25]


# Bad arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: StepDecay(1.0, every=0), "every counts training steps, .* got 0"),
        (lambda: StepDecay(1.0, every=5, factor=0), "a factor above 0, got 0"),
        (lambda: Exponential(1.0, factor=-1), "a factor above 0, got -1"),
        (lambda: Exponential(1.0, factor=0.5, steps=-3), "steps counts training steps, .* got -3"),
        (lambda: Cosine(1.0, steps=12.5), r"steps counts training steps, .* got 12\.5"),
        (lambda: Linear(1.0, end=0.0, steps=0), "steps counts training steps"),
        (lambda: WarmUp(0, 1.0), "steps counts training steps"),
        (lambda: Polynomial(1.0, steps=3, power=0), "Polynomial needs a power above 0, got 0"),
        (lambda: CosineRestarts(1.0, steps=3, growth=1.5), r"growth of at least 1, got 1\.5"),
        (lambda: Cyclic(0.1, peak=1.0, rise=0), "rise counts training steps, .* got 0"),
        (lambda: Piecewise([1.0, 0.1], at=[3, 6]), "fewer than it has values, 1 of them, got 2"),
        (lambda: Piecewise([], at=[]), "Piecewise needs at least one of values, got none"),
        (lambda: Chain(1.0, 2.0, 3.0, at=[6, 6]), r"Chain needs steps that rise in at, got \[6, 6"),
        (lambda: Chain(1.0, ReduceOnPlateau(1.0), at=[6]), r"write Product\(Chain\(\.\.\.\), Red"),
        (lambda: Chain(at=[]), "Chain needs at least one of parts, got none"),
        (lambda: Product(), "Product needs at least one schedule, got none"),
        (lambda: Product(2.0, -1.0), "Product needs schedules of at least 0, got"),
        (
            lambda: Product(ReduceOnPlateau(1.0), ReduceOnPlateau(1.0)),
            "Product has room for one ReduceOnPlateau",
        ),
        (lambda: OneCycle(1.0, steps=10, rise=1.0), r"OneCycle needs a rise in \(0, 1\), got 1"),
        (lambda: ReduceOnPlateau(1.0, factor=1.0), r"a factor in \(0, 1\), got 1"),
        (lambda: ReduceOnPlateau(0.0), "lowest between 0 and start, got lowest=0.0 and start=0.0"),
        (lambda: ReduceOnPlateau(0.1, lowest=0.2), "got lowest=0.2 and start=0.1"),
        (lambda: ReduceOnPlateau(0.1, patience=-1), "needs a patience of 0 or more, got -1"),
        (lambda: ReduceOnPlateau(0.1, patience=1.5), r"needs a patience of 0 or more, got 1\.5"),
        (lambda: ReduceOnPlateau(0.1, threshold=np.nan), "a threshold of 0 or more, got nan"),
    ],
)
def test_bad_arguments_are_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_a_schedule_of_ones_own(backend):
    class Inverse(Schedule):
        def value(self, xp, done):
            return 1.0 / (1.0 + done)

    sgd = SGD(Inverse())
    with backend.on_device():
        params = moved({"w": np.zeros(1, np.float32)}, backend)
        opt_state, update = sgd.init(params, backend), sgd.make_update(backend)
        for _ in range(3):
            grads = moved({"w": np.ones(1, np.float32)}, backend)
            params, opt_state = update(params, grads, opt_state)
        assert on_host(params, backend)["w"][0] == pytest.approx(-(1 + 1 / 2 + 1 / 3))


def test_a_hyperparameter_is_looked_at_by_the_ends_of_all_parts():
    with pytest.raises(ValueError, match="SGD needs momentum in"):
        SGD(momentum=Chain(0.5, 1.0, at=[5]))
    with pytest.raises(ValueError, match="SGD needs rate of at least 0"):
        SGD(Piecewise([0.5, -0.1], at=[5]))
    with pytest.raises(ValueError, match="SGD needs momentum in"):
        SGD(momentum=Product(2.0, Cyclic(0.1, peak=0.5, rise=3)))


def test_schedules_say_what_they_are():
    assert repr(WarmUp(8, Cosine(0.5, steps=30))) == (
        "WarmUp(steps=8, then=Cosine(start=0.5, steps=30, end=0.0))"
    )
