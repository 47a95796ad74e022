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
TimeoutException = pytest.importorskip("selenium.common.exceptions").TimeoutException
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
TYPE = """
document.querySelectorAll('a.md-search-result__link').forEach((one) => one.remove());
const box = document.querySelector('[data-md-component=search-query]');
box.value = arguments[0];
box.dispatchEvent(new KeyboardEvent('keyup'));
"""
FIRST_ANSWER = "return document.querySelector('a.md-search-result__link')?.getAttribute('href')"
LEAVE_OUT_WHAT_IS_ALIKE = """
[...document.querySelectorAll('.arithmatex')].slice(5).forEach((one) => one.remove());
const seen = {};
for (const one of document.querySelectorAll('.highlight span[class]:not(:has(*))')) {
  seen[one.className] = (seen[one.className] ?? 0) + 1;
  if (seen[one.className] > 5) one.replaceWith(one.textContent);
}
"""
"""Formulas are of some hundred elements each, and words of code have few kinds."""
SIZE = "document.documentElement.scrollWidth"
FITS = f"return innerWidth === arguments[0] && {SIZE} <= innerWidth"
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


@pytest.fixture(scope="module")
def answers(browser, address):
    """The first answer to each search; all are typed into one page, which makes its index once."""
    resized(browser, WIDE).get(address)
    found = {}
    for typed in FOUND:
        browser.execute_script(TYPE, typed)
        waiting = wait.WebDriverWait(browser, 60, poll_frequency=0.05)
        found[typed] = waiting.until(lambda it: it.execute_script(FIRST_ANSWER), typed)
    return found


@pytest.mark.parametrize("typed", FOUND)
def test_the_first_answer_is_right(answers, address, typed):
    first = answers[typed].removeprefix(address).removeprefix("./")
    assert first.startswith(FOUND[typed])


def test_no_page_is_wider_than_the_screen(browser, address):
    others = [page for page in pages() if not page.startswith("api/")]
    assert len(others) > 50
    assert not wider_than([WIDE, NARROW], others, browser, address)


def test_no_page_of_the_api_is_wider_than_a_phone(browser, address):
    """There are some 300 of them, and they are alike, so on a desk they are not looked at."""
    api = [page for page in pages() if page.startswith("api/")]
    assert len(api) > 200
    assert not wider_than([NARROW], api, browser, address)


def wider_than(widths, some, browser, address):
    """Pages that do not fit on screens of some widths, and how wide they are."""
    wide = {}
    waiting = wait.WebDriverWait(browser, 10, poll_frequency=0.05)
    with unsearched(resized(browser, widths[0])):
        for page in some:
            browser.get(address + page + ("/" if page else ""))
            for width in widths:
                resized(browser, width)
                try:  # a page that is resized is too wide for a moment
                    waiting.until(lambda it, width=width: it.execute_script(FITS, width))
                except TimeoutException:
                    wide[page, width] = browser.execute_script(f"return {SIZE}")
            widths = widths[::-1]  # the next page is loaded at the width of this one
    return wide


def test_pages_of_layers_show_their_source():
    layers = [page for page in pages() if page.startswith("api/layers/")]
    texts = {page: (SITE / page / "index.html").read_text(encoding="utf-8") for page in layers}
    assert len(texts) > 90
    summary = "<summary><code>xpnn/layers/"
    assert [page for page, text in texts.items() if summary not in text] == []


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
    wait_for_formulas(browser)


def wait_for_formulas(browser):
    wait.WebDriverWait(browser, 30).until(
        lambda it: it.execute_script(
            "return [...document.querySelectorAll('.arithmatex')].every("
            "one => one.querySelector('.katex') && !one.querySelector('.katex-error'))"
        )
    )


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("page", SHOWN[:4])
def test_readable_by_all(browser, address, page, dark):
    """By axe-core's rules of the two upper degrees, but for the theme's own switches.

    In the dark by that of contrast, as others do not go by colours.
    """
    options = {"resultTypes": ["violations"]}
    if dark:
        options["runOnly"] = {"type": "rule", "values": ["color-contrast"]}
    kept = {"origin": address, "storageTypes": "local_storage"}  # the scheme that was shown first
    browser.execute_cdp_cmd("Storage.clearDataForOrigin", kept)
    with unsearched(in_dark(resized(browser, WIDE), dark)):
        browser.get(address + page)
    scheme = browser.execute_script("return document.body.dataset.mdColorScheme")
    assert scheme == ("slate" if dark else "default")
    browser.execute_script(LEAVE_OUT_WHAT_IS_ALIKE)
    wait_for_formulas(browser)
    browser.set_script_timeout(120)
    checker = axe.Axe(browser)
    checker.inject()
    found = checker.run({"include": [[".md-main"]]}, options)["violations"]
    worst = [one for one in found if one["impact"] in ("serious", "critical")]
    assert not [(one["id"], node["target"], node["html"]) for one in worst for node in one["nodes"]]
