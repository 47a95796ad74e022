"""Faults are counted where they are tried: ``make faults`` tells how many were survived.

A test takes part by the marker ``@pytest.mark.fault("truncated model file")``, and counts as one
case. One that goes through several, in a loop or as hypothesis has it, puts each of them into
``with attempt():``. A case that raises was not survived. Only ``make faults`` counts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest


@dataclass
class Count:
    """The cases of one kind of fault."""

    tried: int = 0
    failed: int = 0
    fuzzed: int = 0


COUNTS: dict[str, Count] = {}
LINES: list[str] = []
"""What else there is to tell below the table."""

_running: list[tuple[str, bool]] = []


@contextmanager
def attempt() -> Iterator[None]:
    """One case of the fault that the running test is marked with."""
    if not _running:
        yield
        return
    kind, fuzzed = _running[-1]
    count = COUNTS.setdefault(kind, Count())
    count.tried += 1
    count.fuzzed += fuzzed
    try:
        yield
    except BaseException as error:
        if type(error).__module__.startswith(
            "hypothesis"
        ):  # which ends an example that it has seen
            count.tried, count.fuzzed = count.tried - 1, count.fuzzed - fuzzed
        else:
            count.failed += 1
        raise


def tell(line: str) -> None:
    """Print a line below the table of ``make faults``."""
    LINES.append(line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Count the cases of a marked test."""
    marker = item.get_closest_marker("fault")
    if marker is None:
        return (yield)
    kind, fuzzed = marker.args[0], getattr(item.obj, "is_hypothesis_test", False)
    fuzzed = fuzzed or marker.kwargs.get("fuzzed", False)
    count = COUNTS.setdefault(kind, Count())
    tried, failed = count.tried, count.failed
    _running.append((kind, fuzzed))
    try:
        result = yield
    except pytest.skip.Exception:
        raise
    except BaseException:
        count.tried += count.tried == tried
        count.failed += count.failed == failed
        raise
    finally:
        _running.pop()
    count.tried += count.tried == tried
    return result


def table() -> str:
    """The counts as a table in Markdown."""
    rows = [(kind, count) for kind, count in sorted(COUNTS.items()) if count.tried]
    lines = ["| fault | tried | survived |", "|---|---:|---:|"]
    lines += [f"| {kind} | {one.tried:,} | {one.tried - one.failed:,} |" for kind, one in rows]
    tried, failed = (sum(getattr(one, of) for _, one in rows) for of in ("tried", "failed"))
    return "\n".join([*lines, f"| all | {tried:,} | {tried - failed:,} |"])
