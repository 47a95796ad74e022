"""What to write instead: advice in errors, in words that what was given understands."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xpnn.backends.registry import class_recognizing
from xpnn.errors import Change, XpnnError


def reword(error: Exception, **given: Any) -> None:
    """Let an error say what to write of what was given, by name: arrays, lists, columns, ...

    A change of an array without a name is that of the only one given.
    """
    if not isinstance(error, XpnnError) or error.change is None:
        return
    name = error.change.name or next(iter(given))
    if name in given and (error.change.name or len(given) == 1):
        error.line = line(error.change._replace(name=name), given[name])


@contextmanager
def rewording(**given: Any) -> Iterator[None]:
    """``reword`` for errors from inside."""
    try:
        yield
    except XpnnError as error:
        reword(error, **given)
        raise


def line(change: Change, values: Any) -> str:
    """The change as it is written of ``values``: what no backend knows becomes an array first."""
    kind = class_recognizing(values)
    array = f"np.asarray({change.name})" if kind is None else change.name
    written = change.form.format(values=change.name, array=array)
    if not change.dtype:
        return written
    if kind is None:
        return f"{written}.astype({change.dtype!r})"
    return str(kind.written_as(written, change.dtype))
