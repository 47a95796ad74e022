"""``xpnn evaluate MODEL TABLE``: how good a network of ``xpnn train`` is on other rows."""

import argparse

from xpnn.commands.reports import loaded, report, show, tell
from xpnn.commands.sources import opened


def evaluate(options: argparse.Namespace) -> int:
    """Measure on all rows of a table."""
    network, columns = loaded(options.model, options.backend)
    with opened(options, columns.texts) as tables:
        found = report(network, columns, tables)

    def words() -> None:
        print(f"on {found['rows']:,} rows:")
        show(found)

    tell(options, found, words)
    return 0
