"""What is kept of compiled loops: read by the next process, and by nobody where it is not sound."""

import os
from unittest.mock import patch

import numpy as np
import pytest

from tests.backends.numpy.conftest import WITH_NUMBA
from xpnn.backends.numpy.loops import compiling

pytestmark = WITH_NUMBA

TEXT = """
def loop(first, last, per_block, rows, columns, a0):
    for j in range(first, last):
        a0[j] = exp_f4(a0[j]) + f4({})
"""


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A folder for what is kept, and a process that knows nothing of it yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    compiling._folder.cache_clear()
    yield tmp_path / "xpnn-loops"
    compiling._folder.cache_clear()


def compilations(text):
    """How many functions are compiled for a text, which is run, too."""
    from numba.core import event

    compiling.compiled.cache_clear()
    x = np.zeros(3, np.float32)
    with event.install_recorder("numba:compile") as recorder:
        compiling.compiled(text, ("f4",))(0, 3, 0, 0, 0, x)
    np.testing.assert_array_equal(x, 1 + float(text.split("f4(")[-1].split(")")[0]))
    return len(recorder.buffer)


def test_a_text_is_compiled_once_for_all_processes(kept):
    assert compilations(TEXT.format(1)) > 0
    assert compilations(TEXT.format(1)) == 0
    assert compilations(TEXT.format(2)) > 0
    assert len(list(kept.glob("loop_*.py"))) == 2


def test_other_code_of_functions_is_another_text(kept):
    compilations(TEXT.format(1))
    with patch.object(compiling, "_own_code", lambda: "of another version"):
        assert compilations(TEXT.format(1)) > 0


@pytest.mark.parametrize("content", [b"", b"\x80\x04\x95", b"garbage " * 100])
@pytest.mark.parametrize("ending", ["nbi", "nbc"])
def test_what_is_torn_is_compiled_anew(kept, ending, content):
    compilations(TEXT.format(1))
    for path in kept.rglob(f"*.{ending}"):
        path.write_bytes(content)
    assert compilations(TEXT.format(1)) > 0


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="there are no such modes here")
def test_a_folder_that_others_may_write_to_is_not_read(kept):
    compilations(TEXT.format(1))
    kept.chmod(0o777)
    compiling._folder.cache_clear()
    assert compiling._folder() is None
    assert compilations(TEXT.format(1)) > 0


def test_without_a_folder_nothing_is_kept(kept, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", __file__)  # a file, in which no folder can be
    compiling._folder.cache_clear()
    assert compilations(TEXT.format(1)) > 0
    assert not kept.exists()
