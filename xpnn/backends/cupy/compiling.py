"""Kernels that were generated, compiled: those of a program together."""

from collections.abc import Mapping
from typing import Any

from xpnn.backends.cupy.device_functions import PREAMBLE

_functions: dict[str, Any] = {}
"""By their sources; CuPy keeps what it has compiled as long as the process runs, too."""


def compile_together(names: Mapping[str, str]) -> None:
    """Compile what no earlier program has, as one module.

    What kernels include takes the compiler longer than all of them do, and is read once for each
    module. CuPy keeps the module on the disk.

    Args:
        names: of the functions, by their sources.
    """
    import cupy

    new = {source: name for source, name in names.items() if source not in _functions}
    if new:
        module = cupy.RawModule(code="\n".join((PREAMBLE, *new)), options=("--std=c++14",))
        _functions.update({source: module.get_function(name) for source, name in new.items()})


def compiled(source: str) -> Any:
    """The function that ``compile_together`` has made of it."""
    return _functions[source]
