"""The data sets hold what they promise, and a bad file is refused in words."""

import gzip
import hashlib
import struct
import tracemalloc
from importlib import resources

import numpy as np
import pytest

from xpnn.data.datasets import digits, mnist, read_idx
from xpnn.errors import DataError

PUBLISHED_COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
FIRST_DIGIT = [
    [0, 0, 5, 13, 9, 1, 0, 0],
    [0, 0, 13, 15, 10, 15, 5, 0],
    [0, 3, 15, 2, 0, 11, 8, 0],
    [0, 4, 12, 0, 0, 8, 8, 0],
    [0, 5, 8, 0, 0, 9, 8, 0],
    [0, 4, 11, 0, 1, 12, 7, 0],
    [0, 2, 14, 5, 10, 12, 0, 0],
    [0, 0, 6, 13, 10, 0, 0, 0],
]
IDX_CODES = {0x08: "B", 0x09: "b", 0x0B: "h", 0x0C: "i", 0x0D: "f", 0x0E: "d"}
DTYPES = {
    0x08: np.uint8,
    0x09: np.int8,
    0x0B: np.int16,
    0x0C: np.int32,
    0x0D: np.float32,
    0x0E: np.float64,
}
each_dtype = pytest.mark.parametrize("code", DTYPES, ids=lambda code: DTYPES[code].__name__)
plain_or_gzip = pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])


def idx_header(code, *lengths):
    return struct.pack(f">HBB{len(lengths)}I", 0, code, len(lengths), *lengths)


def idx(code, lengths, values):
    return idx_header(code, *lengths) + struct.pack(f">{len(values)}{IDX_CODES[code]}", *values)


@pytest.fixture
def write(tmp_path):
    def write(content, name="file"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


class TestDigits:
    def test_flat(self):
        x, y = digits()
        assert (x.shape, x.dtype) == ((1797, 64), np.float32)
        assert (y.shape, y.dtype) == ((1797,), np.int64)

    def test_images_have_one_channel_and_the_same_pixels(self):
        images, flat = digits(flat=False)[0], digits()[0]
        assert (images.shape, images.dtype) == ((1797, 8, 8, 1), np.float32)
        np.testing.assert_array_equal(images.reshape(1797, 64), flat)

    def test_pixels_fill_the_range_from_zero_to_one(self):
        x, _ = digits()
        assert (x.min(), x.max()) == (0, 1)
        np.testing.assert_array_equal(x * 16, np.round(x * 16))

    def test_first_image_is_the_zero_of_the_original_file(self):
        x, y = digits(flat=False)
        np.testing.assert_array_equal(x[0, :, :, 0] * 16, FIRST_DIGIT)
        assert y[:10].tolist() == list(range(10))

    def test_class_counts_are_the_published_ones(self):
        assert np.bincount(digits()[1]).tolist() == PUBLISHED_COUNTS

    def test_every_call_returns_arrays_of_its_own(self):
        x, y = digits()
        x[:], y[:] = 7, 7
        assert digits()[0].max() == 1
        assert np.bincount(digits()[1]).tolist() == PUBLISHED_COUNTS

    def test_origin_licence_and_checksums_ship_beside_the_data(self):
        folder = resources.files("xpnn.data")
        story = (folder / "digits.txt").read_text(encoding="utf-8")
        with (folder / "digits.npz").open("rb") as file, np.load(file) as arrays:
            checksums = [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays.values()]
        assert len(checksums) == 2
        for part in ["Alpaydin", "Kaynak", "1998", "UCI", "CC BY 4.0", *checksums]:
            assert part in story


class TestReadIdx:
    @plain_or_gzip
    @each_dtype
    def test_reads_every_dtype(self, write, code, pack):
        values = [0, 1, 2, 3, 4, 127] if code in (0x08, 0x09) else [0, 1, -2, 3, 300, -30000]
        array = read_idx(write(pack(idx(code, (2, 3), values))))
        assert array.dtype == DTYPES[code]
        assert array.dtype.isnative
        np.testing.assert_array_equal(array, np.reshape(values, (2, 3)))

    @pytest.mark.parametrize(("code", "low", "high"), [(0x08, 0, 255), (0x09, -128, 127)])
    def test_a_byte_has_the_right_sign(self, write, code, low, high):
        assert read_idx(write(idx(code, (2,), [low, high]))).tolist() == [low, high]

    @pytest.mark.parametrize("shape", [(6,), (1, 6), (3, 1, 2), (2, 1, 3, 1)])
    def test_any_number_of_axes_in_row_major_order(self, write, shape):
        array = read_idx(str(write(idx(0x0C, shape, range(6)))))
        np.testing.assert_array_equal(array, np.arange(6).reshape(shape))

    @each_dtype
    def test_the_array_may_be_written_to(self, write, code):
        array = read_idx(write(idx(code, (2,), [1, 2])))
        array += 1
        assert array.tolist() == [2, 3]

    def test_a_file_longer_than_one_chunk_is_read_whole(self, write):
        values = np.random.default_rng(0).integers(0, 256, (3, 1 << 20), dtype=np.uint8)
        path = write(gzip.compress(idx_header(0x08, *values.shape) + values.tobytes(), 1))
        np.testing.assert_array_equal(read_idx(path), values)

    def test_gzip_is_known_by_its_content_not_its_name(self, write):
        content = idx(0x08, (2,), [1, 2])
        assert read_idx(write(content, "plain.gz")).tolist() == [1, 2]
        assert read_idx(write(gzip.compress(content), "zipped")).tolist() == [1, 2]

    @plain_or_gzip
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            pytest.param(b"", "starts with ''", id="empty"),
            pytest.param(b"\0\0\x08", "starts with '00 00 08'", id="half-a-magic"),
            pytest.param(b"PK\3\4" + bytes(99), "starts with '50 4b 03 04'", id="zip"),
            pytest.param(b"\0\1\x08\1" + bytes(99), "starts with '00 01 08 01'", id="first-bytes"),
            pytest.param(idx_header(0x0A, 1) + b"\0", "dtype of 08, 09, 0b", id="unknown-dtype"),
            pytest.param(b"\0\0\x08\0\7", "at least one axis", id="no-axes"),
            pytest.param(
                b"\0\0\x08\2" + bytes([0, 0, 0, 5, 0]), "announces 2 axes", id="cut-header"
            ),
            pytest.param(idx_header(0x08, 3, 0), r"lengths \(3, 0\)", id="length-zero"),
            pytest.param(idx_header(0x08, *[1] * 255) + b"\7", "255 axes", id="too-many-axes"),
            pytest.param(idx_header(0x08, 5) + bytes(4), "5 bytes.* holds 4", id="too-short"),
            pytest.param(idx_header(0x0C, 5) + bytes(19), "20 bytes.* holds 19", id="cut-number"),
            pytest.param(idx_header(0x08, 5) + bytes(6), "more than 5", id="too-long"),
        ],
    )
    def test_a_damaged_file_is_refused(self, write, content, message, pack):
        path = write(pack(content))
        with pytest.raises(DataError, match=message) as caught:
            read_idx(path)
        assert str(path) in str(caught.value)
        assert "download it again" in str(caught.value)

    @plain_or_gzip
    @pytest.mark.parametrize("lengths", [(0xFFFFFFFF,), (0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 32])
    def test_a_forged_header_costs_no_memory(self, write, lengths, pack):
        path = write(pack(idx_header(0x0E, *lengths) + bytes(1000)))
        tracemalloc.start()
        try:
            with pytest.raises(DataError, match="holds 1000"):
                read_idx(path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 16 << 20

    def test_a_cut_gzip_file_is_refused(self, write):
        content = gzip.compress(idx(0x08, (4,), [1, 2, 3, 4]))
        for kept in range(2, len(content)):
            with pytest.raises(DataError, match="needs a whole gzip file"):
                read_idx(write(content[:kept]))

    def test_a_flipped_bit_never_changes_the_numbers(self, write):
        content = gzip.compress(idx(0x08, (4,), [1, 2, 3, 4]))
        noticed = 0
        for bit in range(8 * len(content)):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            try:
                values = read_idx(write(bytes(damaged))).tolist()
            except DataError:
                noticed += 1
            else:  # a time stamp, a flag, a padding bit
                assert values == [1, 2, 3, 4]
        assert noticed > 4 * len(content)

    @pytest.mark.parametrize(
        ("place", "new"),
        [
            pytest.param(2, 0, id="method"),
            pytest.param(10, 7, id="stream"),
            pytest.param(-8, 0, id="crc"),
        ],
    )
    def test_a_damaged_gzip_file_is_named_as_such(self, write, place, new):
        content = bytearray(gzip.compress(idx(0x08, (4,), [1, 2, 3, 4])))
        assert content[place] != new
        content[place] = new
        with pytest.raises(DataError, match="needs a whole gzip file"):
            read_idx(write(bytes(content)))

    def test_a_missing_file_and_a_folder_are_refused(self, tmp_path):
        with pytest.raises(DataError, match="No such file"):
            read_idx(tmp_path / "nothing")
        with pytest.raises(DataError, match=r"wanted a file, but .* is a folder"):
            read_idx(tmp_path)


FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
COUNTS = {"train": 5, "test": 3}


def small_split(split):
    """Hand-made pixels and labels that differ between the splits."""
    count, rng = COUNTS[split], np.random.default_rng(COUNTS[split])
    return rng.integers(0, 256, (count, 28, 28), dtype=np.uint8), np.arange(count)[::-1]


@pytest.fixture(params=["", ".gz"], ids=["plain", "gzip"])
def folder(request, tmp_path):
    pack = gzip.compress if request.param else bytes
    for split, names in FILES.items():
        images, labels = small_split(split)
        contents = idx(0x08, images.shape, images.ravel()), idx(0x08, labels.shape, labels)
        for name, content in zip(names, contents, strict=True):
            (tmp_path / f"{name}{request.param}").write_bytes(pack(content))
    return tmp_path


class TestMnist:
    @pytest.mark.parametrize("split", ["train", "test"])
    def test_reads_a_split(self, folder, split):
        x, y = mnist(folder, split)
        images, labels = small_split(split)
        assert (x.dtype, y.dtype) == (np.float32, np.int64)
        np.testing.assert_array_equal(x, (images[..., None] / 255).astype(np.float32))
        np.testing.assert_array_equal(y, labels)

    def test_train_is_the_default_and_the_folder_may_be_a_string(self, folder):
        np.testing.assert_array_equal(mnist(str(folder))[1], small_split("train")[1])

    def test_home_is_expanded(self, folder, monkeypatch):
        monkeypatch.setenv("HOME", str(folder.parent))
        monkeypatch.setenv("USERPROFILE", str(folder.parent))
        assert len(mnist(f"~/{folder.name}", "test")[0]) == COUNTS["test"]

    def test_a_split_needs_only_its_own_files(self, folder):
        for name in FILES["train"]:
            next(folder.glob(f"{name}*")).unlink()
        assert len(mnist(folder, "test")[0]) == COUNTS["test"]

    def test_an_unknown_split_is_refused(self, folder):
        with pytest.raises(DataError, match="got 'valid'"):
            mnist(folder, "valid")

    def test_a_missing_folder_lists_the_four_files(self, tmp_path):
        with pytest.raises(DataError, match="no such folder") as caught:
            mnist(tmp_path / "nothing")
        for names in FILES.values():
            assert all(name in str(caught.value) for name in names)

    def test_missing_files_are_named(self, folder):
        next(folder.glob("t10k-labels*")).unlink()
        with pytest.raises(DataError, match=r"it lacks t10k-labels-idx1-ubyte\. "):
            mnist(folder, "test")

    @pytest.mark.parametrize(
        ("images", "labels", "message"),
        [
            pytest.param((0x08, (1, 28, 27)), (0x08, [1]), r"shape \(1, 28, 27\)", id="width"),
            pytest.param((0x08, (1, 784)), (0x08, [1]), r"shape \(1, 784\)", id="flat"),
            pytest.param((0x0C, (1, 28, 28)), (0x08, [1]), "dtype int32", id="image-dtype"),
            pytest.param((0x08, (1, 28, 28)), (0x0C, [1]), "int32", id="label-dtype"),
            pytest.param((0x08, (2, 28, 28)), (0x08, [1]), "2 images", id="lengths-differ"),
            pytest.param((0x08, (1, 28, 28)), (0x08, [10]), "label 10", id="label-out-of-range"),
        ],
    )
    def test_files_that_are_not_mnist_are_refused(self, tmp_path, images, labels, message):
        (code, shape), (label_code, values) = images, labels
        contents = idx(code, shape, [0] * np.prod(shape)), idx(label_code, (len(values),), values)
        for name, content in zip(FILES["test"], contents, strict=True):
            (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message):
            mnist(tmp_path, "test")
