"""CSVLogger: every number stands under its name, and no line is lost."""

import csv
import errno
import os
from pathlib import Path

import numpy as np
import pytest

from xpnn import (
    F1,
    SGD,
    Accuracy,
    Callback,
    Checkpoint,
    CSVLogger,
    Dense,
    Network,
    Trainer,
    cross_entropy,
)
from xpnn.errors import FileError

pytestmark = pytest.mark.host_only


def make_trainer(*metrics):
    return Trainer(Network([Dense(3)], (4,), seed=1), cross_entropy, SGD(0.1), metrics=metrics)


def fit(trainer, *callbacks, **settings):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(24, 4)), np.arange(24) % 3
    return trainer.fit(x, y, batch_size=8, progress=False, callbacks=callbacks, **settings)


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


class Adds(Callback):
    """Measures a number of its own in some epochs."""

    def __init__(self, **numbers):
        self.numbers = numbers

    def on_epoch_end(self, state, logs):
        logs |= {name: one[state.epoch] for name, one in self.numbers.items() if state.epoch in one}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.csv"


def test_appended_lines_stand_under_their_names_in_any_order(path):
    real = []
    for metrics in ([Accuracy(), F1()], [F1(), Accuracy()], [F1()]):
        real.append(
            fit(make_trainer(*metrics), CSVLogger(path, append=True), validation=0.5).epochs[-1]
        )
    for row, numbers in zip(rows_of(path), real, strict=True):
        assert None not in row
        for name in ("loss", "val_loss", "val_accuracy", "val_f1", "rate"):
            assert row[name] == str(numbers.get(name, ""))


def test_a_number_that_comes_later_gets_a_column(path):
    adds = Adds(auc={2: 0.5, 4: 0.75}, **{'a, "b"': {3: 1.0}})
    fit(make_trainer(), adds, CSVLogger(path), epochs=4)
    rows = rows_of(path)
    assert list(rows[0]) == ["epoch", "seconds", "loss", "rate", "auc", 'a, "b"']
    assert [row["auc"] for row in rows] == ["", "0.5", "", "0.75"]
    assert [row['a, "b"'] for row in rows] == ["", "", "1.0", ""]


def test_a_column_for_a_resumed_run_too(path, tmp_path):
    saved, adds = tmp_path / "saved", Adds(auc={3: 0.5})
    fit(make_trainer(), adds, CSVLogger(path), Checkpoint(saved), epochs=2)
    fit(make_trainer(), adds, CSVLogger(path), Checkpoint(saved), epochs=4, resume=saved)
    assert [row["epoch"] for row in rows_of(path)] == ["1", "2", "3", "4"]
    assert [row["auc"] for row in rows_of(path)] == ["", "", "0.5", ""]


@pytest.mark.parametrize("before", ["", "epoch,loss\r\n", "epoch,loss\r\n1,0.5"])
def test_it_goes_on_behind_what_is_there(path, before):
    path.write_bytes(before.encode())
    fit(make_trainer(), CSVLogger(path, append=True))
    *earlier, last = rows_of(path)
    assert [one["loss"] for one in earlier] == ["0.5"] * before.count("0.5")
    assert (last["epoch"], last["rate"]) == ("1", str(0.1)[:3])


def test_the_mark_of_a_spreadsheet_is_no_part_of_a_name(path):
    path.write_bytes(b"\xef\xbb\xbfepoch,seconds,loss,rate\r\n1,0,0.5,0.1\r\n")
    fit(make_trainer(), CSVLogger(path, append=True))
    header, *rows = path.read_text("utf-8-sig").splitlines()
    assert header == "epoch,seconds,loss,rate"
    assert len(rows) == 2


def test_what_is_no_csv_file_is_not_touched(path):
    path.write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(FileError, match=r"wanted a CSV file to append to, .* leave out append=T"):
        fit(make_trainer(), CSVLogger(path, append=True))
    assert path.read_bytes() == b"\xff\xfe\x00binary"
    fit(make_trainer(), CSVLogger(path))
    assert len(rows_of(path)) == 1


def test_a_place_that_cannot_be_written_to_is_found_before_the_first_step(tmp_path):
    trainer = make_trainer()
    with pytest.raises(FileError, match=r"wanted a file, but .* is a folder"):
        fit(trainer, CSVLogger(tmp_path))
    assert trainer.steps == 0


@pytest.mark.fault("disk full at a log")
@pytest.mark.parametrize("changed", [False, True])
def test_a_full_disk_costs_no_line_that_was_there(path, tmp_path, monkeypatch, changed):
    """Resumed, or with a column more, the file is never opened for writing from its beginning."""
    saved = tmp_path / "saved"
    fit(make_trainer(), CSVLogger(path), Checkpoint(saved), epochs=3)
    if changed:
        path.write_text("lines of somebody else")
    before = path.read_bytes()

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    def emptied(self, *arguments):
        self.open("wb").close()
        full()

    for name in ("write_bytes", "write_text"):
        monkeypatch.setattr(Path, name, emptied)
    monkeypatch.setattr(os, "replace", full)
    adds = Adds(auc={4: 0.5})
    with pytest.raises(OSError, match="No space left"):
        fit(make_trainer(), adds, CSVLogger(path), epochs=4, resume=saved)
    assert path.read_bytes() == before


def test_a_log_behind_a_link_stays_there_with_its_mode(path, tmp_path):
    real = tmp_path / "elsewhere.csv"
    real.write_text("epoch,loss\n")
    real.chmod(0o600)
    path.symlink_to(real)
    fit(make_trainer(), CSVLogger(path, append=True))
    assert path.is_symlink()
    assert (len(rows_of(real)), real.stat().st_mode & 0o777) == (1, 0o600)


def test_lines_behind_the_checkpoint_go(path, tmp_path):
    saved = tmp_path / "saved"
    fit(make_trainer(), CSVLogger(path), Checkpoint(saved, keep=None), epochs=3)
    before = path.read_text().splitlines()
    first = sorted(saved.glob("checkpoint-*"))[0]
    fit(make_trainer(), CSVLogger(path), epochs=1, resume=first)
    assert path.read_text().splitlines() == before[:2]
    path.unlink()
    fit(make_trainer(), CSVLogger(path), epochs=1, resume=first)
    assert path.read_text().splitlines() == before[:2]


def test_a_second_fit_goes_on_behind_the_first(path):
    trainer, logger = make_trainer(), CSVLogger(path)
    for _ in range(2):
        fit(trainer, logger, epochs=2)
    rows = rows_of(path)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)
    fit(make_trainer(), logger)  # another training, which begins anew
    assert [row["epoch"] for row in rows_of(path)] == ["1"]
