"""A fused step is the step itself, up to the order of sums: of every layer, optimizer and loss."""

import gc
import weakref
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tests.backends.numpy.programs import PROGRAMS, arguments, make_step
from tests.backends.numpy.test_fuzz import assert_same
from tests.backends.numpy.test_layers import MORE, draw, small_network
from tests.conftest import needs
from tests.layers.table import each_layer_by_kind
from tests.losses.table import each_loss
from tests.optimizers.table import each_optimizer
from xpnn import CompileError, Trainer, cross_entropy, get_backend, mean_squared_error
from xpnn.backends.cupy import compiling
from xpnn.backends.cupy import program as program_module
from xpnn.backends.cupy.fusing import Fusing
from xpnn.backends.cupy.generated import Kernel
from xpnn.backends.cupy.graph import nodes_of
from xpnn.backends.recording.calls import NotRecordable
from xpnn.backends.recording.recorder import Recorder
from xpnn.layers import LSTM, Dense, Embedding, Flatten, LayerNorm, ReLU, TransformerBlock
from xpnn.network import Network
from xpnn.optimizers import Adam, AdamW, ClipByValue, matrices_only
from xpnn.trees import Structure, leaves, tree_map

pytestmark = needs("cupy")

CLOSE = {"rtol": 2e-5, "atol": 3e-6}  # a few units of float32, grown over five steps


@pytest.fixture(scope="module")
def backend():
    pytest.importorskip("cupy", reason="it runs on CuPy's arrays")
    return get_backend("cupy")


def everything(trainer):
    """All arrays that a step has left, on the host."""
    found = {"params": trainer.network.params, "state": trainer.network.state}
    found |= {"opt_state": trainer.opt_state}
    return tree_map(lambda one: np.asarray(trainer.network.backend.to_numpy(one)), found)


def check(network, loss, make_optimizer, batches, **options):
    """Train on the same batches, fused and call by call; the fused trainer."""
    trainers = [
        Trainer(network.to("cupy"), loss, make_optimizer(), compile=choice, **options)
        for choice in ("fused", False)
    ]
    for x, y in batches:
        found, wanted = (float(trainer.step(x, y)) for trainer in trainers)
        np.testing.assert_allclose(found, wanted, **CLOSE)
        pair = map(everything, trainers)
        for one, other in zip(*(Structure(one).flatten(one) for one in pair), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, **CLOSE)
    sizes = Counter(len(x) for x, _ in batches)
    captured = [size for size, times in sizes.items() if times > 2]
    assert len(trainers[0]._train_step.compiled.units) == len(captured) > 0
    return trainers[0]


def batches_of(shape, targets, sizes):
    return [
        (draw(shape, size, seed), draw(targets, size, seed + 10)) for seed, size in enumerate(sizes)
    ]


JOINS = np.stack, np.concatenate
SIZES = (4, 4, 3, 4, 3, 4, 3)  # each of them three times, and then captured


@each_layer_by_kind
def test_layer(make, input_shape, backend):
    network = Network([make(), Flatten(), Dense(2)], input_shape, "numpy", seed=1)
    batches = batches_of(input_shape, (2,), (4, 4, 4))  # captured; of several sizes below
    check(network, mean_squared_error, lambda: Adam(0.01, epsilon=1e-2), batches)


@pytest.mark.parametrize(
    ("names", "sizes"), [(["plain"], SIZES), (["clip-norm", "decay", "schedule"], (4, 4, 4))]
)
@each_optimizer
def test_optimizer(case, names, sizes, backend):
    more = {name: value for one in names for name, value in MORE[one]().items()}
    check(
        small_network(),
        mean_squared_error,
        lambda: case.make(**more),
        batches_of((4,), (3,), sizes),
    )


@each_loss
def test_loss(case, backend):
    if case.predictions.__name__ == "shares":
        pytest.skip("wants a network that ends in probabilities")
    shape = case.shape[1:] or (1,)
    network = Network([Dense(shape[-1])], shape, "numpy", seed=3)
    batches = [case.arrays("float32", seed) for seed in range(3)]
    if len(case.shape) == 1:
        batches = [(x[:, None], y[:, None]) for x, y in batches]
    # a triplet's bias moves both distances alike: Adam would blow the rounding of its 0 up
    check(network, case.loss, lambda: Adam(0.01, epsilon=1e-2), batches)


HALVES = {  # a few units of them, rounded at other places
    "float16": {"rtol": 2e-3, "atol": 2e-3},
    "bfloat16": {"rtol": 1e-2, "atol": 1e-2},
}
OPTIONS = [{"precision": "float16"}, {"precision": "bfloat16"}, {"accumulate": 2}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_network_of_all_kinds(options, backend):
    """Ids, attention, recurrence, norms, dropout; weighted, clipped, in halves or in two parts."""
    if "bfloat16" in options.values():
        pytest.importorskip("ml_dtypes", reason="bfloat16 takes it")
    layers = [Embedding(12, 8), TransformerBlock(8, 2, causal=True, dropout=0.2), LayerNorm()]
    network = Network([*layers, LSTM(6), Dense(4)], (5,), "numpy", seed=4)
    rng = np.random.default_rng(0)
    x, y, weight = rng.integers(0, 12, (6, 5)), rng.integers(0, 4, 6), rng.random(6)
    close = HALVES.get(options.get("precision"), CLOSE)
    optimizer = Adam(0.01, clip=ClipByValue(0.1))
    trainers = [
        Trainer(network.to("cupy"), cross_entropy, optimizer, compile=choice, **options)
        for choice in ("fused", False)
    ]
    for _ in range(5):
        found, wanted = (float(trainer.step(x, y, weight)) for trainer in trainers)
        np.testing.assert_allclose(found, wanted, **close)


def test_weights_of_attention_are_kept_up_to_some_number(backend, monkeypatch):
    """Of more, attention is CuPy's own, by blocks of queries."""
    monkeypatch.setattr("xpnn.backends.recording.recorder.KEPT_SCORES", 2 * 2 * 16**2)
    monkeypatch.setattr("xpnn.backends.cupy.backend.KEPT_SCORES", 0)
    network = Network([TransformerBlock(8, 2, causal=True), Dense(2)], (16, 8), "numpy", seed=5)
    for size, own in ((2, False), (3, True)):
        batches = [(draw((16, 8), size, seed), draw((16, 2), size, 9)) for seed in range(3)]
        trainer = check(network, mean_squared_error, lambda: Adam(0.01, epsilon=1e-2), batches)
        assert ("attention(" in str(trainer.program)) is own


def small():
    """A trainer of a fused MLP, and a batch."""
    network = Network([Dense(16), ReLU(), Dense(10)], (12,), "cupy")
    trainer = Trainer(network, cross_entropy, Adam(), compile="fused")
    return trainer, np.ones((32, 12), np.float32), np.zeros(32, np.int64)


@pytest.mark.parametrize("optimizer", [Adam(), AdamW(decays=matrices_only)], ids=repr)
def test_parameters_are_written_over_in_whatever_order_gradients_come(optimizer, backend):
    """They lie in one order for the copies in half precision and for the update."""
    network = Network([TransformerBlock(8, 2), Dense(4)], (5, 8), "cupy")
    trainer = Trainer(network, cross_entropy, optimizer, compile="fused", precision="float16")
    for _ in range(3):
        trainer.step(np.ones((2, 5, 8), np.float32), np.zeros((2, 5), np.int64))
    (program,) = trainer._train_step.compiled.seen.values()
    given = {view.memory for view in program.recording.views.values()}
    for call in program.steps:
        if getattr(call, "function", None) is np.concatenate:
            assert given.isdisjoint(view.memory for view in call.reads())


def test_a_step_is_few_launches(backend):
    trainer, x, y = small()
    for _ in range(3):
        trainer.step(x, y)
    (graph,) = trainer._train_step.compiled.units
    assert nodes_of(graph.graph) == 13
    assert "a1 = x @ 0.dense.weight" in str(trainer.program)


def test_kernels_of_a_program_are_compiled_together(backend, monkeypatch):
    """And not again by a program that has the same ones."""
    import cupy

    codes, module = [], cupy.RawModule
    monkeypatch.setattr(compiling, "_functions", {})

    def noted(code, options):
        codes.append(code)
        return module(code=code, options=options)

    monkeypatch.setattr(cupy, "RawModule", noted)
    for _ in range(2):
        trainer, x, y = small()
        trainer.step(x, y)
        trainer.step(x, y)
        assert len(codes) == 1
    (program,) = trainer._train_step.compiled.seen.values()
    kernels = [step for step in program.steps if isinstance(step, Kernel)]
    assert len(kernels) > 3
    assert all(codes[0].count(one.source) == 1 for one in kernels)
    assert codes[0].count("#include <cuda_fp16.h>") == 1


def test_parameters_and_slots_lie_where_they_lay(backend):
    """From the second step on, in which they are put side by side."""
    trainer, x, y = small()
    weights, places = trainer.network.params, []
    for _ in range(6):
        trainer.step(x, y)
        weights, slots = trainer.network.params, trainer.opt_state["m"]
        places.append([one.data.ptr for one in (*weights.values(), *slots.values())])
    assert places[1:] == places[1:2] * 5
    first, second, *_ = weights.values()
    assert second.data.ptr - first.data.ptr in (first.nbytes, -second.nbytes)


def test_a_dropped_trainer_is_free_at_once(backend):
    """Without a garbage collection, which the memory of a GPU does not call for."""
    gc.collect()
    gc.disable()
    try:
        trainer, x, y = small()
        for _ in range(3):
            trainer.step(x, y)
        step = weakref.ref(trainer._train_step.compiled)
        program = weakref.ref(next(iter(step().seen.values())))
        del trainer
        assert step() is None
        assert program() is None
    finally:
        gc.enable()


def replaced(network):
    """One parameter is another array than before."""
    _, holder, key = network.param_refs[0]
    holder[key] = holder[key] * 2


def turned(network):
    """One lies with its axes in another order."""
    import cupy

    _, holder, key = network.param_refs[0]
    holder[key] = cupy.asfortranarray(holder[key])


def loaded(network):
    network.load(network.numpy_arrays())


@pytest.mark.parametrize("before", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("change", [replaced, turned, loaded])
def test_parameters_may_be_other_arrays_before_any_step(change, before, backend):
    """Not only those that the last step has left side by side."""
    network = small_network()
    trainers = [
        Trainer(network.to("cupy"), mean_squared_error, Adam(0.01), compile=choice)
        for choice in ("fused", False)
    ]
    x, y = draw((4,), 6, 0), draw((3,), 6, 1)
    for number in range(5):
        if number == before:
            for trainer in trainers:
                change(trainer.network)
        found, wanted = (float(trainer.step(x, y)) for trainer in trainers)
        np.testing.assert_allclose(found, wanted, **CLOSE)
    pair = [Structure(one).flatten(one) for one in map(everything, trainers)]
    for one, other in zip(*pair, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, **CLOSE)


def test_inputs_may_lie_in_any_order(backend):
    import cupy

    trainer, x, y = small()
    wanted, *_ = small()
    wide = cupy.asarray(draw((24,), 32, 0))
    for x in (wide[:, ::2], cupy.asfortranarray(wide[:, :12])):
        for _ in range(4):
            loss = float(wanted.step(cupy.ascontiguousarray(x), y))
            assert float(trainer.step(x, y)) == pytest.approx(loss, rel=1e-6)


def test_nothing_is_written_over_before_all_memory_is_had(backend):
    """In a rehearsal, which may run out of it."""
    import cupy

    def step(held, x):
        return held + 1.0, x @ x

    given = held, _ = cupy.ones((3, 3), "f"), cupy.ones((3, 3), "f")
    program = Fusing(lambda _: step, frozenset((0,)), backend)(given)
    first, second = program.steps
    assert first.made
    assert second.function is np.matmul

    def nothing_left(size):
        raise MemoryError

    def no_room_for_the_product(size, left=[1]):  # noqa: B006
        return memory.malloc(size) if left and left.pop() else nothing_left(size)

    memory = cupy.get_default_memory_pool()
    with pytest.raises(MemoryError), cupy.cuda.using_allocator(no_room_for_the_product):
        program.rehearse(*given)
    assert float(held.sum()) == 9
    with pytest.raises(MemoryError), cupy.cuda.using_allocator(nothing_left):
        program(*given)  # while it is captured nothing runs: so there it may be
    assert float(held.sum()) == 18
    program.rehearse(*given)
    assert float(held.sum()) == 27


def masked_sums(x, mask):
    """Read item by item, and then once for the row."""
    kept = x * mask
    return kept, np.sum(kept, axis=-1, keepdims=True) * mask


def softmax_with_columns(x, mask):
    powers = np.exp(x - np.max(x, axis=-1, keepdims=True)) * mask
    shares = powers / np.sum(powers, axis=-1, keepdims=True)
    return shares, np.sum(shares * x, axis=0), np.sum(x, axis=0)


def one_number(x, mask):
    """A row of one, of which a number is made."""
    one = np.sum(x[0, :1] * mask[0], axis=-1)
    return one + mask[0, 0], one * x


@pytest.mark.parametrize("row", [1, 31, 33, 129, 256, 512, 513, 1_000, 4_097, 8_192, 8_193])
@pytest.mark.parametrize("step", [masked_sums, softmax_with_columns, one_number])
def test_rows_of_any_length(step, row, backend):
    """By a warp, or by a block of up to 1,024 threads; of rows fewer than warps, or more."""
    import cupy

    for rows in (3, 70):
        x, mask = draw((row,), rows, 0), draw((1,), rows, 1) + 2
        given = cupy.asarray(x), cupy.asarray(mask)
        fused = Fusing(lambda _: step, frozenset(), backend)(given)
        for found, wanted in zip(fused(*given), step(x, mask), strict=True):
            np.testing.assert_allclose(cupy.asnumpy(found), wanted, rtol=2e-5, atol=2e-5)


def mirrored(x, y):
    z = x[:, ::-1] * y
    return np.sum(z, axis=-1), np.sum(z[:, ::-1] * x, axis=0)


@pytest.mark.parametrize("rows", [3, 130])
def test_rows_are_read_backwards(rows, backend):
    import cupy

    x, y = draw((136,), rows, 0), draw((136,), rows, 1)
    given = cupy.asarray(x), cupy.asarray(y)
    program = Fusing(lambda _: mirrored, frozenset(), backend)(given)
    assert not [one for one in program.steps if not hasattr(one, "source")]
    for found, wanted in zip(program(*given), mirrored(x, y), strict=True):
        np.testing.assert_allclose(cupy.asnumpy(found), wanted, rtol=2e-5, atol=2e-5)


def of_all_kinds(x, y, column, row, number):
    """Packs, one item for a pack, items that lie apart, and one for all."""
    z = (x * row + column) * number
    return z, z + y.T, np.where(z > 0, x, 0)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("start", [0, 1], ids=["aligned", "not aligned"])
def test_items_are_read_in_packs(start, dtype, backend, monkeypatch):
    """Of 16 bytes; one by one where they do not begin at a multiple of that."""
    import cupy

    told, own = [], program_module._begin_with_packs
    monkeypatch.setattr(
        program_module, "_begin_with_packs", lambda *given: told.append(own(*given)) or told[-1]
    )
    rng = np.random.default_rng(0)
    shapes = (128, 136), (136, 128), (128, 1), (136,), ()
    given = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    on_device = [cupy.empty(x.size + start, dtype)[start:].reshape(x.shape) for x in given]
    for x, there in zip(given, on_device, strict=True):
        there[...] = cupy.asarray(x)
    program = Fusing(lambda _: of_all_kinds, frozenset(), backend)(tuple(on_device))
    assert [kernel.pack for kernel in program.steps] == [16 // np.dtype(dtype).itemsize]
    near = {"rtol": 1e-2, "atol": 1e-2} if dtype == "float16" else {"rtol": 2e-6, "atol": 1e-6}
    for found, wanted in zip(program(*on_device), of_all_kinds(*given), strict=True):
        np.testing.assert_allclose(cupy.asnumpy(found), wanted, **near)
    assert told == [start == 0]


def joined_behind_rows(x, w):
    y = np.exp(x)
    shares = y / np.sum(y, axis=-1, keepdims=True)
    return np.concatenate([y + 1.0, shares], axis=1) @ w


def joined_behind_items(x, w):
    """The last piece is read by somebody else, too, of the second stack."""
    y = np.exp(x)
    z = y * 2.0
    first = np.stack([y + 1.0, y - 1.0], axis=2)
    return first[:, ::2, 0] @ w[:32], np.stack([y * 3.0, z], axis=1), z @ w[:64]


@pytest.mark.parametrize("rows", [3, 300])
@pytest.mark.parametrize(("step", "left"), [(joined_behind_rows, 0), (joined_behind_items, 1)])
def test_what_is_made_to_be_joined_is_written_to_its_place(step, left, rows, backend):
    """Along any axis, if nobody else reads it."""
    import cupy

    x, w = draw((64,), rows, 0), draw((5,), 128, 1)
    given = cupy.asarray(x), cupy.asarray(w)
    program = Fusing(lambda _: step, frozenset(), backend)(given)
    joins = [one for one in program.steps if getattr(one, "function", None) in JOINS]
    assert len(joins) == left
    found, wanted = program(*given), step(x, w)
    for one, other in zip(leaves([found]), leaves([wanted]), strict=True):
        np.testing.assert_allclose(cupy.asnumpy(one), other, rtol=2e-5, atol=1e-5)


def joined_turned(x, y):
    """NumPy puts turned arrays side by side in their own order, CuPy in that of the axes."""
    both = np.concatenate([x.T, y.T], axis=1)
    return both * 2.0, both[1:] @ both.T


def joined_sums(x, y):
    """Pieces are what a kernel makes of its rows and of their sums."""
    z = np.exp(x)
    total = np.sum(z, axis=-1, keepdims=True)
    top = np.max(z, axis=0, keepdims=True)
    both = np.concatenate([total, z, total * z, y], axis=1)
    return both @ np.ones((both.shape[1], 2), np.float32), np.concatenate([z - top, top], axis=0)


def joined_dtypes(x, y):
    return np.concatenate([x * 2.0, y.astype(np.float64) + 1.0], axis=1) + 0.5


@pytest.mark.parametrize("step", [joined_turned, joined_sums, joined_dtypes])
@pytest.mark.parametrize("columns", [1, 64])
def test_what_is_joined_has_the_numbers_of_numpy(step, columns, backend):
    import cupy

    x, y = draw((columns,), 50, 0), draw((columns,), 50, 1)
    given = cupy.asarray(x), cupy.asarray(y)
    program = Fusing(lambda _: step, frozenset(), backend)(given)
    for found, wanted in zip(leaves([program(*given)]), leaves([step(x, y)]), strict=True):
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(cupy.asnumpy(found), wanted, rtol=2e-5, atol=1e-5)


class Peeking(Dense):
    def forward(self, x, training=False):
        assert float(x.sum()) > 0
        return super().forward(x, training)


class CallingCupy(Dense):
    def forward(self, x, training=False):
        import cupy

        return super().forward(cupy.tanh(x), training)


class AskingForAPointer(Dense):
    def forward(self, x, training=False):
        assert x.data.ptr
        return super().forward(x, training)


REFUSED = {Peeking: "'sum'", CallingCupy: "CuPy's arrays .*TypeError", AskingForAPointer: "'data'"}


@pytest.mark.parametrize("layer", REFUSED)
def test_what_cannot_be_recorded_is_refused(layer, backend):
    network = Network([layer(3)], (4,), "cupy")
    trainer = Trainer(network, mean_squared_error, Adam(), compile="fused")
    x, y = np.ones((2, 4), np.float32), np.ones((2, 3), np.float32)
    trainer.step(x, y)
    before = trainer.network.numpy_arrays()
    with pytest.raises(CompileError, match=rf"compile='fused' asked .*{REFUSED[layer]}"):
        trainer.step(x, y)
    after = trainer.network.numpy_arrays()
    for name, one in before.items():
        np.testing.assert_array_equal(one, after[name])


def test_what_cupy_has_not_is_refused_before_anything_runs(backend):
    import cupy

    fusing = Fusing(lambda _: np.bitwise_or.reduce, frozenset(), backend)
    with pytest.raises(NotRecordable, match="reductions by bitwise_or"):
        fusing((cupy.ones((3, 2), "i"),))


def test_constants_are_read_as_numbers(backend):
    """In a kernel, in a product, and by a function of CuPy's."""
    import cupy

    def step(x):
        return x * np.full((5, 3), 2, "f"), np.zeros((2, 5), "f") @ x, np.clip(x, np.array(0.5), 1)

    x = draw((3,), 5, 0)
    given = (cupy.asarray(x),)
    fused = Fusing(lambda _: step, frozenset(), backend)(given)
    for found, wanted in zip(fused(*given), step(x), strict=True):
        np.testing.assert_allclose(cupy.asnumpy(found), wanted, rtol=1e-6)


def halves(x):
    scaled = 0.1 * x + 3.0
    total = np.sum(x.astype(np.float32), axis=0).astype(x.dtype)
    return scaled, np.sum(scaled * scaled, axis=-1, keepdims=True), total, x @ x.T


def test_bfloat16_is_rounded_where_it_is_written(backend):
    """In kernels it is float32, as it is in a product; in memory it is bfloat16."""
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="bfloat16 takes it")
    import cupy

    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 70)).astype(ml_dtypes.bfloat16)
    given = (backend.asarray(x, "bfloat16"),)
    program = Fusing(lambda _: halves, frozenset(), backend)(given)
    assert {view.dtype.name for step in program.steps for view in step.views()} == {"bfloat16"}
    for found, wanted in zip(program(*given), halves(x.astype(np.float32)), strict=True):
        found = cupy.asnumpy(found)
        assert found.dtype == x.dtype
        np.testing.assert_allclose(found.astype("f"), wanted, rtol=2.0**-8, atol=1e-6)


def test_a_cast_to_halves_is_rounded_in_a_kernel(backend):
    import cupy

    def step(x):
        rounded = x.astype(np.float16)
        return rounded.astype(np.float32) - x, np.sum(rounded.astype(np.float32) - x, axis=-1)

    x = draw((70,), 40, 0)
    given = (cupy.asarray(x),)
    program = Fusing(lambda _: step, frozenset(), backend)(given)
    assert all(isinstance(one, Kernel) for one in program.steps)
    found, wanted = program(*given), step(x)
    np.testing.assert_array_equal(cupy.asnumpy(found[0]), wanted[0])
    np.testing.assert_allclose(cupy.asnumpy(found[1]), wanted[1], rtol=1e-4, atol=1e-6)


def test_bfloat16_has_no_constants_that_float16_has_not(backend):
    pytest.importorskip("ml_dtypes", reason="bfloat16 takes it")

    def step(x):
        return x + np.full((2,), -1e9, x.dtype)

    def fused(dtype):
        return Fusing(lambda _: step, frozenset(), backend)((backend.asarray([1.0, 2.0], dtype),))

    with pytest.raises(NotRecordable, match="beyond 65504"):
        fused("bfloat16")
    found = fused("float16")(backend.asarray([1.0, 2.0], "float16"))
    assert (backend.to_numpy(found) == -np.inf).all()


def test_one_step_is_in_one_half_precision(backend):
    pytest.importorskip("ml_dtypes", reason="bfloat16 takes it")
    given = [backend.asarray([1.0], dtype) for dtype in ("float16", "bfloat16")]
    with pytest.raises(NotRecordable, match="float16 and bfloat16 are in one step"):
        Fusing(lambda _: max, frozenset(), backend)(tuple(given))
    recorder = Recorder(backend)
    assert recorder.xp.finfo(np.float16).max == 65504
    assert recorder.xp.finfo(recorder.dtype("bfloat16")).max > 3e38


@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(*PROGRAMS)
def test_random_programs(backend, lines, picks, extra):
    """As NumPy runs them, twice in turn, parameters and slots written over."""
    import cupy

    step = make_step(lines, picks, extra)
    arrays = [tree_map(np.asarray, arguments(seed)) for seed in (1, 2)]
    held, number, *_ = arrays[0]
    fusing = Fusing(lambda _: step, frozenset((0, 1)), backend)
    with np.errstate(all="ignore"):
        try:
            on_device = tree_map(cupy.asarray, arrays[0])
            fused = fusing(on_device)
        except NotRecordable:
            return
        there, count = fused.arranged(on_device)[:2]
        for _, _, *more in arrays:
            wanted = step(tree_map(np.copy, held), tree_map(np.copy, number), *more)
            there, count, also = fused(there, count, *tree_map(cupy.asarray, more))
            assert_same(tree_map(cupy.asnumpy, (there, count, also)), wanted)
            held, number = wanted[:2]
