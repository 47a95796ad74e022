"""What is kept of compiled loops: read by the next process, and by nobody where it is not sound."""

import errno
import os
from unittest.mock import Mock, patch

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


DTYPES = ["b1", "f4", "f8", "i4", "i8", "u1", "u4"]
NUMBERS = {"b1": [0, 1], "f4": [0, 0.5, 1, 2.5, 100, np.inf], "i4": [0, -(2**31), -3, 2**31 - 1]}
NUMBERS |= {"f8": NUMBERS["f4"], "i8": [0, -(2**63), -3, 2**63 - 1]}
NUMBERS |= {"u1": [0, 3, 200, 255], "u4": [0, 3, 2**31, 2**32 - 1]}


@pytest.mark.parametrize("own", DTYPES)
def test_numbers_of_all_dtypes(own):
    """Casts to all others, and comparisons; what no whole number is, is cast to floats alone."""
    x = np.array(NUMBERS[own], own)
    y = x[::-1].copy()
    made = [np.empty(len(x), dtype) for dtype in DTYPES] + [np.empty(len(x), bool) for _ in "123"]
    formulas = [f"{dtype}(a0[j])" if dtype != "b1" else "(a0[j] != 0)" for dtype in DTYPES]
    formulas += ["a0[j] < a1[j]", "a0[j] >= a1[j]", "not a0[j] == a1[j]"]
    lines = [f"        a{k + 2}[j] = {formula}\n" for k, formula in enumerate(formulas)]
    names = ", ".join(f"a{k}" for k in range(len(lines) + 2))
    head = f"def loop(first, last, per_block, rows, columns, {names}):\n"
    source = f"{head}    for j in range(first, last):\n{''.join(lines)}"
    arrays = [x, y, *made]
    compiling.compiled(source, tuple(one.dtype.str[1:] for one in arrays))(
        0, len(x), 0, 0, 0, *arrays
    )()
    with np.errstate(invalid="ignore"):
        wanted = [x.astype(dtype) for dtype in DTYPES] + [x < y, x >= y, x != y]
    for found, right in zip(made, wanted, strict=True):
        inside = slice(-1 if found.dtype.kind in "iu" and x.dtype.kind == "f" else None)
        np.testing.assert_array_equal(found[inside], right[inside])


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A folder for what is kept, and a process that knows nothing of it yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    compiling._folder.cache_clear()
    yield tmp_path / "xpnn-loops"
    compiling._folder.cache_clear()


def compilations(text):
    """How many loops are compiled for a text, which is run, too."""
    compiling.compiled.cache_clear()
    x = np.zeros(3, np.float32)
    with patch.object(compiling, "_compiled", Mock(wraps=compiling._compiled)) as compile_:
        compiling.compiled(text, ("f4",))(0, 3, 0, 0, 0, x)()
    np.testing.assert_array_equal(x, 1 + float(text.split("f4(")[-1].split(")")[0]))
    return compile_.call_count


def test_a_text_is_compiled_once_for_all_processes(kept):
    assert compilations(TEXT.format(1)) > 0
    assert compilations(TEXT.format(1)) == 0
    assert compilations(TEXT.format(2)) > 0
    assert len(list(kept.glob("loop_*"))) == 2


def test_other_code_of_functions_is_another_text(kept):
    compilations(TEXT.format(1))
    with patch.object(compiling, "_own_code", lambda: "of another version"):
        assert compilations(TEXT.format(1)) > 0


@pytest.mark.parametrize("torn", [lambda code: b"", lambda code: code[:-1], lambda code: code[1:]])
def test_what_is_torn_is_compiled_anew(kept, torn):
    compilations(TEXT.format(1))
    (path,) = kept.iterdir()
    whole = path.read_bytes()
    path.write_bytes(torn(whole))
    assert compilations(TEXT.format(1)) > 0
    assert path.read_bytes() == whole


def test_what_cannot_be_kept_leaves_nothing_behind(kept, monkeypatch):
    def on_a_full_disk(*_):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(compiling.os, "replace", on_a_full_disk)
    assert compilations(TEXT.format(1)) > 0
    assert not list(kept.iterdir())


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
