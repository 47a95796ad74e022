"""What a replayed function promises about the arrays that it is given and those that it returns."""

import numpy as np
import pytest

from xpnn.backends.numpy.replay import Replayed

WIDE, LONG = 40, 30  # 1200 items: enough for a fused loop


def step(params, opt, x, y, weight=None, flag=True):
    """Two matrices and a bias by descent with momentum; the order of keys plays no part."""
    a, b, bias = params["a"], params["b"], params["bias"]
    hidden = np.tanh(x @ a)
    delta = hidden + x @ b + bias - y
    if weight is not None:
        delta = delta * weight[:, None]
    value = np.mean(delta * delta)
    t = opt["t"] + 1
    inner = delta * (1 - hidden * hidden) if flag else delta
    grads = {"a": x.T @ inner / len(x), "b": x.T @ delta / len(x), "bias": np.sum(delta, axis=0)}
    v = {name: opt["v"][name] * 0.9 + grads[name] for name in grads}
    new = {name: params[name] - v[name] * opt["rate"] / (t + 1) for name in grads}
    return new, {"t": t, "rate": opt["rate"] * 0.5, "v": v}, value


def draw(rng, *shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


def start(seed=0, wide=WIDE, dtype=np.float32):
    rng = np.random.default_rng(seed)
    shapes = {"a": (wide, LONG), "b": (wide, LONG), "bias": (LONG,)}
    params, v = ({k: draw(rng, *s, dtype=dtype) for k, s in shapes.items()} for _ in range(2))
    return params, {"t": 0, "rate": 0.1, "v": v}


def batch(seed, size=4, wide=WIDE, dtype=np.float32):
    rng = np.random.default_rng(100 + seed)
    return draw(rng, size, wide, dtype=dtype), draw(rng, size, LONG, dtype=dtype)


def copied(tree):
    if isinstance(tree, dict):
        return {key: copied(one) for key, one in tree.items()}
    if isinstance(tree, tuple):
        return tuple(map(copied, tree))
    return np.array(tree) if isinstance(tree, np.ndarray) else tree


def assert_same(found, wanted, where=""):
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), where
        for key, one in wanted.items():
            assert_same(found[key], one, f"{where}.{key}")
    elif isinstance(wanted, tuple):
        for k, (one, right) in enumerate(zip(found, wanted, strict=True)):
            assert_same(one, right, f"{where}[{k}]")
    elif isinstance(wanted, np.ndarray | np.generic):
        assert found.dtype == wanted.dtype, where
        scale = max(np.max(np.abs(wanted)), 1e-6)  # sums of cancelling addends keep less
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6 * scale, err_msg=where)
    else:
        assert (type(found), found) == (type(wanted), wanted), where


def compared(replayed, held, *given):
    """One step, held against the same step run call by call; the replayed step's results."""
    before = copied(given)
    wanted = step(*copied(held), *before)
    found = replayed(*held, *given)
    assert_same(found, wanted)
    assert_same(given, before)  # lent arrays are never written
    return found


def freeze(tree):
    tree = copied(tree)
    for one in tree.values():
        one.flags.writeable = False
    return tree


def strided(array):
    room = np.zeros((*array.shape, 2), array.dtype)
    room[..., 0] = array
    return room[..., 0]


def overlapping(params):
    room = np.concatenate([params["a"].ravel(), params["b"].ravel()])
    size, shape = params["a"].size, params["a"].shape
    a, b = room[:size], room[size // 2 :][:size]
    return params | {"a": a.reshape(shape), "b": b.reshape(shape)}


def in_bytes(params):
    """All behind each other in the memory of another array, in another order, not aligned."""
    room, held = np.zeros(1 << 15, np.uint8), {}
    offset = 1
    for name, array in reversed(params.items()):
        held[name] = np.ndarray(array.shape, array.dtype, room, offset)
        held[name][...] = array
        offset += array.nbytes
    return held


def over_params(change):
    return lambda params, opt: (change(params), opt)


CHANGES = {  # what happens to donated arrays between two steps
    "nothing": lambda *held: held,
    "copied": lambda *held: copied(held),
    "swapped": over_params(lambda p: p | {"a": p["b"], "b": p["a"]}),
    "swapped-with-slots": lambda p, opt: (p | {"a": opt["v"]["a"]}, opt | {"v": p}),
    "aliased": over_params(lambda p: p | {"b": p["a"]}),
    "aliased-with-slots": lambda p, opt: (p, opt | {"v": p}),
    "overlapping": over_params(overlapping),
    "in-bytes": over_params(in_bytes),
    "read-only": over_params(freeze),
    "fortran": over_params(lambda p: {k: np.asfortranarray(one) for k, one in p.items()}),
    "strided": over_params(lambda p: {k: strided(one) for k, one in p.items()}),
    "broadcast": over_params(lambda p: p | {"a": np.broadcast_to(p["bias"] + 1, (WIDE, LONG))}),
    "transposed": over_params(lambda p: p | {"a": np.ascontiguousarray(p["a"].T).T}),
    "reordered": lambda p, opt: (
        dict(reversed(p.items())),
        {"v": dict(reversed(opt["v"].items())), "rate": opt["rate"], "t": opt["t"]},
    ),
    "one-replaced": over_params(lambda p: p | {"bias": p["bias"] + 1}),
    "whole-rate": lambda p, opt: (p, opt | {"rate": 1}),
    "another-count": lambda p, opt: (p, opt | {"t": 50}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_donated_arrays_may_change_between_steps(change, bind):
    replayed = Replayed(step, (0, 1), bind)
    held = start()
    for k in range(7):
        if k in (0, 2, 3, 5):
            held = change(*held)
        frozen = {k: one for k, one in held[0].items() if not one.flags.writeable}
        before = copied(frozen)
        held = compared(replayed, held, *batch(k, size=3 if k == 4 else 4))[:2]
        assert_same(frozen, before)
    assert replayed.refusal is None


def test_from_the_second_step_on_results_lie_where_arguments_lay(bind):
    replayed = Replayed(step, (0, 1), bind)
    held = replayed(*start(), *batch(0))[:2]
    for k, size in enumerate((4, 3, 4, 3)):
        params, opt, _ = replayed(*held, *batch(k, size))
        for name, array in held[0].items():
            assert params[name] is array
            assert opt["v"][name] is held[1]["v"][name]
        held = params, opt


def test_another_dtype_another_shape(bind):
    """Each with arrays of its own, and the first ones once more."""
    replayed = Replayed(step, (0, 1), bind)
    forms = [{}, {"dtype": np.float64}, {"wide": 20}, {"wide": 20, "dtype": np.float64}]
    held = [start(k, **form) for k, form in enumerate(forms)]
    for k in range(4):
        for number, form in enumerate(forms):
            held[number] = compared(replayed, held[number], *batch(k, **form))[:2]
    assert replayed.refusal is None
    assert len(replayed.units) == len(forms)


@pytest.mark.parametrize("sets", [2, 3])
def test_sets_of_arrays_in_turn(sets, bind):
    replayed = Replayed(step, (0, 1), bind)
    held = [start(k) for k in range(sets)]
    for k in range(5):
        for number in range(sets):
            held[number] = compared(replayed, held[number], *batch(10 * number + k))[:2]
        if sets == 2 and k == 1:
            programs = set(replayed.units)
    if sets == 2:
        assert set(replayed.units) == programs


def test_lent_arrays_of_every_kind(bind):
    replayed = Replayed(step, (0, 1), bind)
    held = start()
    for k in range(8):
        x, y = batch(k)
        if k % 4 == 1:
            x, y = np.asfortranarray(x), strided(y)
        if k % 4 == 2:
            x.flags.writeable = y.flags.writeable = False
        if k % 4 == 3:  # lent and donated at once: read before it is written
            x = held[0]["a"].T[:4]
            wanted = step(*copied(held), x.copy(), y)
            found = replayed(*held, x, y)
            assert_same(found, wanted)
        else:
            found = compared(replayed, held, x, y)
        held = found[:2]


def test_what_is_given_besides_may_change(bind):
    """Weights or none, a choice: a recording for each, all on the same donated arrays."""
    replayed = Replayed(step, (0, 1), bind)
    held = start()
    weights = np.linspace(0, 1, 4, dtype=np.float32)
    for k, (weight, flag) in enumerate([(None, True), (weights, True), (weights, False)] * 3):
        held = compared(replayed, held, *batch(k), weight, flag)[:2]
    assert len(replayed.units) == 3


def test_results_are_the_callers(bind):
    """Neither later steps nor the caller's own writing reach from one into the other."""
    ones = np.ones((3, 4), np.float32)

    def several(held, x):
        new = {"c": np.zeros(4, np.float32), "d": held["d"] * 2}
        return new, x * 2, ones, np.zeros(2), [np.sum(x), held["d"] + 1]

    replayed, kept = Replayed(several, (0,), bind), []
    held = {"c": np.ones(4, np.float32), "d": np.ones(4, np.float32)}
    for k in range(4):
        x = np.full((3, 4), k, np.float32)
        held, *others, (total, more) = replayed(held, x)
        assert_same(held, {"c": np.zeros(4, np.float32), "d": np.full(4, 2.0 ** (k + 1), "f")})
        kept.append((*others, total, more))
        held["c"] += 5
        if k % 2:
            for one in (*others, more):
                one += 100
    for k, (double, constant, zeros, total, more) in enumerate(kept):
        extra = 100 * (k % 2)
        np.testing.assert_array_equal(double, np.full((3, 4), 2 * k + extra))
        np.testing.assert_array_equal(constant, np.full((3, 4), 1 + extra))
        np.testing.assert_array_equal(zeros, np.full(2, extra))
        assert total == 12 * k
        np.testing.assert_array_equal(more, np.full(4, 2.0**k + 1 + extra))
    np.testing.assert_array_equal(ones, 1)


def test_many_shapes_keep_few_programs(bind):
    replayed, held = Replayed(step, (0, 1), bind), start()
    for k in range(40):
        held = compared(replayed, held, *batch(k, size=1 + k % 20))[:2]
    assert len(replayed.units) <= 16
