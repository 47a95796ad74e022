"""Pure functions of arrays and their namespace that more than one part of xpnn needs."""

import functools
import math
from collections.abc import Iterable
from types import SimpleNamespace

from xpnn.typing import Array, Namespace

HOST = SimpleNamespace(
    minimum=min,
    maximum=max,
    where=lambda condition, yes, no: yes if condition else no,
    **{
        name: getattr(math, name) for name in ("sqrt", "exp", "expm1", "log", "cos", "floor", "pow")
    },
)
"""Python numbers under the array API's names, for formulas that run on either.

Schedules and bias corrections are written once over ``xp``. Where the step count is a Python
integer, ``xp`` is this namespace and the result stays a double-precision Python float.
"""


LONGEST_SUM = 2048
"""How many terms are added one after another; more are added up in blocks of so many."""

NARROW_PRODUCT = 4096  # numbers in the result; libraries cut the rows of larger products themselves

BARRED = -1e30
"""What is added to a score that must not be seen. Unlike -inf it never makes NaN."""


def softmax(x: Array, xp: Namespace, barred: Array | None = None) -> Array:
    """``exp(x) / sum(exp(x))`` over the last axis; where ``barred``, x counts as -1e30."""
    dtype, x = x.dtype, widened(x, xp)
    if barred is not None:
        x = x + xp.astype(barred, x.dtype) * BARRED
    powers = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    powers /= xp.sum(powers, axis=-1, keepdims=True)
    return xp.astype(powers, dtype, copy=False)


def inclined(xp: Namespace, scores: Array, slopes: Array, queries: Array, keys: Array) -> Array:
    """``scores - slopes |i - j|`` for the positions i of queries and j of keys (ALiBi)."""
    return scores - slopes * xp.astype(xp.abs(queries - keys), scores.dtype)


def log_softmax(x: Array, xp: Namespace) -> Array:
    """``x - log(sum(exp(x)))`` over the last axis; never overflows, exact for large ``x`` too.

    Half precision comes out as float32: of two scores of float16 the distance may be 131,008.
    """
    x = widened(x, xp)
    x = x - xp.max(x, axis=-1, keepdims=True)
    return x - xp.log(xp.sum(xp.exp(x), axis=-1, keepdims=True))


def one_hot(labels: Array, classes: int, dtype: object, xp: Namespace) -> Array:
    """Integer labels (...) as rows of zeros with a single one, (..., classes)."""
    columns = xp.arange(classes, dtype=xp.int32, device=_device(labels, xp))
    return xp.astype(xp.astype(labels, xp.int32, copy=False)[..., None] == columns, dtype)


def sigmoid(x: Array, xp: Namespace) -> Array:
    """``1 / (1 + exp(-x))``: the library's own (PyTorch), or ``exp(x) / (1 + exp(x))``.

    The latter keeps its digits in the tail, where by way of tanh it would be 0, and does not
    overflow, as x is cut where exp(x) and 1 + exp(x) are the same number.
    """
    if hasattr(xp, "sigmoid"):
        return xp.sigmoid(x)
    power = xp.exp(xp.minimum(x, math.floor(math.log(float(xp.finfo(x.dtype).max)))))
    return power / (1.0 + power)


def gate(x: Array, xp: Namespace) -> Array:
    """The sigmoid of a gate, right to a rounding of 1, which is the most that it lets through.

    It never overflows. Near 0 it keeps no digits, as ``sigmoid`` does, which takes longer.
    """
    if hasattr(xp, "sigmoid"):
        return xp.sigmoid(x)
    return 0.5 * (xp.tanh(0.5 * x) + 1.0)


def finite(x: Array, xp: Namespace) -> Array:
    """``x``, infinities as the largest number of its dtype: they may be multiplied by 0."""
    largest = float(xp.finfo(x.dtype).max)
    return xp.minimum(xp.maximum(x, -largest), largest)


def unit_vectors(x: Array, xp: Namespace) -> tuple[Array, Array]:
    """Vectors over the last axis divided by their length, and these lengths, (..., 1).

    Squares do not overflow, as the largest number is taken out first. Of zeros they are zeros, and
    the length is 1.
    """
    x = finite(x, xp)
    largest = xp.max(xp.abs(x), axis=-1, keepdims=True)
    largest = xp.where(largest > 0, largest, 1.0)
    # by an eighth of it, as XLA multiplies by 1 / largest, which may be too small for a number
    eighth = xp.where(largest > 1.0, xp.full_like(largest, 0.125), 1.0)
    x = (x * eighth) / (largest * eighth)
    length = xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True))
    length = xp.where(length > 0, length, 1.0)
    return x / length, largest * length


def softplus(x: Array, xp: Namespace) -> Array:
    """``log(1 + exp(x))`` without overflow: ``max(x, 0) + log(1 + exp(-|x|))``."""
    return xp.maximum(x, 0.0) + xp.log1p(xp.exp(-xp.abs(x)))


def sum_to_features(x: Array, xp: Namespace) -> Array:
    """The sum over all axes but the last: the batch first, then the positions.

    On images with few channels, two short sums are ten times as fast in NumPy as a single long one,
    and lose fewer digits. Half precision is added up in float32.
    """
    dtype = x.dtype
    if x.ndim > 2:
        x = xp.reshape(wide_sum(x, xp, axis=0), (-1, x.shape[-1]))
    return xp.astype(wide_sum(x, xp, axis=0), dtype, copy=False)


def wide_sum(x: Array, xp: Namespace, axis: int, keepdims: bool = False) -> Array:
    """The sum over an axis in at least float32: in float16 it stops to grow, at 2048 ones.

    However long, it is off by no more than ``LONGEST_SUM`` roundings for each block of blocks: see
    ``xpnn.backends.portable.sums`` for the bound, and for what sees to it where a library does not.
    """
    if xp.finfo(x.dtype).bits < 32:
        return xp.sum(x, axis=axis, keepdims=keepdims, dtype=xp.float32)
    return xp.sum(x, axis=axis, keepdims=keepdims)


def sum_over(x: Array, xp: Namespace, axis: int, keepdims: bool = False) -> Array:
    """``wide_sum``, rounded to the dtype of ``x`` in the end."""
    return xp.astype(wide_sum(x, xp, axis, keepdims), x.dtype, copy=False)


def largest_divisor(count: int, most: float) -> int:
    """The largest power of two that divides ``count`` and is at most ``most``; at least 1.

    Into so many equal parts the work on ``count`` rows is cut, so that all of a GPU's processors
    have some.

    >>> largest_divisor(3000, 256), largest_divisor(4096, 100), largest_divisor(7, 100)
    (8, 64, 1)
    """
    parts = max(count & -count, 1)
    while parts > max(most, 1):
        parts //= 2
    return parts


def product_over_rows(a: Array, b: Array, xp: Namespace) -> Array:
    """``a^T b`` of (..., rows, n) and (..., rows, m): the sum of what each row adds to (..., n, m).

    Libraries cut the rows of a large product into blocks, but add up those of a narrow one one
    after another: a million rows of (1, 1) are off by 1 in 100. So these are cut here, into
    blocks of ``LONGEST_SUM``.
    """
    rows, size = a.shape[-2], a.shape[-1] * b.shape[-1]
    if rows < 2 * LONGEST_SUM or size > NARROW_PRODUCT:
        return xp.matrix_transpose(a) @ b
    rest = rows % LONGEST_SUM
    first, second = (
        xp.reshape(x[..., : rows - rest, :], (*x.shape[:-2], -1, LONGEST_SUM, x.shape[-1]))
        for x in (a, b)
    )
    total = sum_over(xp.matrix_transpose(first) @ second, xp, axis=a.ndim - 2)
    if rest:
        total += xp.matrix_transpose(a[..., rows - rest :, :]) @ b[..., rows - rest :, :]
    return total


def add_up(terms: Iterable[Array], xp: Namespace) -> Array:
    """The sum of arrays of one shape, none of which is written to, in at least float32.

    A single one stays as it is.
    """
    terms = iter(terms)
    total = next(terms)
    for count, term in enumerate(terms):
        if count:
            total += term
        else:
            total = widened(total, xp) + term
    return total


def widened(x: Array, xp: Namespace) -> Array:
    """``x`` in float32 where it is in half precision, and as it is where it is not."""
    return xp.astype(x, xp.float32) if xp.finfo(x.dtype).bits < 32 else x


def mix_bits(x: Array, xp: Namespace) -> Array:
    """A bijection of 32-bit words in which each input bit flips each output bit half of the time.

    Two rounds of xor-shift and multiply (Mueller's integer hash, measured in Wellons, Prospecting
    for hash functions, 2018), with a multiplier that fits every library's signed integers. ``x`` is
    uint32, or int64 holding 32-bit words where a library has no uint32 arithmetic, or a Python int.
    """
    x = low_word((x ^ (x >> 16)) * 0x45D9F3B, xp)
    x = low_word((x ^ (x >> 16)) * 0x45D9F3B, xp)
    return x ^ (x >> 16)


def low_word(x: Array, xp: Namespace) -> Array:
    """The low 32 bits of ``x``: uint32 wraps by itself, wider integers have to be cut."""
    return x & 0xFFFFFFFF if isinstance(x, int) or x.dtype != xp.uint32 else x


def stream_key(draw: Array, low: Array, high: Array, xp: Namespace) -> Array:
    """One word for the 64 bits of a seed and the number of a draw.

    Each part is mixed in before the next one comes. Were they only joined by xor, seeds 0 and 1
    would see the same draws in another order. No two draws of one seed share a key.
    """
    return mix_bits(mix_bits(mix_bits(draw, xp) ^ low, xp) ^ high, xp)


ERFC_TERMS = {"float32": 10, "float64": 24}
ERFC_UP_TO = 26.0  # about where float64 ends: erfc(26) = 6e-296


@functools.cache
def _erfc_coefficients(terms: int) -> tuple[float, ...]:
    """Chebyshev coefficients in u of ``log(erfc(z) exp(z^2) / t)``, ``t = 2 / (2 + z)``.

    u runs from -1 at z = 26 to 1 at z = 0. The samples come from the standard library's erfc.
    """
    angles = [math.pi * (k + 0.5) / terms for k in range(terms)]
    lowest = 2 / (2 + ERFC_UP_TO)
    samples = []
    for angle in angles:
        t = lowest + 0.5 * (1 - lowest) * (math.cos(angle) + 1)
        z = 2 / t - 2
        near = round(z * 2**20) / 2**20  # of few bits, so that its square is exact
        power = math.exp(near * near) * math.exp((z - near) * (z + near))
        samples.append(math.log(math.erfc(z) * power / t))
    return tuple(
        sum(s * math.cos(j * angle) for s, angle in zip(samples, angles, strict=True)) * 2 / terms
        for j in range(terms)
    )


def erfc_by_chebyshev(x: Array, xp: Namespace) -> Array:
    """``1 - erf(x)``, all digits of its tail, from operations that every array library has.

    ``erfc(z) = t exp(-z^2 + P(u))`` for z >= 0 with ``t = 2 / (2 + z)``, where P is a Chebyshev
    series in u, a linear function of t (the form of Press et al., Numerical Recipes, 3rd edition,
    section 6.2.2, with coefficients made here). The relative error is a few units in the last
    place, and as many as z^2 where that is more: so much the power makes of the rounding of z^2.
    Half precision is worked out in float32.
    """
    dtype, x = x.dtype, widened(x, xp)
    z = xp.minimum(xp.abs(x), 2 * ERFC_UP_TO)
    t = 2.0 / (2.0 + z)
    lowest = 2 / (2 + ERFC_UP_TO)
    twice_u = (t - lowest) * (4 / (1 - lowest)) - 2.0
    first, *rest = _erfc_coefficients(ERFC_TERMS["float64" if x.dtype == xp.float64 else "float32"])
    after = later = 0.0 * t
    for coefficient in reversed(rest):
        after, later = twice_u * after - later + coefficient, after
    tail = t * xp.exp(-z * z + 0.5 * first + 0.5 * twice_u * after - later)
    return xp.astype(xp.where(x < 0, 2.0 - tail, tail), dtype, copy=False)


def _device(array: Array, xp: Namespace) -> object:
    """The device of ``array``, for making another array beside it."""
    import array_api_compat

    return array_api_compat.device(array)
