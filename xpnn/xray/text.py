"""A record as text."""

from xpnn.xray.views import Record


def as_text(record: Record) -> str:
    """All of it, for a terminal."""
    return record.title
