"""CSV and Parquet files as samples."""

from itertools import chain

import numpy as np
import pytest

from xpnn.data import CsvShards, ParquetShards
from xpnn.errors import DataError, FileError

pa = pytest.importorskip("pyarrow", reason="CSV and Parquet files are read by pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
csv = pytest.importorskip("pyarrow.csv")

ROWS, CLASSES = 50, ["cat", "dog", "cow"]
A, B = np.linspace(-1, 1, ROWS), np.arange(ROWS)
LABELS = [CLASSES[k % 3] for k in range(ROWS)]
TABLE = pa.table({"label": LABELS, "b": B, "unused": LABELS, "a": A, "w": A + 1, "n": B % 3})


def write(folder, kind, table, name="t"):
    path = folder / f"{name}.{'csv' if kind is CsvShards else 'parquet'}"
    if kind is CsvShards:
        csv.write_csv(table, path)
    else:
        parquet.write_table(table, path, row_group_size=12)
    return path


each_kind = pytest.mark.parametrize("kind", [CsvShards, ParquetShards])


@pytest.fixture(autouse=True)
def small_stretches(monkeypatch):
    """Rows are converted a few at a time."""
    monkeypatch.setattr("xpnn.data.csv.TEXT", 300)
    monkeypatch.setattr("xpnn.data.parquet.ROWS", 5)


def together(shards, **place):
    return [np.concatenate(parts) for parts in zip(*shards.batches(**place), strict=True)]


@each_kind
def test_columns_become_arrays(tmp_path, kind):
    path = write(tmp_path, kind, TABLE)
    shards = kind(path, x=["a", "b"], y="label", classes=CLASSES, sample_weight="w", batch_size=8)
    assert [len(x) for x, _, _ in shards] == [8] * 6 + [2]
    x, y, weight = together(shards)
    np.testing.assert_allclose(x, np.stack([A, B], axis=1), rtol=1e-6)
    np.testing.assert_array_equal(y, B % 3)
    np.testing.assert_allclose(weight, A + 1, rtol=1e-6)
    assert (x.dtype, y.dtype, weight.dtype) == (np.float32, np.int64, np.float32)


@each_kind
def test_kinds_of_targets(tmp_path, kind):
    path = write(tmp_path, kind, TABLE)

    def targets(y, **settings):
        return together(kind(path, x="a", y=y, **settings))[1]

    assert targets("b").dtype == np.float32
    np.testing.assert_array_equal(targets("b"), B)
    np.testing.assert_array_equal(targets(["b", "n"]), np.stack([B, B % 3], axis=1))
    assert targets(["b"]).shape == (ROWS, 1)
    assert targets("n", classes=3).dtype == np.int64
    np.testing.assert_array_equal(targets("n", classes=3), B % 3)
    np.testing.assert_array_equal(targets("n", classes=[2, 0, 1]), (B % 3 + 1) % 3)


@each_kind
def test_ids_stay_integers(tmp_path, kind):
    shards = kind(write(tmp_path, kind, TABLE), x=["b", "n"], y="n", dtype="int64")
    x, y = together(shards)
    assert (x.dtype, y.dtype) == (np.int64, np.float32)
    np.testing.assert_array_equal(x[:, 0], B)


@each_kind
@pytest.mark.parametrize("window", [None, 9, 1000])
def test_windows_and_starts(tmp_path, kind, window):
    paths = [write(tmp_path, kind, TABLE.slice(k, 25), f"t{k}") for k in (0, 25)]
    shards = kind(paths, x=["a"], y="b", batch_size=4, window=window)
    for epoch in range(2):
        whole = [y.tolist() for _, y in shards.batches(epoch)]
        assert sorted(chain.from_iterable(whole)) == B.tolist()
        for start in range(len(whole) + 1):
            assert [y.tolist() for _, y in shards.batches(epoch, start)] == whole[start:]
    if window:
        assert whole != [y.tolist() for _, y in shards.batches(0)]


def test_row_groups_are_the_shards_of_parquet(tmp_path, monkeypatch):
    shards = ParquetShards(write(tmp_path, ParquetShards, TABLE), x="a", y="b", batch_size=4)
    assert [group.rows for group in shards.shards] == [12, 12, 12, 12, 2]
    assert len(shards) == 13
    read, plain = [], ParquetShards.read
    monkeypatch.setattr(
        ParquetShards, "read", lambda self, one: read.append(one.number) or plain(self, one)
    )
    assert together(shards, start=9)[1].tolist() == list(range(36, 50))
    assert read == [3, 4]


def test_csv_without_a_header_and_with_another_delimiter(tmp_path):
    (tmp_path / "t.csv").write_text("1;2;no\n3;4;yes\n")
    names = ["p", "q", "r"]
    shards = CsvShards(
        tmp_path / "t.csv",
        x=["p", "q"],
        y="r",
        classes=["yes", "no"],
        delimiter=";",
        column_names=names,
    )
    ((x, y),) = shards
    assert x.tolist() == [[1, 2], [3, 4]]
    assert y.tolist() == [1, 0]


def test_csv_in_gzip_with_a_mark_and_carriage_returns(tmp_path):
    import gzip

    with gzip.open(tmp_path / "t.csv.gz", "wb") as file:
        file.write("\ufeffa,b\r\n1,2\r\n3,4\r\n".encode())
    ((x, y),) = CsvShards(tmp_path / "t.csv.gz", x="a", y="b")
    assert (x.tolist(), y.tolist()) == ([[1], [3]], [2, 4])


def test_a_length_is_not_known_of_csv(tmp_path):
    with pytest.raises(TypeError, match="CsvShards does not know how many rows"):
        len(CsvShards(write(tmp_path, CsvShards, TABLE), x="a", y="b"))


def test_dictionaries_booleans_and_decimals_of_parquet(tmp_path):
    from decimal import Decimal

    table = pa.table(
        {
            "label": pa.array(LABELS[:3]).dictionary_encode(),
            "flag": [True, False, True],
            "price": [Decimal("1.25"), Decimal("2.50"), Decimal("3.75")],
            "half": pa.array(np.float16([1.5, 2.5, 3.5])),
        }
    )
    path = write(tmp_path, ParquetShards, table)
    ((x, y),) = ParquetShards(path, x=["flag", "price", "half"], y="label", classes=CLASSES)
    assert x.tolist() == [[1, 1.25, 1.5], [0, 2.5, 2.5], [1, 3.75, 3.5]]
    assert y.tolist() == [0, 1, 2]
    ((_, y),) = ParquetShards(path, x="price", y="flag", classes=[True, False])
    assert y.tolist() == [0, 1, 0]


def test_without_pyarrow_the_line_to_type(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    for kind in (CsvShards, ParquetShards):
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'xpnn\[data\]'"):
            kind("t.csv", x="a", y="b")


# What can go wrong ----------------------------------------------------------------------------


def replaced(name, row, value):
    column = TABLE.column(name).to_pylist()
    column[row] = value
    return TABLE.set_column(TABLE.schema.get_field_index(name), name, pa.array(column))


def fails(kind, path, error, message, **settings):
    settings = {"x": ["a", "b"], "y": "label", "classes": CLASSES} | settings
    with pytest.raises(error, match=message) as caught:
        list(kind(path, batch_size=4, **settings))
    assert type(caught.value) is error
    assert path.name in str(caught.value)


@pytest.mark.fault("bad value in a table")
@each_kind
@pytest.mark.parametrize("value", [None, float("nan")], ids=str)
def test_a_missing_value_is_named(tmp_path, kind, value):
    path = write(tmp_path, kind, replaced("a", 29, value))
    fails(
        kind, path, DataError, r"wanted a value in column 'a', got none in row 30 of .*fill it in"
    )


@pytest.mark.fault("bad value in a table")
@each_kind
def test_a_label_that_is_no_class_is_named(tmp_path, kind):
    path = write(tmp_path, kind, replaced("label", 31, "ox"))
    message = r"labels among 'cat', 'dog', 'cow' in column 'label', got 'ox' in row 32 of .*add"
    fails(kind, path, DataError, message)
    path = write(tmp_path, kind, replaced("n", 7, 3))
    message = r"wanted class numbers from 0 to 2 in column 'n', got 3 in row 8 of"
    fails(kind, path, DataError, message, y="n", classes=3)


@pytest.mark.fault("bad value in a table")
@each_kind
def test_a_missing_label_is_named(tmp_path, kind):
    path = write(tmp_path, kind, replaced("label", 8, None))
    fails(kind, path, DataError, r"column 'label', got (none|'') in row 9 of")


@each_kind
def test_a_column_that_is_not_there(tmp_path, kind):
    path = write(tmp_path, kind, TABLE)
    message = "wanted the columns label, a, z in .*, but there is no z among its label, b, unused"
    fails(kind, path, FileError, message, x=["a", "z"])


@pytest.mark.fault("bad value in a table")
@each_kind
def test_words_where_numbers_should_be(tmp_path, kind):
    path = write(tmp_path, kind, TABLE)
    message = "invalid value 'cat'" if kind is CsvShards else "numbers in column 'unused' .*string"
    fails(kind, path, FileError, message, x=["a", "unused"])


@each_kind
def test_numbers_where_labels_should_be(tmp_path, kind):
    path = write(tmp_path, kind, TABLE)
    fails(kind, path, DataError, r"labels among 'cat'.* in column 'n', got '0' in row 1 of", y="n")
    message = "CSV conversion error to int64" if kind is CsvShards else "class numbers from 0 to 2"
    fails(kind, path, FileError, message, y="label", classes=3)


@each_kind
def test_ids_that_are_no_integers(tmp_path, kind):
    path = write(tmp_path, kind, TABLE)
    message = "conversion error to int64" if kind is CsvShards else "numbers that fit int64 in col"
    fails(kind, path, FileError, message, x="a", dtype="int64")


@pytest.mark.fault("damaged CSV or Parquet file")
@each_kind
def test_damaged_files(tmp_path, kind):
    path = write(tmp_path, kind, TABLE)
    content = path.read_bytes()
    path.write_bytes(content[:-4])
    if kind is ParquetShards:
        fails(kind, path, FileError, "wanted a whole Parquet file, got .*; write it anew, or leave")
    else:  # half a row
        path.write_bytes(content[: content.index(b"\n", 900) - 8])
        fails(kind, path, FileError, "a CSV file of rows of one length, .*Expected 6 columns")
    path.write_bytes(b"")
    fails(kind, path, FileError, "wanted a")
    path.write_bytes(b"\0\1\2\3" * 50)
    fails(kind, path, FileError, "wanted ")


@each_kind
def test_no_rows(tmp_path, kind):
    path = write(tmp_path, kind, TABLE.slice(0, 0))
    fails(
        kind, path, DataError, "wanted at least one sample in each file, got none in .*; leave it"
    )


def test_classes_want_one_column():
    with pytest.raises(ValueError, match="wanted one column y beside classes, a string, got"):
        CsvShards(__file__, x="a", y=["b"], classes=3)


# How text is written --------------------------------------------------------------------------


def test_line_breaks_in_quotes(tmp_path):
    lines = [f'{k},{k % 3},"of {k}\nand ""more"", too"' for k in range(200)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,note", *lines]))
    x, y = together(CsvShards(tmp_path / "t.csv", x="a", y="b", batch_size=7))
    np.testing.assert_array_equal(x[:, 0], np.arange(200))
    np.testing.assert_array_equal(y, np.arange(200) % 3)


def test_decimal_commas_and_another_encoding(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("breite;stadt\n1,5;Köln\n2;Bonn\n".encode("latin1"))
    settings = {"x": "breite", "y": "stadt", "classes": ["Bonn", "Köln"], "delimiter": ";"}
    fails(CsvShards, path, FileError, "UTF8 data; say how it is written, .* encoding=", **settings)
    settings["encoding"] = "latin1"
    fails(CsvShards, path, FileError, "'1,5'; say how it is written, .*decimal_point", **settings)
    ((x, y),) = CsvShards(path, decimal_point=",", **settings)
    assert (x.tolist(), y.tolist()) == ([[1.5], [2.0]], [1, 0])


TOKENS = {"", "NA", "N/A", "nan", "null"}
"""Those that pyarrow knows; others are words where numbers should be."""


@pytest.mark.fault("bad value in a table")
@pytest.mark.parametrize("token", ["", "NA", "N/A", "nan", "null", "?", "-", "none"])
def test_tokens_for_missing_values_are_no_numbers(tmp_path, token):
    (tmp_path / "t.csv").write_text(f"a,b,label\n1,2,cat\n{token},3,dog\n")
    fails(CsvShards, tmp_path / "t.csv", DataError if token in TOKENS else FileError, "wanted a")


def test_a_label_may_be_a_token(tmp_path):
    (tmp_path / "t.csv").write_text("a,country\n1,NA\n2,DE\n")
    ((_, y),) = CsvShards(tmp_path / "t.csv", x="a", y="country", classes=["DE", "NA"])
    assert y.tolist() == [1, 0]


@each_kind
def test_two_columns_of_one_name(tmp_path, kind):
    path = write(tmp_path, kind, TABLE.rename_columns(["label", "b", "unused", "a", "a", "n"]))
    fails(kind, path, FileError, "wanted one column 'a', got 2 of that name in .*; give each")
    ((x, _),) = kind(path, x=["b", "n"], y="n", batch_size=ROWS)
    np.testing.assert_array_equal(x[:, 0], B)
    if kind is CsvShards:
        names = ["label", "b", "n", "a", "w", "n"]
        fails(kind, path, FileError, "one column 'n', got 2", x="n", column_names=names)


# What Parquet knows of itself -----------------------------------------------------------------


@pytest.mark.fault("damaged CSV or Parquet file")
def test_a_flipped_bit_in_a_page_with_a_checksum(tmp_path, rng):
    path = tmp_path / "t.parquet"
    table = pa.table({"a": rng.random(500), "b": rng.random(500)})
    settings = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    parquet.write_table(table, path, **settings)
    good, column = path.read_bytes(), parquet.ParquetFile(path).metadata.row_group(0).column(0)
    end = column.data_page_offset + column.total_compressed_size
    for place in rng.integers(1, 3000, size=20):
        damaged = bytearray(good)
        damaged[end - place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        fails(
            ParquetShards,
            path,
            FileError,
            "wanted a whole Parquet file",
            x="a",
            y="b",
            classes=None,
        )


@pytest.mark.fault("damaged CSV or Parquet file")
@pytest.mark.parametrize("claimed", [11, 13])
def test_row_groups_of_another_length_than_the_end_says(tmp_path, claimed):
    path = write(tmp_path, ParquetShards, TABLE)
    shards = ParquetShards(path, x="a", y="b", batch_size=4)
    shards.shards[1] = shards.shards[1]._replace(rows=claimed)
    with pytest.raises(FileError, match=rf"wanted {claimed} rows in row group 1 of .*, got 12"):
        list(shards)


def test_a_negative_number_of_rows(tmp_path, monkeypatch):
    path = write(tmp_path, ParquetShards, TABLE)
    monkeypatch.setattr(ParquetShards, "rows", lambda self, shard: -4)
    with pytest.raises(FileError, match=r"wanted the number of rows of row group 0 of .*, got -4"):
        len(ParquetShards(path, x="a", y="b"))
