"""Factors of rate and decay by patterns of names: each part is trained by one of its own."""

import numpy as np
import pytest

from tests.optimizers.table import CASES, gradients, moved, on_host, start, trained
from xpnn import Checkpoint, Dense, MixedPrecision, Network, ReLU, Trainer, mean_squared_error
from xpnn.backends import get_backend
from xpnn.errors import BackendUnavailable, FileError
from xpnn.optimizers import (
    SGD,
    Adam,
    AdamW,
    ClipByValue,
    Cosine,
    Linear,
    ReduceOnPlateau,
    matrices_only,
)

STEPS = 6


def alone(key, optimizer, backend):
    params, _ = trained(optimizer, backend, start("float32"), gradients("float32", STEPS))
    return params[key]


@pytest.mark.parametrize("name", ["sgd", "momentum", "adamw", "nadam", "radam", "lamb", "muon"])
def test_each_part_is_trained_as_by_an_optimizer_of_its_own(backend, name):
    make = CASES[name].make
    shared = {"clip": ClipByValue(0.5), "weight_decay": 0.1}
    factors = {"wei*": {"rate": 0.5, "weight_decay": 3.0}, "*": 2.0}
    both = make(**shared, factors=factors, rate=Linear(0.05, end=0.01, steps=9))
    params, opt_state = trained(both, backend, start("float32"), gradients("float32", STEPS))
    for key, rate, decay in (("weight", 0.5, 3.0), ("bias", 2.0, 1.0)):
        own = shared | {
            "rate": Linear(0.05 * rate, end=0.01 * rate, steps=9),
            "weight_decay": 0.1 * decay,
        }
        expected = alone(key, make(**own), backend)
        np.testing.assert_allclose(params[key], expected, rtol=1e-5, atol=1e-6, err_msg=key)
        assert not np.allclose(expected, alone(key, make(**shared), backend), rtol=1e-3)
    assert opt_state.keys() == make().init({}, backend).keys()


def test_a_factor_may_follow_a_schedule(backend):
    thaw = Linear(0.0, end=1.0, steps=4)
    found, _ = trained(
        SGD(0.1, factors={"bias": thaw}), backend, start("float32"), gradients("float32", STEPS)
    )
    expected = start()["bias"] - 0.1 * sum(
        min(done / 4, 1) * grads["bias"] for done, grads in enumerate(gradients(steps=STEPS))
    )
    np.testing.assert_allclose(found["bias"], expected, rtol=1e-5)
    np.testing.assert_allclose(found["weight"], alone("weight", SGD(0.1), backend), rtol=1e-6)


def test_a_part_without_decay_does_not_decay_and_decays_still_chooses(backend):
    grads = gradients("float32", STEPS)
    one = AdamW(0.1, weight_decay=0.3, factors={"weight": {"weight_decay": 0.0}})
    other = AdamW(0.1, weight_decay=0.3, decays=lambda name, _: name != "weight")
    found, _ = trained(one, backend, start("float32"), grads)
    expected, _ = trained(other, backend, start("float32"), grads)
    for key, array in found.items():
        np.testing.assert_array_equal(array, expected[key])
    half = AdamW(0.1, weight_decay=0.3, factors={"*": 0.5}, decays=matrices_only)
    np.testing.assert_allclose(
        trained(half, backend, start("float32"), grads)[0]["bias"],
        alone("bias", AdamW(0.05, weight_decay=0.0), backend),
        rtol=1e-6,
    )


def test_the_first_pattern_that_matches_counts(backend):
    factors = {"bias": 0.0, "*": 2.0, "weight": 0.0}
    found, _ = trained(SGD(0.1, factors=factors), backend, start("float32"), gradients("float32"))
    np.testing.assert_array_equal(found["bias"], start("float32")["bias"])
    assert not np.allclose(found["weight"], start("float32")["weight"])


def test_a_plateau_of_the_rate_lowers_all_parts(backend):
    sgd = SGD(ReduceOnPlateau(1.0, factor=0.5, patience=0), factors={"weight": 0.1})
    with backend.on_device():
        params, ones = start("float32"), {k: np.ones_like(v) for k, v in start("float32").items()}
        before, opt_state = moved(params, backend), sgd.init(params, backend)
        for _ in range(2):
            opt_state = sgd.observe(opt_state, 7.0, backend)
        after, _ = sgd.make_update(backend)(before, moved(ones, backend), opt_state)
        steps = {key: params[key] - array for key, array in on_host(after, backend).items()}
    np.testing.assert_allclose(steps["bias"], 0.5, rtol=1e-6)
    np.testing.assert_allclose(steps["weight"], 0.05, rtol=1e-5)


# In training --------------------------------------------------------------------------------------


def data():
    x = np.random.default_rng(7).normal(size=(24, 3)).astype(np.float32)
    return x, np.sin(x[:, :1])


def trainer_of(backend, optimizer, **options):
    network = Network([Dense(4), ReLU(), Dense(1)], (3,), backend, seed=1)
    return Trainer(network, mean_squared_error, optimizer, **options)


def fit(trainer, epochs=4, **options):
    return trainer.fit(*data(), epochs=epochs, batch_size=8, progress=False, **options)["loss"]


def test_a_layer_with_a_factor_of_zero_stays_and_a_change_acts_at_the_next_step(backend):
    trainer = trainer_of(backend, Adam(0.02, factors={"0.*": 0.0}))
    begin = trainer.network.numpy_arrays()
    fit(trainer)
    for name, array in trainer.network.numpy_arrays().items():
        assert np.array_equal(array, begin[name]) == name.startswith("0.")
    trainer.optimizer.factors = {"0.*": 0.5}
    fit(trainer, 1)
    assert not np.array_equal(
        trainer.network.numpy_arrays()["0.dense.weight"], begin["0.dense.weight"]
    )


def test_it_learns_in_mixed_precision(backend):
    optimizer = AdamW(Cosine(0.03, steps=60), factors={"2.*": {"rate": 2.0, "weight_decay": 0.0}})
    try:
        half = MixedPrecision("float16", initial_scale=1024.0)  # at which no step is skipped
        trainer = trainer_of(backend, optimizer, precision=half)
    except BackendUnavailable:
        pytest.skip(f"{backend.name} has no float16")
    losses, expected = fit(trainer, 20), fit(trainer_of(backend, optimizer), 20)
    np.testing.assert_allclose(losses, expected, rtol=0.05)  # 60 steps with 11 bits
    assert losses[-1] < 0.3 * losses[0]


def test_a_checkpoint_knows_them(backend, tmp_path):
    factors = {"0.*": Linear(0.1, end=1.0, steps=9)}
    whole = fit(trainer_of(backend, Adam(0.02, factors=factors)))
    first = trainer_of(backend, Adam(0.02, factors=factors))
    fit(first, 2, callbacks=[Checkpoint(tmp_path)])
    np.testing.assert_array_equal(
        fit(trainer_of(backend, Adam(0.02, factors=factors)), resume=tmp_path), whole
    )
    with pytest.raises(FileError, match=r"optimizer\.factors"):
        fit(trainer_of(backend, Adam(0.02)), resume=tmp_path)
    first.optimizer.factors = None
    first.save(tmp_path / "without.safetensors")
    fit(trainer_of(backend, Adam(0.02)), resume=tmp_path / "without.safetensors")


@pytest.mark.host_only
def test_a_pattern_that_matches_nothing_is_an_error_that_names_what_there_is():
    text = r"'1\.\*' of factors matches no parameter; there are 0\.dense\.weight, 0\.dense\.bias, 2"
    with pytest.raises(ValueError, match=text):
        trainer_of("numpy", SGD(0.1, factors={"0.*": 0.5, "1.*": 0.1}))
    trainer = trainer_of("numpy", SGD(0.1))
    fit(trainer, 1)
    before = trainer.network.numpy_arrays()
    trainer.optimizer.factors = {"1.*": 0.1}
    with pytest.raises(ValueError, match=text):
        fit(trainer, 1)
    for name, array in trainer.network.numpy_arrays().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.host_only
@pytest.mark.parametrize(
    ("factors", "kind", "text"),
    [
        (0.1, TypeError, r"a dictionary of patterns such as \{'0\.\*': 0\.1\}, got 0\.1"),
        ({1: 0.1}, TypeError, r"patterns of names, such as '0\.\*', got 1"),
        ({"a": "slow"}, TypeError, r"factors\['a'\] wants numbers or schedules, got 'slow'"),
        ({"a": -1}, ValueError, r"factors\['a'\] wants factors of at least 0, got -1"),
        ({"a": Linear(1, end=-1, steps=2)}, ValueError, r"factors of at least 0, got Linear"),
        ({"a": {"beta1": 2}}, ValueError, r"factors of rate and weight_decay, got 'beta1'"),
        ({"a": ReduceOnPlateau(1.0)}, ValueError, r"has no place for ReduceOnPlateau; let rate"),
    ],
)
def test_bad_factors_are_refused(factors, kind, text):
    with pytest.raises(kind, match=text):
        SGD(0.1, factors=factors)


def test_they_are_shown_and_cannot_be_written_into():
    adam = Adam(0.1, factors={"0.*": 0.5})
    assert repr(adam).endswith("epsilon=1e-08, factors={'0.*': {'rate': 0.5}})")
    adam.factors["0.*"]["rate"] = 0.1
    assert adam.factors["0.*"] == {"rate": 0.5}
    with pytest.raises(TypeError):
        adam.factors["1.*"] = 0.1


@pytest.mark.host_only
def test_what_joins_late_is_moved_by_the_means_that_begin_at_zero():
    """As Adam's docstring says: steps of up to 6.6 rates; of a new state they are of one rate."""
    place, optimizer = get_backend("numpy"), Adam(1e-3)
    update, one = optimizer.make_update(place), np.ones(1, np.float64)
    params = {"early": one, "late": one}
    state = optimizer.init(params, place)
    for _ in range(10_000):
        params, state = update(params, {"early": one}, state)
    moved = []
    for begins_anew in (False, True):
        now, there = params, optimizer.init(params, place) if begins_anew else state
        path = []
        for _ in range(40):
            now, there = update(now, {"early": one, "late": one}, there)
            path.append(float(now["late"][0]))
        moved.append(-np.diff([1.0, *path]) / 1e-3)
    k = np.arange(1, 41)
    np.testing.assert_allclose(moved[0], (1 - 0.9**k) / np.sqrt(1 - 0.999**k), rtol=1e-3)
    assert max(moved[0]) == pytest.approx(6.57, abs=0.02)
    np.testing.assert_allclose(moved[1], 1.0, rtol=1e-6)
