"""``xpnn xray``: the page of a step by a model and data, and the page that follows a run."""

import csv
import http.client
import itertools
import json
import socket
import threading
from pathlib import Path

import numpy as np
import pytest

import xpnn
from xpnn.cli import main
from xpnn.xray.page import page
from xpnn.xray.serving import Server

pytestmark = pytest.mark.host_only


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    """A folder with a model and its data, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    xpnn.Network([xpnn.Dense(3)], (4,), seed=0).save("net.safetensors")
    np.savez("data.npz", x=rng.standard_normal((50, 4), np.float32), y=np.arange(50) % 3)
    return tmp_path


def held_in(path):
    """The data of a page."""
    text = path.read_text("utf8").partition('<script type="application/json" id="xray">')[2]
    return json.loads(text.partition("</script>")[0])


def test_it_writes_the_page_of_a_step(folder, capsys):
    assert main(["xray", "net.safetensors", "data.npz", "-o", "page.html", "--rows", "20"]) == 0
    x, y = (np.load("data.npz")[name][:20] for name in "xy")
    seen = xpnn.explain(xpnn.load("net.safetensors"), x, y, "cross_entropy", xpnn.Adam(1e-3))
    assert (folder / "page.html").read_text("utf8") == page(seen.data())
    shown = capsys.readouterr().out
    assert shown.startswith(f"one step on 20 rows: cross_entropy {seen.steps[0].loss:.6g}, 1 layer")
    assert "wrote page.html" in shown


def test_what_is_asked_for_is_done(folder, capsys):
    command = ["xray", "net.safetensors", "numbers.npz", "--loss", "huber", "--json"]
    np.savez("numbers.npz", x=np.ones((5, 4)), y=np.zeros((5, 3)))
    assert main([*command, "--optimizer", "sgd", "--rate", "0.5"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["file"], record["rows"], record["loss_name"]) == ("xray.html", 5, "huber")
    assert record["bytes"] == (folder / "xray.html").stat().st_size
    assert held_in(folder / "xray.html")["optimizer"].startswith("SGD(rate=0.5")


def test_a_picture_is_drawn_where_a_file_is_called_so(folder):
    assert main(["xray", "net.safetensors", "data.npz", "-o", "step.svg"]) == 0
    assert "<title>0.dense: Dense(3)</title>" in (folder / "step.svg").read_text("utf8")


def test_of_several_inputs_and_outputs_arrays_go_by_name(folder):
    left, right = xpnn.Input((2,), name="left"), xpnn.Input((3,), name="right")
    both = xpnn.Concatenate()([left, right])
    outputs = {"sum": xpnn.Dense(1)(both), "kind": xpnn.Dense(2)(both)}
    xpnn.Network(inputs=[left, right], outputs=outputs).save("graph.safetensors")
    arrays = {"left": np.ones((4, 2)), "right": np.ones((4, 3)), "sum": np.ones((4, 1))}
    np.savez("graph.npz", **arrays, kind=np.zeros((4, 2)))
    assert main(["xray", "graph.safetensors", "graph.npz"]) == 0
    assert held_in(folder / "xray.html")["inputs"] == ["left", "right"]


def test_a_model_of_xpnn_train_takes_a_table(folder, capsys):
    pytest.importorskip("pyarrow", reason="CSV files are read by pyarrow")
    rows = [[size, "ab"[size % 2], size % 2] for size in range(40)]
    with open("table.csv", "w", newline="") as file:
        csv.writer(file).writerows([["size", "shop", "sold"], *rows])
    command = ["train", "table.csv", "--target", "sold", "--task", "classes", "--epochs", "1"]
    assert main([*command, "--quiet", "--out", "run"]) == 0
    assert main(["xray", "run/model.safetensors", "table.csv", "--rows", "8"]) == 0
    assert "one step on 8 rows: cross_entropy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "name a model and data to look into a step, or a run by --watch FOLDER"),
        (["net.safetensors"], "name a model and data"),
        (["net.safetensors", "data.csv"], "wanted a file that ends in .npz, got data.csv"),
        (
            ["net.safetensors", "data.npz", "-o", "a.png"],
            "or a picture, that ends in .svg, got a.png",
        ),
        (["net.safetensors", "z.npz"], "wanted arrays x, y in z.npz, got z; name them so"),
        (["net.safetensors", "one.npz"], "wanted a row for each sample in one.npz, got one number"),
        (
            ["net.safetensors", "--watch", "."],
            "there is no use for MODEL beside --watch, which follows a run; leave out",
        ),
        (
            ["net.safetensors", "data.npz", "--watch", ".", "--decimal-point", ",", "-o", "a.svg"],
            "no use for MODEL, DATA, --out, --decimal-point beside",
        ),
        (["net.safetensors", "data.npz", "--port", "80"], "--port is of a page that follows a run"),
        (["--watch", ".", "--port", "70000"], "wanted a port of at most 65535, got 70000"),
    ],
)
def test_what_makes_no_sense_is_said(folder, given, told, capsys):
    np.savez("z.npz", z=np.ones(3))
    np.savez("one.npz", x=np.ones((3, 4)), y=np.float32(1))
    assert main(["xray", *given]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["net.safetensors", "missing.npz"], "missing.npz"),
        (["net.safetensors", "text.npz"], "wanted arrays of numbers in text.npz"),
        (["net.safetensors", "wide.npz"], "(5, 9)"),
        (["--watch", "nowhere"], "wanted the folder of a run, but there is none at nowhere"),
    ],
)
def test_what_cannot_be_read_fails_in_a_line(folder, given, told, capsys):
    (folder / "text.npz").write_text("no arrays")
    np.savez("wide.npz", x=np.ones((5, 9)), y=np.zeros(5, int))
    assert main(["xray", *given]) == 1
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1


TABLE = ["table.csv", "--target", "sold", "--task", "classes", "--batch-size", "8"]


@pytest.mark.parametrize("data", [TABLE, []], ids=["table", "digits"])
def test_a_training_writes_what_a_page_may_follow(folder, data):
    if data:
        pytest.importorskip("pyarrow", reason="CSV files are read by pyarrow")
        rows = [[size, size % 2] for size in range(40)]
        with open("table.csv", "w", newline="") as file:
            csv.writer(file).writerows([["size", "sold"], *rows])
    assert main(["train", *data, "--epochs", "2", "--quiet", "--xray", "3", "--out", "run"]) == 0
    held = json.loads((folder / "run" / "xray.json").read_text("utf8"))
    numbers = [step["number"] for step in held["steps"]]
    assert numbers[0] == 1
    assert 3 <= len(numbers) <= 20
    assert len({(b - a) % 3 for a, b in itertools.pairwise(numbers)} - {0}) == 0
    if data:
        assert "xray = 3" in (folder / "run" / "run.toml").read_text("utf8")


# Watching -----------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path) as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_a_port_that_is_taken_is_told_with_what_to_write(server, folder, capsys):
    assert main(["xray", "--watch", ".", "--port", str(server.server_port)]) == 2
    said = capsys.readouterr().err
    assert f"port {server.server_port} is taken; write another one, or --port 0 for any" in said
    with Server(Path("."), 0) as other:
        assert other.server_port != server.server_port


def ask(server, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, content.decode()


def test_one_that_goes_before_its_answer_is_there_is_not_told_of(server, tmp_path, capsys):
    """Else each page that is closed at the wrong time fills the terminal."""
    (tmp_path / "xray.json").write_bytes(b"0" * 30_000_000)  # more than is under way at once
    with socket.create_connection(("127.0.0.1", server.server_port)) as asks:
        asks.sendall(b"GET /data.json HTTP/1.0\r\nHost: localhost:1\r\n\r\n")
        asks.recv(1)
    while threads := [one for one in threading.enumerate() if "process_request" in one.name]:
        threads[0].join()
    assert ask(server, "/")[0].status == 200
    assert capsys.readouterr().err == ""


def test_the_page_follows_what_is_written(server, tmp_path):
    answer, text = ask(server, "/")
    assert (answer.status, text) == (200, page({}, source="data.json"))
    assert ask(server, "/data.json")[0].status == 204
    (tmp_path / "xray.json").write_text('{"steps": 1}')
    answer, text = ask(server, "/data.json")
    assert (answer.status, text) == (200, '{"steps": 1}')
    mark = {"If-None-Match": answer.headers["ETag"]}
    assert ask(server, "/data.json", **mark)[0].status == 304
    (tmp_path / "xray.json").write_text('{"steps": 12}')
    assert ask(server, "/data.json", **mark)[1] == '{"steps": 12}'


def test_it_serves_nothing_else_and_nobody_else(server, tmp_path):
    (tmp_path / "model.safetensors").write_text("of the run")
    for path in ("/model.safetensors", "/../data.json", "/xray.json"):
        assert ask(server, path)[0].status == 404
    for host in ("example.org", f"example.org:{server.server_port}", ""):
        assert ask(server, "/", Host=host)[0].status == 403
    for host in (f"localhost:{server.server_port}", "localhost", "127.0.0.1"):
        assert ask(server, "/", Host=host)[0].status == 200
    assert server.server_address[0] == "127.0.0.1"
