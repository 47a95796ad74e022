"""What may be set on an optimizer, a schedule or a limit acts at the next step, or is refused."""

import copy
from typing import ClassVar

import numpy as np
import pytest

from tests.optimizers.table import gradients, moved, on_host, start
from xpnn import Dense, Network, ReLU, Trainer, mean_squared_error
from xpnn.backends import get_backend
from xpnn.errors import AssignmentError, XpnnError
from xpnn.optimizers import (
    SGD,
    Adam,
    AdamW,
    ClipByGlobalNorm,
    ClipByValue,
    Cosine,
    Lion,
    NAdam,
    ReduceOnPlateau,
    RMSprop,
    Schedule,
    WarmUp,
    matrices_only,
)

CHANGES = [
    (SGD, {}, {"rate": 0.5}),
    (SGD, {"rate": Cosine(0.1, steps=9)}, {"rate": Cosine(0.5, steps=9)}),
    (SGD, {}, {"rate": WarmUp(9, 0.5)}),
    (SGD, {}, {"clip": ClipByGlobalNorm(0.01)}),
    (SGD, {"clip": ClipByGlobalNorm(0.01)}, {"clip": ClipByGlobalNorm(0.02)}),
    (SGD, {"clip": ClipByGlobalNorm(0.01)}, {"clip": ClipByValue(0.01)}),
    (SGD, {"clip": ClipByValue(0.01)}, {"clip": None}),
    (SGD, {}, {"weight_decay": 0.3}),
    (SGD, {"weight_decay": 0.3}, {"decays": matrices_only}),
    (SGD, {"momentum": 0.9}, {"momentum": 0.5}),
    (SGD, {"momentum": 0.9}, {"nesterov": True}),
    (RMSprop, {}, {"rho": 0.5}),
    (Adam, {}, {"beta1": 0.5}),
    (Adam, {}, {"beta2": 0.5, "epsilon": 0.1}),
    (AdamW, {}, {"weight_decay": 0.5}),
    (NAdam, {}, {"momentum_decay": 0.5}),
    (Lion, {}, {"beta1": 0.1}),
]


def trained(trainer, steps):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(8, 3)).astype(np.float32)
    for _ in range(steps):
        trainer.step(x, np.sin(x[:, :1]))
    return trainer.network.numpy_arrays()


def trainer_of(optimizer, backend, compile):
    network = Network([Dense(4), ReLU(), Dense(1)], (3,), backend, seed=1)
    return Trainer(network, mean_squared_error, optimizer, compile=compile)


@pytest.mark.parametrize("compile", [None, pytest.param(False, marks=pytest.mark.slow_to_compile)])
@pytest.mark.parametrize(("kind", "options", "changed"), CHANGES)
def test_a_change_acts_at_the_next_step(backend, kind, options, changed, compile):
    optimizer = kind(**{"rate": 0.05, **options})
    trainer = trainer_of(optimizer, backend, compile)
    trained(trainer, 3)
    for name, value in changed.items():
        setattr(optimizer, name, value)
    found = trained(trainer, 3)
    # the same by an optimizer that was made so, and takes over what the first one left
    backend = "numpy" if backend.name == "jax" else backend  # where JAX takes seconds, call by call
    other = trainer_of(kind(**{"rate": 0.05, **options}), backend, False)
    trained(other, 3)
    other.optimizer = kind(**{"rate": 0.05, **options, **changed})
    expected = trained(other, 3)
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
    for name, array in trained(
        trainer_of(kind(**{"rate": 0.05, **options}), backend, False), 6
    ).items():
        assert not np.allclose(array, found[name], rtol=1e-4, atol=1e-5) or name.endswith("bias")


@pytest.mark.parametrize("compile", [None, False])
def test_another_optimizer_with_the_same_numbers_acts_too(backend, compile):
    numbers = {"rate": 0.05, "weight_decay": 0.1}
    trainer = trainer_of(Adam(**numbers), backend, compile)
    start = trainer.network.numpy_arrays()
    trained(trainer, 1)
    trainer.optimizer, trainer.opt_state = AdamW(**numbers), None
    trainer.network.load(start)
    expected = trained(trainer_of(AdamW(**numbers), backend, compile), 3)
    for name, array in trained(trainer, 3).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("set_it", "text"),
    [
        (lambda: setattr(SGD(), "lr", 0.1), r"SGD has no attribute 'lr'. It has .*momentum.*rate"),
        (lambda: setattr(Adam(), "beta", 0.1), r"Adam has no .* 'beta', did you mean 'beta[12]'\?"),
        (lambda: setattr(Adam(), "weight_dekay", 0.1), r"did you mean 'weight_decay'\?"),
        (lambda: setattr(SGD(), "slots", ("v",)), r"slots of SGD is fixed when it is made"),
        (lambda: setattr(Cosine(1, steps=2), "step", 3), r"Cosine .* 'step', did you mean 'steps'"),
        (lambda: setattr(Cosine(1, steps=2), "steps", 3), r"steps of Cosine is fixed when it is"),
        (
            lambda: setattr(WarmUp(2, 1.0).then, "start", 3),
            r"start of Constant is fixed when it is",
        ),
        (lambda: setattr(ReduceOnPlateau(1), "patience", 3), r"patience of ReduceOnPlateau is fix"),
        (lambda: setattr(ClipByValue(1), "limt", 3), r"no attribute 'limt', did you mean 'limit'"),
        (lambda: setattr(ClipByValue(1), "limit", 3), r"limit of ClipByValue is fixed when it is"),
    ],
)
def test_what_would_act_on_nothing_is_refused(set_it, text):
    with pytest.raises(AssignmentError, match=text):
        set_it()


@pytest.mark.parametrize(
    ("name", "value", "kind", "text"),
    [
        ("rate", -1.0, ValueError, r"Adam needs rate of at least 0, got -1"),
        ("beta1", 1.0, ValueError, r"Adam needs beta1 in \[0, 1\), got 1"),
        ("epsilon", "small", TypeError, r"epsilon is a number or a Schedule, got 'small'"),
        ("clip", 1.0, TypeError, r"clip is an object such as ClipByGlobalNorm\(1\.0\), got 1"),
    ],
)
def test_what_the_constructor_refuses_is_refused_later_too(name, value, kind, text):
    adam = Adam(0.1)
    before = getattr(adam, name)
    with pytest.raises(kind, match=text):
        setattr(adam, name, value)
    assert getattr(adam, name) is before


def test_numbers_of_numpy_are_taken_later_too():
    adam = Adam(0.1)
    adam.rate = np.float32(0.5)
    assert type(adam.rate) is float


def test_only_a_change_is_a_new_version():
    adam, other = Adam(0.1), Adam(0.1)
    assert adam.version is not other.version
    assert copy.deepcopy(adam).version is not adam.version
    before = adam.version
    adam.rate, adam.clip, adam.decays = np.float64(0.1), None, adam.decays
    assert adam.version is before
    for name, value in {"rate": 0.2, "clip": ClipByValue(1.0), "decays": matrices_only}.items():
        setattr(adam, name, value)
        assert adam.version is not before
        before = adam.version


def test_hyperparameters_are_read_by_name():
    adam = Adam(0.1)
    adam.rate = 0.2
    assert adam.hyper["rate"] == adam.rate == adam.hyper_at(1)["rate"] == 0.2
    with pytest.raises(TypeError, match=r"write optimizer\.rate = 0\.3, and"):
        adam.hyper["rate"] = 0.3


@pytest.mark.parametrize(
    ("kind", "name", "value", "missing"),
    [
        (SGD, "momentum", 0.9, "v"),
        (RMSprop, "momentum", 0.9, "v"),
        (SGD, "rate", ReduceOnPlateau(0.1), "plateau.rate.best"),
    ],
)
def test_a_change_that_wants_another_state_is_refused(backend, kind, name, value, missing):
    optimizer = kind(0.1)
    with backend.on_device():
        params = moved(start("float32"), backend)
        grads, opt_state = moved(gradients("float32")[0], backend), optimizer.init(params, backend)
        setattr(optimizer, name, value)
        update = optimizer.make_update(backend)
        with pytest.raises(ValueError, match=rf"{name}=.* wants {missing}.* begun without"):
            update(params, grads, opt_state)
        for key, array in on_host(params, backend).items():
            np.testing.assert_array_equal(array, start("float32")[key])
        update(params, grads, optimizer.init(params, backend))


@pytest.mark.parametrize("compile", [None, False])
def test_a_trainer_says_so_and_can_begin_anew(backend, compile):
    trainer = trainer_of(SGD(0.1), backend, compile)
    before = trained(trainer, 2)
    trainer.optimizer.momentum = 0.9
    with pytest.raises((ValueError, XpnnError), match=r"trainer\.opt_state = None"):
        trained(trainer, 1)
    for key, array in trainer.network.numpy_arrays().items():
        np.testing.assert_array_equal(array, before[key])
    trainer.opt_state = None
    trained(trainer, 1)


def test_a_schedule_of_the_user_s_is_held_too():
    class Halving(Schedule):
        def __init__(self, start):
            self.start = start

        def value(self, xp, done):
            return self.start * xp.exp(-0.7 * done)

    halving = Halving(0.5)
    assert SGD(halving).hyper_at(2)["rate"] == pytest.approx(0.5 * np.exp(-0.7))
    with pytest.raises(AssignmentError, match="start of Halving is fixed when it is made"):
        halving.start = 1.0


def test_an_update_goes_by_the_numbers_that_it_was_made_with(backend):
    sgd = SGD(0.1)
    found = []
    for change in ({}, {"rate": 0.9, "momentum": 0.9, "clip": ClipByGlobalNorm(0.01)}):
        with backend.on_device():
            params, update = moved(start("float32"), backend), sgd.make_update(backend)
            opt_state = sgd.init(params, backend)
            for name, value in change.items():
                setattr(sgd, name, value)
            params, _ = update(params, moved(gradients("float32")[0], backend), opt_state)
            found.append(on_host(params, backend))
    for key, array in found[0].items():
        np.testing.assert_array_equal(array, found[1][key])


def test_one_update_serves_parameters_of_other_shapes_dtypes_and_names(backend):
    optimizer = Adam(0.1, weight_decay=0.5, decays=matrices_only)
    update = optimizer.make_update(backend)

    def ones(shapes, dtype):
        return {name: backend.asarray(np.ones(shape), dtype) for name, shape in shapes.items()}

    forms = [
        ({"w": (2, 3), "b": (3,)}, "float32", ("w", "b")),
        ({"w": (6,), "b": (3, 1)}, "float32", ("w", "b")),  # another one of the two decays
        ({"w": (6,), "b": (3, 1)}, "float64", ("w", "b")),
        ({"w": (6,), "b": (3, 1)}, "float64", ("b",)),
        ({"w": (2, 3), "c": (2, 3)}, "float32", ("w", "c")),
    ]
    if backend.name == "jax":  # which has no float64 unless told
        forms = [form for form in forms if form[1] == "float32"]
    for shapes, dtype, learned in [*forms, forms[0]]:
        found, wanted = (
            one(ones(shapes, dtype), ones({k: shapes[k] for k in learned}, dtype), state)[0]
            for one in (update, optimizer.make_update(backend))
            for state in [optimizer.init(ones(shapes, dtype), backend)]
        )
        for name, shape in shapes.items():
            assert tuple(found[name].shape) == shape
            np.testing.assert_array_equal(*map(backend.to_numpy, (found[name], wanted[name])))


def test_what_is_updated_together_is_looked_for_once(monkeypatch):
    looked = []
    own = SGD.updated_together
    monkeypatch.setattr(SGD, "updated_together", lambda *given: looked.append(1) or own(*given))
    trainer = trainer_of(SGD(0.05), "numpy", False)
    trained(trainer, 3)
    assert len(looked) == 1
    trainer.optimizer.rate = 0.1
    trained(trainer, 3)
    assert len(looked) == 2


def test_arrays_and_those_of_a_recording_are_grouped_by_themselves():
    """Where joining copies, and where it costs nothing."""
    backend, optimizer = get_backend("numpy"), SGD(0.1)
    many = {str(k): np.ones((32, 1024), np.float32) for k in range(4)}
    update, groups = optimizer.make_update(backend), []
    own = backend.joint_groups
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "joint_groups", lambda of: groups.append(own(of)) or groups[-1])
        for compiled in (False, True):
            run = backend.compiled(update, wanted=compiled)
            run({**many}, {**many}, optimizer.init(many, backend))
    assert groups[0] == [[name] for name in many]
    assert groups[1:] == [[[*many]]]


def test_what_is_carried_has_to_be_returned():
    class Forgetful(SGD):
        carried: ClassVar = {"total": 0.0, "count": 0.0}

        def carry(self, xp, *, count, **_):
            return {"count": count + 1}

    with pytest.raises(ValueError, match="Forgetful has total in carried, so carry has to return"):
        Forgetful(0.1).make_update(get_backend("numpy"))
