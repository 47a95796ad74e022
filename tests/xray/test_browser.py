"""The page in a real browser: layers, steps, keys and the slider; errors and axe-core's rules.

It needs Chromium with its driver, and the extra ``browser``; ``make docs-check`` runs it.
"""

import dataclasses
import re
import shutil
import threading
from importlib.util import find_spec

import numpy as np
import pytest

from xpnn import (
    LSTM,
    SGD,
    Adam,
    Concatenate,
    Conv2D,
    Dense,
    Flatten,
    Input,
    MaxPool2D,
    MultiHeadAttention,
    Network,
    Residual,
    Trainer,
    explain,
)
from xpnn.xray.page import as_json
from xpnn.xray.recording import explanation_of, recorded_step
from xpnn.xray.serving import Server

webdriver = pytest.importorskip("selenium.webdriver")
keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
WebDriverWait = pytest.importorskip("selenium.webdriver.support.wait").WebDriverWait

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
DRIVER = shutil.which("chromedriver")
SWITCHES = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-quic"),
)
WIDE, NARROW = 1280, 390
SIDES, EDGES = ("offsetWidth", "offsetHeight"), ("top", "left")

VARIED = ("nand", "images", "attention", "broken", "empty", "gated")
"""Pages that are looked at whole."""

REACH = """
const isReached = (one) => {
  for (let up = one; up; up = up.parentElement) {
    if (getComputedStyle(up).overflowX === 'auto') return true;
  }
  return one.getBoundingClientRect().right <= innerWidth;
};
return [...document.querySelectorAll('main *')].filter((one) => !isReached(one))
  .map((one) => one.outerHTML.slice(0, 80));
"""
"""What stands beyond the right edge, and cannot be scrolled to."""

pytestmark = [
    pytest.mark.host_only,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="there is no Chromium with its driver"),
]


def nand():
    """A net of 2, 2 and 1 units, at its first step."""
    net = Network([Dense(2, activation="sigmoid"), Dense(1, activation="sigmoid")], (2,), seed=1)
    x = np.asarray([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    return explain(net, x, np.asarray([[1], [1], [1], [0]], np.float32), "mse", SGD(0.5))


def images():
    """Three steps of a small network for images."""
    rng = np.random.default_rng(0)
    net = Network([Conv2D(6, 3), MaxPool2D(2), Flatten(), Dense(14)], (16, 16, 1), seed=0)
    x, y = rng.standard_normal((6, 16, 16, 1), np.float32), np.arange(6)
    trainer, steps = Trainer(net, "cross_entropy", Adam(1e-2), compile=False), []
    for number in (1, 2, 3):
        loss, rule, slots = trainer.loss, trainer.optimizer, trainer.opt_state
        layers, step = recorded_step(net, loss, rule, x, y, opt_state=slots, number=number)
        steps.append(step)
        trainer.step(x, y)
    return explanation_of(net, trainer.loss, trainer.optimizer, layers, steps)


def attention():
    """A layer of attention inside of another layer."""
    net = Network([Residual([MultiHeadAttention(2)]), Flatten(), Dense(2)], (14, 4), seed=0)
    x = np.random.default_rng(0).standard_normal((3, 14, 4), np.float32)
    return explain(net, x, np.asarray([0, 1, 0]), "cross_entropy")


def wide():
    """A layer of more weights than are shown."""
    net = Network([Dense(50)], (130,), seed=0)
    x = np.random.default_rng(0).standard_normal((4, 130), np.float32)
    return explain(net, x, np.arange(4), "cross_entropy")


def branches():
    """A graph of several ways, which is wider than a phone."""
    x = Input((3,), name="x")
    ways = [Dense(2)(x) for _ in range(4)]
    net = Network(inputs=x, outputs=Dense(2)(Concatenate()(ways)), seed=0)
    return explain(net, np.ones((2, 3), np.float32), np.asarray([0, 1]), "cross_entropy")


def broken():
    """A network whose second layer has an infinite weight."""
    net = Network([Dense(4), Dense(3), Dense(2)], (3,), seed=0)
    weights = net.numpy_arrays()
    weights["1.dense.weight"][1, 2] = np.inf
    net.load(weights)
    return explain(net, np.ones((2, 3), np.float32), np.asarray([0, 1]), "cross_entropy")


def skipped():
    """A step that did not call one of the layers."""
    net = Network([Dense(4), Dense(3), Dense(2)], (3,), seed=0)
    seen = explain(net, np.ones((2, 3), np.float32), np.asarray([0, 1]), "cross_entropy")
    step = seen.steps[0]
    called = {name: view for name, view in step.layers.items() if name != "1.dense"}
    step = dataclasses.replace(step, layers=called)
    return explanation_of(net, "cross_entropy", SGD(1.0), seen.layers, [step])


def empty():
    """A network without layers, between an input and the loss."""
    return explain(Network([], (2,)), [[1.0, 2.0]], [[1.0, 0.0]], "mse")


def gated():
    """A recurrent layer in front of one without a share that is saturated."""
    net = Network([LSTM(3), Dense(2)], (5, 4), seed=0)
    weights = net.numpy_arrays()
    weights["0.lstm.bias"][:] = [9.0] * 3 + [9.0, 0.0, 0.0] + [0.0] * 6
    net.load(weights)
    x = np.random.default_rng(0).standard_normal((2, 5, 4), np.float32) / 10
    return explain(net, x, np.asarray([0, 1]), "cross_entropy")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for make in (nand, images, attention, wide, branches, broken, skipped, empty, gated):
        with np.errstate(all="ignore"):
            make().to_html(folder / f"{make.__name__}.html")
    return folder


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in SWITCHES:
        options.add_argument(switch)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('browser')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield made
    made.quit()


class Page:
    """A page that is looked at; it has to end without a word on the console."""

    def __init__(self, driver, address, width=WIDE, colours="light"):
        self.driver = driver
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        scheme = {"features": [{"name": "prefers-color-scheme", "value": colours}]}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
        driver.get(address)

    def press(self, *pressed):
        for key in pressed:
            self.driver.switch_to.active_element.send_keys(key)

    def click(self, selector):
        self.driver.execute_script("arguments[0].click()", self.one(selector))

    def one(self, selector):
        return self.driver.find_element("css selector", selector)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def texts(self, selector):
        return [one.text for one in self.all(selector)]

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    @property
    def moment(self):
        return self.one("#moment").text

    def check_console(self):
        assert [one["message"] for one in self.driver.get_log("browser")] == []


@pytest.fixture
def opened(driver, pages):
    made = []

    def go(name, **options):
        made.append(Page(driver, (pages / f"{name}.html").as_uri(), **options))
        return made[-1]

    yield go
    made[-1].check_console()


def test_arrow_keys_go_through_a_whole_step(opened):
    page = opened("nand")
    seen = [page.moment]
    for _ in range(9):
        page.press(keys.ARROW_RIGHT)
        seen.append(page.moment)
    inner, outer = ["0.dense", "0.dense.activation"], ["1.dense", "1.dense.activation"]
    forward = [f"Forward: {name}" for name in inner + outer]
    backward = [f"Backward: {name}" for name in reversed(inner + outer)]
    wanted = [*forward, "Loss", *backward, "Update of the parameters"]
    assert seen == [f"{words} ({k} of 10)" for k, words in enumerate(wanted, 1)]
    page.press(keys.ARROW_RIGHT, keys.ARROW_LEFT)
    assert page.moment == "Backward: 0.dense (9 of 10)"
    page.press(keys.ARROW_DOWN)
    assert page.moment == "Backward: 0.dense.activation (8 of 10)"


def test_a_click_on_a_layer_shows_its_arrays(opened):
    page = opened("nand")
    for name in ("0.dense", "1.dense"):
        page.click(f'[data-layer="{name}"]')
        assert page.one("#detail-title").text == name
        weight = nand().steps[0].layers[name].params["weight"]
        told = page.texts(".map:nth-child(2) td")
        numbers = [float(text.replace("\u2212", "-")) for text in told]
        np.testing.assert_allclose(numbers, weight.ravel(), rtol=1e-2)
    page.click(".phases .backward")
    assert page.moment.startswith("Backward: 1.dense (")
    assert "dL/dW" in page.texts(".symbol")
    page.click(".phases .update")
    assert "\u0394W" in page.texts(".symbol")
    page.click('[data-layer="1.dense.activation"]')
    page.click(".phases .forward")
    assert page.texts(".symbol") == ["S", "Z"]  # as in the equations of a sigmoid


def test_a_layer_that_the_step_did_not_call_stays_where_it_is(opened):
    page = opened("skipped")
    page.click('[data-layer="2.dense"]')
    moment = page.moment
    page.click('[data-layer="1.dense"]')
    assert page.moment == moment
    assert page.one("#detail-title").text == "2.dense"


def test_a_network_without_layers_is_its_input_and_the_loss(opened):
    page = opened("empty")
    assert page.texts(".end") == ["x", "loss 2"]
    page.press(keys.ARROW_RIGHT, keys.ARROW_DOWN, keys.ARROW_LEFT)
    assert page.moment == "Loss (1 of 1)"
    assert page.texts(".symbol") == ["y"]


def test_gates_are_told_one_by_one(opened):
    page = opened("gated")
    told = page.texts('[data-title="saturated"]')
    assert told == ["i 100 % f 33.3 % g 0 % o 0 %", "\u2013"]
    assert page.texts('[data-title="saturated"] .caution') == ["i 100 %"]


def test_equations_are_set_as_mathematics(opened):
    page = opened("nand")
    for phase in ("forward", "backward"):
        page.click(f".phases .{phase}")
        lines = getattr(nand().layers[0], phase)
        assert len(lines) > 0
        spoken = [one.get_attribute("aria-label") for one in page.all(".equations [role=math]")]
        assert spoken == [*lines]
        parts = [
            len(re.split(" {3,}", line)) for line in lines
        ]  # which may stand in lines of their own
        assert len(page.all(".equations math")) == sum(parts)
        heights = [one.size["height"] for one in page.all(".equations math")]
        assert min(heights) > 10


def test_a_number_is_told_with_the_numbers_that_make_it(opened):
    page = opened("nand")
    page.click('[data-layer="1.dense"]')
    page.run("document.querySelectorAll('.grid')[3].rows[3].cells[0].focus()")
    view = nand().steps[0].layers["1.dense"]
    wanted = (view.inputs[0] @ view.params["weight"] + view.params["bias"])[3, 0]
    told = page.one(".sum").text.replace("\u2212", "-")
    assert told.startswith("S[3, 0] = ")
    assert float(told.rpartition("= ")[2]) == pytest.approx(wanted, rel=1e-3)
    assert len(page.all(".marked")) == 5  # a row of Z, a column of W, a number of b


def test_keys_lead_from_cell_to_cell(opened):
    page = opened("nand")
    page.run("document.querySelector('.grid td').focus()")
    page.press(keys.ARROW_DOWN, keys.ARROW_RIGHT)
    assert page.texts(".readout")[0] == "[1, 1] = 1"
    assert page.moment.startswith("Forward: 0.dense (1 of")  # the step stays where it is
    page = opened("attention")
    page.run("document.querySelector('.stage').focus()")
    page.press(keys.ARROW_DOWN)
    array = attention().steps[0].layers["0.residual"].inputs[0]
    told = page.texts(".readout")[0].replace("\u2212", "-")
    assert told.startswith("[0, 1, 0] = ")
    assert float(told.partition("= ")[2]) == pytest.approx(array[0, 1, 0], rel=1e-6)


def test_of_what_is_large_the_index_is_that_in_the_whole(opened):
    page = opened("wide")
    weight = wide().steps[0].layers["0.dense"].params["weight"]
    page.run("document.querySelectorAll('.stage')[1].focus()")
    page.press(keys.ARROW_DOWN, keys.ARROW_RIGHT)
    told = page.texts(".readout")[1].replace("\u2212", "-")
    assert told.startswith("[2, 1] = ")
    assert float(told.partition("= ")[2]) == pytest.approx(weight[2, 1], rel=1e-6)
    assert "65 \u00d7 50 of them (axis 0: 1 of 2)" in page.one("figure:nth-child(2)").text
    norm = float(np.linalg.norm(weight))
    assert f"norm {norm:.3g}" in page.one("figure:nth-child(2) .statistics").text


def test_a_layer_opens_and_shows_what_is_inside(opened):
    page = opened("attention")
    inner = '[data-layer="0.residual.body.0.multiheadattention"]'
    for name in ("0.residual", "0.residual.body"):
        if page.one(f'[data-toggle="{name}"]').get_attribute("aria-expanded") == "false":
            page.click(f'[data-toggle="{name}"]')
    page.click(inner)
    axes = page.texts(".axes")
    assert any("query" in one and "key" in one and "head" in one for one in axes)
    page.click('[data-toggle="0.residual"]')
    assert page.all(inner) == []


def test_images_are_maps_of_channels_that_grow(opened):
    page = opened("images")
    assert "a map for each channel" in page.texts(".axes")[0]
    before = page.one("canvas:not(.strip)").size["width"]
    page.click('.map [aria-label="Larger"]')
    assert page.one("canvas:not(.strip)").size["width"] > before
    page.click("details summary")
    assert len(page.all("details[open] td")) == 16 * 16


def test_the_slider_leads_over_the_steps(opened):
    page = opened("images")
    steps = images().steps
    page.one("#step").send_keys(keys.ARROW_RIGHT)
    assert f"Step 2, loss {steps[1].loss:.4g}" in page.one(".now-step").text
    page.one("#step").send_keys(keys.ARROW_RIGHT)
    assert page.one(".now-step").text.endswith("(3 of 3 that were looked into)")


def test_it_says_where_nan_began(opened):
    page = opened("broken")
    assert "1.dense, weight, on the way forward" in page.one("#banner").text
    assert page.texts(".origin .name") == ["1.dense"]
    page.click("#banner button")
    assert page.moment.startswith("Forward: 1.dense (")


def test_the_window_is_shown_that_a_number_is_made_of(opened):
    page = opened("images")
    page.run("document.querySelectorAll('.stage')[2].focus()")  # the output of Conv2D(6, 3)
    page.press(keys.ARROW_RIGHT, keys.ARROW_DOWN, keys.ARROW_DOWN)
    assert page.texts(".readout")[-1].startswith("[0, 2, 1, 0] = ")
    (band,) = page.all(".band")
    (pixels,) = {page.run(f"return arguments[0].{side} / 3", band) for side in SIDES}
    place = [page.run(f"return parseFloat(arguments[0].style.{side})", band) for side in EDGES]
    assert place == [2 * pixels, 1 * pixels]


@pytest.mark.parametrize(
    ("options", "keys_pressed", "rows", "cols"),
    [
        ({"stride": 2}, (3, 2), (1, 2), (0, 2)),  # of the windows 0-2, 2-4, ... 3 is in one
        ({"padding": "same"}, (0, 1), (0, 2), (0, 3)),
        ({"dilation": 2}, (5, 0), (1, 6), (0, 1)),
    ],
    ids=str,
)
def test_the_outputs_are_shown_that_read_a_pixel(
    driver, tmp_path, options, keys_pressed, rows, cols
):
    net = Network([Conv2D(1, 3, **options), Flatten()], (30, 30, 1), seed=0)
    x = np.zeros((2, 30, 30, 1), np.float32)
    seen = explain(net, x, np.zeros((2, *net.output_shape)), "mse")
    seen.to_html(tmp_path / "page.html")
    page = Page(driver, (tmp_path / "page.html").as_uri())
    page.run("document.querySelector('.stage').focus()")
    page.press(*[keys.ARROW_DOWN] * keys_pressed[0], *[keys.ARROW_RIGHT] * keys_pressed[1])
    (band,) = page.all(".band")
    pixels = (
        page.run("const stage = arguments[0].closest('.stage'); return stage.offsetWidth", band)
        / seen.steps[0].layers["0.conv2d"].output.shape[2]
    )
    ends = [
        page.run(f"return parseFloat(arguments[0].style.{side})", band) / pixels
        for side in ("top", "height", "left", "width")
    ]
    assert ends == pytest.approx([rows[0], rows[1] - rows[0], cols[0], cols[1] - cols[0]])
    page.check_console()


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize(
    "name", ["nand", "images", "attention", "branches", "broken", "empty", "gated"]
)
def test_nothing_is_cut_off(opened, name, width):
    page = opened(name, width=width)
    for _ in range(3):
        assert page.run("return document.documentElement.scrollWidth <= innerWidth")
        assert page.run(REACH) == []
        page.press(keys.ARROW_RIGHT)


@pytest.mark.skipif(not find_spec("axe_selenium_python"), reason="needs axe-selenium-python")
@pytest.mark.parametrize(("width", "colours"), [(WIDE, "light"), (NARROW, "dark")])
@pytest.mark.parametrize("name", VARIED)
def test_axe_finds_nothing(opened, name, width, colours):
    from axe_selenium_python import Axe

    page = opened(name, width=width, colours=colours)
    axe = Axe(page.driver)
    axe.inject()
    for moved in (0, 6, 20):  # forward, the loss or backward, the update
        page.press(*[keys.ARROW_RIGHT] * moved)
        found = axe.run(options={"resultTypes": ["violations"]})["violations"]
        assert not found, axe.report(found)


def test_a_page_follows_a_run(driver, pages, tmp_path):
    with Server(tmp_path) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        page = Page(driver, server.url)
        waiting = WebDriverWait(driver, 20)
        waiting.until(lambda _: "waits for the first step" in page.one("#following").text)
        page.press(keys.ARROW_RIGHT)  # there is nothing to go through
        whole = images()
        for steps in (whole.steps[:2], whole.steps):
            seen = dataclasses.replace(whole, steps=steps)
            (tmp_path / "xray.json").write_text(as_json(seen.data()))
            words = f"{len(steps)} of {len(steps)} that were looked into"
            waiting.until(lambda _, words=words: words in page.one(".now-step").text)
        server.shutdown()
        thread.join()
    page.check_console()
