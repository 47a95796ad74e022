"""exp, log, tanh and their like as plain arithmetic, which a compiler turns into vector code.

Each is written once for float32 and float64, without a branch and without a table: a range that is
small around 0, Taylor's series there, and powers of two put together from their bits. They are
within 4 units in the last place over all numbers, as NumPy's own are, infinities, NaN and subnormal
numbers included.

They are written into the loops that call them, and run as plain Python, too.
"""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

Choice = Callable[[Any, Any, Any], Any]
Rounding = Callable[[Callable[..., Any]], Callable[..., Any]]

LOG_2_AFTER_32_BITS = -4.2009150726810846e-11


def polynomial(x: Any, coefficients: Any) -> Any:
    """Horner's rule, the highest power first."""
    total = coefficients[0]
    for one in coefficients[1:]:
        total = total * x + one
    return total


def functions(real: Any, where: Choice, fused: Rounding) -> SimpleNamespace:
    """The functions of this module for ``np.float32`` or ``np.float64``; see `vocabulary`."""
    info = np.finfo(real)
    whole = np.dtype(f"i{info.bits // 8}").type
    short = info.bits == 32
    top, bottom = whole(np.iinfo(whole).max), whole(np.iinfo(whole).min)
    last = whole(info.bits - 1)
    digits, bias = whole(info.nmant), real(info.maxexp - 1)
    # of a whole number plus this, the last bits are those of the whole number
    shift = real(1.5 * 2.0**info.nmant)
    nothing, half, one, two = real(0), real(0.5), real(1), real(2)
    infinity, nan, tiny = real(np.inf), real(np.nan), info.smallest_normal
    # ln 2 in two parts, the first of so few digits that k times it is exact
    cut_at = 2.0 ** (12 if short else 32)
    high = real(round(math.log(2) * cut_at) / cut_at)
    low = real(math.log(2) - float(high)) if short else real(LOG_2_AFTER_32_BITS)
    inverse = real(1 / math.log(2))
    # e^x is 0 below the first and infinite above the second; tanh is 1 from the third on
    lowest, highest, flat = map(real, (-104, 89, 10) if short else (-746, 710, 20))
    large = real(64)
    exponential = tuple(real(1 / math.factorial(k)) for k in range(8 if short else 14, 1, -1))
    logarithm = tuple(real(2 / k) for k in range(11 if short else 23, 2, -2))
    growth_exponent = real(info.nmant + 2)
    growth, root = real(2.0 ** (info.nmant + 2)), real(math.sqrt(0.5)).view(whole)

    def power_of_two(k: Any) -> Any:
        return ((k + bias + shift).view(whole) << digits).view(real)

    def scaled(y: Any, k: Any) -> Any:
        """y 2^k in two steps, as the power by itself may be too large or too small."""
        first = np.floor(k * half)
        return y * power_of_two(first) * power_of_two(k - first)

    def reduced(x: Any) -> Any:
        """k, and e^r - 1, of x = k ln 2 + r, r between -ln 2 / 2 and ln 2 / 2."""
        k = np.floor(x * inverse + half)
        r = (x - k * high) - k * low
        return k, r + r * r * polynomial(r, exponential)

    @fused
    def exp(x: Any) -> Any:
        """2^k e^r; 0 is not worked out, as products that small take a processor long."""
        cut = where(x > lowest, x, nothing)
        cut = where(cut < highest, cut, highest)
        k, less = reduced(cut)
        y = scaled(one + less, k)
        y = where(x > lowest, y, nothing)
        return where(x == x, y, x)

    @fused
    def expm1(x: Any) -> Any:
        """2^k (e^r - 1) + (2^k - 1), which keeps digits of a small x; 2^k e^r of a large one."""
        cut = where(x > -flat * two, x, -flat * two)
        cut = where(cut < highest, cut, highest)
        k, less = reduced(cut)
        power = power_of_two(where(k < large, k, large))
        y = power * less + (power - one)
        grown = scaled(one + less, k)
        y = where(k < large, y, grown)
        return where(abs(x) > nothing, y, x)

    @fused
    def tanh(x: Any) -> Any:
        """-t / (2 + t) of t = e^(-2 |x|) - 1."""
        size = abs(x)
        k, less = reduced(-two * where(size < flat, size, flat))
        power = power_of_two(k)
        t = power * less + (power - one)
        y = np.copysign(-t / (two + t), x)
        return where(x == x, y, x)

    @fused
    def log(x: Any) -> Any:
        """k ln 2 + log m of x = 2^k m, m between the root of 1/2 and that of 2.

        With f = m - 1 and s = f / (2 + f), log m = 2 s + 2 s^3 / 3 + ..., where 2 s = f - s f.
        """
        small = x < tiny
        bits = where(small, x * growth, x).view(whole)
        exponent = (bits - root) >> digits
        f = (bits - (exponent << digits)).view(real) - one
        k = (exponent + shift.view(whole)).view(real) - shift
        k = where(small, k - growth_exponent, k)
        s = f / (two + f)
        z = s * s
        square = half * f * f
        y = k * high - ((square - (s * (square + z * polynomial(z, logarithm)) + k * low)) - f)
        end = where(x == nothing, -infinity, nan)
        y = where(x > nothing, y, end)
        return where(x != infinity, y, x)

    @fused
    def log1p(x: Any) -> Any:
        """log of u = 1 + x, and what the sum has lost, (x - (u - 1)) / u."""
        u = one + x
        y = log(u)
        lost = (x - (u - one)) / u
        y = where(abs(y) < infinity, y + lost, y)
        return where(abs(x) > nothing, y, x)

    def turned(bits: Any) -> Any:
        """The bits of a number as a whole number that grows with it, and back again."""
        return bits ^ ((bits >> last) & top)

    @fused
    def rank(x: Any) -> Any:
        """A whole number that grows with x, the highest of all for NaN.

        Of whole numbers a compiler finds the largest in vectors, of others it does not.
        """
        of_number = turned(x.view(whole))
        return where(x == x, of_number, top)

    @fused
    def low_rank(x: Any) -> Any:
        """The same, but the lowest of all for NaN."""
        of_number = turned(x.view(whole))
        return where(x == x, of_number, bottom)

    @fused
    def of_rank(number: Any) -> Any:
        """The number of that rank, or NaN."""
        return turned(number).view(real)

    @fused
    def sign(x: Any) -> Any:
        """1, -1, or x where it is neither above nor below 0."""
        up = where(x > nothing, one, x)
        return where(x < nothing, -one, up)

    ranks = {"rank": rank, "low_rank": low_rank, "of_rank": of_rank}
    return SimpleNamespace(
        **ranks, sign=sign, exp=exp, expm1=expm1, tanh=tanh, log=log, log1p=log1p
    )


def comparisons(where: Choice) -> SimpleNamespace:
    """Functions for numbers of any dtype; two of them are NumPy's maximum and minimum."""

    def larger(a: Any, b: Any) -> Any:
        """NaN if one of them is."""
        return where((a > b) | (a != a), a, b)

    def smaller(a: Any, b: Any) -> Any:
        """NaN if one of them is."""
        return where((a < b) | (a != a), a, b)

    def higher(a: Any, b: Any) -> Any:
        """The higher of two ranks."""
        return where(a > b, a, b)

    def lower(a: Any, b: Any) -> Any:
        """The lower of two ranks."""
        return where(a < b, a, b)

    return SimpleNamespace(larger=larger, smaller=smaller, higher=higher, lower=lower)


def plus(total: Any, x: Any) -> Any:
    """One more addend."""
    return total + x


def vocabulary(where: Choice, fused: Rounding, any_order: Rounding) -> dict[str, Any]:
    """All names that may stand in the text of a loop.

    Args:
        where: takes a flag and two numbers, and returns the first where the flag is set.
        fused: marks what may round a product and a sum once.
        any_order: marks additions that may be done in any order.
    """
    names: dict[str, Any] = {"f4": np.float32, "f8": np.float64, "i4": np.int32, "i8": np.int64}
    names |= {"u1": np.uint8, "u4": np.uint32, "inf": np.inf, "nan": np.nan, "sqrt": np.sqrt}
    for letter in ("f4", "f8"):
        for name, function in vars(functions(names[letter], where, fused)).items():
            names[f"{name}_{letter}"] = function
    return names | vars(comparisons(where)) | {"plus": any_order(plus)}
