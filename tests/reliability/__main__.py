"""``python -m tests.reliability``: all tests of faults, with more examples, and a table of them.

Arguments go to pytest. The exit status is 0 if every fault was survived, else 1.
"""

import os
import sys

import pytest

MORE = {"XPNN_FUZZ": "10", "XPNN_KILLS": "100"}  # times as many examples; kills of a run


def main(arguments: list[str]) -> int:
    """Run the tests, print the table."""
    for name, value in MORE.items():
        os.environ.setdefault(name, value)
    from tests.reliability import tally

    status = pytest.main(["-m", "fault", "-q", *(arguments or ["tests"])], plugins=[tally])
    fuzzed = sum(count.fuzzed for count in tally.COUNTS.values())
    print("\n" + tally.table())
    print("\n" + "\n".join([f"{fuzzed:,} of these cases were drawn by fuzzers.", *tally.LINES]))
    return 0 if status == pytest.ExitCode.OK and fuzzed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
