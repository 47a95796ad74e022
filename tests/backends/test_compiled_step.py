"""Which units a compiled step makes, keeps and drops, whatever they are."""

import pytest

from tests.backends.refusals import compile_warnings
from xpnn.backends.portable.compiled_step import MOST_ALIKE, MOST_UNITS, CompiledStep, NotCompilable
from xpnn.errors import CompileError


class Fake:
    """A unit for one form and one home, as a recording is for the arrays that it writes over."""

    def __init__(self, step, arguments):
        self.form_key, self.home = arguments
        self.step = step

    def load(self, arguments):
        return arguments == (self.form_key, self.home)

    def run(self):
        return self.step(self.form_key, self.home)


class FakeStep(CompiledStep):
    made = 0

    def make(self, arguments):
        self.made += 1
        if arguments[0] == "never":
            raise NotCompilable("it is never compiled.\nMore of it.")
        return None if arguments[0] == "later" else Fake(self.step, arguments)


def taken(*arguments):
    return ("taken", *arguments)


def held(step):
    return [(one.form_key, one.home) for one in step.units]


def test_a_unit_is_made_once_for_a_form():
    step = FakeStep(taken)
    for form in ("a", "b", "a", "b", "a"):
        assert step(form, 0) == ("taken", form, 0)
    assert step.made == 2
    assert held(step) == [("a", 0), ("b", 0)]


def test_the_ones_used_last_stay():
    step = FakeStep(taken)
    for form in range(MOST_UNITS):
        step(form, 0)
    step(0, 0)  # used again
    step("new", 0)
    kept = held(step)
    assert len(kept) == MOST_UNITS
    assert kept[:2] == [("new", 0), (0, 0)]
    assert (1, 0) not in kept


def test_of_one_form_few_stay():
    step = FakeStep(taken)
    step("other", 0)
    for home in range(5):
        step("a", home)
        step("a", home)
    assert held(step) == [("a", 4), ("a", 3), ("other", 0)]
    assert len(held(step)) == MOST_ALIKE + 1


def test_call_by_call_until_there_is_a_unit():
    step = FakeStep(taken)
    for _ in range(3):
        assert step("later", 0) == ("taken", "later", 0)
    assert step.made == 3
    assert not step.units
    assert step.refusal is None


def test_a_refusal_is_said_once_and_units_go_on():
    step = FakeStep(taken)
    step("a", 0)
    with compile_warnings(1) as said:
        for form in ("never", "never", "a", "b"):
            assert step(form, 0) == ("taken", form, 0)
    assert step.refusal == "it is never compiled"
    assert str(said[0].message).count(step.refusal) == 1
    assert held(step) == [("a", 0)]
    assert step.made == 2


def test_a_refusal_where_compiling_was_asked_for():
    step = FakeStep(taken, required=True)
    for _ in range(2):
        with pytest.raises(CompileError, match="cannot be: it is never compiled; change") as caught:
            step("never", 0)
        assert isinstance(caught.value.__cause__, NotCompilable)
    assert step("a", 0) == ("taken", "a", 0)


def test_any_other_error_comes_out_and_nothing_is_kept():
    def failing(form, home):
        if home == 1:
            raise ZeroDivisionError
        return form

    step = FakeStep(failing)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            step("a", 1)
    assert step("a", 0) == "a"
    assert held(step) == [("a", 0)]
    assert step.refusal is None
