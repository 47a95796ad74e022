"""How often a step says that it cannot be compiled."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from xpnn.errors import CompileWarning


@contextmanager
def compile_warnings(times: int) -> Iterator[list[warnings.WarningMessage]]:
    """A context in which so many CompileWarnings come; any other warning is an error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.simplefilter("always", CompileWarning)
        yield caught
    assert len(caught) == times, [str(one.message) for one in caught]
