"""A notebook that is run: what stands below its cells."""

import importlib.util
import re
from pathlib import Path

import pytest

pytestmark = [pytest.mark.host_only, pytest.mark.by_what_is_installed]

ROOT = Path(__file__).parent.parent
CELLS = [
    """import xpnn
from xpnn import Adam, Dense, Network, Trainer
x, y = xpnn.datasets.digits()
net = Network([Dense(10)], input_shape=(64,), seed=1)
net""",
    """trainer = Trainer(net, "cross_entropy", Adam(1e-2))
history = trainer.fit(x, y, epochs=3, batch_size=100)""",
    "history",
    "trainer.summary()",
]


@pytest.fixture(scope="module")
def outputs():
    """Of each cell, what was shown."""
    nbclient = pytest.importorskip("nbclient", reason="it runs the notebook")
    pytest.importorskip("ipykernel", reason="it runs the cells of the notebook")
    import nbformat

    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    setup = f"import sys; sys.path.insert(0, {str(ROOT)!r})"
    cells.insert(0, nbformat.v4.new_code_cell(setup))
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return [cell["outputs"] for cell in notebook["cells"][1:]]


def shown(outputs, kind):
    """What of a kind a cell has shown as its value."""
    return [one["data"][kind] for one in outputs if kind in one.get("data", {})]


def streams(outputs):
    return {one["name"]: one["text"] for one in outputs if one["output_type"] == "stream"}


def test_networks_histories_and_summaries_are_tables(outputs):
    network, _, history, summary = outputs
    assert "parameters: 650, of which 650 are trained" in shown(network, "text/html")[0]
    assert "history of 3 epochs" in shown(history, "text/html")[0]
    assert "multiply-adds: 640 a sample" in shown(summary, "text/html")[0]


def test_fit_shows_lines_and_one_bar_and_no_errors(outputs):
    text = "".join(one["text"] for one in outputs[1] if one["output_type"] == "stream")
    assert {*streams(outputs[1])} == {"stdout"}
    assert re.findall(r"epoch (\d)/3: 18 steps in", text) == ["1", "2", "3"]
    bars = shown(outputs[1], "application/vnd.jupyter.widget-view+json")
    if importlib.util.find_spec("ipywidgets"):
        assert len(bars) == 1
    else:
        assert "epoch 1/3:   0%|" in text
