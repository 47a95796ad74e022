"""Loops compiled by numba, and kept on the disk for the next process."""

import functools
import hashlib
import os
import pickle
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.backends.numpy.kept import kept_folder
from xpnn.backends.numpy.loops import vector_math
from xpnn.backends.portable.garbage import no_garbage_collected

Compiled = Callable[..., None]

WIDE = '"prefer-vector-width"="512"'
UNREADABLE = (  # what a pickle that was not written whole may raise
    *(pickle.UnpicklingError, EOFError, OSError, ValueError, LookupError),
    *(AttributeError, ImportError, TypeError, MemoryError),
)


@functools.lru_cache(maxsize=512)
def compiled(source: str, types: tuple[str, ...]) -> Compiled:
    """The function ``loop`` of a text for arguments of these types, compiled.

    Args:
        source: the text.
        types: of all arguments but the first five, "step" or the letters of an array's dtype.
    """
    path = _kept_text(source)
    with no_garbage_collected():  # to look for it takes a tenth of the time
        if path is not None:
            try:
                return _compiled(source, types, str(path), cache=True)
            except UNREADABLE:
                pass  # torn, or of other code: an error that has another reason comes again below
        return _compiled(source, types, "<a loop>", cache=False)


def _compiled(source: str, types: tuple[str, ...], path: str, cache: bool) -> Compiled:
    import numba

    names = {**vocabulary(), "__name__": __name__}  # numba asks a module of that name
    exec(compile(source, path, "exec"), names)  # made in text.py, of names and operators alone
    arrays = [
        numba.uint64 if one == "step" else numba.from_dtype(np.dtype(one))[::1] for one in types
    ]
    signature = numba.void(*[numba.uint64] * 5, *arrays)
    function = numba.njit(
        signature,
        cache=cache,
        nogil=True,
        error_model="numpy",
        pipeline_class=_compiler(),
        no_cfunc_wrapper=True,
        no_rewrites=True,
        _nrt=False,  # no loop makes an array
    )(names["loop"])
    return function.get_overload(function.signatures[0])


@functools.cache
def _compiler() -> Any:
    """numba's compiler, told that no array overlaps with another, as none does in a loop.

    And that vectors may be as wide as the processor has them: for Intel's, LLVM takes half of that,
    lest the clock slows down, which it has done anyway when OpenBLAS has multiplied.
    """
    from numba.core.compiler import CompilerBase, DefaultPassBuilder
    from numba.core.compiler_machinery import register_pass
    from numba.core.lowering import Lower
    from numba.core.typed_passes import NativeLowering

    class WideLower(Lower):  # type: ignore[misc]  # Any, as numba has no types, and so below
        def lower_normal_function(self, fndesc: Any) -> None:
            super().lower_normal_function(fndesc)
            set.add(self.function.attributes, WIDE)  # llvmlite's own ``add`` does not know it

    @register_pass(mutates_CFG=True, analysis_only=False)
    class WideLowering(NativeLowering):  # type: ignore[misc]
        _name = "wide_lowering"
        lowering_class = WideLower

    class Compiler(CompilerBase):  # type: ignore[misc]
        def define_pipelines(self) -> list[Any]:
            self.state.flags.noalias = True
            pipeline = DefaultPassBuilder.define_nopython_pipeline(self.state)
            names = [one for one, _ in pipeline.passes]
            at = names.index(NativeLowering)
            pipeline.passes[at] = WideLowering, pipeline.passes[at][1]
            pipeline.finalize()
            return [pipeline]

    return Compiler


@functools.cache
def vocabulary() -> dict[str, Any]:
    """The names in the text of a loop; functions can be called from loops alone."""
    import numba

    alone = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "_nrt": False}
    inline = partial(numba.njit, forceinline=True, error_model="numpy", **alone)
    return vector_math.vocabulary(
        plain=inline(),
        fused=inline(fastmath={"contract"}),
        any_order=inline(fastmath={"reassoc"}),
    )


# What is kept -----------------------------------------------------------------------------------


def _kept_text(source: str) -> Path | None:
    """The file in which a text lies, beside which numba keeps what it made of it.

    Its name tells the text and all code that it calls apart from others; numba looks at its own
    version and at the processor. None where nothing can be kept.
    """
    folder = _folder()
    if folder is None:
        return None
    path = folder / f"loop_{hashlib.sha256((_own_code() + source).encode()).hexdigest()[:32]}.py"
    try:
        if not path.exists():
            with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
                file.write(source)
            os.replace(file.name, path)
    except OSError:
        return None
    return path


@functools.cache
def _own_code() -> str:
    """The code that is compiled into loops, and what says how."""
    return "".join(Path(one).read_text() for one in (vector_math.__file__, __file__))


@functools.cache
def _folder() -> Path | None:
    """Where loops are kept; None where nothing can be, or the code that names them is not read."""
    try:
        _own_code()
    except OSError:
        return None
    return kept_folder("xpnn-loops")
