"""A table of sales, and a network that was trained on it once for all tests."""

import csv

import numpy as np
import pytest

from xpnn.cli import main

NAMES = ("id", "price", "color", "day", "sold", "amount")


def rows(count=600, seed=0):
    """Rows of which a network can tell most: cheap red things are sold."""
    rng = np.random.default_rng(seed)
    price, red = rng.uniform(1, 9, count), rng.random(count) < 0.4
    score = 5 - price + 2 * red
    days = np.datetime_as_string(np.datetime64("2024-01-01") + rng.integers(0, 700, count))
    for k in range(count):
        yield [
            k,
            "" if k % 50 == 7 else f"{price[k]:.3f}",
            "red" if red[k] else rng.choice(["blue", "green"]),
            days[k],
            "yes" if score[k] > 0 else "no",
            f"{10 + 3 * score[k]:.3f}",
        ]


def write(path, count=600, seed=0):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(NAMES)
        writer.writerows(rows(count, seed))
    return path


@pytest.fixture(scope="session")
def table(tmp_path_factory):
    pytest.importorskip("pyarrow", reason="CSV files are read by pyarrow")
    return write(tmp_path_factory.mktemp("tables") / "sales.csv")


@pytest.fixture(scope="session")
def run(table, tmp_path_factory):
    """The folder of a training that tells what is sold."""
    out = tmp_path_factory.mktemp("run")
    arguments = ["--target", "sold", "--drop", "id,amount", "--layers", "16", "--rate", "0.01"]
    assert (
        main(["train", str(table), *arguments, "--epochs", "8", "--quiet", "--out", str(out)]) == 0
    )
    return out
