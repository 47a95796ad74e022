"""Loops compiled by LLVM, and kept on the disk for the next process."""

import ctypes
import functools
import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.backends.numpy.kept import kept_folder
from xpnn.backends.numpy.loops import lowering, vector_math
from xpnn.backends.recording.stand_ins import address_of

Bound = Callable[[], Any]
Compiled = Callable[..., Bound]

DIGEST = hashlib.sha256().digest_size


@functools.lru_cache(maxsize=512)
def compiled(source: str, types: tuple[str, ...]) -> Compiled:
    """The function of a text, compiled: what takes its arguments and returns what runs it on them.

    Args:
        source: the text.
        types: of all arguments but the first five, "step" or the letters of an array's dtype.
    """
    told_apart = "\n".join((*_machine(), _own_code(), *types, source))
    name = f"loop_{hashlib.sha256(told_apart.encode()).hexdigest()[:32]}"
    folder = _folder()
    path = None if folder is None else folder / name
    code = None if path is None else _kept(path)
    if code is None:
        code = _compiled(lowering.lowered(source, types, name))
        if path is not None:
            _keep(path, code)
    return partial(_bound, _loaded(code, name))


def _bound(run: Callable[[Any], None], *arguments: Any) -> Bound:
    """A call of a loop; its words hold the arrays, of which they have the addresses alone."""
    words = (ctypes.c_uint64 * len(arguments))(
        *[address_of(one) if isinstance(one, np.ndarray) else int(one) for one in arguments]
    )
    words.arrays = arguments  # type: ignore[attr-defined]
    return partial(run, words)


# LLVM -------------------------------------------------------------------------------------------


def _compiled(text: str) -> bytes:
    """A module of LLVM as machine code."""
    from llvmlite import binding

    machine = _target_machine()
    options = binding.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = True
    passes = binding.create_pass_builder(machine, options)
    module = binding.parse_assembly(text)
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    passes.getModulePassManager().run(module, passes)
    code: bytes = machine.emit_object(module)
    return code


def _loaded(code: bytes, name: str) -> Callable[[Any], None]:
    """The function of that name in machine code; others may run while it does."""
    from llvmlite import binding

    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _target_machine())
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(engine.get_function_address(name))
    run.engine = engine  # type: ignore[attr-defined]  # whose memory it is
    return run


def _target_machine() -> Any:
    """What makes code for the processor at hand; an engine owns the one that it was given."""
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    _, processor, features = _machine()
    triple = binding.get_process_triple()
    return binding.Target.from_triple(triple).create_target_machine(
        cpu=processor,
        features=features,
        opt=3,
        reloc="static" if triple.startswith(("x86", "i")) else "default",  # as numba has it
        codemodel="jitdefault",
        jit=True,
    )


@functools.cache
def _machine() -> tuple[str, str, str]:
    """The version of LLVM, the processor, and what it can do."""
    from llvmlite import binding

    version = ".".join(map(str, binding.llvm_version_info))
    return version, binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()


# What is kept -----------------------------------------------------------------------------------


def _kept(path: Path) -> bytes | None:
    """Machine code from the disk; None where there is none that was written whole."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, code = content[:DIGEST], content[DIGEST:]
    return code if hashlib.sha256(code).digest() == digest else None


def _keep(path: Path, code: bytes) -> None:
    temporary = None
    try:
        with tempfile.NamedTemporaryFile("wb", dir=path.parent, delete=False) as file:
            temporary = Path(file.name)
            file.write(hashlib.sha256(code).digest() + code)
        os.replace(temporary, path)
    except OSError:  # the next process compiles it anew
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@functools.cache
def _own_code() -> str:
    """The code that is written into loops, and what says how; empty where it is not read."""
    try:
        return "".join(
            Path(one).read_text() for one in (vector_math.__file__, lowering.__file__, __file__)
        )
    except OSError:
        return ""


@functools.cache
def _folder() -> Path | None:
    """Where loops are kept; None where nothing can be, or the code that names them is not read."""
    return kept_folder("xpnn-loops") if _own_code() else None
