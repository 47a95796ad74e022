"""Lengths of axes that are free: integers that know how they follow from those of the inputs.

While a network is traced, a free axis is a few thousand long. What layers work out of its length,
by Python's ``+ - * // %``, is an integer as always, and beside it a sum of products of the lengths
of inputs, from which the exported graph works it out again for whatever comes in then.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from xpnn.errors import ExportError

Atoms: TypeAlias = tuple["Axis | Quotient", ...]
Terms: TypeAlias = tuple[tuple[Atoms, int], ...]
"""A sum of products: for each product its factors, in order, and how often it is taken."""


@dataclass(frozen=True)
class Axis:
    """The length of an axis of an input."""

    name: str
    source: str
    axis: int

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Quotient:
    """What is left of a division, or how often it goes, where that is no sum of products."""

    operation: str
    dividend: Terms
    divisor: Terms

    def __str__(self) -> str:
        return f"({_sum_text(self.dividend)} {self.operation} {_sum_text(self.divisor)})"


class Size(int):
    """A length that is free."""

    terms: Terms

    def __new__(cls, value: int, terms: Terms) -> "Size":
        self = super().__new__(cls, value)
        self.terms = terms
        return self

    @classmethod
    def of_axis(cls, value: int, name: str, source: str, axis: int) -> "Size":
        """The length of an axis of an input, for now ``value``."""
        return cls(value, (((Axis(name, source, axis),), 1),))

    def __str__(self) -> str:
        return text_of(self.terms)

    __repr__ = __str__

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, int):
            return NotImplemented
        return _sum(int(self) + int(other), (*self.terms, *terms_of(other)))

    __radd__ = __add__

    def __neg__(self) -> Any:
        return self * -1

    def __sub__(self, other: Any) -> Any:
        return self + -other if isinstance(other, int) else NotImplemented

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __mul__(self, other: Any) -> Any:
        if not isinstance(other, int):
            return NotImplemented
        products = [
            (tuple(sorted((*a, *b), key=str)), m * n)
            for a, m in self.terms
            for b, n in terms_of(other)
        ]
        return _sum(int(self) * int(other), products)

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        return _divided(self, other)[0] if isinstance(other, int) else NotImplemented

    def __rfloordiv__(self, other: Any) -> Any:
        return _divided(other, self)[0] if isinstance(other, int) else NotImplemented

    def __mod__(self, other: Any) -> Any:
        return _divided(self, other)[1] if isinstance(other, int) else NotImplemented

    def __rmod__(self, other: Any) -> Any:
        return _divided(other, self)[1] if isinstance(other, int) else NotImplemented

    def __divmod__(self, other: Any) -> Any:
        return _divided(self, other) if isinstance(other, int) else NotImplemented

    def _refuse(self, *_: Any) -> NoReturn:
        raise ExportError(
            f"the length {self} of an axis that is free is made a float on the host; divide arrays "
            f"by it, as in Z / Z.shape[1], or leave the axis out of free"
        )

    __float__ = __truediv__ = __rtruediv__ = __pow__ = __rpow__ = _refuse


def terms_of(size: int) -> Terms:
    """An integer as a sum of products."""
    return size.terms if isinstance(size, Size) else (((), int(size)),)


def is_same(one: int, other: int) -> bool:
    """Whether two lengths are the same however long the free axes are."""
    return (
        int(one) == int(other)
        and isinstance(one, Size) == isinstance(other, Size)
        and (not isinstance(one, Size) or set(terms_of(one)) == set(terms_of(other)))
    )


def text_of(terms: Terms) -> str:
    """Such as "2*batch*time + 1"."""
    text = ""
    for atoms, count in sorted(terms, key=lambda term: not term[0]):  # the plain number last
        factors = [*map(str, atoms)]
        if abs(count) != 1 or not factors:
            factors.insert(0, str(abs(count)))
        sign = (" - " if text else "-") if count < 0 else (" + " if text else "")
        text += sign + "*".join(factors)
    return text


def _sum_text(terms: Terms) -> str:
    text = text_of(terms)
    return f"({text})" if len(terms) > 1 else text


def _sum(value: int, products: Iterable[tuple[Atoms, int]]) -> int:
    total: dict[Atoms, int] = {}
    for atoms, count in products:
        total[atoms] = total.get(atoms, 0) + count
    terms = tuple(sorted(((a, n) for a, n in total.items() if n), key=lambda term: str(term[0])))
    free = any(atoms for atoms, _ in terms)
    return Size(value, terms) if free else value


def _divided(dividend: int, divisor: int) -> tuple[int, int]:
    """How often it goes, and what is left."""
    values = divmod(int(dividend), int(divisor))
    exact = _exactly(terms_of(dividend), terms_of(divisor))
    if exact is not None:
        return _sum(values[0], exact), 0
    pair = terms_of(dividend), terms_of(divisor)
    parts = zip(values, ("//", "%"), strict=True)
    quotient, rest = (Size(value, (((Quotient(kind, *pair),), 1),)) for value, kind in parts)
    return quotient, rest


def _exactly(dividend: Terms, divisor: Terms) -> list[tuple[Atoms, int]] | None:
    """The quotient as a sum of products, where it is one whatever the lengths; else None."""
    if len(divisor) != 1:
        return [((), 1)] if dividend == divisor else None
    (below, share), found = divisor[0], []
    for atoms, count in dividend:
        left = list(atoms)
        for atom in below:
            if atom not in left:
                return None
            left.remove(atom)
        if count % share:
            return None
        found.append((tuple(left), count // share))
    return found
