"""What holds for every test, the examples in docstrings too: its order, and a clean registry."""

import gc
import random
from collections.abc import Generator, Iterator
from importlib.util import find_spec

import pytest

from xpnn.layers.registration import KINDS

collect_ignore = [] if find_spec("sklearn") else ["xpnn/sklearn"]
"""What cannot be imported here, for the examples in its docstrings."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--shuffle", type=int, metavar="SEED", help="run files, and tests in them, in another order"
    )
    parser.addoption("--passed-to", metavar="FILE", help="write down which tests pass")
    parser.addoption("--passed-in", metavar="FILE", help="leave out those that passed there")
    parser.addoption(
        "--first-case-on",
        metavar="SPECS",
        default="",
        help="run one case there of tests that are no contract",
    )
    parser.addoption(
        "--networks", type=int, metavar="N", help="random networks to compare with PyTorch's"
    )
    parser.addoption("--networks-seed", type=int, default=0, metavar="SEED", help="the first one")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None]:
    """Without garbage collection: tests by the thousand are no garbage, then and later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Shuffle the files, and the tests of each: one seed is one order, in every worker."""
    seed = config.getoption("--shuffle")
    if seed is None:
        return
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(str(item.path), []).append(item)
    draw, order = random.Random(seed), list(files)
    draw.shuffle(order)
    for path in order:
        draw.shuffle(files[path])
    items[:] = [item for path in order for item in files[path]]


@pytest.fixture(autouse=True, scope="module")
def _imported_before() -> None:
    """What earlier files have imported is no garbage either: JAX and PyTorch are 300,000 objects.

    A collection that a test asks for, or a summary for a batch, takes a tenth of a second with it.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _registry_of_layers() -> Iterator[None]:
    """Put back what names of layers stand for: what one test registers is not there for others."""
    known = dict(KINDS)
    yield
    KINDS.clear()
    KINDS.update(known)
