"""Tables in CSV and Parquet files, a stretch of rows at a time."""

import bz2
import gzip

import numpy as np
import pytest

from xpnn.data import Columns, TableFiles
from xpnn.errors import DataError, FileError

pa = pytest.importorskip("pyarrow", reason="CSV and Parquet files are read by pyarrow")
csv = pytest.importorskip("pyarrow.csv")
parquet = pytest.importorskip("pyarrow.parquet")

ROWS = 200
TABLE = pa.table(
    {
        "a": [k if k < 150 else k + 0.5 for k in range(ROWS)],  # whole numbers at first
        "b": [None if k % 3 else k for k in range(ROWS)],
        "day": [f"2024-0{1 + k % 9}-11" for k in range(ROWS)],
        "word": [f"{k % 4}" if k < 150 else "x" for k in range(ROWS)],
        "flag": ["true", "false"] * (ROWS // 2),
        "y": ["no", "yes"] * (ROWS // 2),
    }
)


@pytest.fixture(autouse=True)
def small_stretches(monkeypatch):
    """Rows are read a few at a time."""
    monkeypatch.setattr("xpnn.data.columns.files.TEXT", 300)
    monkeypatch.setattr("xpnn.data.columns.files.ROWS", 7)


def written(folder, kind):
    path = folder / f"t.{kind}"
    if kind == "parquet":
        parquet.write_table(TABLE, path)
        return path
    csv.write_csv(TABLE, folder / "t.csv")
    text = (folder / "t.csv").read_text()
    if kind == "tsv":
        path.write_text(text.replace(",", "\t"))
    if kind == "csv.gz":
        path.write_bytes(gzip.compress(text.encode()))
    if kind == "tsv.bz2":
        path.write_bytes(bz2.compress(text.replace(",", "\t").encode()))
    return path


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "tsv", "tsv.bz2", "parquet"])
def test_stretches_hold_all_rows(tmp_path, kind):
    tables = list(TableFiles(written(tmp_path, kind)))
    assert len(tables) > 5
    whole = pa.concat_tables([one.source for one in tables])
    assert whole.column("a").to_pylist() == TABLE.column("a").to_pylist()
    assert whole.column("b").to_pylist() == TABLE.column("b").to_pylist()
    assert whole.column("word").to_pylist() == TABLE.column("word").to_pylist()


def test_what_columns_of_text_hold_is_told_by_all_rows(tmp_path):
    types = TableFiles(written(tmp_path, "csv")).types
    assert {name: str(one) for name, one in types.items()} == {
        "a": "double", "b": "int64", "day": "date32[day]", "word": "string", "flag": "bool",
        "y": "string",
    }  # fmt: skip


def test_csv_and_parquet_teach_alike(tmp_path):
    learned = [
        Columns({"day": "dates", "flag": "one-hot"}, target="y").fit(
            TableFiles(written(tmp_path, kind))
        )
        for kind in ("csv", "parquet")
    ]
    by_csv, by_parquet = (one.as_plain() for one in learned)
    flags = [dict(one["encodings"]).pop("flag")["labels"] for one in (by_csv, by_parquet)]
    assert flags == [[False, True], ["false", "true"]]
    assert learned[0].encodings["a"].mean == pytest.approx(np.mean(TABLE.column("a").to_pylist()))
    kinds = zip(learned, ("csv", "parquet"), strict=True)
    x = [
        np.concatenate([one.transform(table) for table in TableFiles(tmp_path / f"t.{kind}")])
        for one, kind in kinds
    ]
    names = [one.feature_names for one in learned]
    kept = [k for k, name in enumerate(names[0]) if not name.startswith("flag")]
    assert [names[0][k] for k in kept] == [names[1][k] for k in kept]
    np.testing.assert_allclose(x[0][:, kept], x[1][:, kept], rtol=1e-6, atol=1e-6)


def test_parts_hold_each_row_once(tmp_path):
    files = TableFiles(written(tmp_path, "csv"))
    rows = [[n for one in part for n in one.numbers.tolist()] for part in files.split(0.25, seed=3)]
    assert sorted(rows[0] + rows[1]) == list(range(ROWS))
    assert 30 < len(rows[1]) < 70
    again = [
        [n for one in part for n in one.numbers.tolist()] for part in files.split(0.25, seed=3)
    ]
    other = [
        [n for one in part for n in one.numbers.tolist()] for part in files.split(0.25, seed=4)
    ]
    assert rows == again != other


def test_the_row_of_the_file_is_named(tmp_path):
    path = written(tmp_path, "csv")
    lines = path.read_text().splitlines()
    lines[78] = lines[78].rsplit(",", 1)[0] + ',"perhaps"'
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("\n".join(lines))
    columns = Columns(target="y").fit(TableFiles(path))
    for part in (TableFiles(wrong), *TableFiles(wrong).split(0.5)):
        if part._part is None or any(77 in one.numbers for one in part):
            said = rf"'perhaps' in row 78 of {wrong} \(the first below a header is 1\)"
            with pytest.raises(DataError, match=said):
                list(columns.batches(part))
        else:
            list(columns.batches(part))


def test_how_the_text_is_written(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("größe;y\n1,5;ja\n2,5;nein\n;ja\n".encode("latin1"))
    files = TableFiles(path, delimiter=";", decimal_point=",", encoding="latin1")
    columns = Columns(target="y").fit(files)
    assert columns.encodings["größe"].mean == 2.0
    assert columns.encodings["größe"].marks_missing


def test_blanks_around_numbers(tmp_path):
    """Gaps among them are gaps; a column of them is not one of texts."""
    (tmp_path / "t.csv").write_text("a, b, c\n1, 2.5, x\n2, NA, y\n3 , , x\n , -1e3 , y\n")
    files = TableFiles(tmp_path / "t.csv")
    table = pa.concat_tables([one.source for one in files]).to_pydict()
    assert table == {
        "a": [1, 2, 3, None],
        " b": [2.5, None, None, -1000.0],
        " c": [" x", " y", " x", " y"],
    }


def test_texts_that_look_like_numbers_in_a_later_file(tmp_path):
    (tmp_path / "t.csv").write_text("code,day,y\n007,2024-01-02,1\n12,2024-01-03,1\nA1,,x\n")
    (tmp_path / "new.csv").write_text("code,day,y\n12,2024-01-03,1\n007,2024-01-02,1\n")
    columns = Columns({"day": "one-hot"}, target="y").fit(TableFiles(tmp_path / "t.csv"))
    assert columns.texts == ["code", "y"]
    again = Columns.from_plain(columns.as_plain())
    (table,) = TableFiles(tmp_path / "new.csv", texts=again.texts)
    assert columns.feature_names[:5] == [
        "code=007", "code=12", "code=A1", "day=2024-01-02", "day=2024-01-03",
    ]  # fmt: skip
    np.testing.assert_array_equal(
        columns.transform(table), [[0, 1, 0, 0, 1, 0], [1, 0, 0, 1, 0, 0]]
    )
    assert columns.targets(table).tolist() == [0, 0]
    (other,) = TableFiles(tmp_path / "new.csv")
    with pytest.raises(DataError, match=r"wanted texts, as in training, in column 'code', got 12"):
        columns.transform(other)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"encoding": "utf-9"}, "wanted an encoding that Python knows"),
        ({"delimiter": "||"}, "wanted one ASCII character as delimiter"),
        ({"decimal_point": ""}, "wanted one ASCII character as decimal_point"),
    ],
)
def test_signs_that_are_none(tmp_path, how, said):
    with pytest.raises(ValueError, match=said):
        TableFiles(written(tmp_path, "csv"), **how)


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(FileError, match="no file of that name"):
        TableFiles(tmp_path / "t.csv")
    (tmp_path / "t.txt").write_text("a\n1\n")
    with pytest.raises(FileError, match=r"end in \.csv"):
        TableFiles(tmp_path / "t.txt")
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(
        FileError, match=r"rows\.csv: .*Expected 2 columns.*TableFiles\(\.\.\., delim"
    ):
        list(TableFiles(tmp_path / "rows.csv"))
    (tmp_path / "empty.csv").write_text("a,b\n")
    with pytest.raises(DataError, match=r"at least one row in .*empty\.csv"):
        list(TableFiles(tmp_path / "empty.csv"))
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(FileError, match=r"t\.parquet"):
        list(TableFiles(tmp_path / "t.parquet"))
    with pytest.raises(ValueError, match="split them once"):
        _twice(tmp_path)


def _twice(folder):
    csv.write_csv(TABLE, folder / "whole.csv")
    TableFiles(folder / "whole.csv").split()[0].split()
