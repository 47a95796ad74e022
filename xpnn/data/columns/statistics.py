"""What is learned of a column that comes a stretch of rows at a time, in bounded memory."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.random import Generator, Philox, SeedSequence

from xpnn.data.columns.column import Label

MOST_LABELS = 200_000
"""Different labels of a column that are counted; those that come first after that many are rare."""
SAMPLE = 100_000
"""Numbers from which the bounds of buckets are told."""


class Moments:
    """Mean and deviation of numbers, by Chan, Golub and LeVeque (1979), and how many are missing.

    ::

        n   = n_a + n_b                         d = mean_b - mean_a
        mean = mean_a + d n_b / n               M2 = M2_a + M2_b + d^2 n_a n_b / n
        deviation = sqrt(M2 / n)

    The sums are in float64, and do not depend on how the rows are cut but for rounding.

    >>> moments = Moments()
    >>> for chunk in ([1.0, 2.0], [6.0, np.nan]):
    ...     moments.add(np.asarray(chunk))
    >>> moments.mean, moments.missing
    (3.0, 1)
    """

    def __init__(self) -> None:
        self.count, self.mean, self.squares, self.missing = 0, 0.0, 0.0, 0

    def __repr__(self) -> str:
        return f"<moments of {self.count} numbers>"

    def add(self, numbers: np.ndarray) -> None:
        """Take in some more rows, NaN where one is missing."""
        there = numbers[~np.isnan(numbers)]
        self.missing += len(numbers) - len(there)
        if not len(there):
            return
        with np.errstate(over="ignore", invalid="ignore"):  # then the deviation is infinite
            mean = float(there.mean())
            squares = float(np.square(there - mean).sum())
            total, apart = self.count + len(there), mean - self.mean
            self.squares += squares + apart * apart * self.count * len(there) / total
            self.mean += apart * len(there) / total
        self.count = total

    @property
    def has_values(self) -> bool:
        """Whether not all were missing."""
        return self.count > 0

    @property
    def deviation(self) -> float:
        """The root of the mean squared distance from the mean; 1 where all numbers are alike."""
        squared = self.squares / max(self.count, 1)
        if not math.isfinite(squared):
            return math.inf
        # as scikit-learn: what is left of equal numbers by rounding is no deviation
        eps = float(np.finfo(np.float64).eps)
        bound = self.count * eps * squared + (self.count * self.mean * eps) ** 2
        return 1.0 if squared <= bound else math.sqrt(squared)


class Counts:
    """How often each label comes, and how many are missing.

    >>> counts = Counts()
    >>> counts.add(np.asarray([0, 1, 0, -1]), ["b", "a"])
    >>> counts.most_common(1), counts.missing
    (['b'], 1)
    """

    def __init__(self, most: int = MOST_LABELS) -> None:
        self.most, self.missing, self.uncounted = most, 0, 0
        self.counts: dict[Label, int] = {}

    def __repr__(self) -> str:
        return f"<counts of {len(self.counts)} labels>"

    def add(self, codes: np.ndarray, labels: Iterable[Label]) -> None:
        """Take in some more rows: the places of their labels in a list, or -1."""
        found = np.bincount(codes + 1).tolist()
        self.missing += found[0] if found else 0
        for label, count in zip(labels, found[1:], strict=False):
            if label in self.counts or len(self.counts) < self.most:
                self.counts[label] = self.counts.get(label, 0) + count
            else:
                self.uncounted += count

    @property
    def has_values(self) -> bool:
        """Whether not all were missing."""
        return bool(self.counts)

    def most_common(self, most: int) -> list[Label]:
        """The labels that come most often, in the order of numbers and of the alphabet.

        Of those that come equally often, the ones in front of that order are taken.
        """
        ordered = sorted(self.counts, key=in_order)
        if len(ordered) > most:
            ordered = sorted(ordered, key=lambda label: -self.counts[label])[:most]
        return sorted(ordered, key=in_order)


def in_order(label: Label) -> tuple[bool, Label]:
    """By which labels are sorted: numbers before texts."""
    return isinstance(label, str), label


class Sample:
    """Numbers drawn at random from all, each as likely as the other; all, if they are few.

    Every number gets a random key, the same one whatever the stretches are, and those of the
    smallest keys stay (a reservoir, as of Efraimidis and Spirakis, 2006, of equal weights).

    >>> sample = Sample(2)
    >>> sample.add(np.arange(100.0))
    >>> len(sample.numbers)
    2
    """

    def __init__(self, most: int = SAMPLE) -> None:
        self.most, self.missing = most, 0
        self.numbers, self._keys = np.empty(0), np.empty(0)
        self._draws = Generator(Philox(SeedSequence(0)))

    def __repr__(self) -> str:
        return f"<sample of {len(self.numbers)} numbers>"

    def add(self, numbers: np.ndarray) -> None:
        """Take in some more rows, NaN where one is missing."""
        there = numbers[~np.isnan(numbers)]
        self.missing += len(numbers) - len(there)
        numbers = np.concatenate([self.numbers, there])
        keys = np.concatenate([self._keys, self._draws.random(len(there))])
        if len(numbers) > self.most:
            kept = np.sort(np.argpartition(keys, self.most)[: self.most])
            numbers, keys = numbers[kept], keys[kept]
        self.numbers, self._keys = numbers, keys
