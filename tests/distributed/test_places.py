"""What all processes have to call, what one may do by itself, and what is said of a mistake."""

import numpy as np
import pytest

import xpnn
from tests.distributed.threads import together
from xpnn import Adam, Callback, Dense, Network, Tanh, Trainer, XpnnError
from xpnn.agreeing import PLACES, place_number

RNG = np.random.default_rng(0)
X = RNG.normal(size=(43, 6)).astype(np.float32)
Y = RNG.integers(0, 3, 43).astype(np.int32)


def make(communicator, **settings):
    network = Network([Dense(8), Tanh(), Dense(3)], (6,), seed=1)
    return Trainer(network, xpnn.cross_entropy, Adam(1e-2), distributed=communicator, **settings)


def fit(trainer, *callbacks, **settings):
    return trainer.fit(
        X, Y, **{"epochs": 2, "batch_size": 10, "progress": False, **settings}, callbacks=callbacks
    )


def test_no_place_is_taken_for_another():
    assert [place_number(one) for one in PLACES] == [*range(len(PLACES))]


# Writing ------------------------------------------------------------------------------------------


def saved(trainer, path):
    trainer.network.save(path)
    return xpnn.load(path)


def saved_weights(trainer, path):
    xpnn.save_weights(trainer.network, path)
    network = trainer.network.to("numpy")
    network.load({name: one * 0 for name, one in network.numpy_arrays().items()})
    xpnn.load_weights(network, path)
    return network


def saved_for_torch(trainer, path):
    xpnn.saving.save_torch_weights(trainer.network, path)
    network = trainer.network.to("numpy")
    network.load({name: one * 0 for name, one in network.numpy_arrays().items()})
    xpnn.saving.load_torch_weights(network, path)
    return network


def saved_folder(trainer, path):
    xpnn.saving.save_folder(trainer.network, path)
    return xpnn.load(path)


def exported(trainer, path):
    trainer.network.to_onnx(path)
    return trainer.network if path.exists() else None


def checkpointed(trainer, path):
    trainer.save(path)
    other = make(None)
    other.load(path)
    return other.network


WRITERS = [
    *(saved, saved_weights, saved_for_torch, saved_folder, checkpointed),
    pytest.param(exported, marks=pytest.mark.needs("onnx")),
]


@pytest.mark.parametrize("write", WRITERS)
def test_what_is_written_can_be_read_at_once_by_all(tmp_path, write):
    """The file is another one each time, so that an old one does not pass for it."""

    def work(communicator):
        trainer = make(communicator)
        for k in range(3):
            trainer.step(X, Y)
            found = write(trainer, tmp_path / f"{k}").numpy_arrays()
            for name, one in trainer.network.numpy_arrays().items():
                np.testing.assert_array_equal(found[name], one)

    together(3, work)


def test_only_one_process_writes(tmp_path, monkeypatch):
    writers = []
    written = xpnn.network.save
    monkeypatch.setattr("xpnn.network.save", lambda *given: writers.append(1) or written(*given))
    together(3, lambda one: make(one).network.save(tmp_path / "network"))
    assert writers == [1]


def test_a_copy_is_no_network_of_all(tmp_path):
    def work(communicator):
        copy = make(communicator).network.to("numpy")
        copy.save(tmp_path / f"{communicator.rank}")

    together(2, work)
    assert len([*tmp_path.iterdir()]) == 2


# Alone --------------------------------------------------------------------------------------------


def test_one_process_writes_and_measures_by_itself(tmp_path):
    def work(communicator):
        trainer = make(communicator)
        fit(trainer)
        found = None
        if communicator.rank == 1:
            with trainer.alone():
                found = trainer.evaluate(X, Y), trainer.confusion_matrix(X, Y).counts
                trainer.network.save(tmp_path / "network")
                trainer.save(tmp_path / "checkpoint")
                for call in (lambda: fit(trainer), lambda: trainer.step(X, Y)):
                    with pytest.raises(XpnnError, match="got process 1 alone; call it outside"):
                        call()
        fit(trainer)
        return found, trainer.evaluate(X, Y), trainer.network.numpy_arrays()

    (none, values, arrays), (own, others, same) = together(2, work)
    assert none is None
    assert values == others
    assert all(np.array_equal(arrays[name], same[name]) for name in arrays)
    alone = make(None)
    fit(alone)
    assert own[0]["loss"] == pytest.approx(alone.evaluate(X, Y)["loss"], rel=1e-5)
    np.testing.assert_array_equal(own[1], alone.confusion_matrix(X, Y).counts)
    assert {one.name for one in tmp_path.iterdir()} == {"network", "checkpoint"}


def test_slots_of_all_are_not_saved_by_one(tmp_path):
    def work(communicator):
        trainer = make(communicator, shard_optimizer=True)
        trainer.step(X, Y)
        with trainer.alone(), pytest.raises(XpnnError, match="do it in all of them"):
            trainer.save(tmp_path / "run")

    together(2, work)


def test_one_process_does_not_measure_what_lies_on_the_devices_of_all():
    def work(communicator):
        communicator.cuts_batches = False
        trainer = make(communicator)
        with trainer.alone(), pytest.raises(XpnnError, match="on their devices together"):
            trainer.evaluate(X, Y)

    together(2, work)


def test_alone_changes_nothing_for_one_process():
    trainer = make(None)
    with trainer.alone():
        fit(trainer)
        trainer.step(X, Y)


class OfFirst(Callback):
    """Writes and measures in hooks that process 0 alone calls."""

    first_process_only = True

    def __init__(self, trainer, path):
        self.trainer, self.path, self.found = trainer, path, []

    def on_step_end(self, state, step):
        state.network.save(self.path)

    def on_epoch_end(self, state, logs):
        self.found.append(self.trainer.evaluate(X, Y)["loss"])

    def on_fit_end(self, state):
        state.network.save(self.path)


def test_hooks_of_the_first_process_wait_for_nobody(tmp_path):
    def work(communicator):
        trainer = make(communicator)
        own = OfFirst(trainer, tmp_path / "network")
        fit(trainer, own)
        return own.found, trainer.network.numpy_arrays()

    (found, arrays), (none, _) = together(2, work)
    assert len(found) == 2
    assert none == []
    for name, one in xpnn.load(tmp_path / "network").numpy_arrays().items():
        np.testing.assert_array_equal(arrays[name], one)


# Mistakes -----------------------------------------------------------------------------------------


class DoesByItself(Callback):
    def __init__(self, rank, act):
        self.rank, self.act = rank, act

    def on_epoch_end(self, state, logs):
        if self.rank == 0:
            self.act()


@pytest.mark.parametrize("name", ["Trainer.evaluate", "Trainer.confusion_matrix", "Network.save"])
def test_what_one_calls_by_itself_is_named_in_all(tmp_path, name):
    def work(communicator):
        trainer = make(communicator)
        acts = {
            "Trainer.evaluate": lambda: trainer.evaluate(X, Y),
            "Trainer.confusion_matrix": lambda: trainer.confusion_matrix(X, Y),
            "Network.save": lambda: trainer.network.save(tmp_path / "network"),
        }
        with pytest.raises(XpnnError) as caught:
            fit(trainer, DoesByItself(communicator.rank, acts[name]))
        return str(caught.value)

    wanted = (
        f"wanted all processes at the same place, got process 0 at {name}, processes 1 and 2 at "
        f"the end of an epoch"
    )
    for found in together(3, work):
        assert found.startswith(wanted)
        assert "with trainer.alone():" in found


@pytest.mark.parametrize(
    ("first", "second", "places"),
    [
        ("evaluate", "fit", "process 0 at Trainer.evaluate, process 1 at Trainer.fit"),
        ("evaluate", "step", "process 0 at Trainer.evaluate, process 1 at a training step"),
        ("save", "evaluate", "process 0 at Network.save, process 1 at Trainer.evaluate"),
        ("fit", "save", "process 0 at Trainer.fit, process 1 at Network.save"),
    ],
)
def test_different_calls_are_named(tmp_path, first, second, places):
    def work(communicator):
        trainer = make(communicator)
        calls = {
            "evaluate": lambda: trainer.evaluate(X, Y),
            "fit": lambda: fit(trainer),
            "step": lambda: trainer.step(X, Y),
            "save": lambda: trainer.network.save(tmp_path / "network"),
        }
        with pytest.raises(XpnnError, match=places):
            calls[second if communicator.rank else first]()

    together(2, work)


# Streams ------------------------------------------------------------------------------------------


def batches_of(rank, differs):
    """Five batches; in process 1 the fourth is another one."""
    for k in range(5):
        x, y = X[8 * k : 8 * k + 8].copy(), Y[8 * k : 8 * k + 8]
        if rank == 1 and k == 3 and differs == "numbers":
            x += 1
        size = 7 if rank == 1 and k == 3 and differs == "sizes" else 8
        yield x[:size], y[:size]


@pytest.mark.parametrize("differs", ["numbers", "sizes"])
@pytest.mark.parametrize("call", ["fit", "evaluate"])
def test_streams_that_differ_later_are_found(differs, call):
    def work(communicator):
        trainer = make(communicator)
        stream = lambda: batches_of(communicator.rank, differs)  # noqa: E731
        options = {"epochs": 1, "progress": False} if call == "fit" else {}
        told = "wanted the same batches in all processes, got others in process 1"
        with pytest.raises(XpnnError, match=told) as caught:
            getattr(trainer, call)(stream, **options)
        return str(caught.value)

    first, second = together(2, work)
    assert first == second
    wanted = "up to step 5 of epoch 1" if call == "fit" else "5 batches of 39 samples"
    assert wanted in first or differs == "numbers"


def test_streams_that_are_alike_are_no_error():
    def work(communicator):
        trainer = make(communicator)
        stream = lambda: batches_of(0, "")  # noqa: E731
        history = trainer.fit(stream, epochs=2, validation=stream, progress=False)
        return history["val_loss"], trainer.evaluate(stream)

    first, *others = together(3, work)
    assert others == [first, first]
