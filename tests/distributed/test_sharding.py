"""Processes that each keep some of the optimizer's slots: the same training in less memory."""

import numpy as np
import pytest

from tests.distributed.threads import together
from xpnn import (
    Adafactor,
    Adam,
    AdamW,
    ClipByGlobalNorm,
    Dense,
    MixedPrecision,
    Muon,
    Network,
    ReLU,
    Trainer,
    cross_entropy,
)

OPTIMIZERS = {
    "Adam, clipped": lambda: Adam(1e-2, clip=ClipByGlobalNorm(0.1)),
    "AdamW, a factor": lambda: AdamW(1e-2, weight_decay=0.1, factors={"0.*": 0.3}),
    "Adafactor": lambda: Adafactor(1e-2),
    "Muon": lambda: Muon(1e-2),
}


def data(samples=50):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(samples, 6)).astype(np.float32)
    return x, rng.integers(0, 3, samples).astype(np.int32)


def trainer_of(backend, communicator=None, make=OPTIMIZERS["Adam, clipped"], **options):
    network = Network([Dense(7), ReLU(), Dense(5), ReLU(), Dense(3)], (6,), backend, seed=1)
    return Trainer(network, cross_entropy, make(), seed=2, distributed=communicator, **options)


def fitted(trainer, epochs=3, **options):
    return trainer.fit(*data(), epochs=epochs, batch_size=16, progress=False, **options)["loss"]


def values_of(trainer):
    to_numpy = trainer.network.backend.to_numpy
    return {name: to_numpy(one) for name, one in trainer.network.params.items()}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_same_bits_as_with_whole_slots(backend, name):
    def train(communicator, sharded):
        trainer = trainer_of(backend, communicator, OPTIMIZERS[name], shard_optimizer=sharded)
        return fitted(trainer), values_of(trainer)

    whole = together(2, lambda one: train(one, sharded=False))
    for losses, values in together(2, lambda one: train(one, sharded=True)):
        assert losses == whole[0][0]
        for key, value in values.items():
            assert np.array_equal(value, whole[0][1][key])


def test_a_step_that_overflows_in_one_process_is_skipped_by_all(backend):
    """Whoever owns none of the parameters whose gradients are infinite skips it, too."""
    if backend.name == "array-api-strict":
        pytest.skip("array-api-strict has no half precision")

    precision = MixedPrecision("float16", initial_scale=2.0**32)

    def train(communicator):
        trainer = trainer_of(backend, communicator, shard_optimizer=True, precision=precision)
        before = values_of(trainer)
        trainer.fit(*data(), epochs=1, batch_size=50, progress=False)
        after = values_of(trainer)
        scale = float(backend.to_numpy(trainer.opt_state["loss_scale"]))
        return scale, all(np.array_equal(before[one], after[one]) for one in before)

    assert together(2, train) == [(2.0**31, True)] * 2


def test_sums_are_of_dtypes_that_every_engine_has(backend):
    def train(communicator):
        network = Network([Dense(7), ReLU(), Dense(3)], (6,), backend, seed=1, dtype="float16")
        optimizer, options = Adam(1e-2), {"distributed": communicator, "shard_optimizer": True}
        fitted(Trainer(network, cross_entropy, optimizer, **options), epochs=1)
        return {dtype.rpartition(".")[2] for _, _, dtype in communicator.calls}

    if backend.name == "array-api-strict":
        pytest.skip("array-api-strict has no half precision")
    assert together(2, train) == [{"float32", "float64", "int64"}] * 2


def test_slots_are_shared_out(backend):
    def kept(communicator):
        trainer = trainer_of(backend, communicator, shard_optimizer=True)
        fitted(trainer, epochs=1)
        return {name: one.shape for name, one in trainer.opt_state["m"].items()}

    first, second = together(2, kept)
    assert not first.keys() & second.keys()
    assert {**first, **second} == {n: v.shape for n, v in values_of(trainer_of(backend)).items()}
    sizes = [sum(map(np.prod, one.values())) for one in (first, second)]
    assert max(sizes) - min(sizes) <= 42  # the largest parameter has so many numbers


@pytest.mark.parametrize("sharded", [False, True])
def test_what_a_step_takes_is_told_by_one_process_alone(backend, sharded):
    """It asks nothing of the others, and what is trained stays as it is."""

    def told(communicator):
        trainer = trainer_of(backend, communicator, shard_optimizer=sharded)
        fitted(trainer, epochs=1)
        before = values_of(trainer)
        if communicator.is_first:
            assert "a step" in str(trainer.summary(batch=64))
        for name, value in values_of(trainer).items():
            assert np.array_equal(value, before[name])
        return fitted(trainer, epochs=1)

    first, second = together(2, told)
    assert first == second


def test_a_checkpoint_has_all_slots(backend, tmp_path):
    """Two processes, of which each had its own, go on as one, and as three."""
    path = tmp_path / "run.safetensors"
    alone = fitted(trainer_of(backend), epochs=5)

    def train(communicator):
        trainer = trainer_of(backend, communicator, shard_optimizer=True)
        fitted(trainer, epochs=2)
        trainer.save(path if communicator.is_first else tmp_path / f"{communicator.rank}")

    together(2, train)

    def gone_on(communicator=None, **options):
        trainer = trainer_of(backend, communicator, **options)
        return fitted(trainer, epochs=5, resume=path)

    for losses in [gone_on(), *together(3, lambda one: gone_on(one, shard_optimizer=True))]:
        assert losses == pytest.approx(alone, rel=2e-6)
