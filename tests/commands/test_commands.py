"""The commands that look at files and at the machine, and completion."""

import json
import shutil
import subprocess

import numpy as np
import pytest

import xpnn
from tests.conftest import SPECS
from xpnn.cli import HELP, main, parsers
from xpnn.saving import save_folder


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"xpnn {xpnn.__version__}\n"


def network():
    return xpnn.Network([xpnn.Dense(4), xpnn.ReLU(), xpnn.Dense(2)], (3,))


def test_inspect_a_network(tmp_path, capsys):
    one = network()
    one.attachments["note"] = "of a test"
    one.save(tmp_path / "net.safetensors")
    assert main(["inspect", str(tmp_path / "net.safetensors")]) == 0
    shown = capsys.readouterr().out
    assert (
        "format xpnn-model, version 2\nits checksum is right\nattachment note: 'of a test'\n"
        in shown
    )
    assert str(one.summary()) in shown
    save_folder(one, tmp_path / "folder")
    assert main(["inspect", str(tmp_path / "folder"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["numbers"] == 3 * 4 + 4 + 4 * 2 + 2
    assert found["arrays"]["0.dense.weight"] == {"dtype": "float32", "shape": [3, 4]}
    assert found["layers"][1] == ["1.relu", "ReLU()"]


def test_inspect_a_checkpoint(tmp_path, capsys):
    trainer = xpnn.Trainer(network(), "cross_entropy", "adam")
    trainer.fit(np.ones((8, 3)), np.arange(8) % 2, epochs=3, batch_size=4, progress=False)
    trainer.save(tmp_path / "run.safetensors")
    assert main(["inspect", str(tmp_path / "run.safetensors"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["training"]["epochs"], found["training"]["steps"]) == (3, 6)
    assert "optimizer.m.0.dense.weight" in found["arrays"]
    assert main(["inspect", str(tmp_path / "run.safetensors")]) == 0
    assert "epochs: 3\nsteps: 6\n" in capsys.readouterr().out


def test_inspect_what_is_damaged(tmp_path, capsys):
    network().save(tmp_path / "net.safetensors")
    content = bytearray((tmp_path / "net.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "net.safetensors").write_bytes(content)
    assert main(["inspect", str(tmp_path / "net.safetensors")]) == 1
    assert "is damaged" in capsys.readouterr().err


def test_export_wants_the_name_of_a_file(tmp_path, capsys):
    network().save(tmp_path / "net.safetensors")
    assert main(["export", str(tmp_path / "net.safetensors"), "net.txt"]) == 2
    assert "ends in .onnx" in capsys.readouterr().err


def test_doctor_for_programs(monkeypatch, capsys):
    monkeypatch.setattr("xpnn.commands.doctor.BACKENDS", {"numpy": "", "array-api-strict": ""})
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["numpy"]["works"]


def test_bench(capsys):
    arguments = ["--backends", "numpy,array-api-strict", "--steps", "2", "--layers", "8"]
    assert main(["bench", *arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["backends"]
    assert [*found] == ["numpy", "array-api-strict"]
    for one in found.values():
        assert one["samples_per_second"] == pytest.approx(128 / one["median_ms"] * 1e3)
        assert 0 < one["fastest_ms"] <= one["median_ms"]
    assert main(["bench", *arguments]) == 0
    assert "median ms" in capsys.readouterr().out


def test_backends_agree(capsys):
    asked = ["numpy", *(spec for spec in SPECS if spec != "numpy")]
    arguments = ["parity", "--epochs", "1", "--backends", ",".join(asked)]
    if len(asked) < 2:
        pytest.skip("XPNN_TEST_BACKENDS asks for NumPy alone")
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "they agree" in shown
    for spec in asked:
        assert spec in shown


def test_a_backend_that_differs_fails(monkeypatch, capsys):
    from xpnn.backends.strict.backend import StrictBackend

    monkeypatch.setattr(
        StrictBackend, "from_numpy", lambda self, array, given=StrictBackend.from_numpy: (
            given(self, array * 1.5 if array.dtype == np.float32 else array)
        ),
    )  # fmt: skip
    arguments = ["parity", "--epochs", "1", "--backends", "numpy,array-api-strict"]
    assert main([*arguments, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["agree"]
    assert found["largest_difference"]["array-api-strict"] > 1e-3
    assert main(["parity", "--backends", "numpy"]) == 2


# Completion ---------------------------------------------------------------------------------------


def completed(*words):
    """What bash offers for the last of the words."""
    place = len(words)
    quoted = " ".join(f"'{word}'" for word in words)
    return (
        f'source "$1"; COMP_WORDS=(xpnn {quoted}); COMP_CWORD={place}; _xpnn; '
        f'printf "%s\\n" "${{COMPREPLY[@]}}"'
    )


def in_bash(script, path):
    done = subprocess.run(["bash", "-c", script, "bash", path], capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_completion_in_bash(tmp_path, capsys):
    assert main(["completion", "bash"]) == 0
    path = tmp_path / "completion"
    path.write_text(capsys.readouterr().out)
    (tmp_path / "table.csv").write_text("")
    assert in_bash(completed("ex"), path) == ["export"]
    assert {*HELP} <= {*in_bash(completed(""), path)}
    assert in_bash(completed("train", "--lay"), path) == ["--layers"]
    assert in_bash(completed("train", "--task", ""), path) == ["auto", "classes", "numbers"]
    assert in_bash(completed("completion", "z"), path) == ["zsh"]
    assert in_bash(completed("train", f"{tmp_path}/ta"), path) == [f"{tmp_path}/table.csv"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_names_all_options(shell, tmp_path, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for name, parser in parsers()[1].items():
        assert name in script
        for action in parser._actions:
            for option in action.option_strings[-1:]:
                assert (option if shell == "zsh" else f"-l {option[2:]}") in script
    if shutil.which(shell):
        (tmp_path / "script").write_text(script)
        subprocess.run([shell, "-n", tmp_path / "script"], check=True)
