"""Parameters by name: those of constructors, as searches read and set them."""

import copy

import pytest

from tests.optimizers.schedules import SCHEDULES
from tests.optimizers.table import CASES
from xpnn.optimizers import SGD, Adam, Chain, ClipByValue, Cosine, Linear, Optimizer, WarmUp

pytestmark = pytest.mark.host_only

MORE = {"weight_decay": 0.1, "clip": ClipByValue(1.0), "factors": {"*.bias": 0.5}}


@pytest.mark.parametrize("name", CASES)
def test_an_optimizer_is_made_again_of_its_parameters(name):
    made = CASES[name].make(**MORE)
    params = made.get_params(deep=False)
    assert {*MORE, "rate", "decays"} <= set(params)
    again = type(made)(**params)
    assert repr(again) == repr(made)
    assert again.get_params() == params


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_made_again_of_its_parameters(name):
    made = SCHEDULES[name].schedule
    params = made.get_params(deep=False)
    if type(made).__name__ in ("Chain", "Product"):  # of any number of parts
        assert params == {}
        return
    again = type(made)(**params)
    assert [again(step) for step in range(1, 60)] == [made(step) for step in range(1, 60)]


def test_setting_is_what_assigning_is():
    made, by_hand = Adam(0.1, **MORE), Adam(0.1, **MORE)
    assert made.set_params(rate=0.2, beta1=0.5, clip=None) is made
    by_hand.rate, by_hand.beta1, by_hand.clip = 0.2, 0.5, None
    assert made.get_params() == by_hand.get_params()
    assert made.set_params(factors=None).factors is None


def test_a_step_that_was_made_knows_that_something_was_set():
    made = SGD(0.1)
    before = made.version
    assert made.set_params(rate=0.2).version is not before


def test_parts_have_names_of_their_own():
    rate = WarmUp(5, Linear(0.1, end=0.0, steps=10))
    made = SGD(rate)
    assert made.get_params()["rate__then__start"] == 0.1
    made.set_params(rate__then__start=0.4, rate__steps=2)
    assert (made.rate(1), made.rate(3)) == pytest.approx((0.2, 0.32))
    assert rate.then.start == 0.1  # a schedule stays as it was made
    made.set_params(rate=Cosine(0.1, steps=4), rate__start=0.3)
    assert made.rate.get_params() == {"start": 0.3, "steps": 4, "end": 0.0}


def test_what_goes_together_is_set_together():
    """Nesterov's step needs a momentum: neither may be set alone here."""
    made = SGD(0.1).set_params(nesterov=True, momentum=0.9)
    assert (made.nesterov, made.momentum, made.slots) == (True, 0.9, ("v",))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"rat": 1.0}, "SGD has no parameter 'rat'; it has rate, momentum, nesterov, weight_decay"),
        ({"rate__start": 1.0}, "rate of SGD is 0.1, which has no parameter 'start'; set rate"),
        ({"momentum": 1.0}, r"SGD needs momentum in \[0, 1\)"),
        ({"rate": 0.5, "nesterov": True}, "needs momentum above 0"),
    ],
)
def test_what_cannot_be_set_changes_nothing(params, message):
    made = SGD(0.1)
    before, version = made.get_params(), made.version
    with pytest.raises(ValueError, match=message):
        made.set_params(**params)
    assert (made.get_params(), made.version) == (before, version)
    with pytest.raises(ValueError, match=message):
        made.with_params(**params)


def test_any_number_of_parts_has_no_names():
    with pytest.raises(ValueError, match="Chain has no parameter 'at'; it has none that has a"):
        Chain(0.1, 0.2, at=[3]).with_params(at=[4])


def test_an_optimizer_of_ones_own_has_them_too():
    class Signs(Optimizer):
        def __init__(self, rate=1e-3, *, beta=0.9, **shared):
            super().__init__(rate, {"beta": beta}, **shared)

    made = Signs(weight_decay=0.1)
    assert made.get_params(deep=False).keys() == {
        *("rate", "beta", "weight_decay", "decays", "clip", "factors")
    }
    assert made.set_params(beta=0.5).beta == 0.5


def test_clones_of_scikit_learn_are_copies():
    base = pytest.importorskip("sklearn.base", reason="needs scikit-learn")
    made = Adam(Chain(0.1, 0.2, at=[3]), **MORE)
    found = base.clone(made)
    assert found is not made
    assert repr(found) == repr(made) == repr(copy.deepcopy(made))
