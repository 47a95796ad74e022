"""Shards: samples in files, in batches, in an order drawn from seed and epoch."""

import gc
import tracemalloc
from functools import cache
from itertools import chain

import numpy as np
import pytest

from xpnn.data import NpzShards, Shards
from xpnn.errors import DataError, FileError, ShapeError

LENGTHS = [7, 1, 12, 5, 8]
COUNT = sum(LENGTHS)


@pytest.fixture
def folder(tmp_path):
    """33 numbered samples in five files."""
    start = 0
    for k, rows in enumerate(LENGTHS):
        y = np.arange(start, start + rows)
        x = np.repeat(y[:, None], 3, axis=1).astype(np.uint8)
        save = np.savez if k % 2 else np.savez_compressed
        save(tmp_path / f"{k}.npz", x=x, y=y, w=y / 100)
        start += rows
    return tmp_path


class Blocks(Shards):
    """A format that does not know how many rows there are, three at a time."""

    read_from: list

    def read(self, shard):
        self.read_from = [*getattr(self, "read_from", []), shard.name]
        with np.load(shard) as arrays:
            x, y = arrays["x"], arrays["y"]
        for k in range(0, len(x), 3):
            yield x[k : k + 3], y[k : k + 3]


KINDS = [NpzShards, Blocks]


def numbers(batches):
    """The samples' numbers, which inputs and targets agree on."""
    found = []
    for x, y in batches:
        np.testing.assert_array_equal(x, np.repeat(y[:, None], 3, axis=1))
        found.append(y.tolist())
    return found


def flat(batches):
    return list(chain.from_iterable(numbers(batches)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 4, 33, 50])
def test_without_a_window_the_order_is_that_of_the_files(folder, kind, size):
    shards = kind(folder / "*.npz", batch_size=size)
    wanted = [list(range(k, min(k + size, COUNT))) for k in range(0, COUNT, size)]
    assert numbers(shards) == wanted
    assert numbers(shards.batches(epoch=3)) == wanted


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window", [1, 6, 20, 33, 10**9])
@pytest.mark.parametrize("size", [4, 10])
def test_each_epoch_has_every_sample_once_in_an_order_of_its_own(folder, kind, window, size):
    shards = kind(folder / "*.npz", batch_size=size, window=window, seed=5)
    orders = [flat(shards.batches(epoch)) for epoch in range(4)]
    assert all(sorted(order) == list(range(COUNT)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    again = kind(sorted(folder.glob("*.npz")), batch_size=size, window=window, seed=5)
    assert [flat(again.batches(epoch)) for epoch in range(4)] == orders
    other = kind(folder / "*.npz", batch_size=size, window=window, seed=6)
    assert flat(other) != orders[0]
    assert [len(batch) for batch in numbers(shards)[:-1]] == [size] * ((COUNT - 1) // size)


WRITTEN_DOWN = [
    [21, 24, 20, 4, 5, 22, 2, 9, 23, 6, 11, 1],
    [8, 3, 10, 0, 19, 17, 16, 30, 27, 18, 26, 31],
    [32, 14, 15, 28, 29, 25, 13, 12, 7],
]


def test_the_order_of_a_seed_stays_what_it_was(folder):
    shards = NpzShards(folder / "*.npz", batch_size=12, window=16)
    assert numbers(shards.batches(1)) == WRITTEN_DOWN


def test_a_window_mixes_the_shards_that_share_it_and_no_others(folder):
    shards = NpzShards(folder / "*.npz", window=10)
    alone = NpzShards(folder / "*.npz", window=1)
    for epoch in range(5):
        mixed, plain = flat(shards.batches(epoch)), flat(alone.batches(epoch))
        assert mixed != plain
        for k in range(0, COUNT, 10):
            assert sorted(mixed[k : k + 10]) == sorted(plain[k : k + 10])


def test_a_window_over_all_is_a_full_shuffle(folder):
    class InMemory(Shards):
        @staticmethod
        @cache
        def read_once(shard):
            with np.load(shard) as arrays:
                return [(arrays["x"], arrays["y"])]

        def read(self, shard):
            return self.read_once(shard)

    shards = InMemory(folder / "*.npz", window=COUNT)
    firsts = [flat(shards.batches(epoch))[0] for epoch in range(400)]
    counts = np.bincount(firsts, minlength=COUNT)
    assert counts.max() < 30  # 12 expected, with a deviation of 3.4
    assert np.count_nonzero(counts) == COUNT


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window", [None, 1, 6, 9, 100])
def test_an_epoch_may_start_at_any_batch(folder, kind, window):
    shards = kind(folder / "*.npz", batch_size=4, window=window)
    for epoch in range(3):
        whole = numbers(shards.batches(epoch))
        for start in range(len(whole) + 1):
            assert numbers(shards.batches(epoch, start)) == whole[start:]


def test_what_lies_before_the_start_is_not_read(folder):
    class Counted(Blocks):
        def rows(self, shard):
            return LENGTHS[int(shard.stem)]

    shards = Counted(folder / "*.npz", batch_size=4)
    assert flat(shards.batches(0, 5)) == list(range(20, COUNT))
    assert shards.read_from == ["3.npz", "4.npz"]
    shards = Counted(folder / "*.npz", batch_size=4, window=6)
    list(shards.batches(0, 6))  # from sample 24, where a window begins
    assert len(shards.read_from) < len(LENGTHS)


def test_files_that_became_fewer_are_noticed(folder):
    shards = NpzShards(folder / "[01].npz", batch_size=4)
    with pytest.raises(DataError, match="the files hold 4 samples too few; pass the same files"):
        list(shards.batches(0, 3))


def test_a_length_is_known_before_anything_is_read(folder):
    shards = NpzShards(folder / "*.npz", batch_size=4, window=5)
    shards.read = None
    assert len(shards) == 9
    assert len(NpzShards(folder / "2.npz", batch_size=4)) == 3
    with pytest.raises(TypeError, match=r"Blocks does not know how many rows .*0\.npz has"):
        len(Blocks(folder / "*.npz"))
    assert len(list(Blocks(folder / "*.npz"))) == 2


def test_weights_come_as_a_third(folder):
    shards = NpzShards(folder / "*.npz", sample_weight="w", window=8, batch_size=5)
    for _, y, weight in shards:
        np.testing.assert_allclose(weight, y / 100)


def test_batches_are_arrays_of_their_own(folder):
    for window in (None, 6):
        shards = NpzShards(folder / "*.npz", batch_size=4, window=window)
        batches, kept = [], []
        for x, y in shards:
            batches.append((x, y))
            kept.append((x.copy(), y.copy()))
            assert x.base is None or x.base.nbytes < 100
        assert numbers(batches) == numbers(kept)


def numpy_version():
    return tuple(map(int, np.__version__.split(".")[:2]))


@pytest.mark.parametrize("window", [None, 3000])
def test_one_shard_at_a_time_is_in_memory(tmp_path, window):
    x, y = np.zeros((2000, 1000), np.float32), np.zeros(2000)  # 8 MB
    for k in range(5):
        np.savez(tmp_path / f"{k}.npz", x=x, y=y)
    del x
    shards = NpzShards(tmp_path / "*.npz", batch_size=100, window=window)
    gc.collect()
    tracemalloc.start()
    try:
        assert sum(len(x) for x, _ in shards) == 10000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    allowed = 8e6 + 2e6 + (0 if window is None else 12e6)
    if window is not None and numpy_version() >= (2, 5):  # its resize copies what the window has
        allowed += 8e6
    assert peak < allowed, peak


# What can go wrong ----------------------------------------------------------------------------


def test_paths(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    wanted = [f"{k}.npz" for k in range(5)]
    for paths in ["*.npz", wanted, [*wanted[:2], "[234].npz"], "~/*.npz", [folder / "*.npz"]]:
        assert [path.name for path in NpzShards(paths).paths] == wanted
    (folder / "a[1].npz").write_bytes(b"")
    assert [path.name for path in NpzShards("a[1].npz").paths] == ["a[1].npz"]
    for paths, came in [
        ("no.npz", "no file of that name"),
        (folder, "a folder"),
        ("*.np", "no fi"),
    ]:
        with pytest.raises(FileError, match=f"wanted files or a pattern .* {came}.*check the path"):
            NpzShards([wanted[0], paths])
    with pytest.raises(DataError, match="wanted at least one file, got an empty list"):
        NpzShards([])


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"window": 0}, {"seed": -1}], ids=str)
def test_counts_are_at_least_one(folder, wrong):
    with pytest.raises(ValueError, match=r"wanted a batch_size and a window of at least 1 .*got"):
        NpzShards(folder / "*.npz", **wrong)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-40])


def no_archive(path):
    path.write_text("x,y\n1,2\n")


def empty_file(path):
    path.write_bytes(b"")


def objects(path):
    np.savez(path, x=np.array([{}, {}]), y=np.arange(2))


def single(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def other_names(path):
    np.savez(path, images=np.zeros((2, 3), np.uint8), labels=np.arange(2))


def no_rows(path):
    np.savez(path, x=np.zeros((0, 3), np.uint8), y=np.arange(0))


def a_number(path):
    np.savez(path, x=np.zeros((2, 3), np.uint8), y=3)


def lengths(path):
    np.savez(path, x=np.zeros((2, 3), np.uint8), y=np.arange(3))


def features(path):
    np.savez(path, x=np.zeros((2, 4), np.uint8), y=np.arange(2))


def floats(path):
    np.savez(path, x=np.zeros((2, 3), np.float32), y=np.arange(2))


def flipped_bit(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"\x93NUMPY") + 128] ^= 1  # the first number after the header
    path.write_bytes(bytes(content))


BAD = {
    truncated: (FileError, "wanted a whole .npz file of plain arrays, but .* cannot be read"),
    flipped_bit: (FileError, "cannot be read: Bad CRC-32 .*; write it anew, or leave it out"),
    no_archive: (FileError, "wanted a whole .npz file"),
    empty_file: (FileError, "wanted a whole .npz file"),
    objects: (FileError, "Object arrays cannot be loaded"),
    single: (FileError, "wanted a whole .npz file"),
    other_names: (FileError, "wanted an array 'x' in .*, which holds images, labels; say what"),
    no_rows: (DataError, "wanted at least one sample, got none"),
    a_number: (ShapeError, "wanted y to have one row for each sample, got a single number"),
    lengths: (ShapeError, "x has 2, y has 3"),
    features: (ShapeError, r"of shape \(rows, 3\) and uint8 in .* as in .*, got shape \(rows, 4\)"),
    floats: (DataError, r"wanted x of shape \(rows, 3\) and uint8 .*got .* float32; write all"),
}


@pytest.mark.fault("bad shard")
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_a_bad_shard_is_named(folder, spoil, window):
    error, message = BAD[spoil]
    shards = NpzShards([folder / "0.npz", folder / "1.npz"], batch_size=2, window=window)
    list(shards)
    spoil(folder / "1.npz")
    with pytest.raises(error, match=message) as caught:
        flat(shards)
    assert "1.npz" in str(caught.value)
    assert type(caught.value) is error


@pytest.mark.fault("bad shard")
def test_samples_before_a_bad_shard_are_handed_out(folder):
    truncated(folder / "1.npz")
    shards = NpzShards([folder / "0.npz", folder / "1.npz"], batch_size=2)
    batches = iter(shards)
    assert numbers([next(batches) for _ in range(3)]) == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(FileError, match=r"1\.npz"):
        next(batches)
    with pytest.raises(FileError, match=r"1\.npz"):
        len(shards)


@pytest.mark.fault("bad shard")
@pytest.mark.parametrize("rows", [-4, 2**62])
def test_a_number_of_rows_that_cannot_be_is_not_believed(folder, rows):
    class Says(Blocks):
        def rows(self, shard):
            return rows if shard.name == "1.npz" else 7

    shards = Says(folder / "*.npz", batch_size=2)
    for ask in (len, lambda shards: list(shards.batches(0, 10))):
        with pytest.raises(FileError, match=r"number of rows of .*1\.npz, got .*; leave it out"):
            ask(shards)


@pytest.mark.fault("missing shard")
def test_a_file_that_vanishes_is_named(folder):
    shards = NpzShards(folder / "*.npz")
    (folder / "3.npz").unlink()
    with pytest.raises(FileError, match=r"3\.npz cannot be read: .*No such file"):
        list(shards)


def test_files_with_and_without_weights(folder):
    class Weighted(Blocks):
        def read(self, shard):
            for x, y in super().read(shard):
                yield (x, y, y * 1.0) if shard.name > "1.npz" else (x, y)

    with pytest.raises(DataError, match=r"wanted x, y in .*2\.npz, as in .*, got x, y, sample_w"):
        list(Weighted(folder / "*.npz"))
