"""Files of several processes: written once, and any number of processes goes on from them."""

import json
import pickle
import signal
from pathlib import Path

import numpy as np
import pytest

import xpnn
from tests.distributed.threads import together
from xpnn import Adam, BatchNorm, Callback, Checkpoint, Dense, Dropout, Network, Tanh, Trainer
from xpnn.training import CSVLogger, JSONLines, ProgressBar
from xpnn.training.checkpointing import checkpoint, resuming
from xpnn.training.checkpointing.resuming import numbered
from xpnn.training.interrupts import Interrupts

RNG = np.random.default_rng(0)
X = RNG.normal(size=(43, 6)).astype(np.float32)
Y = RNG.integers(0, 3, 43).astype(np.int32)
WEIGHT = RNG.uniform(0.5, 2.0, 43).astype(np.float32)


def make(communicator, **settings):
    layers = [Dense(8, use_bias=False), BatchNorm(), Tanh(), Dropout(0.2), Dense(3)]
    network = Network(layers, (6,), seed=1)
    return Trainer(network, xpnn.cross_entropy, Adam(1e-2), distributed=communicator, **settings)


def fit(trainer, epochs, *callbacks, **settings):
    data = {"validation": (X[:9], Y[:9]), "sample_weight": WEIGHT}
    return trainer.fit(
        X, Y, epochs=epochs, batch_size=10, callbacks=callbacks, progress=False, **data, **settings
    )


class Ends(Callback):
    """Ends the run in the midst of an epoch, as if it were killed."""

    def on_step_end(self, state, step):
        if state.steps == 8:
            raise ZeroDivisionError


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize(("before", "after"), [(2, 3), (3, None), (None, 2)])
def test_any_number_of_processes_goes_on(tmp_path, before, after, sharded):
    """The curve is that of one process that was never interrupted."""
    wanted = fit(make(None), 4)

    def begin(communicator):
        trainer = make(communicator, shard_optimizer=sharded)
        with pytest.raises(ZeroDivisionError):
            fit(trainer, 4, Checkpoint(tmp_path, every_steps=7), Ends())

    def go_on(communicator):
        trainer = make(communicator, shard_optimizer=sharded)
        history = fit(trainer, 4, Checkpoint(tmp_path, every_steps=7), resume=tmp_path)
        return history["loss"], history["val_loss"], trainer.network.numpy_arrays()

    begin(None) if before is None else together(before, begin)
    assert [one.name for one in numbered(tmp_path)][-1] == "checkpoint-000000007.safetensors"
    found = [go_on(None)] if after is None else together(after, go_on)
    for losses, held_out, arrays in found:
        assert losses == pytest.approx(wanted["loss"], rel=1e-6)
        assert held_out == pytest.approx(wanted["val_loss"], rel=1e-6)
        for name, one in found[0][2].items():
            np.testing.assert_array_equal(arrays[name], one)


@pytest.mark.parametrize("background", [False, True])
def test_files_are_written_by_the_first(tmp_path, monkeypatch, capsys, background):
    written = []
    for module in (checkpoint, xpnn.training.trainer):
        write = module.write_contents

        def noted(path, contents, write=write):
            written.append((path,))
            write(path, contents)

        monkeypatch.setattr(module, "write_contents", noted)

    save = xpnn.network.save
    monkeypatch.setattr(
        "xpnn.network.save", lambda *given: written.append(given[1:]) or save(*given)
    )

    def work(communicator):
        trainer = make(communicator, log_every=2)
        saving = Checkpoint(tmp_path / "runs", best="val_loss", keep=2, background=background)
        lines = JSONLines(tmp_path / "run.jsonl", gradients=True)
        fit(trainer, 3, saving, lines, CSVLogger(tmp_path / "run.csv"), ProgressBar("lines"))
        trainer.save(tmp_path / "last.safetensors")
        trainer.load(tmp_path / "last.safetensors")
        trainer.network.save(tmp_path / "network.safetensors")
        return saving.best

    best = together(3, work)
    assert best[0] == best[1] == best[2]
    names = [Path(one[0]).name for one in written]
    assert [name for name in names if name != "best.safetensors"] == [
        *(f"checkpoint-{steps:09d}.safetensors" for steps in (5, 10, 15)),
        "last.safetensors",
        "network.safetensors",
    ]
    assert len(list((tmp_path / "runs").glob("checkpoint-*"))) == 2
    assert len((tmp_path / "run.csv").read_text().splitlines()) == 4
    assert capsys.readouterr().err.count("epoch 3/3") == 1
    lines = [json.loads(one) for one in (tmp_path / "run.jsonl").read_text().splitlines()]
    alone = make(None, log_every=2)
    fit(alone, 3, JSONLines(tmp_path / "alone.jsonl", gradients=True))
    wanted = [json.loads(one) for one in (tmp_path / "alone.jsonl").read_text().splitlines()]
    assert [one["event"] for one in lines] == [one["event"] for one in wanted]
    for one, other in zip(lines, wanted, strict=True):
        for name in ("loss", "gradient_norm", "gradient_norm/0.dense.weight"):
            if other["event"] == "steps":
                assert one[name] == pytest.approx(other[name], rel=1e-5)


def test_what_was_pickled_is_written_wherever_it_is_loaded(tmp_path):
    def work(communicator):
        network = make(communicator).network
        path = tmp_path / f"{communicator.rank}.safetensors"
        pickle.loads(pickle.dumps(network)).save(path)
        return path.exists()

    assert together(2, work) == [True, True]


def test_a_file_that_cannot_be_written_is_an_error_in_all(tmp_path):
    (tmp_path / "file").write_text("")

    def work(communicator):
        trainer = make(communicator)
        with pytest.raises((OSError, xpnn.XpnnError)) as caught:
            trainer.save(tmp_path / "file" / "run.safetensors")
        return type(caught.value)

    first, second = together(2, work)
    assert issubclass(first, OSError)
    assert second is xpnn.XpnnError


def test_processes_that_find_other_checkpoints_are_told(tmp_path):
    fit(make(None), 2, Checkpoint(tmp_path / "0"))
    fit(make(None), 1, Checkpoint(tmp_path / "1"))

    def work(communicator):
        with pytest.raises(xpnn.XpnnError, match=r"goes on from \(checkpoint-000000010.safetens"):
            fit(make(communicator), 3, resume=tmp_path / str(communicator.rank))

    together(2, work)


def test_all_end_behind_the_same_step():
    """Where Ctrl-C has reached one of them only."""

    def work(communicator):
        steps = []
        interrupts = Interrupts(communicator)
        with pytest.raises(KeyboardInterrupt):
            train(interrupts, steps, communicator.rank)
        assert interrupts.between_steps
        return len(steps)

    def train(interrupts, steps, rank):
        with interrupts:
            while len(steps) < 10_000:
                steps.append(None)
                if rank == 1 and len(steps) == 50:
                    interrupts._held = signal.SIGINT, None
                interrupts.check_together()

    first, second = together(2, work)
    assert first == second >= 50


def test_a_checkpoint_that_several_wrote_is_that_of_one(tmp_path):
    def work(communicator):
        trainer = make(communicator, shard_optimizer=communicator is not None)
        fit(trainer, 2)
        trainer.save(tmp_path / ("alone" if communicator is None else "together"))

    work(None)
    together(3, work)
    alone, several = (resuming.read_checkpoint(tmp_path / name) for name in ("alone", "together"))
    for part in ("network", "optimizer"):
        assert alone[part].keys() == several[part].keys()
    for slot in ("m", "v"):
        for name, values in alone["optimizer"][slot].items():
            np.testing.assert_allclose(
                several["optimizer"][slot][name], values, rtol=1e-4, atol=1e-7
            )
    for name, values in alone["network"].items():
        np.testing.assert_allclose(several["network"][name], values, rtol=1e-5, atol=1e-6)
    assert alone["must_agree"] == several["must_agree"]
    assert alone["trainer"] == several["trainer"]
