"""The commands that look at files and at the machine, and completion."""

import json
import os
import shutil
import subprocess

import numpy as np
import pytest

import xpnn
from tests.conftest import SPECS
from xpnn.cli import main, parsers
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

COMPLETED = {
    "ex": "export",
    "--ve": "--version",
    "train --lay": "--layers",
    "train --task c": "classes",
    "completion z": "zsh",
    "train tab": "table.csv",
    "train --config two": "two words.csv",
    "predict table.csv tab": "table.csv",
    "predict net table.csv -o tab": "table.csv",
    "train --task tab": None,  # files are offered only where one may stand
    "train --epochs tab": None,
    "completion tab": None,
    "doctor tab": None,
}
"""What is written behind ``xpnn``, and the one word that its last becomes; None if it stays."""

OFFERED = """
source ./script
COMP_WORDS=(xpnn "$@") COMP_CWORD=$#
_xpnn
for one in "${COMPREPLY[@]}"; do echo "$one"; done
"""

ZSHRC = """
eval "$(cat script)"
answered() { print -r -- "${(Q)${(z)BUFFER}[-1]}" >> answers; BUFFER= }
zle -N answered
bindkey '^A' answered
leave() { exit }
zle -N leave
bindkey '^B' leave
"""

TYPED = """
zmodload zsh/zpty
zpty shell zsh --interactive
for one in "$@"; do zpty -w -n shell "xpnn $one"$'\t\x01'; done
zpty -w -n shell $'\x02'
while zpty -r shell shown; do; done
"""


def run(shell, script, *arguments, folder):
    name = [] if shell == "fish" else [shell]
    command = [shell, "-c", script, *name, *arguments]
    environment = {**os.environ, "HOME": str(folder), "ZDOTDIR": str(folder), "TERM": "dumb"}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, timeout=120
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def in_bash(lines, folder):
    """What bash offers for the last word of each line."""
    return [run("bash", OFFERED, *line.split(), folder=folder) for line in lines]


def in_zsh(lines, folder):
    """What the last word of each line is once Tab was pressed behind it."""
    (folder / ".zshrc").write_text(ZSHRC)
    run("zsh", TYPED, *lines, folder=folder)
    words = (folder / "answers").read_text().splitlines()
    return [
        [] if word == line.split()[-1] else [word] for word, line in zip(words, lines, strict=True)
    ]


def in_fish(lines, folder):
    """What fish offers for the last word of each line, without what it says of it."""
    script = "source script; complete -C $argv"
    return [
        [one.partition("\t")[0] for one in run("fish", script, f"xpnn {line}", folder=folder)]
        for line in lines
    ]


@pytest.fixture(params=["bash", "zsh", "fish"])
def shell(request):
    if shutil.which(request.param) is None:
        pytest.skip(f"there is no {request.param} here")
    return request.param


def test_completion(shell, tmp_path, capsys):
    assert main(["completion", shell]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    for name in ("table.csv", "two words.csv"):
        (tmp_path / name).write_text("")
    offered = {"bash": in_bash, "zsh": in_zsh, "fish": in_fish}[shell]([*COMPLETED], tmp_path)
    wanted = [[] if one is None else [one] for one in COMPLETED.values()]
    assert dict(zip(COMPLETED, offered, strict=True)) == dict(zip(COMPLETED, wanted, strict=True))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_names_all_options(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    parser, commands = parsers()
    for name, one in {"": parser, **commands}.items():
        assert name in script
        for action in one._actions:
            for option in action.option_strings[-1:]:
                assert (f"-l {option[2:]}" if shell == "fish" else option) in script
