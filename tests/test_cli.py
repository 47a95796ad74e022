"""The command line, as a person types it."""

import csv
import re

import pytest

from xpnn.backends import BACKENDS
from xpnn.cli import main
from xpnn.commands import doctor
from xpnn.commands.doctor import examine


def test_train_writes_results_and_ends_with_the_accuracy(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="the picture of the curves needs matplotlib")
    assert main(["train", "--epochs", "3", "--out", str(tmp_path / "run"), "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "labels smoothed by 0.1" in shown
    last = shown.splitlines()[-1]
    found = re.fullmatch(r"test accuracy (0\.\d{4})", last)
    assert found
    assert float(found[1]) > 0.9
    rows = list(csv.DictReader((tmp_path / "run" / "history.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[-1]["val_accuracy"]) == pytest.approx(float(found[1]), abs=1e-4)
    parameters = 64 * 256 + 256 + 256 * 10 + 10
    assert (tmp_path / "run" / "weights.safetensors").stat().st_size > 4 * parameters
    assert (tmp_path / "run" / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_train_on_each_backend(backend, tmp_path, capsys):
    arguments = ["train", "--epochs", "2", "--quiet", "--out", str(tmp_path)]
    assert main([*arguments, "--backend", backend.spec]) == 0
    assert float(capsys.readouterr().out.split()[-1]) > 0.85


def test_a_backend_that_does_not_work_is_explained_and_fails(tmp_path, capsys):
    kept = tmp_path / "checkpoints" / "checkpoint-000000042.safetensors"  # of an earlier run
    kept.parent.mkdir()
    kept.write_bytes(b"of an earlier run")
    assert main(["train", "--backend", "numpi", "--out", str(tmp_path)]) == 1
    assert (
        "there is no backend 'numpi', did you mean 'numpy'? Choose one of 'numpy'"
        in capsys.readouterr().err
    )
    assert list(tmp_path.iterdir()) == [kept.parent]
    assert kept.exists()


@pytest.mark.by_what_is_installed
def test_doctor_reports_on_every_library(capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    engines = ["mpi", "nccl", "torch.distributed"]
    assert [line.split()[0] for line in lines] == [*BACKENDS, *engines]
    assert re.match(r"numpy +works: numpy \d.* devices: cpu; first kernel after", lines[0])
    for line in lines:
        assert re.search(r"works: |not installed; type: pip install|does not work: .*", line)


def test_doctor_names_a_wrong_result(monkeypatch):
    from xpnn.backends.numpy.backend import NumpyBackend

    monkeypatch.setattr(NumpyBackend, "to_numpy", lambda self, array: array * 0)
    assert examine("numpy").startswith("WRONG RESULT: 2 x + 1 gave [0.0, 0.0, 0.0, 0.0]")


def test_doctor_survives_a_library_that_breaks(monkeypatch):
    from xpnn.backends.numpy.backend import NumpyBackend

    def broken(self, array):
        raise ImportError("libexample.so.9: cannot open shared object file")

    monkeypatch.setattr(NumpyBackend, "to_numpy", broken)
    assert examine("numpy") == ("does not work: libexample.so.9: cannot open shared object file")


@pytest.mark.parametrize(
    ("package", "program", "found"),
    [
        ("json", "print('Some MPI v5')", "works: Some MPI v5"),
        ("no_such_package", "", "not installed; type: pip install it"),
        ("json", "raise OSError('no libmpi')", "does not work: OSError: no libmpi; type: pip"),
        ("json", "import os; os.abort()", "does not work: it says nothing; type: pip install it"),
        ("json", "print()", "does not work: it says nothing; type: pip install it"),
        ("json", "import time; time.sleep(9)", "does not work: it was not loaded in 2 seconds"),
    ],
)
def test_doctor_loads_an_engine_in_a_process_of_its_own(package, program, found, monkeypatch):
    monkeypatch.setattr(doctor, "SECONDS", 2)
    engine = doctor.Engine("mpi", package, program, "pip install it")
    assert doctor.examine_engine(engine).startswith(found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "xpnn: the following arguments are required: COMMAND"),
        (["trian"], "there is no 'trian', did you mean 'train'? There are train, evaluate"),
        (["train", "--epochs", "0"], "xpnn train: argument --epochs: wanted a whole number"),
        (["train", "--epochs", "x"], "at least 1, got 'x'; xpnn train --help lists what there is"),
        (["train", "--epoch-number=3"], "there is no option --epoch-number, did you mean --epochs"),
        (["xray", "--zzz"], "xpnn xray: there is no option --zzz; xpnn xray --help lists"),
        (["doctor", "torch"], "xpnn doctor: there is no use for 'torch'"),
    ],
)
def test_wrong_usage_is_told_in_one_line_and_exits_with_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize(
    "arguments",
    [["predict", "no.safetensors", "no.csv"], ["inspect", "no"], ["train", "--config", "no.toml"]],
)
def test_a_file_that_is_not_there_is_told_with_what_to_do(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "No such file or directory: check the path: 'no" in line


def test_options_of_a_table_are_refused_without_one(capsys):
    assert main(["train", "--target", "y", "--layers", "8", "--drop", "a", "--seed", "3"]) == 2
    told = capsys.readouterr().err
    assert "no use for --target, --layers, --drop without a table; name one" in told
    assert told.count("\n") == 1
