"""Steps captured as CUDA graphs, and the products that are part of them."""

import gc
import warnings
import weakref

import numpy as np
import pytest

from tests.backends.refusals import compile_warnings
from tests.conftest import needs
from xpnn.backends import get_backend
from xpnn.backends.portable.compiled_step import MOST_UNITS, NotCompilable
from xpnn.errors import CompileError, CompileWarning

pytestmark = needs("cupy")


@pytest.fixture
def cupy():
    get_backend("cupy")
    return pytest.importorskip("cupy")


@pytest.fixture
def captured():
    from xpnn.backends.cupy.graph import CapturedStep

    return CapturedStep


# Products -----------------------------------------------------------------------------------------

PAIRS = {
    "matrices": lambda a: (a(3, 4), a(4, 5)),
    "left transposed": lambda a: (a(4, 3).T, a(4, 5)),
    "right transposed": lambda a: (a(3, 4), a(5, 4).T),
    "both transposed": lambda a: (a(4, 3).T, a(5, 4).T),
    "columns of wider rows": lambda a: (a(3, 9)[:, 2:6], a(4, 8)[:, 3:]),
    "rows of wider columns": lambda a: (a(9, 3)[2:6].T, a(4, 5)),
    "every second column": lambda a: (a(3, 8)[:, ::2], a(4, 10)[:, ::2]),
    "rows backwards": lambda a: (a(3, 4)[::-1], a(4, 5)),
    "one row": lambda a: (a(1, 4), a(4, 5)),
    "one column": lambda a: (a(3, 4), a(4, 1)),
    "outer": lambda a: (a(3, 1), a(1, 5)),
    "one by one": lambda a: (a(1, 1), a(1, 1)),
    "one column transposed": lambda a: (a(1, 3).T, a(1, 5)),
    "stacks": lambda a: (a(2, 3, 4), a(2, 4, 5)),
    "stack by matrix": lambda a: (a(2, 3, 4), a(4, 5)),
    "matrix by stack": lambda a: (a(3, 4), a(2, 4, 5)),
    "stacks of stacks": lambda a: (a(2, 6, 3, 4), a(2, 6, 4, 5)),
    "broadcast stacks": lambda a: (a(2, 1, 3, 4), a(1, 6, 4, 5)),
    "heads": lambda a: (a(2, 3, 6, 4).transpose(0, 2, 1, 3), a(2, 3, 6, 4).transpose(0, 2, 3, 1)),
    "last stack first": lambda a: (a(3, 4, 2).transpose(2, 0, 1), a(2, 4, 5)),
    "no rows": lambda a: (a(0, 4), a(4, 5)),
    "nothing to add up": lambda a: (a(3, 0), a(0, 5)),
    "no stacks": lambda a: (a(0, 3, 4), a(0, 4, 5)),
    "rows over each other": lambda a: (windows(a(7), 4), windows(a(8), 5)),
    "columns over each other": lambda a: (windows(a(7), 4).T, windows(a(8), 5)),
    "one row again and again": lambda a: (again(a(4), 3), again(a(5), 4)),
}


def windows(array, length):
    import cupy

    return cupy.lib.stride_tricks.as_strided(
        array, (array.size - length + 1, length), 2 * array.strides
    )


def again(array, count):
    import cupy

    return cupy.broadcast_to(array, (count, array.size))


@pytest.mark.parametrize("pair", PAIRS)
def test_matrices_are_handed_over_as_cublas_takes_them(cupy, pair):
    """Its leading dimension reaches from one row (or column) to the next, over all of the first."""
    from xpnn.backends.cupy.products import NORMAL, _layout

    for x in PAIRS[pair](lambda *shape: cupy.zeros(shape)):
        laid, way, leading, _ = _layout(x, x.shape[:-2])
        rows, columns = laid.shape[-2:]
        assert leading >= (columns if way == NORMAL else rows)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("pair", PAIRS)
def test_products_of_all_layouts(cupy, rng, pair, dtype):
    from xpnn.backends.cupy.products import Products, product_of

    kind = get_backend("cupy").dtype(dtype)
    a, b = PAIRS[pair](lambda *shape: cupy.asarray(rng.normal(size=shape)).astype(kind))
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        out = Products(stream).product(a, b)
    stream.synchronize()
    wanted = a.get().astype("float64") @ b.get().astype("float64")
    assert (out.shape, out.dtype) == (wanted.shape, kind)
    tolerance = {"float16": 2e-3, "bfloat16": 8e-3, "float32": 1e-6, "float64": 1e-14}[dtype]
    np.testing.assert_allclose(product_of(a, b).get(), out.get())
    np.testing.assert_allclose((a @ b).get(), out.get(), rtol=2 * tolerance, atol=tolerance)
    found = out.get().astype("float64")
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=4 * tolerance)


def test_products_that_cannot_be_captured_say_why(cupy):
    from xpnn.backends.cupy.products import Products

    products = Products(cupy.cuda.Stream(non_blocking=True))
    whole, real = cupy.ones((2, 2), "int32"), cupy.ones((2, 2), "float32")
    with pytest.raises(NotCompilable, match="int32"):
        products.product(whole, whole)
    with pytest.raises(NotCompilable, match="float64"):
        products.product(real, real.astype("float64"))
    with pytest.raises(ValueError, match="do not fit"):
        products.product(real, cupy.ones((3, 2), "float32"))


# Captured steps -----------------------------------------------------------------------------------


def learn(held, x, rate):
    """Some of all: a product, a donated array written in place, a counter, a fresh result."""
    out = x @ held["w"]
    w = held["w"]
    w -= rate * (x.T @ out)
    return {"w": w, "count": held["count"] + 1, "old": held["count"]}, out.sum()


def start(cupy):
    rng = np.random.default_rng(1)
    return {
        "w": cupy.asarray(rng.normal(size=(4, 3)).astype("float32")),
        "count": cupy.zeros((), "int32"),
        "old": cupy.zeros((), "int32"),
    }


def test_replayed_steps_equal_steps_kernel_by_kernel(cupy, captured, rng):
    step = captured(learn, donate=(0,))
    ours, theirs = start(cupy), start(cupy)
    values = []
    for k in range(12):
        x = cupy.asarray(rng.normal(size=(5 if k % 3 else 2, 4)).astype("float32"))
        rate = 0.1 if k < 8 else 0.2
        ours, value = step(ours, x, rate)
        theirs, wanted = learn(theirs, x, rate)
        values.append((value, wanted))
        assert (int(ours["count"]), int(ours["old"])) == (k + 1, k)
        np.testing.assert_array_equal(ours["w"].get(), theirs["w"].get())
    for value, wanted in values:  # none was written over by a later step
        np.testing.assert_array_equal(value.get(), wanted.get())
    assert step.refusal is None
    assert len(step.units) == 3  # two shapes, and another rate for one of them


def test_donated_arrays_stay_where_they_are(cupy, captured, rng):
    step = captured(learn, donate=(0,))
    held, seen = start(cupy), []
    for _ in range(5):
        held, _ = step(held, cupy.asarray(rng.normal(size=(5, 4)).astype("float32")), 0.1)
        seen.append([array.data.ptr for array in held.values()])
    assert seen[1] == seen[2] == seen[3] == seen[4]  # captured at the third call


def test_a_rehearsal_is_a_step_like_any_other(cupy, captured):
    """Its products are cuBLAS's, on the stream and by the handle of the capture; others CuPy's."""
    streams = []

    def step(held, x):
        streams.append(cupy.cuda.get_current_stream().ptr)
        if len(streams) < 3:
            whole = x.astype("int32")
            assert int((whole @ whole)[0, 0]) == 2
        held["w"] += x @ x
        return (held,)

    replayed, held = captured(step, donate=(0,)), {"w": cupy.zeros((2, 2), "float32")}
    outside = cupy.cuda.get_current_stream().ptr
    for k in range(5):
        (held,) = replayed(held, cupy.ones((2, 2), "float32"))
        assert held["w"].get().tolist() == [[2.0 * (k + 1)] * 2] * 2
    assert streams == [outside, *[replayed.context.stream.ptr] * 2]
    assert outside not in streams[1:]


def test_what_a_step_leaves_behind_is_not_held_twice(cupy, captured):
    """Neither by CuPy's own pool beside the graph's, nor by one of them from a rehearsal."""
    size, pool = 1 << 25, cupy.get_default_memory_pool()

    def step(held, x):
        for _ in range(3):
            x = x + held["w"]
        return {"w": held["w"] + x.sum()}, x.sum()

    replayed, held = captured(step, donate=(0,)), {"w": cupy.zeros((), "float32")}
    x, graphs = cupy.ones(size // 4, "float32"), replayed.context.pool
    gc.collect()
    pool.free_all_blocks()
    before, totals, little = pool.total_bytes(), [], 2**18
    for _ in range(4):
        held, _ = replayed(held, x)
        totals.append(pool.total_bytes() - before + graphs.total_bytes())
    assert 2 * size <= totals[0] < 2 * size + little
    assert totals[1] < size + little  # the first results were cut from a block
    assert totals[2] == totals[3] < 3 * size + little  # with a buffer for the input


def test_what_goes_during_a_capture_does_not_wait_for_the_device(cupy, monkeypatch):
    """CUDA forbids that then; garbage is left where it is, and a handle of cuBLAS is used again."""
    from cupy_backends.cuda.libs import cublas

    from xpnn.backends.cupy import products
    from xpnn.backends.cupy.graph import CaptureContext

    class Garbage:
        def __init__(self):
            self.itself = self

    destroyed, x = [], cupy.ones((2, 2), "float32")
    monkeypatch.setattr(cublas, "destroy", destroyed.append)
    context, dropped = CaptureContext(), [CaptureContext()]
    own = dropped[0].products.handle

    def step():
        dropped.clear()
        left = weakref.ref(Garbage())
        many = [[k] for k in range(3000)]  # enough for a collection
        return x @ x, left() is not None and many

    _, (_, is_left) = context.capture(step)
    assert is_left
    assert gc.isenabled()
    assert not destroyed
    idle = {*products._idle[cupy.cuda.Device().id]}
    assert own in idle
    assert context.products.handle not in idle
    assert CaptureContext().products.handle in idle


def test_donated_arrays_in_other_memory_are_read(cupy, captured, rng):
    step = captured(learn, donate=(0,))
    ours, theirs = start(cupy), start(cupy)
    x = cupy.asarray(rng.normal(size=(5, 4)).astype("float32"))
    for k in range(6):
        if k == 4:
            ours = {name: array * 2 for name, array in ours.items()}
            ours["w"] = cupy.asfortranarray(ours["w"])
            theirs = {name: array * 2 for name, array in theirs.items()}
        ours, _ = step(ours, x, 0.1)
        theirs, _ = learn(theirs, x, 0.1)
        for name, array in ours.items():
            np.testing.assert_array_equal(array.get(), theirs[name].get())
    assert len(step.units) == 1


def test_donated_arrays_that_changed_places_are_read(cupy, captured):
    """A graph's own memory, given in another order, is not written over before it is read."""
    step = captured(lambda pair: ({"a": pair["a"] + 1, "b": pair["b"] + 2},), donate=(0,))
    pair, wanted = {"a": cupy.zeros(3), "b": cupy.full(3, 10.0)}, [0.0, 10.0]
    for k in range(6):
        if k > 2:
            pair, wanted = {"a": pair["b"], "b": pair["a"]}, wanted[::-1]
        (pair,) = step(pair)
        wanted = [wanted[0] + 1, wanted[1] + 2]
        assert [float(pair[name][0]) for name in "ab"] == wanted
    assert len(step.units) == 1


def test_results_that_change_places(cupy, captured):
    step = captured(lambda pair: (pair[1], pair[0] + 1), donate=(0,))
    step.step = lambda pair: ((pair[1], pair[0] + 1),)
    pair = (cupy.zeros(3, "float32"), cupy.full(3, 10, "float32"))
    wanted = (0.0, 10.0)
    for _ in range(6):
        (pair,) = step(pair)
        wanted = (wanted[1], wanted[0] + 1)
        assert [float(one[0]) for one in pair] == list(wanted)
    assert len(step.units) == 1


def test_held_arrays_are_read_where_they_lie(cupy, captured):
    step = captured(lambda w, x: x @ w, held=(0,))
    x = cupy.ones((2, 2), "float32")
    for round_ in range(5):
        w = cupy.full((2, 2), round_, "float32")
        for _ in range(3):
            assert float(step(w, x)[0, 0]) == 2 * round_
            w += 1
            assert float(step(w, x)[0, 0]) == 2 * round_ + 2
            w -= 1
    assert len(step.units) == 2  # of the newest arrays


def test_graphs_that_are_not_used_again_are_freed(cupy, captured):
    step = captured(lambda w, x: x @ w, held=(0,))
    x, known = cupy.ones((2, 2), "float32"), []
    for k in range(6):
        step(cupy.full((2, 2), k, "float32"), x)
        known += [weakref.ref(graph) for graph in step.units]
    gc.collect()
    assert len({ref() for ref in known} - {None}) == len(step.units) == 2


def test_as_many_forms_are_remembered_as_graphs(cupy, captured):
    step = captured(lambda x: 2 * x)
    for rows in range(1, MOST_UNITS + 3):
        for _ in range(2):
            step(cupy.ones((rows, 2)))
    assert len(step.seen) == MOST_UNITS
    for wanted in (0, 0, 1):  # the first form begins anew
        assert len(step.units) == 0
        step(cupy.ones((1, 2)))
        assert len(step.units) == wanted
    step(cupy.ones((MOST_UNITS + 2, 2)))  # the last one was rehearsed
    assert len(step.units) == 2


def test_what_cannot_be_captured_runs_kernel_by_kernel(cupy, captured):
    def step(held, x):
        w = held["w"]
        w += x
        if float(w.sum()) > 100:
            w -= 100
        return ({"w": w},)

    replayed = captured(step, donate=(0,))
    held, wanted = {"w": cupy.zeros(4, "float32")}, np.zeros(4)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", CompileWarning)
        for _ in range(5):
            (held,) = replayed(held, cupy.full(4, 9, "float32"))
            wanted += 9
            wanted -= 100 if wanted.sum() > 100 else 0
            np.testing.assert_array_equal(held["w"].get(), wanted)
    if replayed.refusal is None:
        pytest.skip("this driver lets a captured stream be waited for")
    assert len(said) == 1


@pytest.mark.parametrize("refusal", ["by CUDA", "by CuPy", "by a product"])
@pytest.mark.parametrize("required", [False, True])
def test_a_refused_capture_changes_nothing_and_is_said_once(cupy, captured, refusal, required):
    calls, held = [], {"w": cupy.zeros(4, "float32")}

    def step(held, x):
        calls.append(1)
        w = held["w"]
        w += x
        if len(calls) == 3:  # the capture, after the first call and the rehearsal
            if refusal == "by CUDA":
                raise cupy.cuda.runtime.CUDARuntimeError(900)  # StreamCaptureUnsupported
            if refusal == "by CuPy":
                raise NotImplementedError(
                    "calling cuSOLVER API during stream capture is unsupported"
                )
            whole = cupy.ones((2, 2), "int32")
            whole @ whole
        return ({"w": w},)

    replayed = captured(step, donate=(0,), required=required)
    if required:
        for _ in range(2):
            (held,) = replayed(held, cupy.ones(4, "float32"))
        with pytest.raises(CompileError, match="this one cannot be"):
            replayed(held, cupy.ones(4, "float32"))
        assert held["w"].get().tolist() == [2.0] * 4
        assert not replayed.units
        return
    with compile_warnings(1):
        for k in range(4):
            (held,) = replayed(held, cupy.ones(4, "float32"))
            assert float(held["w"][0]) == k + 1
    assert replayed.refusal
    assert float((cupy.ones((2, 2)) @ cupy.ones((2, 2)))[0, 0]) == 2  # CuPy's own @ is back


ERRORS = [ValueError, ZeroDivisionError, KeyboardInterrupt, RuntimeError, NotImplementedError]


@pytest.mark.parametrize("error", ERRORS)
def test_any_other_error_during_a_capture_comes_out(cupy, captured, error):
    calls = []

    def step(held, x):
        calls.append(1)
        w = held["w"] + x
        if len(calls) == 3:  # the capture, after the first call and the rehearsal
            raise error("stop")
        return ({"w": w},)

    replayed, held = captured(step, donate=(0,)), {"w": cupy.zeros(4, "float32")}
    for _ in range(2):
        (held,) = replayed(held, cupy.ones(4, "float32"))
    with pytest.raises(error, match="stop"):
        replayed(held, cupy.ones(4, "float32"))
    assert held["w"].get().tolist() == [2.0] * 4
    for k in range(3):
        (held,) = replayed(held, cupy.ones(4, "float32"))
        assert float(held["w"][0]) == k + 3
    assert replayed.refusal is None
    assert replayed.units


@pytest.mark.parametrize(
    ("status", "refused"), [(899, False), (900, True), (908, True), (909, False)]
)
def test_which_errors_of_cuda_are_refusals(cupy, status, refused):
    from xpnn.backends.cupy.graph import CaptureContext

    def forbidden():
        raise cupy.cuda.runtime.CUDARuntimeError(status)

    with pytest.raises(NotCompilable if refused else cupy.cuda.runtime.CUDARuntimeError):
        CaptureContext().capture(forbidden)


def test_an_error_of_the_step_is_the_step_s(cupy, captured):
    def step(x):
        raise ValueError("no")

    replayed = captured(step)
    for _ in range(3):
        with pytest.raises(ValueError, match="no"):
            replayed(cupy.ones(2))


# Memory that runs out -----------------------------------------------------------------------------


@pytest.fixture
def refuse_memory(cupy, monkeypatch):
    """A function that lets the next so many requests of graphs for memory fail."""
    from xpnn.backends.cupy import graph

    left, memory = [0], cupy.cuda.Memory

    def allocate(size):
        if left[0] > 0:
            left[0] -= 1
            raise cupy.cuda.runtime.CUDARuntimeError(graph.OUT_OF_MEMORY)
        return memory(size)

    monkeypatch.setattr(cupy.cuda, "Memory", allocate)
    return lambda times: left.__setitem__(0, times), graph.CaptureContext


def test_blocks_that_a_graph_works_in_are_kept_when_memory_runs_out(cupy, refuse_memory):
    refuse, place = refuse_memory
    pool = place().pool
    pool.malloc(4096)  # and freed at once: a graph would go on to use it
    held = pool.total_bytes()
    assert held >= 4096
    refuse(3)
    with pytest.raises(MemoryError, match="asked for 100,352 bytes more"):
        pool.malloc(100_000)
    assert pool.total_bytes() == held


@pytest.mark.parametrize(("times", "graphs"), [(1, 1), (2, 0)])
def test_a_capture_without_memory_is_tried_once_more(
    cupy, captured, refuse_memory, rng, times, graphs
):
    refuse, _ = refuse_memory
    step = captured(learn, donate=(0,))
    ours, theirs = start(cupy), start(cupy)
    for k in range(8):
        rows = 5 if k < 3 else 500
        if k == 5:
            assert len(step.units) == 1
            refuse(times)
        x = cupy.asarray(rng.normal(size=(rows, 4)).astype("float32") / rows)
        with compile_warnings(k == 5 and graphs == 0):
            ours, _ = step(ours, x, 0.1)
        theirs, _ = learn(theirs, x, 0.1)
        np.testing.assert_array_equal(ours["w"].get(), theirs["w"].get())
        assert int(ours["count"]) == k + 1
    assert len(step.units) == graphs
    assert (step.refusal is None) == (graphs > 0)
