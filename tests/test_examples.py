"""Every example runs to its end, with small sizes, and prints its result."""

import gzip
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = {  # its arguments, where {mnist} is a folder of small files, and what it prints
    "01_nand_gate.py": ("--steps 300", r"4 of 4 right after 300 steps"),
    "02_mnist.py": ("--data {mnist} --epochs 8", r"test accuracy 1\.0000"),
    "03_nielsen.py": ("--data {mnist} --epochs 1", r"test accuracy 0\.\d{4}"),
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


def run_example(name, arguments, folder):
    """What an example prints when it runs in ``folder``; warnings are errors in it."""
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


@pytest.mark.parametrize("name", sorted(path.name for path in ROOT.glob("examples/*.py")))
def test_example_runs(name, mnist, tmp_path):
    assert name in EXAMPLES, f"give {name} its arguments, a line of EXAMPLES in {__file__}"
    arguments, result = EXAMPLES[name]
    filled_in = [one.format(mnist=mnist) for one in arguments.split()]
    assert re.search(result, run_example(name, filled_in, tmp_path))


def test_every_line_of_the_table_has_its_example():
    assert {path.name for path in ROOT.glob("examples/*.py")} == set(EXAMPLES)


def test_the_nand_gate_on_each_backend(backend, tmp_path):
    arguments = ["--steps", "300", "--backend", backend.spec]
    assert "4 of 4 right" in run_example("01_nand_gate.py", arguments, tmp_path)
