"""What every optimizer promises, checked for each configuration on each backend."""

import contextlib
from functools import partial

import numpy as np
import pytest

from tests.conftest import needs, traced
from tests.ends import width
from tests.optimizers.table import (
    CASES,
    arrays_after,
    each_optimizer,
    gradients,
    last_of,
    made_update,
    moved,
    on_host,
    start,
    steps_by_torch,
    trained,
    trained_by_torch,
)
from xpnn.backends import get_backend
from xpnn.errors import BackendUnavailable
from xpnn.optimizers import Adam, ClipByGlobalNorm, Cosine, matrices_only

pytestmark = pytest.mark.width

each_decay = pytest.mark.parametrize("decay", [0.0, 0.1])


def assert_close(ours, theirs, **tolerance):
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_allclose(array, theirs[name], err_msg=name, **tolerance)


@needs("torch")
@each_optimizer
@pytest.mark.parametrize(
    ("decay", "dtype", "tolerance"),
    [
        pytest.param(0.0, "float32", 1e-5, marks=pytest.mark.slow_to_compile),  # as float64 has it
        (0.1, "float32", 1e-5),
        pytest.param(0.0, "float64", 1e-9, marks=pytest.mark.any_width),
        pytest.param(
            0.1, "float64", 1e-9, marks=[pytest.mark.any_width, pytest.mark.slow_to_compile]
        ),
    ],
)
def test_every_step_leaves_the_parameters_and_slots_of_torch(
    backend, case, decay, dtype, tolerance
):
    optimizer = case.make(weight_decay=decay)
    assert set(optimizer.slots) == case.slots.keys()
    # 1e-9: torch keeps NAdam's product of momenta in float32
    with backend.allow_float64(), backend.on_device():
        params, update = moved(start(dtype), backend), made_update(optimizer, backend)
        opt_state = optimizer.init(params, backend)
        theirs = steps_by_torch(case, decay)
        for grads, (wanted, slots) in zip(gradients(dtype), theirs, strict=True):
            params, opt_state = update(params, moved(grads, backend), opt_state)
            assert_close(on_host(params, backend), wanted, rtol=tolerance, atol=tolerance)
            for slot, arrays in slots.items():
                found = on_host(opt_state[slot], backend)
                assert_close(found, arrays, rtol=tolerance, atol=tolerance)


@each_decay
@pytest.mark.parametrize("name", [name for name, one in CASES.items() if callable(one.reference)])
def test_it_is_the_paper_s(backend, name, decay):
    case = CASES[name]
    with backend.allow_float64():
        params, _ = trained(case.make(weight_decay=decay), backend, start(), gradients())
    assert_close(params, last_of(case.reference(decay)), rtol=1e-9, atol=1e-9)


@pytest.mark.any_width
@each_optimizer
def test_its_first_step_goes_downhill(backend, case):
    """Along every axis, from either side of the minimum of ``(w - 3)^2``."""
    params, _ = trained(
        case.make(),
        backend,
        {"w": np.array([0.5, 2.0, 3.5, 6.0], np.float32)},
        [{"w": np.array([-5.0, -2.0, 1.0, 6.0], np.float32)}],
    )
    before, after = np.abs([-2.5, -1.0, 0.5, 3.0]), np.abs(params["w"] - 3)
    assert np.all(after < before)


def parabola(w, z):
    return w - 3.0, 5.0 * (z - 3.0)


def rosenbrock(w, z):
    """Of ``(1 - w)^2 + 10 (z - w^2)^2``: a bent valley that falls gently to (1, 1)."""
    return -2.0 * (1.0 - w) - 40.0 * w * (z - w * w), 20.0 * (z - w * w)


@pytest.mark.any_width  # test_hyperparameters follows schedules in both
@pytest.mark.parametrize(
    ("slopes", "minimum"),
    [pytest.param(parabola, 3.0, marks=pytest.mark.slow_to_compile), (rosenbrock, 1.0)],
)
@each_optimizer
def test_it_reaches_a_known_minimum(backend, case, slopes, minimum):
    if backend.name == "array-api-strict":
        pytest.skip("600 steps call by call take a second; others below make the same calls")
    optimizer = case.make(rate=Cosine(case.valley, steps=600))
    update = optimizer.make_update(backend)

    def step(params, opt_state):
        w, z = slopes(params["w"], params["z"])
        return update(params, {"w": w, "z": z}, opt_state)

    compiled = backend.compiled(step, known=True)
    with backend.on_device():
        params = moved(
            {"w": np.full(1, 0.5, np.float32), "z": np.full(1, 0.5, np.float32)}, backend
        )
        opt_state = optimizer.init(params, backend)
        for _ in range(600):
            params, opt_state = compiled(params, opt_state)
        assert_close(on_host(params, backend), {"w": minimum, "z": minimum}, atol=0.05)


@each_optimizer
def test_no_array_changes_its_dtype(backend, case):
    for dtype in ("float16", "float32", "float64"):
        wide = backend.allow_float64() if dtype == "float64" else contextlib.nullcontext()
        with wide:
            try:
                backend.dtype(dtype)
            except BackendUnavailable:
                continue
            optimizer = case.make(weight_decay=0.1, clip=ClipByGlobalNorm(1.0))
            given = optimizer, backend, start(dtype), gradients(dtype, 3)
            params, opt_state = traced(backend, partial(arrays_after, *given))
            assert all(array.dtype == backend.dtype(dtype) for array in params.values())
            # half precision keeps its slots in float32, or small steps would be lost
            wanted = backend.dtype("float32" if dtype == "float16" else dtype)
            for slot in optimizer.slots:
                assert all(array.dtype == wanted for array in opt_state[slot].values())


@needs("torch")
@each_optimizer
@pytest.mark.parametrize(
    ("dtype", "close"),
    [("float16", 1e-2), pytest.param("bfloat16", 8e-2, marks=pytest.mark.slow_to_compile)],
)
def test_half_precision_follows_float64(backend, case, dtype, close):
    """Each of 20 steps rounds by up to half of the last of 11 bits, or of 8."""
    with width(backend, dtype):
        optimizer = case.make()
        params = moved(start("float32"), backend, dtype)
        opt_state, update = optimizer.init(params, backend), made_update(optimizer, backend)
        for grads in gradients("float32"):
            params, opt_state = update(params, moved(grads, backend, dtype), opt_state)
        assert all(array.dtype == backend.dtype(dtype) for array in params.values())
        found = on_host(params, backend)
    assert_close(found, trained_by_torch(case, 0.0), rtol=close, atol=close)


@pytest.mark.any_width
@each_optimizer
def test_parameters_without_a_gradient_are_left_alone(backend, case):
    optimizer = case.make(weight_decay=0.1)
    with backend.on_device():
        params = moved(start("float32"), backend)
        opt_state = optimizer.init(params, backend)
        grads = moved({"weight": gradients("float32")[0]["weight"]}, backend)
        after, new_state = optimizer.make_update(backend)(params, grads, opt_state)
        assert not np.array_equal(on_host(after, backend)["weight"], start("float32")["weight"])
    assert after["bias"] is params["bias"]
    for slot in optimizer.slots:
        assert new_state[slot].get("bias") is opt_state[slot].get("bias")


@each_optimizer
def test_nothing_to_train_is_no_error(backend, case):
    optimizer = case.make(clip=ClipByGlobalNorm(1.0))
    with backend.on_device():
        params = moved(start("float32"), backend)
        after, _ = optimizer.make_update(backend)(params, {}, optimizer.init(params, backend))
    assert after == params


@pytest.mark.slow_to_compile  # which parameters decay is known before there are arrays
@each_optimizer
def test_decay_can_leave_out_biases(backend, case):
    def run(**options):
        return trained(case.make(**options), backend, start("float32"), gradients("float32"))[0]

    plain, all_decay = run(weight_decay=0.0), run(weight_decay=0.1)
    some = run(weight_decay=0.1, decays=matrices_only)
    np.testing.assert_array_equal(some["bias"], plain["bias"])
    np.testing.assert_array_equal(some["weight"], all_decay["weight"])
    assert np.all(all_decay["bias"] != plain["bias"])


@pytest.mark.any_width
@each_optimizer
def test_a_step_waits_for_nothing(backend, case, monkeypatch):
    optimizer = case.make(rate=Cosine(0.1, steps=9), clip=ClipByGlobalNorm(1.0))

    def refuse(*_):
        raise AssertionError("this waits for the device, or copies to it")

    with backend.on_device():
        params, grads = moved(start("float32"), backend), moved(gradients("float32")[0], backend)
        opt_state, update = optimizer.init(params, backend), optimizer.make_update(backend)
        monkeypatch.setattr(type(backend), "from_numpy", refuse)
        monkeypatch.setattr(type(backend), "to_numpy", refuse)
        if backend.name in ("array-api-strict", "torch"):
            reads = ("__float__", "__int__", "__bool__", "__index__", "__array__", "item", "numpy")
            for read in reads:
                if hasattr(type(params["bias"]), read):
                    monkeypatch.setattr(type(params["bias"]), read, refuse)
        params, opt_state = update(params, grads, opt_state)
        update(params, grads, opt_state)


@each_optimizer
def test_a_compiled_step_is_traced_once(backend, case):
    optimizer = case.make(
        rate=Cosine(0.1, steps=9),
        weight_decay=Cosine(0.1, steps=5, end=0.01),
        clip=ClipByGlobalNorm(1.0),
    )
    expected, _ = trained(optimizer, backend, start("float32"), gradients("float32", 6))
    traces, update = [], optimizer.make_update(backend)

    def step(params, grads, opt_state):
        traces.append(1)
        return update(params, grads, opt_state)

    compiled = backend.compiled(step, donate=(0, 2), known=True)
    with backend.on_device():
        params = moved(start("float32"), backend)
        opt_state = optimizer.init(params, backend)
        for grads in gradients("float32", 6):
            params, opt_state = compiled(params, moved(grads, backend), opt_state)
            opt_state = optimizer.observe(opt_state, 1.0, backend)
        assert_close(on_host(params, backend), expected, rtol=1e-5, atol=1e-6)
    # a CUDA graph takes a first call, a rehearsal and the capture
    assert len(traces) == {"jax": 1, "numpy": 1, "cupy": 3}.get(backend.name, 6)


@each_optimizer
def test_the_state_survives_a_trip_through_the_host(backend, case):
    optimizer = case.make(rate=Cosine(0.1, steps=9), weight_decay=0.1)
    update, grads = optimizer.make_update(backend), gradients("float32", 6)

    def through(steps, params, opt_state):
        for one in steps:
            params, opt_state = update(params, moved(one, backend), opt_state)
        return params, opt_state

    def again(value):
        if isinstance(value, dict):
            return {name: again(one) for name, one in value.items()}
        if isinstance(value, int | float):
            return value
        return backend.asarray(np.array(backend.to_numpy(value)))

    with backend.on_device():
        params = moved(start("float32"), backend)
        half = through(grads[:3], params, optimizer.init(params, backend))
        travelled = [again(one) for one in half]
        expected, found = (through(grads[3:], *one)[0] for one in (half, travelled))
        assert_close(on_host(found, backend), on_host(expected, backend), rtol=1e-6, atol=1e-7)


@pytest.mark.any_width
@needs("jax")
@each_optimizer
def test_the_state_is_a_pytree(case):
    import jax

    backend = get_backend("jax")
    _, opt_state = trained(case.make(), backend, start("float32"), gradients("float32", 2))
    leaves, structure = jax.tree.flatten(opt_state)
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    again = jax.tree.unflatten(structure, leaves)
    assert again.keys() == opt_state.keys()
    assert int(again["step"]) == 2


def test_counters_live_where_the_backend_wants_them(backend):
    _, opt_state = trained(Adam(), backend, start("float32"), gradients("float32", 3))
    numbers = [opt_state[name] for name in ("step", "correction1", "correction2")]
    assert all(hasattr(number, "shape") for number in numbers) == backend.counters_on_device
    expected = [3, 1 - 0.9**3, 1 - 0.999**3]
    np.testing.assert_allclose([float(number) for number in numbers], expected, rtol=1e-6)


def test_one_optimizer_serves_two_runs_at_a_time(backend):
    optimizer = Adam(0.1)
    grads, other = gradients("float32", 4), gradients("float32", 8)[4:]
    alone = [trained(optimizer, backend, start("float32"), g)[0] for g in (grads, other)]
    with backend.on_device():
        runs = [moved(start("float32"), backend) for _ in range(2)]
        states = [optimizer.init(params, backend) for params in runs]
        update = optimizer.make_update(backend)
        for pair in zip(grads, other, strict=True):
            for i, one in enumerate(pair):
                runs[i], states[i] = update(runs[i], moved(one, backend), states[i])
        for params, expected in zip(runs, alone, strict=True):
            assert_close(on_host(params, backend), expected, rtol=1e-6)
