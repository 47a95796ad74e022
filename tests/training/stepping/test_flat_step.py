"""Steps change the optimizer's state where it lies, however it is ordered or put together."""

import numpy as np
import pytest

from xpnn import SGD, Adam, Dense, Network, Tanh, Trainer, mean_squared_error
from xpnn.layers import Identity


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(8, 4)).astype("f4"), rng.normal(size=(8, 2)).astype("f4")


def trainer_on(backend, optimizer=None):
    network = Network([Dense(3), Tanh(), Dense(2)], (4,), backend, seed=5)
    return Trainer(network, mean_squared_error, optimizer or Adam(0.05))


def turned(tree):
    """The same nesting, its keys in the reverse order."""
    return {
        key: turned(tree[key]) if isinstance(tree[key], dict) else tree[key]
        for key in reversed(list(tree))
    }


def losses(trainer, steps):
    backend = trainer.network.backend
    return [float(backend.to_numpy(trainer.step(*data()))) for _ in range(steps)]


def test_the_order_of_a_state_that_is_set_does_not_matter(backend):
    plain, other = trainer_on(backend), trainer_on(backend)
    assert losses(plain, 3) == losses(other, 3)
    other.opt_state = turned(other.opt_state)
    assert losses(plain, 3) == losses(other, 3)


@pytest.mark.parametrize("whole", [False, True])
def test_a_slot_that_is_changed_by_hand_is_used(backend, whole):
    """v = 0.9 v + g, w = w - 0.1 v: with v one larger before it, w is 0.09 less after a step."""
    plain, other = (trainer_on(backend, SGD(0.1, momentum=0.9)) for _ in range(2))
    assert losses(plain, 2) == losses(other, 2)
    more = {name: array + 1.0 for name, array in other.opt_state["v"].items()}
    if whole:
        other.opt_state["v"] = more
    else:
        other.opt_state["v"].update(more)
    losses(plain, 1), losses(other, 1)
    found, wanted = other.network.numpy_arrays(), plain.network.numpy_arrays()
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array - 0.09, atol=1e-6, err_msg=name)


class Counting(SGD):
    """Where its state has a dictionary ``mine``, each step adds one to what is in it."""

    def make_update(self, backend, scaling=None):
        update = super().make_update(backend, scaling)

        def counted(params, grads, opt_state):
            params, new = update(params, grads, opt_state)
            if "mine" not in opt_state:
                return params, new
            return params, {**new, "mine": {k: v + 1.0 for k, v in opt_state["mine"].items()}}

        return counted


def test_a_state_with_other_slots_is_stepped_with_all_of_them(backend):
    plain, other = trainer_on(backend), trainer_on(backend, Counting(0.1, momentum=0.9))
    assert losses(other, 2) != losses(plain, 2)
    mine = {"count": backend.constant((5.0, 7.0))}
    other.opt_state = {**other.opt_state, "mine": mine}
    losses(other, 3)
    np.testing.assert_array_equal(backend.to_numpy(other.opt_state["mine"]["count"]), [8.0, 10.0])
    other.opt_state = {name: one for name, one in other.opt_state.items() if name != "mine"}
    losses(other, 2)
    assert "mine" not in other.opt_state
    assert int(other.opt_state["step"]) == 7


class Seen(Identity):
    """Counts how often its ``forward`` is called as it is written."""

    calls = 0

    def forward(self, inputs, training=False):
        type(self).calls += 1
        return inputs


def test_a_state_of_the_same_slots_compiles_nothing_anew(monkeypatch):
    network = Network([Dense(3), Seen(), Dense(2)], (4,))
    trainer = Trainer(network, mean_squared_error, Adam(0.05), compile=True)
    losses(trainer, 3)
    monkeypatch.setattr(Seen, "calls", 0)
    for _ in range(3):
        trainer.opt_state = turned(trainer.opt_state)
        losses(trainer, 2)
        trainer.opt_state["m"] = dict(trainer.opt_state["m"])
        losses(trainer, 2)
    assert Seen.calls == 0


class Growing(SGD):
    """Its update adds a slot that ``init`` does not make."""

    def make_update(self, backend, scaling=None):
        update = super().make_update(backend, scaling)

        def grown(params, grads, opt_state):
            params, opt_state = update(params, grads, opt_state)
            return params, {**opt_state, "seen": opt_state["step"]}

        return grown


def test_an_update_has_to_return_the_slots_it_was_given(backend):
    trainer = trainer_on(backend, Growing(0.1))
    with pytest.raises(ValueError, match="added or left out seen; return every slot"):
        trainer.step(*data())


class Lengthening(SGD):
    """Its update returns a longer list than ``init``."""

    def init(self, params, backend, *more):
        return {**super().init(params, backend, *more), "kept": [0.0]}

    def make_update(self, backend, scaling=None):
        update = super().make_update(backend, scaling)

        def longer(params, grads, opt_state):
            params, new = update(params, grads, opt_state)
            return params, {**new, "kept": [*opt_state["kept"], 0.0]}

        return longer


def test_what_is_too_much_in_a_list_is_named():
    trainer = trainer_on("numpy", Lengthening(0.1))
    with pytest.raises(ValueError, match=r"added or left out kept\.1; return every slot"):
        trainer.step(*data())


class Paired(SGD):
    """Its state holds a tuple, in which no step can put anything."""

    def init(self, params, backend, scaling=None):
        return super().init(params, backend, scaling) | {"pair": (1.0, 2.0)}


def test_a_tuple_in_the_state_is_refused_before_a_step(backend):
    trainer = trainer_on(backend, Paired(0.1))
    before = trainer.network.numpy_arrays()
    with pytest.raises(TypeError, match="got a tuple; make it a list"):
        trainer.step(*data())
    np.testing.assert_equal(trainer.network.numpy_arrays(), before)
    assert trainer.steps == 0
