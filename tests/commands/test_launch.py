"""``xpnn launch`` without any engine: programs, what they write, how they end."""

import argparse
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.backends.process import PYTHON_PATH
from xpnn.cli import main
from xpnn.commands.launch import Output, Screen, _environment

pytestmark = pytest.mark.skipif(os.name != "posix", reason="xpnn launch is for Linux and macOS")


@pytest.fixture
def program(tmp_path):
    """Writes a program, whose name has a blank in it."""

    def write(text, name="a program.py"):
        path = tmp_path / name
        path.write_text("import atexit, os, signal, sys, time\n" + textwrap.dedent(text))
        return str(path)

    return write


def launch(*words, count=2, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "xpnn", "launch", "-n", str(count), "--engine", "torch", *words],
        env={**os.environ, "PYTHONPATH": PYTHON_PATH, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_each_is_told_what_it_is_and_all_that_the_program_is_to_be_told(program):
    names = "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "XPNN_TIMEOUT"
    path = program(f"print([os.environ[name] for name in {names}], sys.argv[1:], 7)")
    words = ["--timeout", "9", path, "a b", "-n", "7", "--", "--engine"]
    written, errors = launch(*words).communicate(timeout=60)
    assert not errors
    told = "['a b', '-n', '7', '--', '--engine'] 7"
    assert sorted(written.splitlines()) == [
        f"[{rank}] ['{rank}', '2', '{rank}', '2', '127.0.0.1', '9.0'] {told}" for rank in (0, 1)
    ]


def test_modules_are_run_and_one_alone_is_heard(program):
    path = Path(program("print('heard', __name__, *sys.argv[1:])", name="a_module.py"))
    environment = {"PYTHONPATH": f"{path.parent}{os.pathsep}{PYTHON_PATH}"}
    words = ["--quiet", "-m", "a_module", "x"]
    assert launch(*words, **environment).communicate(timeout=60)[0] == "[0] heard __main__ x\n"


def test_the_first_that_fails_ends_all(program):
    path = program(
        """
        if os.environ["RANK"] == "1":
            print("half a line", end="")
            try:
                1 / 0
            except ZeroDivisionError as error:
                raise ValueError("of one") from error
        time.sleep(60)
        """
    )
    start = time.monotonic()
    process = launch(path, count=3)
    written, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert time.monotonic() - start < 30
    assert written == "[1] half a line\n"
    last = errors.split("xpnn: process 1 has failed, with exit status 1:\n")[1]
    assert last.startswith("Traceback (most recent call last):\n")
    assert last.count("Traceback") == 2
    assert last.endswith("ValueError: of one\n")


def test_the_first_that_raises_may_be_the_last_to_end(program):
    """Another that loses its connection to it may have ended before it is through with its own."""
    path = program(
        """
        if os.environ["RANK"] == "1":
            atexit.register(time.sleep, 60)
            raise ValueError("of one")
        time.sleep(1)
        raise ConnectionError("of the other, as the first has gone")
        """
    )
    process = launch(path)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    last = errors.split("xpnn: process 1 has failed, with exit status 1:\n")[1]
    assert last.endswith("ValueError: of one\n")


def test_the_status_of_the_first_that_fails_is_that_of_the_command(program):
    path = program("time.sleep(60 * (os.environ['RANK'] == '0')); sys.exit(7)")
    process = launch(path)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 7
    assert errors == "xpnn: process 1 has failed, with exit status 7\n"


@pytest.mark.parametrize("stubborn", [False, True])
def test_ctrl_c_reaches_each_once_and_a_second_one_kills(program, stubborn):
    path = program(
        """
        print("here", flush=True)
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        if "stubborn" in sys.argv:
            time.sleep(60)
        """
    )
    process = launch(path, *(["stubborn"] if stubborn else []))
    lines = [process.stdout.readline() for _ in range(2)]
    assert sorted(lines) == ["[0] here\n", "[1] here\n"]
    process.send_signal(signal.SIGINT)
    lines = [process.stdout.readline() for _ in range(2)]
    assert sorted(lines) == ["[0] interrupted\n", "[1] interrupted\n"]
    if stubborn:
        process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[0] == ""
    assert process.returncode == 130


def test_what_makes_no_sense_is_said(capsys, tmp_path):
    for words, told in {
        ("-n", "2"): "wanted a program to start",
        ("-n", "2", str(tmp_path / "none.py")): "there is no file",
    }.items():
        assert main(["launch", *words]) == 2
        assert told in capsys.readouterr().err


def test_cores_are_shared_out_unless_somebody_has(monkeypatch):
    monkeypatch.setattr("xpnn.commands.launch._cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    options = argparse.Namespace(processes=3, timeout=None)
    assert _environment(options)["OMP_NUM_THREADS"] == "2"
    options.processes = 20
    assert _environment(options)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert _environment(options)["OMP_NUM_THREADS"] == "5"


def test_the_last_traceback_is_taken_with_what_it_was_raised_from(tmp_path):
    first = "Traceback (most recent call last):\n  logged\nKeyError: told and borne\n"
    chained = (
        "Traceback (most recent call last):\n  a\nKeyError: 1\n\n"
        "The above exception was the direct cause of the following exception:\n\n"
        "Traceback (most recent call last):\n  b\nValueError: 2\n"
    )
    for name, text in {"err": f"{first}then\n{chained}", "out": ""}.items():
        (tmp_path / name).write_text(text)
    output = Output(0, Screen(quiet=False), lambda name: (tmp_path / name).open("rb"))
    while output.ended is None:
        time.sleep(0.01)
    assert output.traceback.decode() == chained
