"""Every example runs to its end, with small sizes, and prints its result."""

import gzip
import os
import re
import runpy
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
SAME = r"differ by at most (0\.0e\+00|\S+e-(0[5-9]|1\d))"  # of a curve on two backends
EXAMPLES = {  # its arguments, where {mnist} is a folder of small files, and what it prints
    "01_nand_gate.py": ("--steps 300", r"4 of 4 right after 300 steps"),
    "02_mnist.py": ("--data {mnist} --epochs 8", r"test accuracy 1\.0000"),
    "03_nielsen.py": ("--data {mnist} --epochs 1", r"test accuracy 0\.\d{4}"),
    "autoencoder.py": ("--epochs 20", r"network 0\.01\d+, PCA 0\.0249\d"),
    "char_lm.py": (
        "--data text.txt --context 16 --width 32 --blocks 1 --epochs 10 --batch 8 --sample 80"
        " --dropout 0 --rate 5e-3 --temperature 0.5",
        r"(?s)validation loss 0\.[01]\d+ nats.*five dozen liquor",
    ),
    "dataframe.py": (
        "--epochs 8",
        r"(?s)shop: embedded.*a new one.*R2 on the last days 0\.[89]\d+ of 0\.9\d+, by numbers"
        r" alone 0\.[0-3]\d+",
    ),
    "decision_boundary.py": ("--epochs 50", r"test accuracy (0\.99\d\d|1\.0000)"),
    "entity_embeddings.py": (
        "--epochs 6",
        r"R2 on new days 0\.9\d+ with embeddings, 0\.[0-3]\d+ with ids as numbers",
    ),
    "gan.py": (
        "--steps 40 --batch 32 --backends numpy array-api-strict",
        rf"(?s)of 8 places found.*losses {SAME}",
    ),
    "mnist_cnn.py": ("--data {mnist} --epochs 8", r"test accuracy 1\.0000 after \d+ s"),
    "onnx_writer.py": (
        "--data text.txt --context 32 --width 32 --epochs 20",
        r"(?s)onnxruntime writes:.*with five dozen.*the same as generate",
    ),
    "own_layer.py": (
        "--epochs 20 --backends numpy array-api-strict",
        r"(?s)gradients are right.*gradients are right.*differ by at most (0\.0e\+00|\S+e-0[5-9])",
    ),
    "reinforce.py": (
        "--updates 12 --backends numpy array-api-strict",
        rf"(?s)stood for 30 steps at first, [4-9]\d at the end.*updates {SAME}",
    ),
    "same_digit.py": ("--epochs 3", r"accuracy on pairs of new pictures 0\.[89]\d+"),
    "search_a_table.py": (
        "--rows 900 --epochs 15 --jobs 1",
        r"(?s)best of 4: .*test accuracy 0\.[78]\d+ with a network, 0\.[56]\d+ with a line",
    ),
    "siamese.py": (
        "--epochs 3 --backends numpy array-api-strict",
        rf"(?s)in 3 numbers 0\.[789]\d\d.*of PCA 0\.730.*losses {SAME}",
    ),
    "sequence_lstm.py": (
        "--longest 8 --samples 1500 --epochs 6",
        r"test accuracy (1\.0000|0\.99\d\d) with an LSTM, 0\.[45]\d+ without order",
    ),
    "two_heads.py": (
        "--epochs 8",
        r"(?s)digit from 1\.dense; ink from 2\.dense.*test accuracy 0\.9\d+, R2 of ink 0\.9\d+",
    ),
    "unet.py": ("--pictures 96 --epochs 3", r"overlap on new pictures 0\.\d+"),
    "vae.py": (
        "--epochs 3 --backends numpy array-api-strict",
        rf"(?s)error on new digits 0\.0[34]\d\d.*mean digit 0\.0735.*\*\*.*curves {SAME}",
    ),
    "watched_runs.py": (
        "--rates 3e-3 0.3 --epochs 4",
        r"rate 0\.003: .*digits, accuracy 0\.9\d+\nrate 0\.3: .*digits, accuracy 0\.[0-3]\d+",
    ),
    "sort_sequences.py": (
        "--length 4 --samples 3000 --epochs 5",
        r"(1\.0000|0\.9[5-9]\d\d) of 1000 sorted without a mistake",
    ),
}
PICTURES = {"autoencoder.py": "autoencoder.png", "decision_boundary.py": "spirals.png"}
NEEDS = {
    **dict.fromkeys(PICTURES, ("matplotlib",)),
    "onnx_writer.py": ("onnx", "onnxruntime"),
    "dataframe.py": ("pandas",),
    "search_a_table.py": ("pandas", "sklearn"),
}


def write_idx(path, array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.astype("uint8").tobytes()))


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    """A folder like MNIST's, of few images: digit d is a bar in rows 2d and 2d + 1."""
    folder = tmp_path_factory.mktemp("mnist")
    for split, count in (("train", 640), ("t10k", 40)):
        labels = np.arange(count) % 10
        images = np.zeros((count, 28, 28))
        for row in (0, 1):
            images[np.arange(count), 2 * labels + row] = 255
        write_idx(folder / f"{split}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{split}-labels-idx1-ubyte.gz", labels)
    return folder


def run_script(name, arguments, folder):
    """What an example prints as a program in ``folder``; warnings are errors in it."""
    search = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    finished = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / name), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(search), "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture
def run_example(tmp_path, monkeypatch, capsys):
    """What an example prints in this process, in which all is imported already."""

    def run(name, *arguments):
        path = ROOT / "examples" / name
        monkeypatch.setattr(sys, "argv", [str(path), *arguments])
        runpy.run_path(str(path), run_name="__main__")
        return capsys.readouterr().out

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    return run


@pytest.mark.parametrize("name", sorted(path.name for path in ROOT.glob("examples/*.py")))
def test_example_runs(name, mnist, tmp_path, run_example):
    assert name in EXAMPLES, f"give {name} its arguments, a line of EXAMPLES in {__file__}"
    for library in NEEDS.get(name, ()):
        pytest.importorskip(library, reason=f"{name} needs it")
    arguments, result = EXAMPLES[name]
    (tmp_path / "text.txt").write_text("pack my box with five dozen liquor jugs\n" * 100)
    filled_in = [one.format(mnist=mnist) for one in arguments.split()]
    assert re.search(result, run_example(name, *filled_in))
    if name in PICTURES:
        assert (tmp_path / PICTURES[name]).read_bytes().startswith(b"\x89PNG")


def test_every_line_of_the_table_has_its_example():
    assert {path.name for path in ROOT.glob("examples/*.py")} == set(EXAMPLES)


def test_the_nand_gate_on_each_backend(backend, run_example):
    arguments = ["--steps", "300", "--backend", backend.spec]
    assert "4 of 4 right" in run_example("01_nand_gate.py", *arguments)


def test_an_example_is_a_program(tmp_path):
    assert "4 of 4 right" in run_script("01_nand_gate.py", ["--steps", "300"], tmp_path)
