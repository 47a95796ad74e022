"""What becomes one kernel, and in which order kernels may run."""

import numpy as np
import pytest
from hypothesis import given, settings

from tests.backends.numpy.programs import PROGRAMS, arguments, make_step
from tests.backends.recording.test_recording import record
from xpnn.backends.recording.calls import Memory, NotRecordable, View
from xpnn.backends.recording.kernels import KernelGroups
from xpnn.backends.recording.shapes import cast
from xpnn.trees import leaves, tree_map

KNOWN = {np.add, np.subtract, np.multiply, np.divide, np.exp, np.maximum, np.sqrt, np.greater}


def known(call):
    return call.function in KNOWN


def grouped(step, *given):
    return KernelGroups(record(step, *given), known)


def kernels(step, *given):
    """The names of the calls of each group, kernels in brackets."""
    found = []
    for group in grouped(step, *given).in_order():
        names = [call.function.__name__ for _, call in sorted(group.calls.items())]
        found.append(names if group.walks else names[0])
    return found


ROWS = np.ones((12, 5))


def softmax(x):
    powers = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return powers / np.sum(powers, axis=-1, keepdims=True)


def layer_norm_backward(delta, normal):
    means = (np.sum(one, axis=-1, keepdims=True) / 5 for one in (delta, delta * normal))
    first, second = means
    return delta - first - normal * second, np.sum(delta * normal, axis=0), np.sum(delta, axis=0)


def norm_behind_product(x, w):
    y = x @ w + 1.0
    return y - np.sum(y, axis=-1, keepdims=True), y.T @ x


def read_turned(x):
    """What is made of it lies turned, too: item for item."""
    y = np.exp(x)
    return y + 1.0, y.T * 2.0


def met_by_itself_turned(x):
    y = np.exp(x[:5])
    return y + y.T


def sums_that_lie_turned(x):
    """Rows, and what is known of each of them, lie in another order than their axes are in."""
    y = np.exp(np.transpose(x.reshape(3, 4, 5), (1, 0, 2)))
    return y / np.sum(y, axis=-1, keepdims=True)


def read_in_part(x):
    y = np.exp(x)
    return y + 1.0, y[1:] * 2.0


def around_a_product(x):
    """The last sum needs both the kernel and what waits for it."""
    y = np.exp(x)
    return y + (y @ np.ones((5, 5)) + 1.0)


def columns_used(x):
    return x - np.sum(np.exp(x), axis=0)


def column_of_one_row_used(x):
    y = np.exp(x[:1])
    return y - np.sum(y, axis=0)


def waiting_around(x):
    """The first kernel waits for the second, once it takes the sum: so the product does, too."""
    y = np.exp(x)
    product = y @ np.ones((5, 5))
    z = np.exp(x[0] + 1.0)
    return y + z, product[0] * z


def met_by_rows_of_another_length(x):
    y = np.exp(x)
    return y.reshape(6, 10) + np.sum(y, axis=-1)[:6, None]


def joined_as_it_lies(x):
    y = np.exp(x.reshape(4, 3, 5))
    joined = np.stack([y[:, k] for k in range(3)], axis=1)
    return np.concatenate([joined, joined[:0]]) + 1.0


def everything_added_up(x):
    return np.sum(np.exp(x))


def of_other_rows(x):
    y = np.exp(x)
    return np.sum(y, axis=-1), np.sum(y.reshape(10, 6), axis=-1)


def one_number_added_up(x):
    return np.sum(np.exp(x[0, :1])) + 1.0


GROUPS = {
    one_number_added_up: [["exp", "add", "add"]],
    softmax: [["maximum", "subtract", "exp", "add", "divide"]],
    norm_behind_product: ["matmul", ["add", "add", "subtract"], "matmul"],
    read_turned: [["exp", "add", "multiply"]],
    met_by_itself_turned: [["exp"], ["add"]],
    sums_that_lie_turned: [["exp", "add", "divide"]],
    read_in_part: [["exp", "add"], ["multiply"]],
    around_a_product: [["exp"], "matmul", ["add", "add"]],
    columns_used: [["exp", "add"], ["subtract"]],
    column_of_one_row_used: [["exp", "add"], ["subtract"]],
    waiting_around: [["add", "exp"], ["exp", "add"], "matmul", ["multiply"]],
    met_by_rows_of_another_length: [["exp", "add"], ["add"]],
    joined_as_it_lies: [["exp", "add"], "getitem"],  # which makes an array of none
    everything_added_up: [["exp", "add"], "add"],
    of_other_rows: [["exp", "add"], ["add"]],
}


@pytest.mark.parametrize("step", GROUPS, ids=lambda step: step.__name__)
def test_what_is_one_kernel(step):
    given = (ROWS, np.ones((5, 5))) if step is norm_behind_product else (ROWS,)
    assert kernels(step, *given) == GROUPS[step]


def test_a_norm_and_the_gradients_of_its_scale_are_one_kernel():
    (one,) = kernels(layer_norm_backward, ROWS, ROWS)
    assert len(one) == 10


def softmax_of_much(x):
    for _ in range(8):
        x = np.sqrt(x) + 1.0
    return softmax(x)


def test_long_rows_are_gone_through_in_kernels_of_few_arrays():
    """What waits for a sum of its row is held by the threads of one block; nothing else is."""
    long = np.ones((2, 16_000))
    (one,) = kernels(softmax_of_much, long)
    assert len(one) == 21
    names = kernels(layer_norm_backward, long, long)
    assert len(names) > 1
    assert sum(map(len, names)) == 10
    assert kernels(softmax, long) == GROUPS[softmax]


def test_two_sums_in_turn_are_one_and_a_short_one_is_additions():
    x = np.ones((9, 3, 4))
    assert kernels(lambda x: np.sum(np.sum(x, axis=0), axis=0), x) == [["add"]]
    assert kernels(lambda x: np.sum(x.reshape(3, 9, 4), axis=0) * 2.0, x) == [
        ["add", "add", "multiply"]
    ]


def test_what_lies_between_kernels_is_narrow():
    """Halves and booleans are cast by those who read them, not by those who make them."""

    def step(x, w):
        powers = np.exp(x)
        positive, half = powers > 2.5, powers.astype(np.float16)
        wide = half.astype(np.float32)
        product = wide @ w
        return product * positive.astype(np.float32), wide * product

    given = np.ones((12, 12), np.float32), np.ones((12, 12), np.float32)
    recording = record(step, *given)
    grouping = KernelGroups(recording, lambda call: call.function in {*KNOWN, cast})
    results = {one.memory for one in grouping.results}
    kernels = [group for group in grouping.in_order() if group.walks]
    made = [view for group in kernels for view in group.writes().values()]
    between = [one.dtype for one in made if one.memory in grouping.shared - results]
    assert sorted(map(str, between)) == ["bool", "float16", "float32"]  # the last for the product
    found = run(grouping, recording, given)
    for one, wanted in zip(found, step(*given), strict=True):
        np.testing.assert_array_equal(one, wanted)


def test_sums_of_columns_are_rounded_where_they_are_made():
    """Not by a kernel behind; not if somebody reads them as they are."""

    def step(x):
        total, other = np.sum(x, axis=0), np.sum(x * x, axis=0)
        return total.astype(np.float16), other.astype(np.float16), other

    first, second = grouped(step, ROWS.astype("f")).in_order()
    assert sorted(view.dtype.char for view in first.writes().values()) == ["e", "f", "f"]
    assert [call.function for call in second.calls.values()] == [cast]


def test_constants_of_one_number_take_no_more():
    def step(x):
        return x * np.full((12, 5), 3.0) + np.arange(5.0), np.matmul(np.zeros((2, 12)), x)

    recording = record(step, ROWS)
    grouping = KernelGroups(recording, known)
    assert sorted(one.nbytes for one in grouping.constants.values()) == [8, 8, 40]
    for one, wanted in zip(run(grouping, recording, [ROWS]), step(ROWS), strict=True):
        np.testing.assert_array_equal(one, wanted)


def test_the_same_step_has_the_same_kernels(monkeypatch):
    """Wherever its memory happens to lie: which readers of one size are joined is settled."""

    def step(a, b, c):
        made = [np.exp(one @ one) for one in (a, b, c)]
        turned = [one.T for one in made]
        pairs = [one + other for one in made for other in turned]
        return *pairs, *(one * other for one in turned for other in (a, b, c))

    given = [np.ones((12, 12)) for _ in range(3)]
    found = set()
    for seed in range(10):
        monkeypatch.setattr(Memory, "__hash__", lambda self, seed=seed: hash((seed, id(self))))
        found.add(str(kernels(step, *given)))
    assert len(found) == 1


def test_a_part_that_is_written_over_is_refused():
    def step(x):
        held = np.exp(x)
        part = held[1:]
        part += 1.0
        return held

    with pytest.raises(NotRecordable, match="a part of an array"):
        grouped(step, ROWS)


def run(grouping, recording, given):
    """The results of calls one after another, group after group, each into memory of its own."""
    constants = grouping.constants.items()
    room = {memory: np.array(one).reshape(-1).view(np.uint8) for memory, one in constants}

    def array(view):
        block = room.setdefault(view.memory, np.zeros(view.memory.nbytes, np.uint8))
        return np.ndarray(view.shape, view.dtype, block, view.offset, view.strides)

    def value(leaf):
        return array(leaf) if isinstance(leaf, View) else leaf

    for k, view in recording.views.items():
        array(view)[...] = given[k]
    done = set()
    for group in grouping.in_order():
        assert group.before <= done
        for _, call in sorted(group.calls.items()):
            assert {one.memory for one in call.reads()} <= room.keys()
            function = getattr(call.function, call.method) if call.method else call.function
            made = function(*tree_map(value, call.arguments), **tree_map(value, call.options))
            for mark, one in zip(call.results, leaves(made), strict=True):
                if mark is not None:
                    assert mark.memory not in room
                    array(mark)[...] = one
        done.add(group)
    return [np.copy(value(one)) for one in grouping.results]


@settings(deadline=None, max_examples=200)
@given(*PROGRAMS)
def test_groups_in_their_order_give_what_the_step_gives(lines, picks, extra):
    step, arrays = make_step(lines, picks, extra), tree_map(np.asarray, arguments(1))
    with np.errstate(all="ignore"):
        try:
            recording = record(step, *arrays)
            grouping = KernelGroups(recording, known)
        except NotRecordable:
            return
        given = recording.form.flatten(arrays)
        wanted = recording.result_form.flatten((step(*tree_map(np.copy, arrays)),))
        for one, other in zip(run(grouping, recording, given), wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
