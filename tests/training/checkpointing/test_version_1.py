"""Checkpoints that version 1 of the format wrote are resumed, and training goes on as it did there.

The files in ``version_1`` were written by that code; see ``write.py`` there.
"""

import importlib.util
import json
import pathlib
import shutil

import numpy as np
import pytest

from xpnn import FileError, ShapeError, get_backend
from xpnn.errors import BackendUnavailable
from xpnn.training.checkpointing.contents import contents_of, write_contents

FOLDER = pathlib.Path(__file__).parent / "version_1"
SPEC = importlib.util.spec_from_file_location("version_1", FOLDER / "write.py")
WRITE = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(WRITE)
NAMES = ("share1", "n1", "share2", "n2", "m", "v")
CURVES = json.loads((FOLDER / "curves.json").read_text())


def trainer_of(name, backend, **options):
    try:
        return WRITE.trainer_of(name, backend, **options)
    except BackendUnavailable:
        pytest.skip(f"{backend.name} has no float16")


def check_weights(trainer, name):
    weights = trainer.network.numpy_arrays()
    for key, expected in CURVES[name]["weights"].items():
        np.testing.assert_allclose(weights[key], expected, rtol=1e-4, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("name", WRITE.RUNS)
def test_a_run_goes_on_with_the_same_curve(backend, name):
    trainer = trainer_of(name, backend)
    history = WRITE.fit(trainer, WRITE.EPOCHS, resume=FOLDER / f"{name}.safetensors")
    assert trainer.steps == 20
    np.testing.assert_allclose(history["loss"], CURVES[name]["loss"], rtol=1e-5)
    check_weights(trainer, name)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_load_takes_it_too_and_has_the_means_of_the_paper(backend, name):
    whole, loaded = trainer_of(name, backend), trainer_of(name, backend)
    WRITE.fit(whole, WRITE.SAVED)
    loaded.load(FOLDER / f"{name}.safetensors")
    assert loaded.opt_state.keys() == whole.opt_state.keys()
    for slot in ("m", "v"):
        for key, array in loaded.opt_state[slot].items():
            found, wanted = (backend.to_numpy(one) for one in (array, whole.opt_state[slot][key]))
            np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-7, err_msg=key)
    for number in ("correction1", "correction2"):
        found, wanted = float(loaded.opt_state[number]), float(whole.opt_state[number])
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_what_is_written_now_is_of_the_current_version(tmp_path, backend):
    path = tmp_path / "checkpoint-00000010.safetensors"
    shutil.copy(FOLDER / "adam.safetensors", path)
    trainer = trainer_of("adam", backend)
    trainer.load(path)
    trainer.save(path)
    assert b'"version":"3"' in path.read_bytes()
    again = trainer_of("adam", backend)
    WRITE.fit(again, 2, resume=path)
    check_weights(again, "adam")


def test_another_run_is_refused_in_the_words_of_now():
    trainer = trainer_of("adam", "numpy")
    trainer.optimizer.rate = 0.04
    with pytest.raises(FileError, match=r"optimizer\.rate is 0\.04 here and 0\.05 in the check"):
        WRITE.fit(trainer, WRITE.EPOCHS, resume=FOLDER / "adam.safetensors")
    assert trainer.opt_state is None


def test_the_state_of_another_optimizer_is_refused():
    with pytest.raises(ShapeError, match="does not fit this network and optimizer"):
        trainer_of("sgd", "numpy").load(FOLDER / "nadam.safetensors")


@pytest.mark.fault("checkpoint made to do harm")
@pytest.mark.parametrize(
    "forged",
    [
        {},
        {"optimizer": 3, "must_agree": {}},
        {"optimizer": {}, "must_agree": 3},
        {"optimizer": {}, "must_agree": {"optimizer": {"hyper": 3}}},
        {"optimizer": dict.fromkeys(NAMES, 1.0)},
        {"optimizer": {name: {} for name in NAMES}},
    ],
    ids=str,
)
def test_contents_that_cannot_be_upgraded_are_no_checkpoint(tmp_path, monkeypatch, forged):
    path = tmp_path / "forged.safetensors"
    monkeypatch.setattr("xpnn.training.checkpointing.contents.CHECKPOINT_VERSION", 1)
    write_contents(path, contents_of({"must_agree": {}, **forged}, get_backend("numpy")))
    monkeypatch.undo()
    with pytest.raises(FileError, match="is no whole checkpoint"):
        trainer_of("adam", "numpy").load(path)
