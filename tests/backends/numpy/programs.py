"""Random programs of array calls, drawn by hypothesis."""

import numpy as np
from hypothesis import strategies as st

SHAPES = {"a": (4, 2), "b": (2,), "c": (4, 2), "d": (4,), "e": (4,), "f": (2, 4, 2)}
GIVEN = {"x": (4, 2), "y": (2, 4), "z": (1, 2)}
CONSTANT = np.arange(8, dtype=np.float32).reshape(4, 2) - 3
SLICES = [
    np.s_[:1], np.s_[1:], np.s_[::2], np.s_[::-1], np.s_[1::-1], np.s_[0], np.s_[-1], np.s_[None],
    np.s_[..., :1], np.s_[..., 1], np.s_[..., ::-1],
]  # fmt: skip
DTYPES = ["float32", "float64", "int32", "float16", "int64"]


class Value:
    """An array of the program, and whether the program has made its memory itself."""

    def __init__(self, array, fresh=True):
        self.array, self.fresh = array, fresh


def bounded(array):
    return np.minimum(np.maximum(array, -64), 64)


def broadcasts(v, w):
    try:
        np.broadcast_shapes(v.shape, w.shape)
    except ValueError:
        return False
    return True


def partner(pool, v, k, same=False):
    """An array of the pool that goes with ``v``."""
    fits = [
        one for one in pool if (one.array.shape == v.shape if same else broadcasts(one.array, v))
    ]
    return fits[k % len(fits)].array


def operation(op, v, i, j, pool, n, m):
    """The result of one operation, and whether it is fresh; None where it does not go."""
    axes = [None, *range(v.ndim), -1 if v.ndim else None]
    axis, keep = axes[i % len(axes)], bool(j % 2)
    match op:
        case "add":
            return v + partner(pool, v, i)
        case "subtract":
            return partner(pool, v, i) - v
        case "multiply":
            return bounded(v * partner(pool, v, i))
        case "greatest":
            return np.maximum(v, [0.0, 1, -2.0, n, m][i % 5])
        case "least":
            return np.minimum(partner(pool, v, i), v)
        case "number":
            return [v * n, v + m, 2 * v, v * (n * 0.5 + m), 1.5 - v, v / 2, m - v][i % 7]
        case "where":
            return np.where(v > 0, v, [0.0, n, partner(pool, v, j)][i % 3])
        case "matmul":
            fits = [p.array for p in pool if p.array.ndim > 0 and v.ndim > 0]
            w = fits[i % len(fits)] if fits else v
            for right in (w, np.swapaxes(w, -1, -2) if w.ndim > 1 else w):
                fits = right.ndim > 1 and v.ndim > 0 and v.shape[-1] == right.shape[-2]
                if fits and (v.ndim == 1 or broadcasts(v[..., 0, 0], right[..., 0, 0])):
                    return bounded(v @ right)
            return None
        case "sum":
            return np.sum(v, axis=axis, keepdims=keep)
        case "max":
            return np.max(v, axis=axis, keepdims=keep)
        case "mean":
            return np.mean(v, axis=axis, keepdims=keep)
        case "tanh":
            return np.tanh(v)
        case "stack":
            w = partner(pool, v, i, same=True)
            pieces = [[v, w], [v, v], [w, np.ones(v.shape, np.float32), v], [v]][j % 4]
            return np.stack(pieces, axis=(i // 4) % (v.ndim + 1))
        case "concat":
            ws = [p.array for p in pool if p.array.shape == v.shape]
            if v.ndim == 0:
                return None
            w = ws[i % len(ws)]
            pieces = [[v, w], [w, v, v], [v, np.zeros(v.shape, np.float32)], [w]][j % 4]
            return np.concatenate(pieces, axis=(i // 4) % v.ndim)
        case "join":
            picked = [pool[(i + k) % len(pool)].array for k in range(1 + j % 3)]
            return np.concatenate([np.reshape(one, (-1,)) for one in (v, *picked)])
        case "join-arguments":
            pieces = [p.array for p in pool[:6] if p.array.ndim == 1]
            return np.concatenate(pieces[i % 2 :])
        case "cast":
            return v.astype(np.dtype(DTYPES[i % len(DTYPES)]))
        case "take":
            return np.take(v, np.array([0, -1, 0]), axis=i % v.ndim) if v.ndim else None
        case "copy":
            return np.copy(v)
        case "with-total":
            return bounded(v - np.sum(partner(pool, v, i)))
    raise AssertionError(op)


def view(op, v, i):
    match op:
        case "slice":
            try:
                return v[SLICES[i % len(SLICES)]]
            except IndexError:
                return v
        case "flip":
            return np.flip(v, axis=i % v.ndim) if v.ndim else v
        case "transpose":
            return np.swapaxes(v, i % v.ndim, -1) if v.ndim else v
        case "reshape":
            return np.reshape(v, [(-1,), (*v.shape, 1), (1, -1), v.shape[::-1]][i % 4])
        case "broadcast":
            return np.broadcast_to(v, (2, *v.shape))
    raise AssertionError(op)


COMPUTING = (  # noqa: SIM905
    "add subtract multiply greatest least number where matmul sum max mean tanh stack concat join "
    "join-arguments cast take copy with-total"
).split()
VIEWS = ["slice", "flip", "transpose", "reshape", "broadcast"]
SPANS = st.integers(0, 60)
LINES = st.lists(
    st.tuples(st.sampled_from([*COMPUTING, *VIEWS, "write"]), SPANS, SPANS, SPANS),
    min_size=1,
    max_size=14,
)


def make_step(lines, picks, extra):
    def step(held, number, x, y, z, m):
        n, more = number["n"], number["more"]
        pool = [Value(array, fresh=False) for array in (*map(held.get, SHAPES), x, y, z)]
        for op, k, i, j in lines:
            one = pool[-1 - k % len(pool)]
            if op == "write":
                if one.fresh and one.array.ndim:
                    w = partner(pool, one.array, i)
                    shape = one.array.shape
                    small = np.broadcast_shapes(w.shape, shape) == shape
                    w = w if small and np.can_cast(w.dtype, one.array.dtype, "same_kind") else 1
                    array = one.array
                    if j % 3:
                        array += w
                    else:
                        np.maximum(array, w, out=array)
            elif op in VIEWS:
                pool.append(Value(view(op, one.array, i), one.fresh and op != "broadcast"))
            else:
                result = operation(op, one.array, i, j, pool, n, m)
                if result is not None and result.size <= 200:
                    pool.append(Value(result))
        made = [one.array for one in pool if one.fresh]
        new = {}
        for key, pick in zip(SHAPES, picks, strict=True):
            old = held[key]
            fits = [a for a in made if a.shape == old.shape and a.dtype == old.dtype]
            new[key] = fits[-1 - pick % len(fits)] if fits and pick % 5 else old
        also = [made[-1 - k % len(made)] for k in extra] if made else []
        return new, {"n": n * 0.5 + m, "more": {"k": more["k"] + m, "r": more["r"] * n}}, also

    return step


def arguments(seed):
    rng = np.random.default_rng(seed)

    def draw(shape):
        return rng.integers(-4, 5, shape).astype(np.float32)

    held = {name: draw(shape) for name, shape in SHAPES.items()}
    return (
        held,
        {"n": float(seed), "more": {"k": 3, "r": 0.5}},
        *map(draw, GIVEN.values()),
        seed + 1,
    )


PROGRAMS = LINES, st.tuples(*[SPANS] * 6), st.lists(SPANS, max_size=3)
