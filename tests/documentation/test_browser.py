"""The built documentation in a real browser: what is found, what is cut off, what is loaded.

``make docs-check`` builds it and runs this. It needs Chromium with its driver.
"""

import contextlib
import functools
import json
import os
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

webdriver = pytest.importorskip("selenium.webdriver")
wait = pytest.importorskip("selenium.webdriver.support.wait")
axe = pytest.importorskip("axe_selenium_python")

ROOT = Path(__file__).parent.parent.parent
SITE = Path(os.environ.get("XPNN_SITE", ROOT / "site"))
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
DRIVER = shutil.which("chromedriver")
SWITCHES = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-quic"),
)
WIDE, NARROW, HEIGHT = 1280, 390, 900
RELEASES = [
    {"version": "1.1", "title": "1.1", "aliases": ["latest"]},
    {"version": "1.0", "title": "1.0", "aliases": []},
]

pytestmark = [
    pytest.mark.host_only,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="there is no Chromium with its driver"),
    pytest.mark.skipif(not (SITE / "index.html").is_file(), reason="make docs has not built it"),
]

FOUND = {  # what is typed, and where the first answer may lie
    "early stopping": "how-to/early-stopping/",
    "cross validation": "how-to/cross-validation/",
    "confusion matrix": "how-to/confusion-matrix/",
    "transfer learning": "tutorials/fine-tuning/",
    "onnx": "onnx/",
    "multi-gpu": "distributed/",
    "how to install": "install/",
    "save a model": "saving/",
    "load pytorch weights": ("saving/", "tutorials/from-pytorch/", "faq/", "api/saving/"),
    "loss is nan": "how-to/loss-is-nan/",
    "overfitting": ("faq/", "how-to/early-stopping/"),
    "learning rate schedule": "how-to/learning-rate/",
    "out of memory": "how-to/out-of-memory/",
    "class weights": ("how-to/imbalanced-classes/", "training/"),
    "custom layer": "tutorials/own-layer/",
    "pandas dataframe": ("tutorials/tables/", "tables/"),
    "probabilities": ("faq/", "outputs/"),
    "reproducible": "faq/",
    "train a neural network": "tutorials/",
    "gpu": ("tutorials/gpu/", "gpu/"),
    "what is backpropagation": "book/",
    "plot loss": "logging/",
    "predict new data": ("faq/", "tutorials/tables/"),
    "image classification": "tutorials/images/",
    "batch size": ("faq/", "how-to/out-of-memory/"),
    "activation function": "faq/",
    "freeze layers": "tutorials/fine-tuning/",
    "regression": "tutorials/tables/",
    "time series": "tutorials/sequences/",
    "Dense": "api/layers/Dense/",
    "cross_entropy": "api/losses/cross_entropy/",
}
SHOWN = ["", "tutorials/images/", "api/layers/Dense/", "book/four-equations/", "gallery/"]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where the site is served as one release of two, on the loopback address."""
    released = tmp_path_factory.mktemp("released")
    (released / "versions.json").write_text(json.dumps(RELEASES))
    for one in RELEASES:
        (released / one["version"]).symlink_to(SITE.resolve())

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=released)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/1.1/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.page_load_strategy = "eager"  # pictures are as wide as there is room
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def resized(browser, width):
    """The browser at a width that phones have, too, which windows have not."""
    screen = {"width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    return browser


@contextlib.contextmanager
def unsearched(browser):
    """Inside, no page makes the index of its search, which is most of the work of opening it."""
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/search_index.json"]})
    yield
    browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    browser.get_log("browser")  # which tells that the index is missing


def in_dark(browser, dark):
    feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    return browser


def pages():
    """The addresses of all pages, but that for what is not found."""
    return sorted(
        path.parent.relative_to(SITE).as_posix().removeprefix(".")
        for path in SITE.rglob("index.html")
    )


@pytest.mark.parametrize("typed", FOUND)
def test_the_first_answer_is_right(browser, address, typed):
    resized(browser, WIDE).get("about:blank")
    browser.get(f"{address}?q={typed.replace(' ', '+')}")
    first = wait.WebDriverWait(browser, 60).until(
        lambda it: it.execute_script(
            "return document.querySelector('a.md-search-result__link')?.getAttribute('href')"
        )
    )
    assert first.removeprefix(address).removeprefix("./").startswith(FOUND[typed]), first


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_no_page_is_wider_than_the_screen(browser, address, width):
    others = [page for page in pages() if not page.startswith("api/")]
    assert not wider_than(width, others, browser, address)


def test_no_page_of_the_api_is_wider_than_a_phone(browser, address):
    """There are some 300 of them, and they are alike, so on a desk they are not looked at."""
    api = [page for page in pages() if page.startswith("api/")]
    assert len(api) > 200
    assert not wider_than(NARROW, api, browser, address)


def wider_than(width, some, browser, address):
    """Pages that do not fit on a screen, and how wide they are."""
    wide = {}
    with unsearched(resized(browser, width)):
        for page in some:
            browser.get(address + page + ("/" if page else ""))
            size = browser.execute_script("return document.documentElement.scrollWidth")
            if size > width:
                wide[page] = size
    return wide


def test_nothing_comes_from_elsewhere_and_nothing_fails(browser, address):
    for page in SHOWN:
        browser.get(address + page)
        loaded = browser.execute_script(
            "return performance.getEntriesByType('resource').map(one => one.name)"
        )
        ours = (address, address.replace("1.1/", "versions.json"), "data:")
        assert [one for one in loaded if not one.startswith(ours)] == []
    errors = [one for one in browser.get_log("browser") if one["level"] == "SEVERE"]
    assert errors == []


def test_readers_choose_a_release(browser, address):
    resized(browser, WIDE).get(address + "install/")
    chosen = wait.WebDriverWait(browser, 30).until(
        lambda it: it.execute_script(
            "return [...document.querySelectorAll('.md-version__link')].map(one => one.href)"
        )
    )
    assert chosen == [address, address.replace("/1.1/", "/1.0/")]
    current = "return document.querySelector('.md-version__current').textContent.trim()"
    assert browser.execute_script(current).startswith("1.1")


def test_formulas_are_set_in_type(browser, address):
    browser.get(address + "book/four-equations/")
    wait.WebDriverWait(browser, 30).until(
        lambda it: it.execute_script(
            "return [...document.querySelectorAll('.arithmatex')].every("
            "one => one.querySelector('.katex') && !one.querySelector('.katex-error'))"
        )
    )


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("page", SHOWN[:4])
def test_readable_by_all(browser, address, page, dark):
    """By axe-core's rules of the two upper degrees, but for the theme's own switches."""
    in_dark(resized(browser, WIDE), dark).get(address + page)
    browser.execute_script("localStorage.clear()")  # or what was shown first is kept
    browser.refresh()
    scheme = browser.execute_script("return document.body.dataset.mdColorScheme")
    assert scheme == ("slate" if dark else "default")
    browser.set_script_timeout(120)
    checker = axe.Axe(browser)
    checker.inject()
    found = checker.run({"include": [[".md-main"]]})["violations"]
    worst = [one for one in found if one["impact"] in ("serious", "critical")]
    assert not [(one["id"], node["target"], node["html"]) for one in worst for node in one["nodes"]]
