"""Which process is late, by what all of them have said."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from xpnn.agreeing import STEP, named, parted
from xpnn.backends.portable.communicator import LET_ALL

SILENCE = 10.0  # seconds without a word of a process, which says one every second
GONE = 3.0  # seconds that a process may wait for one that has ended its program


@dataclass
class Row:
    """What process ``rank`` has said last.

    Attributes:
        begun: how many sums it has begun.
        waited: seconds that it was inside of the last of these then; 0 outside of one.
        is_gone: whether it has ended.
        has_left: whether it has said so before, as its program was over.
        place: where it is, one of ``agreeing.PLACES``.
    """

    rank: int
    begun: int = 0
    waited: float = 0.0
    is_gone: bool = False
    has_left: bool = False
    place: str = STEP
    when: float = field(default_factory=time.monotonic)

    def heard(self, begun: int, waited: float, place: str = STEP) -> None:
        """It has said this now."""
        self.begun, self.waited, self.place = begun, waited, place
        self.when = time.monotonic()

    @property
    def is_silent(self) -> bool:
        """Whether nothing was heard of it for long, as it was stopped, or its machine was."""
        return time.monotonic() - self.when > SILENCE


@dataclass(frozen=True)
class Verdict:
    """Why all processes end, which of them are late, and which are to say where they are."""

    text: str
    late: list[int]
    asked: list[int] = field(default_factory=list)


def judged(rows: Sequence[Row], timeout: float) -> Verdict | None:
    """Why all have to end, if they have to.

    Args:
        timeout: seconds that a process may wait inside of a sum.

    >>> ahead, late = Row(0, begun=5, waited=61.0), Row(1, begun=4)
    >>> judged([ahead, late], timeout=60.0).late
    [1]
    >>> judged([ahead, late], timeout=90.0)
    """
    died = [row.rank for row in rows if row.is_gone and not row.has_left]
    if died:
        return Verdict(
            f"{named(died)} {'has' if len(died) == 1 else 'have'} ended, and all others end, too; "
            f"its own output says why",
            [],
        )
    places = {row.rank: row.place for row in rows if row.waited > GONE and not row.is_gone}
    if len({*places.values()}) > 1:
        return Verdict(parted(places), [], [*places])
    left = [row.rank for row in rows if row.has_left]
    bound = GONE if left else timeout
    waiting = [row for row in rows if row.waited > bound and not row.is_gone]
    if not waiting:
        return None
    most = max(row.begun for row in waiting)
    waiting = [row for row in rows if row.waited > 0 and row.begun >= most]
    ranks = [row.rank for row in waiting]
    who = f"{named(ranks)} {'has' if len(ranks) == 1 else 'have'} waited"
    where = f"at {waiting[0].place}"
    if left:
        verb = "has ended its program" if len(left) == 1 else "have ended their programs"
        return Verdict(
            f"{named(left)} {verb}, and {who} for more of it {where}; {LET_ALL}",
            [],
            ranks[:1],
        )
    late = [row for row in rows if row.begun < most or row.is_silent]
    if not late:
        return Verdict(
            f"{who} for {timeout:g} s inside of one sum, which does not come back, {where}", []
        )
    silent = [row.rank for row in late if row.is_silent]
    more = f"; {named(silent)} cannot be reached" if silent else ""
    behind = [row.rank for row in late]
    return Verdict(
        f"{named(behind)} {'is' if len(behind) == 1 else 'are'} late: {who} for {timeout:g} s "
        f"{where}, which is the time-out, in sum {most}; {named(behind[:1])} has begun "
        f"{late[0].begun}{more}. Look at what takes so long there, or set XPNN_TIMEOUT to more "
        f"seconds; what one process does by itself is put into `with trainer.alone():`",
        behind,
        [*behind, *ranks[:1]],
    )
