"""A set of files ten times larger than the memory that training on it may take."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

SET, ALLOWED = 300, 30  # MB
SCRIPT = """
import json, sys
import numpy as np
from pathlib import Path
from xpnn import Adam, Dense, Network, ReLU, Trainer, mean_squared_error
from xpnn.data import NpzShards, Prefetch

FOLDER, SIZE = Path(sys.argv[1]), int(sys.argv[2])
FEATURES, ROWS = 1000, 1250  # of a shard, 5 MB of float32


def write(number):
    rng = np.random.default_rng(number)
    x = rng.random((ROWS, FEATURES), np.float32) - np.float32(0.5)
    y = x[:, :3] * [1, -2, 3]
    np.savez(FOLDER / f"{number:03}.npz", x=x, y=y.astype(np.float32))


def train(source, epochs=1):
    network = Network([Dense(8), ReLU(), Dense(3)], (FEATURES,), seed=1)
    history = Trainer(network, mean_squared_error, Adam(3e-3)).fit(
        source, epochs=epochs, progress=False
    )
    return history["loss"], network.numpy_arrays()


def memory(name):
    "Megabytes: VmRSS is what is taken now, VmHWM the most since the last reset."
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def peak_of(work):
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM to VmRSS
    result = work()
    return memory("VmHWM") - before, result


def files(count):
    return [FOLDER / f"{k:03}.npz" for k in range(count)]


def source(paths):
    return NpzShards(paths, batch_size=300, window=2500, seed=3)


def in_memory():
    "Every batch of the epoch at once."
    batches = list(source(files(count)))
    return train(batches)


write(0)
train(Prefetch(source(files(1))))  # what is imported and set aside once
count = SIZE * 10**6 // (FOLDER / "000.npz").stat().st_size + 1
for number in range(count):
    write(number)
size = sum(path.stat().st_size for path in files(count)) / 1e6
streamed_peak, (streamed_loss, streamed) = peak_of(lambda: train(Prefetch(source(files(count)))))
whole_peak, (whole_loss, whole) = peak_of(in_memory)
same = all(np.array_equal(array, whole[name]) for name, array in streamed.items())
print(json.dumps({
    "size": size, "streamed": streamed_peak, "whole": whole_peak,
    "same": same and streamed_loss == whole_loss, "loss": streamed_loss[-1],
}))
"""


def can_measure():
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return "VmHWM" in Path("/proc/self/status").read_text()


@pytest.mark.skipif(not can_measure(), reason="the peak of a process is read from Linux's /proc")
def test_training_from_files_takes_a_tenth_of_their_size(tmp_path):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(SET)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    finally:
        shutil.rmtree(tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["size"] > SET
    assert found["streamed"] < ALLOWED, found
    assert found["same"], found
    assert found["whole"] > SET * 0.9, found  # the measure does see what lies in memory
    assert found["loss"] < 0.3  # of zeros it is 0.39
