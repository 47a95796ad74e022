"""Attributes: a name that there is not, or that is fixed, cannot be set."""

import copy
import dataclasses
import inspect
import pickle
import re

import pytest

from xpnn.arguments import KnownAttributes
from xpnn.errors import AssignmentError, XpnnError


class Coin(KnownAttributes):
    fixed = ("sides",)
    thrown = 0

    def __init__(self, sides=2, *, bias=0.5):
        self.sides, self.bias = sides, bias

    @property
    def fair(self):
        return self.bias == 0.5

    def flip(self):
        self._last = "heads"


class Marked(Coin):
    def __init__(self, **options):
        super().__init__(**options)
        self.mark = "x"  # after the constructor of its base


@pytest.mark.parametrize("kind", [Coin, Marked])
def test_an_unknown_attribute_is_refused_and_a_close_one_named(kind):
    coin = kind()
    wanted = f"{kind.__name__} has no attribute 'bais', did you mean 'bias'?"
    with pytest.raises(AssignmentError, match=re.escape(wanted)) as caught:
        coin.bais = 0.1
    assert isinstance(caught.value, XpnnError)
    assert ("mark" in str(caught.value)) == (kind is Marked)
    with pytest.raises(AttributeError, match=r"no attribute 'colour'\. It has bias, fair, .*sides"):
        coin.colour = "red"
    assert not hasattr(coin, "bais")


def test_known_attributes_are_set_as_ever():
    coin = Marked()
    coin.bias, coin.mark, coin.thrown = 0.1, "y", 3
    coin.flip()
    assert (coin.bias, coin.mark, coin.thrown, coin._last) == (0.1, "y", 3, "heads")
    assert Coin.thrown == 0
    with pytest.raises(AttributeError):
        coin.fair = True


def test_what_is_fixed_stays():
    coin = Coin(6)
    with pytest.raises(AssignmentError, match="sides of Coin is fixed when it is made; make anoth"):
        coin.sides = 2
    assert coin.sides == 6


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))]
)
def test_a_copy_knows_the_same(again):
    coin = again(Marked(sides=6))
    assert coin.sides == 6
    with pytest.raises(AssignmentError):
        coin.bais = 0.1
    with pytest.raises(AssignmentError):
        coin.sides = 2


def test_the_constructor_keeps_its_signature():
    assert list(inspect.signature(Coin).parameters) == ["sides", "bias"]


def test_a_class_whose_constructor_is_written_for_it():
    @dataclasses.dataclass
    class Dice(KnownAttributes):
        eyes: int = 6

    assert Dice(8).eyes == 8
