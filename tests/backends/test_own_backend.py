"""CONTRIBUTING's "Add a backend", followed to the letter, for a library that xpnn does not know.

The library, ``newlib``, is array-api-strict under another name. Its arrays have no buffer, no
``__array__`` and no DLPack: only who knows the library can read them.
"""

import importlib.util
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import xpnn
from tests.backends import test_contract as contract
from xpnn import Accuracy, Adam, Dense, Dropout, Network, ReLU, Trainer
from xpnn.backends import BACKENDS, backend_of, get_backend
from xpnn.errors import DataError
from xpnn.saving import load_weights, save_weights

pytest.importorskip("array_api_strict")

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"
RECIPE = re.search(r"## Add a backend\n(.*?)\n## ", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]
(CODE,) = re.findall(r"```python\n(.*?)```", RECIPE, re.DOTALL)
PART_OF_XPNN, ONES_OWN = re.findall(
    r"^    (\S.*)$", re.sub(r"```.*?```", "", RECIPE, flags=re.S), re.M
)

X = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)

WITHOUT_PROTOCOLS = """
from ._array_object import Array

for name in ("__buffer__", "__array__", "__dlpack__", "__dlpack_device__"):
    delattr(Array, name)
Array.numpy = lambda self: self._array.copy()
"""


def install(folder):
    """newlib, as pip would leave it."""
    (source,) = importlib.util.find_spec("array_api_strict").submodule_search_locations
    ignored = shutil.ignore_patterns("tests", "__pycache__")
    shutil.copytree(source, folder / "newlib", ignore=ignored)
    for file in (folder / "newlib").glob("*.py"):
        file.write_text(file.read_text().replace("array_api_strict", "newlib"))
    with open(folder / "newlib" / "__init__.py", "a") as file:
        file.write(WITHOUT_PROTOCOLS)
    about = folder / "newlib-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: newlib\nVersion: 1.0\n")


@pytest.fixture
def installed(fresh, tmp_path):
    """A process in which newlib can be imported, and no backend knows it."""
    install(tmp_path)
    fresh.syspath_prepend(tmp_path)
    fresh.setattr(xpnn.backends, "__path__", [*xpnn.backends.__path__, str(tmp_path / "backends")])
    before = dict(BACKENDS)
    yield tmp_path
    BACKENDS.clear()
    BACKENDS.update(before)
    vars(xpnn.backends).pop("newlib", None)
    for name in list(sys.modules):
        if "newlib" in name.split(".") or name == "your_module":
            del sys.modules[name]


@pytest.fixture(params=["part of xpnn", "one's own"])
def newlib(request, installed):
    """The backend of newlib, after either form of the recipe."""
    if request.param == "part of xpnn":
        folder = installed / "backends" / "newlib"
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
        (folder / "backend.py").write_text(CODE)
        BACKENDS.update(eval("{" + PART_OF_XPNN + "}"))
    else:
        (installed / "your_module.py").write_text(CODE)
        exec(ONES_OWN, {"xpnn": xpnn})
    return get_backend("newlib")


def layers():
    return [Dense(8), ReLU(), Dropout(0.3), Dense(2)]


def trained(backend, x, y):
    trainer = Trainer(
        Network(layers(), (4,), backend), xpnn.cross_entropy, Adam(1e-2), metrics=[Accuracy()]
    )
    return trainer, trainer.fit(x, y, epochs=4, batch_size=5, validation=0.25, progress=False)


def test_it_keeps_the_promises_of_a_backend(newlib):
    contract.test_overrides_have_the_signature_of_the_base("newlib")
    contract.test_a_backend_adds_no_public_method("newlib")
    contract.test_backend_says_what_it_is(newlib)
    contract.test_backend_of_finds_the_way_back(newlib)
    contract.test_housekeeping_leaves_arrays_alone(newlib)
    assert newlib.describe() == "newlib 1.0 on cpu"


def test_a_network_trains_on_it(newlib):
    trainer, found = trained("newlib", X, Y)
    _, wanted = trained("numpy", X, Y)
    np.testing.assert_allclose(found["loss"], wanted["loss"], rtol=1e-5)
    np.testing.assert_allclose(found["val_accuracy"], wanted["val_accuracy"], rtol=1e-6)
    assert all(type(w).__module__.startswith("newlib.") for w in trainer.network.params.values())
    assert found["loss"][-1] < found["loss"][0]


def test_its_own_arrays_are_trained_on(newlib):
    _, found = trained("newlib", newlib.asarray(X), newlib.asarray(Y))
    assert found["loss"] == trained("newlib", X, Y)[1]["loss"]


def test_its_arrays_are_recognized_by_networks_elsewhere(newlib, backend):
    x, y = newlib.asarray(X), newlib.asarray(Y)
    trainer, found = trained(backend, x, y)
    other, wanted = trained(backend, X, Y)
    assert found["loss"] == wanted["loss"]
    for given, array in [(x, X), (newlib.asarray(X > 0), X > 0), (y, Y)]:
        np.testing.assert_array_equal(backend.to_numpy(backend.asarray(given)), array)
    np.testing.assert_array_equal(
        backend.to_numpy(trainer.network(x)), backend.to_numpy(other.network(X))
    )


def test_its_arrays_are_recognized_by_all_that_asks_for_a_backend(newlib):
    x, y = newlib.asarray(X), newlib.asarray(Y)
    assert backend_of(x) is newlib
    value, delta = xpnn.cross_entropy(x[:, :2], y)
    wanted, slope = xpnn.cross_entropy(X[:, :2], Y)
    np.testing.assert_allclose(newlib.to_numpy(value), wanted, rtol=1e-6)
    np.testing.assert_allclose(newlib.to_numpy(delta), slope, rtol=1e-5)
    assert Accuracy()(x, y) == Accuracy()(X, Y)
    kept, out = xpnn.split(x, share=0.25)
    np.testing.assert_array_equal(newlib.to_numpy(out), xpnn.split(X, share=0.25)[1])
    assert newlib.owns(kept)


def test_a_network_moves_there_and_back(newlib, tmp_path):
    network = Network(layers(), (4,))
    there = network.to("newlib")
    np.testing.assert_allclose(newlib.to_numpy(there(X)), network(X), rtol=1e-5, atol=1e-6)
    save_weights(there, tmp_path / "weights.safetensors")
    back = Network(layers(), (4,), seed=9)
    load_weights(back, tmp_path / "weights.safetensors")
    np.testing.assert_array_equal(back(X), network(X))
    back.load({**there.params, **there.state})
    np.testing.assert_array_equal(back(X), network(X))


def test_without_the_line_its_arrays_are_refused(installed):
    import newlib

    array = newlib.asarray(X)
    assert backend_of(array).name == "numpy"
    with pytest.raises(DataError, match="wanted"):
        Network(layers(), (4,)).predict(array)


def test_it_is_not_imported_to_ask(installed):
    BACKENDS["newlib"] = "your_module:NewlibBackend"
    (installed / "your_module.py").write_text(CODE)
    strict = get_backend("array-api-strict").asarray(X)
    assert backend_of(strict).name == "array-api-strict"
    assert get_backend("numpy").asarray(strict).shape == X.shape
    assert "newlib" not in sys.modules


def test_arrays_of_a_subclass_are_recognized(newlib):
    class Image(type(newlib.asarray(X))):
        """As torchvision's images, which are tensors of PyTorch."""

        def __new__(cls, array):
            image = object.__new__(cls)
            image._array, image._dtype, image._device = array._array, array.dtype, array.device
            return image

    image = Image(newlib.asarray(X))
    assert backend_of(image) is newlib
    np.testing.assert_array_equal(get_backend("numpy").asarray(image), X)
