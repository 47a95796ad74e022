"""A checkpoint that version 2 of the format wrote is resumed; see ``version_2/write.py``."""

import importlib.util
import json
import pathlib

import numpy as np
import pytest

from xpnn import FileError
from xpnn.training.checkpointing.resuming import read_checkpoint

FOLDER = pathlib.Path(__file__).parent / "version_2"
SPEC = importlib.util.spec_from_file_location("version_2", FOLDER / "write.py")
WRITE = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(WRITE)
CURVE = json.loads((FOLDER / "curve.json").read_text())
SAVED = FOLDER / "run.safetensors"

pytestmark = pytest.mark.host_only


def test_the_run_goes_on_with_the_same_curve_and_callbacks(tmp_path, caplog):
    trainer = WRITE.trainer_of()
    history, callbacks = WRITE.fit(trainer, WRITE.EPOCHS, tmp_path, resume=SAVED)
    np.testing.assert_allclose(history["loss"], CURVE["loss"], rtol=1e-5)
    np.testing.assert_allclose([one.best for one in callbacks[:3]], CURVE["best"], rtol=1e-5)
    assert [one.waited for one in callbacks[:2]] == CURVE["waited"]
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 1 + WRITE.EPOCHS
    for name, value in trainer.network.numpy_arrays().items():
        expected = CURVE["weights"][name]
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5, err_msg=name)
    assert not caplog.text


def test_what_it_looked_at_is_still_compared(tmp_path):
    trainer = WRITE.trainer_of(weight=(1.0, 1.0, 1.0, 1.0))
    with pytest.raises(FileError, match=r"class_weight is an array of float64 \(4,\) here and an"):
        WRITE.fit(trainer, WRITE.EPOCHS, tmp_path, resume=SAVED)


def test_what_it_did_not_look_at_is_looked_at_from_the_next_checkpoint_on(tmp_path):
    first = WRITE.trainer_of(weight=(1.0, 2.0, 3.0))  # another run, which version 2 could not tell
    WRITE.fit(first, WRITE.SAVED, tmp_path, resume=SAVED)
    first.save(tmp_path / "next.safetensors")
    assert "version" not in read_checkpoint(tmp_path / "next.safetensors")["must_agree"]
    with pytest.raises(
        FileError, match=r"class_weight.values is \[1.0, 1.0, 1.0\] here and \[1.0, 2"
    ):
        WRITE.fit(WRITE.trainer_of(), WRITE.EPOCHS, tmp_path, resume=tmp_path / "next.safetensors")
