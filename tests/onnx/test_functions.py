"""What layers of users call: functions of the array API, as operators and as NumPy counts."""

import numpy as np
import pytest
from array_api_compat import numpy as numpy_xp

from tests.onnx.running import exported, of_random_values
from xpnn import ExportError, Layer, Network, numerics

TABLE = np.arange(12, dtype=np.float32).reshape(4, 3) / 7

RULES = {  # of Z (batch, 4, 3), of both signs, none of them 0
    **{
        name: lambda xp, Z, name=name: getattr(xp, name)(Z)
        for name in (
            *("abs", "negative", "exp", "sign", "sin", "cos", "tan", "sinh", "cosh", "tanh"),
            *("asinh", "atan", "expm1", "floor", "ceil", "round", "trunc", "square", "positive"),
            *("reciprocal", "isnan", "isinf", "isfinite", "argmax", "argmin", "std", "var"),
        )
    },
    **{
        name: lambda xp, Z, name=name: getattr(xp, name)(xp.abs(Z))
        for name in ("sqrt", "log", "log1p", "log2", "log10")
    },
    **{
        name: lambda xp, Z, name=name: getattr(xp, name)(0.9 * xp.tanh(Z))
        for name in ("asin", "acos", "atanh")
    },
    "acosh": lambda xp, Z: xp.acosh(1 + xp.abs(Z)),
    "small logarithm": lambda xp, Z: 1e6 * xp.log1p(1e-6 * Z),
    "small power": lambda xp, Z: 1e6 * xp.expm1(1e-6 * Z),
    "endless logarithm": lambda xp, Z: xp.log1p(xp.where(Z > 0, xp.inf, xp.tanh(Z))),
    "endless sums": lambda xp, Z: xp.logaddexp(
        xp.where(Z > 0, Z, -xp.inf), xp.where(Z > 1, 0.0, -xp.inf)
    ),
    "logaddexp": lambda xp, Z: xp.logaddexp(Z, xp.flip(Z)),
    "operators": lambda xp, Z: 2 - Z * 3 / (Z * Z + 1) ** 2 + abs(-Z),
    "whole division": lambda xp, Z: (Z // 0.3) + (Z % 0.3),
    "of integers": lambda xp, Z: (n := xp.astype(xp.floor(5 * Z), xp.int64)) // 3 * 100 + n % 3,
    "parts of integers": lambda xp, Z: (n := xp.argmax(Z, axis=1)) / 2 + n / Z.shape[0],
    "means of integers": lambda xp, Z: xp.mean(xp.argmax(Z, axis=1), axis=1) + xp.mean(Z > 0),
    "bits": lambda xp, Z: (n := xp.astype(xp.abs(9 * Z), xp.int32)) & 5 | n ^ 3,
    "logic": lambda xp, Z: (Z > 0.5) | ~(Z <= -0.5) & (Z != 0.0) ^ (Z == 0.0),
    "logical": lambda xp, Z: xp.logical_and(Z < 0.5, xp.logical_not(Z < -1)),
    "where": lambda xp, Z: xp.where(Z > 0, Z, 0.1 * Z) + xp.where(Z > 1, 1.0, Z),
    "where of booleans": lambda xp, Z: xp.where(Z > 0, Z > 1, Z < -1),
    "clip": lambda xp, Z: xp.clip(Z, -0.5, 0.7) + xp.clip(Z, max=0.2),
    "maximum": lambda xp, Z: xp.maximum(Z, 0.3) * xp.minimum(Z, xp.flip(Z, axis=1)),
    "sum": lambda xp, Z: xp.sum(Z) + xp.sum(Z, axis=1, keepdims=True) + xp.prod(Z),
    "mean": lambda xp, Z: xp.mean(Z, axis=(0, 2), keepdims=True) * Z,
    "extremes": lambda xp, Z: xp.max(Z, axis=-1) - xp.min(Z, axis=-1),
    "any": lambda xp, Z: xp.any(Z > 1, axis=1) ^ xp.all(Z > -1, axis=1),
    "counts": lambda xp, Z: xp.sum(Z > 0, axis=1),
    "spread": lambda xp, Z: xp.std(Z, axis=1, correction=1),
    "cumulative_sum": lambda xp, Z: xp.cumulative_sum(Z, axis=1),
    "reshape": lambda xp, Z: xp.reshape(Z, (-1, 2, 6)) * 2,
    "flat": lambda xp, Z: xp.reshape(Z, (Z.shape[0] * 4, 3)),
    "transposes": lambda xp, Z: xp.permute_dims(xp.matrix_transpose(Z), (2, 0, 1)) + 1,
    "there and back": lambda xp, Z: xp.permute_dims(xp.permute_dims(Z, (1, 2, 0)), (2, 0, 1)),
    "moveaxis": lambda xp, Z: xp.moveaxis(Z, (0, 2), (1, 0)),
    "axes": lambda xp, Z: xp.squeeze(xp.expand_dims(Z, axis=(1, -1)), axis=1),
    "broadcast": lambda xp, Z: xp.broadcast_to(Z[:, :, None, :], (Z.shape[0], 4, 2, 3)),
    "broadcast_arrays": lambda xp, Z: xp.broadcast_arrays(Z, Z[:, :1, :])[1],
    "concat": lambda xp, Z: xp.concat([Z, 2 * Z, Z[:, :, :1]], axis=2),
    "beside a constant": lambda xp, Z: xp.concat([Z[0, ...], xp.asarray(TABLE)], axis=0),
    "stack": lambda xp, Z: xp.stack([Z, -Z], axis=-1),
    "unstack": lambda xp, Z: xp.unstack(Z, axis=1)[2],
    "flip": lambda xp, Z: xp.flip(Z, axis=(0, 2)),
    "roll": lambda xp, Z: xp.roll(Z, 1, axis=1),
    "far": lambda xp, Z: xp.roll(Z, (7, -8), axis=(1, 2)) + xp.roll(Z, 4, axis=0),
    "tile": lambda xp, Z: xp.tile(Z, (1, 2, 1)),
    "triangles": lambda xp, Z: xp.tril(Z) + xp.triu(Z, k=1) * 2,
    "zeros and ones": lambda xp, Z: xp.zeros_like(Z) + xp.ones_like(Z) * xp.full_like(Z, 3.0),
    "of a shape": lambda xp, Z: Z + xp.full((Z.shape[0], 1, 1), 2.0, dtype=Z.dtype),
    "arange": lambda xp, Z: xp.arange(Z.shape[0], dtype=Z.dtype)[:, None, None] + Z,
    "from a number on": lambda xp, Z: xp.arange(2, Z.shape[0] + 2, dtype=xp.int64),
    "every second": lambda xp, Z: xp.arange(0, Z.shape[0], 2) * 2 + xp.arange(Z.shape[0])[::2],
    "size": lambda xp, Z: Z / Z.size + Z * Z.shape[0] - Z.ndim,
    "matmul": lambda xp, Z: Z @ xp.matrix_transpose(Z) @ TABLE,
    "from the left": lambda xp, Z: xp.asarray(TABLE.T) @ Z,
    "of vectors": lambda xp, Z: Z[0, 0, :] @ Z[0, 1, :] + xp.vecdot(Z, Z),
    "take": lambda xp, Z: xp.take(Z, xp.asarray([2, 0]), axis=1),
    "looked up": lambda xp, Z: xp.take(xp.asarray(TABLE), xp.argmax(Z, axis=1), axis=0),
    "along an axis": lambda xp, Z: xp.take_along_axis(
        Z, xp.argmax(Z, axis=1, keepdims=True), axis=1
    ),
    "side by side": lambda xp, Z: xp.take_along_axis(
        Z, xp.argmax(Z[:, :, :1], axis=1, keepdims=True), axis=1
    ) + xp.take_along_axis(Z[:, :1, :], xp.argmax(Z, axis=2, keepdims=True), axis=2),
    "of all entries": lambda xp, Z: xp.take(Z, xp.asarray([5, 1])),
    "slices": lambda xp, Z: Z[:, 1:3, ::2] + Z[:, -2:, :-1],
    "every second sample": lambda xp, Z: Z[::2, ...] + 0,
    "backwards": lambda xp, Z: Z[::-1, ::-2, 0],
    "entries": lambda xp, Z: Z[:, 3, :] - Z[:, -1, None, 0],
    "entries of an array": lambda xp, Z: Z[:, np.asarray([3, 0, 0]), :],
    "entries of a list": lambda xp, Z: Z[:, [3, 0], 1] + Z[:, 2, [1, 2]] - Z[:, [1, 1], :][:, :, 0],
    "part of a constant": lambda xp, Z: Z + xp.asarray(TABLE)[: Z.shape[0], None, :],
    "gates": lambda xp, Z: Z * numerics.sigmoid(xp.asarray(TABLE), xp) + numerics.sigmoid(Z, xp),
    "of constants alone": lambda xp, Z: Z + xp.exp(xp.asarray(TABLE)) @ xp.asarray(TABLE.T[:, :3]),
    "NumPy's own": lambda xp, Z: np.tanh(TABLE * Z) + np.add(TABLE, Z) - np.power(np.abs(Z), 2.0),
    "grown": lambda xp, Z: grown(xp, Z),
    "used, then changed": lambda xp, Z: changed(xp, Z, 3),
    "of many entries": lambda xp, Z: changed(xp, Z, 400),
    "dtypes": lambda xp, Z: xp.astype(Z, xp.float64) + xp.finfo(Z.dtype).bits,
    "kinds": lambda xp, Z: Z * xp.isdtype(Z.dtype, "real floating"),
    "promoted": lambda xp, Z: Z + xp.astype(Z > 0, xp.int32) * 2,
}  # fmt: skip


def grown(xp, Z):
    total = xp.asarray(TABLE, copy=True)
    total += Z[0, ...]
    total *= 2
    return total


def changed(xp, Z, count):
    values = xp.ones((3, count), dtype=Z.dtype)
    before = Z @ values
    values[:, 0] = 2
    return before + Z @ values


class Rule(Layer):
    """A layer of a function, as ``Lambda`` is, but of any shape and dtype."""

    def __init__(self, rule):
        super().__init__()
        self.rule = rule

    def forward(self, Z, training=False):
        return self.rule(self.xp, Z)


@pytest.mark.parametrize("name", RULES)
def test_operators_do_what_numpy_does(name, tmp_path):
    x = np.random.default_rng(3).standard_normal((3, 4, 3)).astype(np.float32)
    session = exported(Network([Rule(RULES[name])], (4, 3)), tmp_path)
    (found,) = session.run(None, {"x": x})
    wanted = np.asarray(RULES[name](numpy_xp, x))
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=2e-6)


REFUSED = {
    "sort": (lambda xp, Z: xp.sort(Z), "no operators here for sort"),
    "linear algebra": (lambda xp, Z: xp.linalg.svd(Z), "no operators here for linalg"),
    "misspelt": (lambda xp, Z: xp.tahn(Z), "no 'tahn'"),
    "a value": (lambda xp, Z: Z * float(Z[0, 0, 0]), "the value of an array is read"),
    "a choice": (lambda xp, Z: Z if xp.sum(Z) > 0 else -Z, "self.xp.where"),
    "written into": (lambda xp, Z: put(Z), "written into"),
    "chosen by booleans": (lambda xp, Z: Z[Z > 0], "booleans choose entries"),
    "through the batch": (lambda xp, Z: xp.stack(xp.unstack(Z)), "entry by entry"),
    "how many": (lambda xp, Z: Z * len(Z), "as a plain number"),
    "written into a part": (lambda xp, Z: put_in_part(xp, Z), "written into"),
    "if many": (lambda xp, Z: Z if Z.shape[0] > 100 else 2 * Z, "chooses by it"),
    "if one": (lambda xp, Z: xp.exp(Z) if Z.shape[0] == 1 else Z * 1, "chooses by it"),
    "squeezed": (lambda xp, Z: xp.squeeze(Z, axis=0), "not 1 long"),
    "unfit": (lambda xp, Z: Z @ Z, "do not fit for a product of matrices"),
    "unfit sums": (lambda xp, Z: Z + np.ones(2), "do not fit each other"),
    "unfit shape": (lambda xp, Z: xp.reshape(Z, (5, 3)), "another size"),
    "a truth": (lambda xp, Z: Z[:, True], "booleans choose entries"),
    "far apart": (lambda xp, Z: Z[0, :, [0, 1]], "one axis at a time"),
    "with a new axis between": (lambda xp, Z: Z[:, 0, None, [0, 1]], "one axis at a time"),
    "several arrays": (lambda xp, Z: Z[np.asarray([0]), np.asarray([0])], "one axis at a time"),
}


def put_in_part(xp, Z):
    total = xp.zeros((4, 3), dtype=Z.dtype)
    rows = total[:2, :]
    rows += Z[0, :2, :]
    return total


def put(Z):
    Z[0, 0, 0] = 1.0
    return Z


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_written_down_names_the_layer(name, tmp_path):
    rule, message = REFUSED[name]
    with pytest.raises(ExportError, match=f"layer 0.rule.*{message}") as caught:
        Network([Rule(rule)], (4, 3)).to_onnx(tmp_path / "network.onnx")
    assert caught.value.layer == "0.rule"
    assert not any(tmp_path.iterdir())


class Drawing(Layer):
    """Noise that does not end with training."""

    def forward(self, Z, training=False):
        return Z * self.xp.astype(self.backend.random_mask(0.5, 0, 0, Z.shape), Z.dtype)


def test_what_draws_outside_of_training(tmp_path):
    with pytest.raises(ExportError, match=r"layer 0\.drawing: random numbers are drawn"):
        Network([Drawing()], (3,)).to_onnx(tmp_path / "network.onnx")


class Walk(Layer):
    """A recurrence of its own: an average that forgets, over time."""

    def init_params(self, input_shape, rng):
        return {"share": np.asarray([0.3, 0.6, 0.9])}

    def forward(self, Z, training=False):
        xp = self.xp
        share = self.params["share"]

        def step(carry, Z):
            (mean,), count = carry["mean"], carry["count"]
            mean = share * mean + (1 - share) * Z
            return {"mean": (mean,), "count": count + 1}, (mean, count)

        zeros = xp.zeros((Z.shape[0], 3), dtype=Z.dtype)
        carry = {"mean": (zeros,), "count": xp.asarray(0)}
        inputs = (xp.permute_dims(Z, (1, 0, 2)),)
        carry, (means, counts) = self.backend.scan(step, carry, inputs, reverse=True)
        means = xp.permute_dims(means, (1, 0, 2)) * xp.astype(counts, Z.dtype)[:, None]
        return means + carry["mean"][0][:, None, :]


def test_a_layer_of_ones_own_that_walks(tmp_path):
    network = of_random_values([Walk()], (5, 3))
    network.load({"0.walk.share": np.asarray([0.3, 0.6, 0.9])})
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    session = exported(network, tmp_path, free={1: "time"})
    np.testing.assert_allclose(session.run(None, {"x": x})[0], network.predict(x), rtol=1e-5)


class Widening(Layer):
    """Begins a walk with an array that the first step makes larger."""

    def forward(self, Z, training=False):
        def step(carry, Z):
            return (carry[0] + Z,), (Z,)

        start = self.xp.zeros((1, 3), dtype=Z.dtype)
        return self.backend.scan(step, (start,), (self.xp.permute_dims(Z, (1, 0, 2)),))[0][0]


def test_what_changes_its_shape_on_the_way(tmp_path):
    with pytest.raises(ExportError, match=r"0\.widening: what is carried .*\(1, 3\).*\(batch, 3\)"):
        Network([Widening()], (5, 3)).to_onnx(tmp_path / "network.onnx")
