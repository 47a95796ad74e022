"""History: as lists, as a table of pandas or polars, as a picture, and in a notebook."""

import importlib
import math
import struct
from xml.etree import ElementTree

import numpy as np
import pytest

from xpnn import SGD, Accuracy, Callback, Dense, Network, Trainer, cross_entropy
from xpnn.training import History

pytestmark = pytest.mark.host_only

X, Y = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32), np.arange(40) % 3


class Late(Callback):
    """Measures something from the second epoch on, and puts in a text."""

    def on_epoch_end(self, state, logs):
        logs["<b>note</b>"] = "fine & dandy"
        if state.epoch > 1:
            logs["late"] = 1.0 * state.epoch


@pytest.fixture(scope="module")
def history():
    trainer = Trainer(Network([Dense(3)], (4,)), cross_entropy, SGD(0.1), metrics=[Accuracy()])
    return trainer.fit(X, Y, epochs=3, validation=0.25, callbacks=[Late()], progress=False)


def test_it_is_gone_through_as_a_dictionary_is(history):
    assert [*history] == history.keys() == [name for name, _ in history.items()]
    assert {name: history[name] for name in history} == dict(history.items())
    assert len(history) == 3
    assert "loss" in history
    assert "lost" not in history


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_table_has_a_row_for_each_epoch(history, library):
    pytest.importorskip(library, reason=f"to_frame({library!r}) makes a table of it")
    frame = history.to_frame() if library == "pandas" else history.to_frame(library)
    assert type(frame).__module__.split(".")[0] == library
    assert [*frame.columns] == [*history]
    assert frame.shape == (3, len([*history]))
    for name in ("epoch", "loss", "val_accuracy", "late"):
        np.testing.assert_array_equal(frame[name].to_numpy(), history[name])
    assert math.isnan(frame["late"][0])


def test_a_table_of_another_library_is_refused(history, monkeypatch):
    with pytest.raises(ValueError, match="'pandas' or 'polars', got 'arrow'"):
        history.to_frame("arrow")

    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ModuleNotFoundError, match="type: pip install pandas"):
        history.to_frame()


def test_the_picture_without_a_path_shows_the_numbers(history):
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib")
    figure = history.plot()
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert [*panels] == ["loss", "accuracy", "late"]
    trained, validated = panels["loss"].get_lines()
    np.testing.assert_array_equal(trained.get_ydata(), history["loss"])
    np.testing.assert_array_equal(validated.get_ydata(), history["val_loss"])
    shown = figure._repr_png_()  # by which a notebook shows it, whatever draws for pyplot there
    assert shown[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", shown[16:24]) == (1350, 360)


def test_a_path_gives_a_file_and_the_figure(history, tmp_path):
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib")
    assert history.plot(tmp_path / "curves").axes
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_many_numbers_stand_in_several_rows():
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib")
    history = History()
    history.epochs = [{"epoch": 1, **{f"number{k}": 1.0 for k in range(7)}}]
    width, height = history.plot().get_size_inches()
    assert (width, height) == pytest.approx((13.5, 10.8))


def test_no_epoch_is_no_picture():
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib")
    with pytest.raises(ValueError, match="at least one epoch to draw, got none; train first"):
        History().plot()


def test_a_notebook_shows_a_row_and_a_curve_for_each_number(history):
    page = ElementTree.fromstring(history._repr_html_())
    rows = [[cell for cell in row] for row in page.iter("tr")][1:]
    assert [row[0].text for row in rows] == [
        *("loss", "val_loss", "val_accuracy", "rate", "late"),
    ]
    losses = history["loss"]
    shown = [float(cell.text) for cell in rows[0][1:5]]
    wanted = [losses[0], losses[-1], min(losses), max(losses)]
    assert shown == pytest.approx(wanted, rel=1e-3)
    points = rows[0][5].find(".//polyline").get("points").split()
    x, y = np.array([list(map(float, point.split(","))) for point in points]).T
    assert np.ptp(np.diff(x)) < 0.2
    assert np.corrcoef(y, losses)[0, 1] == pytest.approx(-1.0, abs=1e-3)  # up is less in a picture
    assert rows[4][1].text == "nan"
    assert "<b>" not in history._repr_html_()


def test_a_history_of_nothing_is_shown_too():
    assert "history of 0 epochs" in History()._repr_html_()
