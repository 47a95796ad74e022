"""What a recording says of a step, and where its plan wants the arrays, whatever replays it."""

import itertools

import numpy as np
import pytest

from xpnn.backends.numpy.replay import Replayed
from xpnn.backends.recording.calls import Memory, NotRecordable, Slot, View
from xpnn.backends.recording.recording import Recording
from xpnn.trees import Structure, leaves, tree_map


def record(step, *arguments, donate=()):
    form = Structure(arguments)
    return Recording(step, form, form.flatten(arguments), donate)


def names(form):
    return [".".join(map(str, path)) for path in form.paths]


def learn(held, x, rate):
    """By descent: the slope of the sum of the squares of x w."""
    out = x @ held["w"]
    (x + 1.0) * 2.0  # which nobody reads
    return {"w": held["w"] - rate * (x.T @ out), "t": held["t"] + 1}, np.sum(out * out)


GIVEN = {"w": np.ones((4, 3)), "t": 0}, np.ones((5, 4)), 0.5


def test_arguments_and_results_by_where_they_lie():
    recording = record(learn, *GIVEN, donate=(0,))
    given, returned = names(recording.form), names(recording.result_form)
    assert {given[k]: view.shape for k, view in recording.views.items()} == {
        "0.w": (4, 3),
        "1": (5, 4),
    }
    assert {given[k]: slot.kind for k, slot in recording.slots.items()} == {"0.t": int, "2": float}
    by_name = dict(zip(returned, recording.results, strict=True))
    assert {name: getattr(one, "shape", int) for name, one in by_name.items()} == {
        "0.0.w": (4, 3),
        "0.0.t": int,
        "0.1": (),
    }
    replaced = dict(zip(returned, recording.replaced, strict=True))
    assert given[replaced["0.0.w"]] == "0.w"
    assert replaced["0.1"] is None
    old = recording.aliases[by_name["0.0.w"].memory]
    assert old is recording.views[given.index("0.w")].memory


def test_calls_that_nobody_reads_are_left_out():
    calls = [call.function for call in record(learn, *GIVEN).calls]
    assert calls.count(np.matmul) == 2
    assert calls.count(np.multiply) == 2  # by the rate, and of the square
    assert len(calls) == 7  # beside these a difference, a count and a sum


def test_a_plan_has_a_block_and_no_bytes():
    """Of x w, over which its square is written; the slope; and the sum, a single number."""
    recording, blocks = record(learn, *GIVEN, donate=(0,)), []
    plan = recording.plan(recording.calls, blocks)
    assert [type(one) for one in blocks] == [Memory]
    assert blocks[0].nbytes == sum(-(-n // 64) * 64 for n in (8, 8 * 4 * 3, 8 * 5 * 3))
    for call in plan.calls:
        for view in call.views():
            lies = plan.in_block(view)
            assert lies[2:] == view[2:]
            assert lies.memory in blocks or lies.memory in recording.kept
            assert 0 <= lies.offset <= lies.memory.nbytes - view.nbytes


def interpret(recording, given):
    """The results of the calls, one after another, in bytes that lie as the plan says.

    This is the whole of a backend for recordings, without any care for speed.
    """
    plan, room, numbers = recording.plan(recording.calls, []), {}, {}

    def array(view):
        view = plan.in_block(view)
        block = room.setdefault(view.memory, np.zeros(view.memory.nbytes, np.uint8))
        return np.ndarray(view.shape, view.dtype, block, view.offset, view.strides)

    def value(leaf):
        if isinstance(leaf, View):
            return array(leaf)
        return numbers[leaf.number] if isinstance(leaf, Slot) else leaf

    for k, view in recording.views.items():
        array(view)[...] = given[k]
    for k, slot in recording.slots.items():
        numbers[slot.number] = given[k]
    for call in plan.calls:
        function = getattr(call.function, call.method) if call.method else call.function
        made = function(*tree_map(value, call.arguments), **tree_map(value, call.options))
        if not (call.is_elementwise or call.stacks_along_first_axis()):
            for target, operand in itertools.product(call.writes(), call.reads()):
                assert not np.may_share_memory(array(target), array(operand))
        for mark, one in zip(call.results, leaves(made), strict=True):
            if isinstance(mark, View):
                array(mark)[...] = one
            elif mark is not None:
                numbers[mark.number] = one
    return plan, [np.copy(value(one)) for one in recording.results]


def stacked(held, x):
    count, a, b = held["t"] * 2 + 1, np.exp(x), np.tanh(x)
    both = np.concatenate([a * 2.0, b * 3.0])
    w = held["w"] * 0.5 + a
    return {"w": w}, both * both, np.sum(a * b - held["w"]), count


def turned(held, x):
    rows = np.stack([held["w"], x, x * 2.0])
    rows += 1.0
    return {"w": np.sum(rows.T @ rows, axis=0)}, rows[1:], rows.T[:, 0] - x, held["t"] / 4


@pytest.mark.parametrize("step", [stacked, turned])
def test_calls_that_run_where_the_plan_says_give_what_the_step_gives(step):
    rng = np.random.default_rng(0)
    given = {"w": rng.standard_normal(6), "t": 3}, rng.standard_normal(6)
    recording = record(step, *given, donate=(0,))
    for _ in range(2):
        given = {"w": rng.standard_normal(6), "t": 4}, rng.standard_normal(6)
        _, found = interpret(recording, recording.form.flatten(given))
        wanted = recording.result_form.flatten((step(*given),))
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other)


def test_a_result_is_made_on_top_of_the_argument_that_it_replaces():
    recording = record(lambda w, x: (w * 0.5 + x,), np.ones(6), np.ones(6), donate=(0,))
    plan, _ = interpret(recording, [np.ones(6), np.ones(6)])
    assert plan.aliased == {recording.results[0].memory}


def test_arguments_that_are_joined_lie_side_by_side():
    def step(pair):
        joint = np.concatenate([pair["a"], pair["b"]]) * 0.5
        return ({"a": joint[:3], "b": joint[3:]},)

    recording = record(step, {"a": np.ones(3), "b": np.ones(5)}, donate=(0,))
    (joint,) = recording.joints
    assert {(one.memory, one.offset, one.shape) for one in recording.views.values()} == {
        (joint, 0, (3,)),
        (joint, 24, (5,)),
    }
    assert [call.function for call in recording.calls] == [np.multiply]


def test_an_error_of_the_step_is_the_steps_own():
    with pytest.raises(ValueError, match="mismatch in its core dimension"):
        record(np.matmul, np.ones((3, 4)), np.ones((5, 4)))


def test_values_make_no_difference():
    """An id out of range is for the one who replays to meet."""
    recording = record(lambda table, ids: np.take(table, ids, axis=0), np.ones(3), np.array([5]))
    with pytest.raises(IndexError, match="out of bounds"):
        interpret(recording, [np.ones(3), np.array([5])])


REFUSED = {
    "a value on the host": (lambda x, n: x * float(np.max(x)), "host"),
    "a choice by a value": (lambda x, n: x if np.sum(x) > 0 else -x, "host"),
    "an array that it was given is written": (lambda x, n: x.__iadd__(1.0), "given"),
    "an unknown call": (lambda x, n: np.median(x), "median"),
    "an index that changes": (lambda x, n: x[n], "index"),
    "an object": (lambda x, n: (x, object()), "object is returned"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    step, reason = REFUSED[name]
    with pytest.raises(NotRecordable, match=reason):
        record(step, np.arange(3.0), 1)


def test_a_result_of_another_form_in_the_place_of_an_argument_is_refused():
    with pytest.raises(NotRecordable, match="differs in form"):
        record(lambda held: (held * np.ones((2, 1)),), np.ones(3), donate=(0,))


def test_an_argument_in_the_place_of_another_is_refused():
    with pytest.raises(NotRecordable, match="in the place of another"):
        record(lambda held: ([held[1], held[0]],), [np.ones(3), np.ones(3)], donate=(0,))


def replays(step, *arguments, donate=()):
    """Whether a replay of the step gives what it gives call by call, three times in turn."""
    held, replayed = [np.copy(one) for one in arguments[0]], Replayed(step, donate, required=True)
    for turn in range(3):
        wanted = step([np.copy(one) for one in held], *arguments[1:])
        held, *found = replayed(held, *arguments[1:])
        for one, right in zip((*held, *found), (*wanted[0], *wanted[1:]), strict=True):
            np.testing.assert_array_equal(one, right, err_msg=f"turn {turn}")


def test_a_part_of_an_argument_is_copied_not_joined():
    """The rest of the argument has to stay where it is."""

    def step(held, x):
        a, b = held
        joint = np.concatenate([a[:2], b]) * x
        return [a + np.sum(joint), b * 0.5], joint + a[3]

    replays(step, [np.arange(4.0), np.arange(3.0)], 2.0, donate=(0,))


def test_what_is_joined_twice_is_joined_once():
    """Of arguments that lie behind each other already, in that order; not of others."""

    def step(held, x):
        a, b, c = held
        first, same = np.concatenate([a, b, c]) * x, np.concatenate([a, b, c]) - x
        part, other = np.concatenate([b, c]) + x, np.concatenate([c, b]) * x
        total = first[0] + same[1] + part[2] + other[3]
        return [a * 0.5 + total, b - same[4], c + part[0]], first * same

    given = [np.arange(3.0), np.arange(2.0) + 5, np.arange(4.0) - 9], 2.0
    calls = [call.function for call in record(step, *given, donate=(0,)).calls]
    assert calls.count(np.concatenate) == 1
    replays(step, *given, donate=(0,))


def test_an_argument_is_joined_with_one_other_only():
    """It cannot lie beside two that want it in different joints."""

    def step(held, x):
        a, b, c = held
        first, second = np.concatenate([a, b]) * x, np.concatenate([b, c]) + x
        return [a + first[0], b + second[-1], c * 0.5], first * second

    replays(step, [np.arange(3.0), np.arange(3.0) + 5, np.arange(3.0) - 9], 2.0, donate=(0,))
