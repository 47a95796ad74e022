"""``xpnn train TABLE``, ``evaluate`` and ``predict``, as a person types them."""

import csv
import io
import json
import subprocess
import sys

import numpy as np
import pytest

import xpnn
from tests.commands.conftest import write
from xpnn.cli import main

ARGUMENTS = ["--drop", "id,sold", "--layers", "16", "--rate", "0.01", "--quiet"]


def read(text):
    return [*csv.DictReader(io.StringIO(text))]


def test_what_training_writes(run, table, capsys):
    assert {path.name for path in run.iterdir()} == {
        *("model.safetensors", "history.csv", "report.json", "run.toml", "checkpoints"),
    }
    report = json.loads((run / "report.json").read_text())
    assert report["task"] == "classes"
    assert report["rows_trained_on"] + report["held_out"]["rows"] == 600
    assert report["held_out"]["accuracy"] > 0.85 > report["held_out"]["majority"]
    network = xpnn.load(run / "model.safetensors")
    assert network.attachments["columns"].classes == ("no", "yes")
    history = read((run / "history.csv").read_text())
    best = min(float(row["val_loss"]) for row in history)
    assert report["held_out"]["log_loss"] == pytest.approx(best, rel=1e-4)  # of the best epoch
    assert capsys.readouterr().err == ""


def test_predictions_row_by_row(run, table, capsys):
    """Each is what the network, loaded by itself, says of that row."""
    arguments = ["predict", str(run / "model.safetensors"), str(table)]
    assert main([*arguments, "--keep", "id,sold", "--probabilities"]) == 0
    found = read(capsys.readouterr().out)
    assert [*found[0]] == ["id", "sold", "predicted_sold", "P(no)", "P(yes)"]
    assert [row["id"] for row in found] == [*map(str, range(600))]
    from pyarrow import csv as arrow_csv

    rows = arrow_csv.read_csv(table)
    network = xpnn.load(run / "model.safetensors")
    x = network.attachments["columns"].transform(rows)
    wanted = network.predict(x, probabilities=xpnn.cross_entropy)
    shares = np.asarray([[row["P(no)"], row["P(yes)"]] for row in found], float)
    np.testing.assert_allclose(shares, wanted, rtol=1e-5, atol=1e-7)
    names = np.asarray(["no", "yes"])[wanted.argmax(axis=1)]
    assert [row["predicted_sold"] for row in found] == names.tolist()
    right = np.mean(names == np.asarray(rows["sold"].to_pylist()))
    assert main(["evaluate", str(run / "model.safetensors"), str(table), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["accuracy"] == pytest.approx(right)
    picked = np.asarray(wanted)[
        np.arange(600), [*map(["no", "yes"].index, rows["sold"].to_pylist())]
    ]
    assert measured["log_loss"] == pytest.approx(-np.log(picked).mean(), rel=1e-5)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_predictions_into_files(run, table, suffix, tmp_path, capsys):
    out = tmp_path / f"told.{suffix}"
    model = str(run / "model.safetensors")
    assert main(["predict", model, str(table), "--keep", "id", "-o", str(out)]) == 0
    assert main(["predict", model, str(table)]) == 0
    wanted = [row["predicted_sold"] for row in read(capsys.readouterr().out)]
    if suffix == "csv":
        found = read(out.read_text())
    elif suffix == "jsonl":
        found = [*map(json.loads, out.read_text().splitlines())]
    else:
        from pyarrow import parquet

        found = parquet.read_table(out).to_pylist()
    assert [row["predicted_sold"] for row in found] == wanted
    assert [int(row["id"]) for row in found] == [*range(600)]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_what_is_kept_is_as_it_was(suffix, run, tmp_path):
    """All digits, gaps in all of the first rows, and numbers that JSON does not have."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    count = 40_000
    known = {
        "price": pa.array(np.full(count, 3.0)),
        "color": pa.array(["red"] * count),
        "day": pa.array(["2024-05-06"] * count),
        "amount": pa.array(np.full(count, 1.0)),
        "first": pa.array([None] * (count - 2) + [1.2345678901234567, np.nan], pa.float64()),
        "second": pa.array([None] * (count - 1) + [2**53 + 1], pa.int64()),
    }
    parquet.write_table(pa.table(known), tmp_path / "t.parquet")
    out = tmp_path / f"told.{suffix}"
    arguments = ["--keep", "first,second", "-o", str(out)]
    model = str(run / "model.safetensors")
    assert main(["predict", model, str(tmp_path / "t.parquet"), *arguments]) == 0
    if suffix == "parquet":
        found = parquet.read_table(out)
        assert found.schema.field("second").type == pa.int64()
        rows = found.slice(count - 2).to_pylist()
    elif suffix == "jsonl":
        rows = [
            json.loads(one, parse_constant=pytest.fail)
            for one in out.read_text().split("\n")[-3:-1]
        ]
    else:
        rows = read(out.read_text())[-2:]
    assert float(rows[0]["first"]) == 1.2345678901234567
    assert int(rows[1]["second"]) == 2**53 + 1
    assert not rows[0]["second"]


def test_texts_that_look_like_numbers(tmp_path, capsys):
    """A later file may have none but such; they are told apart as in training."""
    pytest.importorskip("pyarrow", reason="CSV files are read by pyarrow")
    lines = [f"{('007', '12', 'A1')[k % 3]},{('1', '2', 'x')[k % 3]}" for k in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["code,y", *lines, ""]))
    (tmp_path / "new.csv").write_text("code,y\n007,1\n12,2\n")
    out = tmp_path / "out"
    options = ["--target", "y", "--quiet", "--rate", "0.1", "--out", str(out)]
    assert main(["train", str(tmp_path / "t.csv"), *options]) == 0
    capsys.readouterr()
    model, new = str(out / "model.safetensors"), str(tmp_path / "new.csv")
    assert main(["predict", model, new, "--keep", "all"]) == 0
    assert capsys.readouterr().out == "code,y,predicted_y\n007,1,1\n12,2,2\n"
    assert main(["evaluate", model, new, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == 1


def test_what_was_told_before_is_not_written_over(run, table, tmp_path, capsys):
    model, told = str(run / "model.safetensors"), str(tmp_path / "told.csv")
    assert main(["predict", model, str(table), "--keep", "all", "-o", told]) == 0
    before = (tmp_path / "told.csv").read_bytes()
    assert main(["predict", model, told, "--keep", "all", "-o", told]) == 2
    assert "'predicted_sold' is in" in capsys.readouterr().err
    assert (tmp_path / "told.csv").read_bytes() == before
    assert main(["predict", model, told, "--keep", "id,sold", "-o", told]) == 0


def test_rows_from_the_standard_input(run, table, monkeypatch, capsys):
    class Stdin:
        buffer = io.BytesIO(table.read_bytes())

    monkeypatch.setattr(sys, "stdin", Stdin)
    assert main(["predict", str(run / "model.safetensors"), "-"]) == 0
    assert len(read(capsys.readouterr().out)) == 600


def test_numbers_are_told_in_their_own_units(table, tmp_path, capsys):
    arguments = ["--target", "amount", *ARGUMENTS, "--epochs", "8", "--out", str(tmp_path)]
    assert main(["train", str(table), *arguments, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["task"] == "numbers"
    model = str(tmp_path / "model.safetensors")
    assert main(["predict", model, str(table), "--keep", "amount"]) == 0
    told = read(capsys.readouterr().out)
    p, y = (np.asarray([row[key] for row in told], float) for key in ("predicted_amount", "amount"))
    assert main(["evaluate", model, str(table), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mae"] == pytest.approx(np.abs(p - y).mean(), rel=1e-6)
    assert found["rmse"] == pytest.approx(np.sqrt(((p - y) ** 2).mean()), rel=1e-6)
    assert found["r2"] == pytest.approx(1 - ((p - y) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    assert found["r2"] > 0.8


def test_the_same_run_by_a_toml_file(run, table, tmp_path, capsys):
    """What a run has written down gives the same weights again, and a command line goes first."""
    for name in ("one", "two"):
        more = [] if name == "one" else ["--epochs", "2"]
        arguments = ["--config", str(run / "run.toml"), "--out", str(tmp_path / name), "--quiet"]
        assert main(["train", *arguments, *more]) == 0
    capsys.readouterr()
    first, again = (
        xpnn.load(folder / "model.safetensors").numpy_arrays() for folder in (run, tmp_path / "one")
    )
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])
    assert json.loads((tmp_path / "two" / "report.json").read_text())["epochs"] == 2


def test_a_toml_file_by_hand(table, tmp_path, capsys):
    (tmp_path / "run.toml").write_text(
        f'data = "{table}"\ntarget = "sold"\nlayers = [8, 4]\ndrop = ["id", "amount"]\nepochs = 1\n'
        f'quiet = true\nout = "{tmp_path / "out"}"\n[encode]\ncolor = "embedded"\n'
    )
    assert main(["train", "--config", str(tmp_path / "run.toml")]) == 0
    assert "embedded: color" in capsys.readouterr().out
    assert "encode" in (tmp_path / "out" / "run.toml").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("target = ", "is no TOML file"),
        ("taget = 'sold'", "there is no option 'taget', did you mean 'target'?"),
        ("quiet = 3", "wanted true or false for quiet, got 3"),
    ],
)
def test_toml_files_that_say_nothing_here(text, message, tmp_path, capsys):
    (tmp_path / "run.toml").write_text(text)
    assert main(["train", "--config", str(tmp_path / "run.toml")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_wrong_value_in_a_toml_file(tmp_path, capsys):
    (tmp_path / "run.toml").write_text("rate = -1")
    with pytest.raises(SystemExit) as stop:
        main(["train", "--config", str(tmp_path / "run.toml")])
    assert stop.value.code == 2
    assert "argument --rate: wanted a number from 0 on, got '-1'" in capsys.readouterr().err


def test_a_run_goes_on_where_it_was_interrupted(table, tmp_path, capsys):
    base = ["train", str(table), "--target", "sold", "--drop", "id,amount", "--quiet"]
    assert main([*base, "--epochs", "4", "--out", str(tmp_path / "whole")]) == 0
    assert main([*base, "--epochs", "2", "--out", str(tmp_path / "parts")]) == 0
    assert main([*base, "--epochs", "4", "--out", str(tmp_path / "parts"), "--resume"]) == 0
    whole, parts = (
        xpnn.load(tmp_path / name / "model.safetensors").numpy_arrays()
        for name in ("whole", "parts")
    )
    for name, value in whole.items():
        np.testing.assert_array_equal(value, parts[name])


def test_train_and_predict_on_each_backend(backend, run, table, tmp_path, capsys):
    arguments = [
        "--target",
        "sold",
        "--drop",
        "id,amount,day",
        "--layers",
        "4",
        "--batch-size",
        "120",
    ]
    place = ["--backend", backend.spec]
    out = ["--epochs", "1", "--quiet", "--out", str(tmp_path)]
    assert main(["train", str(table), *arguments, *place, *out]) == 0
    model = str(run / "model.safetensors")
    capsys.readouterr()
    found = []
    for one in (place, []):
        assert main(["evaluate", model, str(table), *one, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["log_loss"] == pytest.approx(found[1]["log_loss"], rel=1e-4)


def arrays(path, kind):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 2, 2)).astype(np.float32)
    y = (x[:, 0, 0] + x[:, 1, 1] > 0).astype(np.int64)
    if kind == "npz":
        np.savez(path, x=x, y=y)
    elif kind == "npy":
        np.save(path, np.column_stack([x.reshape(300, -1), y]))
    else:
        pairs = [("a", "f4"), ("b", "f4"), ("kind", "U3")]
        table = np.empty(300, dtype=pairs)
        table["a"], table["b"] = x[:, 0, 0], x[:, 1, 1]
        table["kind"] = np.where(y, "yes", "no")
        np.save(path, table)


@pytest.mark.parametrize(
    ("kind", "name", "target"),
    [("npz", "a.npz", []), ("npy", "a.npy", ["--target", "-1", "--task", "classes"]),
     ("fields", "b.npy", ["--target", "kind"])],
)  # fmt: skip
def test_arrays(kind, name, target, tmp_path, capsys):
    """They need no package beyond those of xpnn."""
    arrays(tmp_path / name, kind)
    out = tmp_path / "run"
    options = ["--layers", "8", "--rate", "0.02", "--epochs", "8", "--quiet", "--json"]
    assert main(["train", str(tmp_path / name), *target, *options, "--out", str(out)]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["held_out"]["accuracy"] > 0.85
    assert main(["predict", str(out / "model.safetensors"), str(tmp_path / name)]) == 0
    assert len(read(capsys.readouterr().out)) == 300


def test_a_table_of_several_stretches(tmp_path, monkeypatch, capsys):
    """However it is cut, the rows that are held out and what is told are the same."""
    import xpnn.commands.sources as sources

    arrays(tmp_path / "a.npz", "npz")
    found = []
    for rows in (1 << 14, 7):
        monkeypatch.setattr(sources, "ROWS", rows)
        out = tmp_path / str(rows)
        options = ["--epochs", "2", "--quiet", "--json", "--out", str(out)]
        assert main(["train", str(tmp_path / "a.npz"), *options]) == 0
        record = json.loads(capsys.readouterr().out)
        found.append((record["held_out"], xpnn.load(out / "model.safetensors").numpy_arrays()))
    (first, weights), (second, others) = found
    assert first == pytest.approx(second, rel=1e-5)
    for name, value in weights.items():
        np.testing.assert_allclose(value, others[name], rtol=1e-4, atol=1e-5)


def test_numbers_of_several_stretches(tmp_path, monkeypatch, capsys):
    """Sums around means are joined; a value that cannot be told is named by its row in the file."""
    import xpnn.commands.sources as sources

    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 2)).astype(np.float32)
    y = 100 + np.arange(60.0) + x[:, 0]  # whose mean differs from stretch to stretch
    path, model = tmp_path / "a.npz", str(tmp_path / "run" / "model.safetensors")
    np.savez(path, x=x, y=y)
    monkeypatch.setattr(sources, "ROWS", 7)
    options = ["--epochs", "1", "--quiet", "--out", str(tmp_path / "run")]
    assert main(["train", str(path), *options]) == 0
    capsys.readouterr()
    assert main(["predict", model, str(path)]) == 0
    p = np.asarray([row["predicted_y"] for row in read(capsys.readouterr().out)], float)
    assert main(["evaluate", model, str(path), "--json"]) == 0
    wanted = 1 - ((p - y) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    assert json.loads(capsys.readouterr().out)["r2"] == pytest.approx(wanted)
    y[33] = np.nan
    np.savez(path, x=x, y=y)
    assert main(["evaluate", model, str(path)]) == 1
    assert f"got none in row 34 of {path}" in capsys.readouterr().err


# What goes wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name the column to predict, --target COLUMN; there are id, price, color"),
        (["--target", "solld"], "there is no column 'solld' in {table}, did you mean 'sold'?"),
        (
            ["--target", "sold", "--drop", "idd"],
            "there is no column 'idd' in {table}, did you mean",
        ),
        (["--target", "sold", "--drop", "sold"], "'sold' is the target; leave it out of --drop"),
        (["--target", "sold", "--encode", "color=onehot"], "did you mean 'one-hot'?"),
        (["--target", "sold", "--encode", "color=numbers"], "column 'color'"),
        (
            ["--target", "price"],
            "wanted a target in every row of column 'price', got none in row 8",
        ),
        (["--target", "sold", "--backend", "numpi"], "there is no backend 'numpi'"),
        (["--target", "sold", "--encode", "q"], "wanted COLUMN=ENCODING, such as shop=embedded"),
        (["--target", "sold", "--layers", "8,x"], "wanted the widths of layers, such as 64,32"),
        (["--target", "sold", "--rate", "fast"], "wanted a number from 0 on, got 'fast'"),
        (["--target", "sold", "--hold-out", "1"], "wanted a number from 0 on and below 1, got '1'"),
        (["--target", "sold", "--delimiter", ";"], "there is no column 'sold'"),
        (["--target", "sold", "--delimiter", "||"], "wanted one ASCII character as delimiter"),
        (["--target", "sold", "--encoding", "utf-9"], "wanted an encoding that Python knows"),
        (["--target=-9"], "there is no column '-9'"),
        (["--target", "sold", "--task", "numbers"], "or --task classes"),
        (["--taget", "sold"], "there is no option --taget, did you mean --target?"),
        (["--target", "sold", "--optimizer", "adm"], "there is no 'adm', did you mean 'adam'?"),
    ],
)
def test_bad_options_are_told_in_one_line(arguments, message, table, tmp_path, capsys):
    try:
        status = main(["train", str(table), *arguments, "--quiet", "--out", str(tmp_path / "out")])
    except SystemExit as stop:
        status = stop.code
    assert status in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert message.format(table=table) in line
    assert line.startswith("xpnn")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.csv", None, "gone.csv"),
        ("table.xlsx", b"PK", "wanted a table, a file that ends in .csv"),
        ("empty.csv", b"", "empty.csv"),
        ("header.csv", b"price,sold\n", "at least one row"),
        ("ragged.csv", b"price,sold\n1,2\n1,2,3\n", "ragged.csv"),
        ("torn.parquet", b"PAR1", "torn.parquet"),
        ("torn.npz", b"PK\x03\x04", "wanted arrays of numbers in"),
        ("text.npy", b"nothing", "wanted arrays of numbers in"),
        ("few.csv", b"price,sold\n1,a\n2,b\n", "row"),
    ],
)
def test_bad_tables_are_told_in_one_line(name, content, message, tmp_path, capsys):
    pytest.importorskip("pyarrow", reason="CSV files are read by pyarrow")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    arguments = ["--target", "sold", "--quiet", "--out", str(tmp_path / "out")]
    assert main(["train", str(tmp_path / name), *arguments]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_arrays_that_do_not_fit_together(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", x=np.ones((3, 2)), y=np.ones(4))
    assert main(["train", str(tmp_path / "a.npz")]) == 1
    assert "with a row for each sample in" in capsys.readouterr().err


def test_bad_rows_to_tell_are_named(run, tmp_path, capsys):
    model, path = str(run / "model.safetensors"), write(tmp_path / "other.csv", 20)
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join(
            [
                *lines[:5],
                lines[5].replace(",no,", ",maybe,").replace(",yes,", ",maybe,"),
                *lines[6:],
            ]
        )
    )
    assert main(["evaluate", model, str(path)]) == 1
    assert f"in row 5 of {path}" in capsys.readouterr().err
    path.write_text("price,day\n1,2024-01-01\n")
    assert main(["predict", model, str(path)]) == 1
    assert "wanted a column 'color'" in capsys.readouterr().err


def test_a_network_without_columns(table, tmp_path, capsys):
    xpnn.Network([xpnn.Dense(2)], (3,)).save(tmp_path / "net.safetensors")
    for command in ("evaluate", "predict"):
        assert main([command, str(tmp_path / "net.safetensors"), str(table)]) == 2
        assert "holds a network without Columns" in capsys.readouterr().err


def test_probabilities_of_numbers_are_refused(table, tmp_path, capsys):
    arguments = ["--target", "amount", *ARGUMENTS, "--epochs", "1", "--out", str(tmp_path)]
    assert main(["train", str(table), *arguments]) == 0
    model = str(tmp_path / "model.safetensors")
    assert main(["predict", model, str(table), "--probabilities"]) == 2
    assert main(["predict", model, str(table), "-o", str(tmp_path / "told.txt")]) == 2
    assert "ends in .csv, .jsonl or .parquet" in capsys.readouterr().err


def test_whoever_reads_may_stop(run, table):
    command = f"{sys.executable} -m xpnn predict {run / 'model.safetensors'} {table} --keep all"
    script = f"set -o pipefail; {command} | head -n 1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("id,price,color")
    assert done.stderr == ""


def test_onnx_of_a_table(run, table, tmp_path, capsys):
    """onnxruntime, given what the columns make of the rows, says what ``predict`` writes."""
    runtime = pytest.importorskip("onnxruntime", reason="it runs what was exported")
    pytest.importorskip("onnx", reason="it writes the file")
    model, out = str(run / "model.safetensors"), tmp_path / "sales.onnx"
    assert main(["export", model, str(out), "--probabilities", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == out.stat().st_size
    assert main(["predict", model, str(table), "--probabilities"]) == 0
    told = [float(row["P(yes)"]) for row in read(capsys.readouterr().out)]
    from pyarrow import csv as arrow_csv

    columns = xpnn.load(model).attachments["columns"]
    session = runtime.InferenceSession(out)
    x = columns.transform(arrow_csv.read_csv(table))
    (found,) = session.run(None, {session.get_inputs()[0].name: x})
    np.testing.assert_allclose(found[:, 1], told, rtol=1e-4, atol=1e-6)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["xpnn.classes"]) == ["no", "yes"]
    assert json.loads(metadata["xpnn.features"]) == columns.feature_names
