"""What every callback of ``table.py`` promises: its hooks are called, and it does its work."""

import dataclasses

import pytest

from tests.training.callbacks.table import EPOCHS, STEPS, each_callback, small_fit
from xpnn.training import Callback

HOOKS = [name for name in vars(Callback) if name.startswith("on_")]
CALLS = {  # how often a fit that goes to its end calls a hook
    "on_fit_check": 1,
    "on_fit_begin": 1,
    "on_resume": 0,
    "on_epoch_begin": EPOCHS,
    "on_step_begin": EPOCHS * STEPS,
    "on_log_begin": EPOCHS * 2,  # at steps 2 and 3
    "on_step_end": EPOCHS * STEPS,
    "on_steps_end": EPOCHS,
    "on_log": EPOCHS * 2,
    "on_epoch_end": EPOCHS,
    "on_interrupt": 0,
    "on_fit_end": 1,
}
pytestmark = pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")


@each_callback
def test_it_has_done_what_it_is_for(case, tmp_path, capsys):
    case.did(small_fit(case, tmp_path, capsys))


@each_callback
def test_without_it_nothing_of_that_happens(case, tmp_path, capsys):
    """Or the test above would hold of every ``fit``."""
    idle = dataclasses.replace(case, make=lambda folder: Callback())
    with pytest.raises((AssertionError, AttributeError, OSError, TypeError)):
        case.did(small_fit(idle, tmp_path, capsys))


class FailsAtTheEnd(Callback):
    def on_fit_end(self, state):
        raise LookupError("no picture")


@each_callback
def test_it_does_its_work_though_another_one_fails(case, tmp_path, capsys):
    """What that one raises is raised, or noted on what had ended training already."""
    fit = small_fit(case, tmp_path, capsys, FailsAtTheEnd())
    case.did(fit)
    said = str(fit.error), *getattr(fit.error, "__notes__", [])
    assert any("no picture" in line for line in said)


@each_callback
def test_its_hooks_are_those_that_the_loop_calls(case):
    own = {name for kind in case.kind.__mro__ for name in vars(kind) if name.startswith("on_")}
    assert own <= set(HOOKS), "the loop knows no such hook"
    assert overridden(case.kind)


@each_callback
def test_each_hook_that_it_overrides_is_called(case, tmp_path, capsys, monkeypatch):
    callback, calls = case.make(tmp_path), dict.fromkeys(HOOKS, 0)

    def counted(name, own):
        def hook(self, *arguments):
            calls[name] += self is callback  # the trainer's own history is one, too
            return own(self, *arguments)

        return hook

    for name in overridden(case.kind):
        monkeypatch.setattr(case.kind, name, counted(name, getattr(case.kind, name)))
    fit = small_fit(dataclasses.replace(case, make=lambda folder: callback), tmp_path, capsys)
    to_its_end = fit.error is None and fit.trainer.epoch == EPOCHS
    for name in overridden(case.kind):
        assert calls[name] == CALLS[name] if to_its_end else calls[name] >= bool(CALLS[name])


def overridden(kind):
    return [name for name in HOOKS if getattr(kind, name) is not getattr(Callback, name)]
