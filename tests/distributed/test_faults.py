"""What ends one process ends all of them, soon, and is told; any number of processes goes on."""

import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.backends.process import PYTHON_PATH
from tests.distributed.faulty_run import AT, trained
from tests.distributed.threads import together
from xpnn import Communicator
from xpnn.distributed.faults import timeout_of
from xpnn.distributed.verdicts import GONE, SILENCE, Row, judged

PROGRAM = Path(__file__).with_name("faulty_run.py")
MPIRUN = Path(sys.executable).with_name("mpirun")
SOON = 10.0  # seconds

has_mpi = find_spec("mpi4py") is not None and MPIRUN.exists()
needs_mpi = pytest.mark.skipif(
    not has_mpi, reason="mpi4py, or mpirun beside this Python, is not installed"
)
ENGINES = [
    pytest.param("mpi", marks=needs_mpi),
    pytest.param("torch", marks=pytest.mark.needs("torch")),
]
by_one_engine = pytest.mark.parametrize("engine", ENGINES[:1] if has_mpi else ENGINES)


@pytest.fixture
def started(tmp_path):
    """``started(fault, count)``: the run by ``xpnn launch``, of which none is left in the end."""
    found = []

    def start(fault, count=2, engine="mpi", **environment):
        command = ["launch", "-n", str(count), "--engine", engine, PROGRAM, tmp_path, fault, engine]
        process = subprocess.Popen(
            [sys.executable, "-m", "xpnn", *map(str, command)],
            env={**os.environ, "PYTHONPATH": PYTHON_PATH, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        found.append(process)
        return process

    yield start
    for process in found:
        process.kill()
        process.communicate()


def ids_in(folder):
    return [int(one.read_text()) for one in folder.glob("*.pid")]


def assert_none_is_left(folder):
    """All processes have ended, within moments."""
    ids, deadline = ids_in(folder), time.monotonic() + SOON
    assert ids
    while left := [one for one in ids if Path(f"/proc/{one}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def ended(process, folder):
    """What it said in the end, its status, and how long after the fault it ended."""
    _, errors = process.communicate(timeout=120)
    when = folder / "when"
    seconds = time.time() - float(when.read_text()) if when.exists() else 0.0
    assert_none_is_left(folder)
    return errors, process.returncode, seconds


def wanted_losses(folder):
    """Of a run of one process that nothing happened to."""
    (folder / "alone").mkdir()
    return trained(folder / "alone", "none", None)["loss"]


@pytest.mark.parametrize("engine", ENGINES)
def test_one_is_killed_and_another_number_of_processes_goes_on(started, tmp_path, engine):
    errors, status, seconds = ended(started("kill", 3 if engine == "mpi" else 2, engine), tmp_path)
    assert status == 128 + signal.SIGKILL
    assert seconds < SOON
    assert "process 1 was ended by SIGKILL" in errors.splitlines()[-1]
    names = sorted(one.name for one in (tmp_path / "runs").iterdir())
    assert AT == 8
    assert names[-1] == "checkpoint-000000006.safetensors"
    wanted = wanted_losses(tmp_path)
    for losses in together(2, lambda one: trained(tmp_path, "none", one)["loss"]):
        assert losses == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_traceback_of_one_that_raises_comes_last(started, tmp_path, engine):
    errors, status, seconds = ended(started("raise", engine=engine), tmp_path)
    assert status == 1
    assert seconds < SOON
    lines = errors.splitlines()
    last = lines[lines.index("xpnn: process 1 has failed, with exit status 1:") :]
    assert last[1].removeprefix("[rank1]: ") == "Traceback (most recent call last):"
    assert last[-1].removeprefix("[rank1]: ") == "ZeroDivisionError: it had to be"
    assert f"[1] {last[-1]}" in lines


@by_one_engine  # the watch is the same
def test_the_one_that_is_late_is_named_with_the_line_it_is_at(started, tmp_path, engine):
    errors, status, seconds = ended(started("sleep", engine=engine, XPNN_TIMEOUT="2"), tmp_path)
    assert status == 1
    assert seconds < 2 + SOON
    assert "xpnn: process 1 is late: process 0 has waited for 2 s" in errors
    assert "[1]     time.sleep(600)" in errors


@needs_mpi
def test_one_that_leaves_is_not_waited_for(started, tmp_path):
    errors, status, seconds = ended(started("leave"), tmp_path)
    assert status
    assert seconds < SOON
    assert "process 1 has ended its program, and process 0 has waited for more of it" in errors
    assert re.search("of it at a (training step|pause between two steps); let all call", errors)


@by_one_engine  # what is compared is the same
def test_what_one_has_changed_within_an_epoch_is_told(started, tmp_path, engine):
    """By MPI, which gives it an array of another length, or by the watch, where both wait."""
    errors, status, seconds = ended(started("freeze", engine=engine), tmp_path)
    assert status
    assert seconds < SOON
    assert "process 0 at a training step" in errors or "got what belongs to another" in errors
    where = "at a step with other settings than before, in: layers.1 Dense.trainable (True, False)"
    assert where in errors


@needs_mpi
def test_after_ctrl_c_all_have_saved_the_same_step(started, tmp_path):
    process = started("slow")
    steps, deadline = tmp_path / "steps", time.monotonic() + 60
    while not (steps.exists() and steps.read_text() not in ("", "0", "1", "2", "3")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    errors, status, _ = ended(process, tmp_path)
    assert status == 130
    for rank in (0, 1):
        assert errors.count(f"[{rank}] KeyboardInterrupt") == 1
    assert errors.count("training was interrupted") == 1
    saved = int(max(one.stem for one in (tmp_path / "runs").glob("checkpoint-*"))[-9:])
    assert saved == int(steps.read_text()) < 20
    losses = trained(tmp_path, "none", None)["loss"]
    assert losses == pytest.approx(wanted_losses(tmp_path), rel=1e-6)


@needs_mpi
@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells of a parent's end")
def test_no_process_outlives_the_command(started, tmp_path):
    process = started("sleep")
    deadline = time.monotonic() + 60
    while not (tmp_path / "when").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert_none_is_left(tmp_path)


@needs_mpi
def test_mpirun_alone_ends_all_too(tmp_path):
    environment = {
        name: "1" for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")
    }
    options = "-n", "2", "--oversubscribe", "--bind-to", "none"
    done = subprocess.run(
        [MPIRUN, *options, sys.executable, PROGRAM, tmp_path, "raise", "mpi"],
        env={**os.environ, "PYTHONPATH": PYTHON_PATH, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode
    assert time.time() - float((tmp_path / "when").read_text()) < SOON
    assert "ZeroDivisionError: it had to be" in done.stderr
    assert_none_is_left(tmp_path)


# Verdicts -----------------------------------------------------------------------------------------


def test_who_is_late_is_who_has_begun_less():
    waiting = [Row(0, begun=9, waited=31.0), Row(2, begun=9, waited=12.0)]
    late = [Row(1, begun=8), Row(3, begun=7)]
    found = judged([waiting[0], late[0], waiting[1], late[1]], 30.0)
    assert found.late == [1, 3]
    assert "processes 1 and 3 are late: processes 0 and 2 have waited for 30 s" in found.text
    assert judged([waiting[0], *late, waiting[1]], 32.0) is None
    assert "does not come back" in judged(waiting, 30.0).text


def test_who_waits_at_different_places_is_told_before_the_time_out():
    rows = [Row(0, 9, GONE + 1, place="Trainer.evaluate"), Row(1, 9, GONE - 1)]
    assert judged(rows, 600.0) is None
    rows[1].heard(9, GONE + 1)
    found = judged(rows, 600.0)
    assert found.asked == [0, 1]
    assert "got process 0 at Trainer.evaluate, process 1 at a training step;" in found.text
    rows[1].heard(9, GONE + 1, "Trainer.evaluate")
    assert judged(rows, 600.0) is None


def test_one_that_is_silent_is_named():
    silent = Row(1, begun=9)
    silent.when -= SILENCE + 1
    found = judged([Row(0, begun=9, waited=31.0), silent], 30.0)
    assert found.late == [1]
    assert "process 1 cannot be reached" in found.text


def test_one_that_has_died_ends_all_and_one_that_has_left_where_it_is_waited_for():
    here, left = Row(0, begun=9, waited=1.0), Row(1, is_gone=True, has_left=True)
    assert "process 1 has ended" in judged([here, Row(1, is_gone=True)], 600.0).text
    assert judged([here, left], 600.0) is None
    here.heard(9, 4.0)
    assert "has ended its program" in judged([here, left], 600.0).text


def test_how_long_one_waits_is_told_by_the_communicator_or_the_environment(monkeypatch):
    communicator = Communicator(0, 2)
    monkeypatch.delenv("XPNN_TIMEOUT", raising=False)
    assert timeout_of(communicator) is None
    communicator.timeout = 5.0
    assert timeout_of(communicator) == 5.0
    for text, wanted in {"90": 90.0, "0": None}.items():
        monkeypatch.setenv("XPNN_TIMEOUT", text)
        assert timeout_of(communicator) == wanted
    for text in ("-1", "nan", "soon"):
        monkeypatch.setenv("XPNN_TIMEOUT", text)
        with pytest.raises(ValueError, match=f"got '{text}'"):
            timeout_of(communicator)
