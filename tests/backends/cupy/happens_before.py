"""Whether events and waiting keep apart in time what must not touch the same memory at once.

A GPU may do things in any order that nothing forbids, and what one run has done says little of the
next. So the order is worked out from what was asked for (Lamport, 1978: "Time, clocks, and the
ordering of events in a distributed system"). Threads of the host and streams are actors, and one
thing happens before another one if

* one actor did both, in that order;
* a thread has asked a stream for the second one, behind the first;
* it lies before the record of an event, and the other one behind a wait for that event, of a stream
  or of the host; to wait for a stream is to wait for an event that is recorded there and then;
* or a third one lies between the two.

Each actor has a clock: how far it had come by then, and all that it has heard of (a vector clock;
Fidge, 1988, and Mattern, 1989). An access has happened before another one if the clock of the other
one's actor has come to it. Two accesses to the same bytes, one of them a write, of which neither
has happened before the other, are a fault. Memory of a pool counts as written when it is handed
out, as whoever gets it may write at once: its last tenant has to be through by then.

``Log`` writes down what CuPy is asked for: streams, events, memory that pools hand out, what the
host reads; and is told by xpnn what its copies, kernels and graphs touch
(``backends/cupy/accesses.py``). What is captured does not run, but as often as its graph is
launched, on the stream that launches it; what other streams did that have joined the capture, on
branches that are there for one launch. ``Log.faults`` goes through it all, with a wait or a record
left out if one wants to see what that would do.

Streams other than the null stream have to be ``non_blocking``: others wait for that one unasked.
"""

import itertools
import sys
import threading
import weakref
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import cupy

import xpnn
from xpnn.backends.cupy.accesses import HOST, listeners, span_of

XPNN = str(Path(xpnn.__file__).parent)


class Access(NamedTuple):
    """An actor, asked by a thread or the thread itself, touches spans of memory."""

    actor: str
    thread: str
    what: str
    reads: list[tuple[int, int]]
    writes: list[tuple[int, int]]


class Site(NamedTuple):
    """Where in xpnn an event is recorded or waited for, and by which function that was called."""

    file: str
    function: str
    caller: str
    line: int
    does: str


class Record(NamedTuple):
    """An event stands behind all that an actor was asked for."""

    actor: str
    thread: str
    event: int
    site: Site


class Wait(NamedTuple):
    """An actor goes on when an event has happened."""

    actor: str
    event: int
    site: Site


class Meeting(NamedTuple):
    """A thread knows what those know that have met before, and so they of it.

    So it is with the lock of a pool: who takes memory knows what they know who gave it back. As
    giving back is not seen, threads meet whenever they have taken some, and when they have waited.
    """

    thread: str


class Fresh(NamedTuple):
    """The device gives memory that nobody touches any more: ``cudaFree`` has waited for that."""

    start: int
    stop: int


class Touch(NamedTuple):
    """That an actor has read or written bytes at some time of its own."""

    start: int
    stop: int
    writes: bool
    actor: str
    time: int
    what: str


class Order:
    """What happens before what, and whether that suffices."""

    def __init__(self):
        self.clocks = defaultdict(lambda: defaultdict(int))  # actor: {actor: time}
        self.recorded = {}
        self.touched: list[Touch] = []
        self.faults: dict[str, None] = {}

    def hear(self, actor, clock):
        """An actor learns how far others have come."""
        own = self.clocks[actor]
        for other, time in clock.items():
            own[other] = max(own[other], time)

    def follow(self, entry):
        """Go through an entry of a log."""
        if isinstance(entry, Access):
            self.hear(entry.actor, self.clocks[entry.thread])
            self.clocks[entry.actor][entry.actor] += 1
            for spans, writing in ((entry.reads, False), (entry.writes, True)):
                for span in spans:
                    self._touch(span, writing, entry)
        elif isinstance(entry, Record):
            self.hear(entry.actor, self.clocks[entry.thread])
            self.recorded[entry.event] = dict(self.clocks[entry.actor])
        elif isinstance(entry, Wait):
            self.hear(entry.actor, self.recorded.get(entry.event, {}))
        elif isinstance(entry, Meeting):
            self.hear(entry.thread, self.clocks["a lock"])
            self.hear("a lock", self.clocks[entry.thread])
        else:
            self.touched = [
                one._replace(start=start, stop=stop)
                for one in self.touched
                for start, stop in _outside(one, entry)
            ]

    def _touch(self, span, writing, access):
        (start, stop), clock = span, self.clocks[access.actor]
        new = Touch(start, stop, writing, access.actor, clock[access.actor], access.what)
        for old in [one for one in self.touched if one[0] < stop and start < one[1]]:
            known = old.time <= clock[old.actor]
            if (old.writes or writing) and not known:
                self.faults[_fault(old, new)] = None
            covered = start <= old.start and old.stop <= stop
            if covered and known and (writing or not old.writes):
                self.touched.remove(old)  # whoever knows the new one knows this one, too
        self.touched.append(new)


def _outside(touch, fresh):
    """What of a touch lies below and above fresh memory."""
    below = touch.start, min(touch.stop, fresh.start)
    above = max(touch.start, fresh.stop), touch.stop
    return [(start, stop) for start, stop in (below, above) if start < stop]


def _fault(old, new):
    first, second = (f"{one.what} ({'writes' if one.writes else 'reads'})" for one in (old, new))
    return (
        f"{first} on {old.actor}, then {second} on {new.actor}, the same memory: nothing makes "
        f"{new.actor} wait for an event behind the first"
    )


class Capture:
    """What a stream and those that have joined it were asked for while it was captured.

    Args:
        actor: the stream where it began.
    """

    def __init__(self, actor):
        self.actor, self.entries = actor, list[Any]()

    def has_recorded(self, event):
        """Whether an event stands behind some of it."""
        return any(isinstance(one, Record) and one.event == event for one in self.entries)

    def check_joined(self):
        """What is left unjoined ends a capture with an error (cudaErrorStreamCaptureUnjoined)."""
        order = Order()
        for entry in self.entries:
            order.follow(entry)
        known = order.clocks[self.actor]
        for actor in {one.actor for one in self.entries}:
            joined = known[actor] == order.clocks[actor][actor]
            assert joined, "a branch is not joined to the stream where its capture began"


class Log:
    """Writes down what CuPy and xpnn do from now on, until it is closed.

    Args:
        patch: of pytest, undone by the caller.
    """

    def __init__(self, patch):
        self.entries: list[Any] = []
        self._streams = {0: "the null stream"}
        self._captured: dict[str, Capture] = {}  # by streams that are part of one
        self._events: Any = weakref.WeakKeyDictionary()  # their numbers, which are never reused
        self._numbers = itertools.count(1)
        _wrap_streams(self, patch)
        _wrap_events(self, patch)
        _wrap_reads(self, patch)
        listeners.append(self._told)
        pinned = cupy.get_default_pinned_memory_pool()
        cupy.cuda.set_pinned_memory_allocator(lambda size: self._pinned(pinned.malloc(size)))

    def close(self):
        """Write no more."""
        listeners.remove(self._told)
        cupy.cuda.set_pinned_memory_allocator(cupy.get_default_pinned_memory_pool().malloc)

    def memory(self):
        """A context in which memory that this thread gets from CuPy's pools is written down."""
        return _Memory(self)

    def faults(self, without=None):
        """What is not in order; the first of it ``without`` what is done at a site."""
        order = Order()
        for entry in self.entries:
            if without is None:
                order.follow(entry)
            elif getattr(entry, "site", None) != without:
                order.follow(entry)
                if order.faults:
                    break
        return list(order.faults)

    def sites(self):
        """Where xpnn records events that somebody waits for, and where it waits for them."""
        waits = [one for one in self.entries if isinstance(one, Wait)]
        awaited = {one.event for one in waits}
        records = [one for one in self.entries if isinstance(one, Record) and one.event in awaited]
        return sorted({one.site for one in (*waits, *records)})

    # What is written down -------------------------------------------------------------------------

    def name(self, stream):
        """The actor that is a stream of CuPy's, by its address."""
        if stream not in self._streams:
            self.begin(stream)
        return self._streams[stream]

    def begin(self, stream):
        """There is a new stream, maybe at the address of one that is gone."""
        self._streams[stream] = f"stream {next(self._numbers)}"

    def thread(self):
        """The actor that is this thread."""
        return f"{HOST} ({threading.current_thread().name})"

    def access(self, actor, what, reads=(), writes=()):
        """An actor, which is this thread or is asked by it, touches memory."""
        self._write(Access(actor, self.thread(), what, [*reads], [*writes]))

    def record(self, event, stream):
        """An event is recorded on a stream, by its address."""
        number = self._number(event)
        self._write(Record(self.name(stream), self.thread(), number, _site("record")))

    def wait(self, event, stream=None):
        """A stream, or this thread, waits for an event."""
        actor = self.thread() if stream is None else self.name(stream)
        number = self._number(event)
        captures = [one for one in self._captured.values() if one.has_recorded(number)]
        if captures:
            assert stream is not None, "the host waits for what is only captured"
            self._captured.setdefault(actor, captures[0])
        elif actor in self._captured:
            raise AssertionError("what is captured waits for something outside of its capture")
        self._write(Wait(actor, number, _site("wait")))
        if stream is None:
            self.meet()

    def _write(self, entry):
        capture = self._captured.get(entry.actor)
        (self.entries if capture is None else capture.entries).append(entry)

    def begin_capture(self, stream):
        """From here on a stream is captured, with those that wait for what it records."""
        actor = self.name(stream)
        self._captured[actor] = Capture(actor)

    def end_capture(self, stream):
        """What was captured; all of it has to be waited for by the stream where it began."""
        found = self._captured[self.name(stream)]
        self._captured = {a: one for a, one in self._captured.items() if one is not found}
        found.check_joined()
        return found

    def launch(self, capture, stream):
        """A graph is launched on a stream."""
        branches = {capture.actor: self.name(stream)}
        for entry in capture.entries:
            if entry.actor not in branches:
                branches[entry.actor] = f"branch {next(self._numbers)} of a graph"
            own = {} if isinstance(entry, Wait) else {"thread": self.thread()}
            self.entries.append(entry._replace(actor=branches[entry.actor], **own))

    def wait_for_stream(self, stream):
        """This thread waits for all that a stream was asked for."""
        site, event = _site("wait"), next(self._numbers)
        self.entries.append(Record(self.name(stream), self.thread(), event, site))
        self.entries.append(Wait(self.thread(), event, site))
        self.meet()

    def meet(self):
        """This thread knows what all know that have met before."""
        self.entries.append(Meeting(self.thread()))

    def hand_out(self, actor, what, start, size):
        """An actor gets memory of a pool."""
        self.meet()
        self.access(actor, what, writes=[(start, start + size)])
        self.meet()

    def _number(self, event):
        if event not in self._events:
            self._events[event] = next(self._numbers)
        return self._events[event]

    def _told(self, access):
        actor = self.thread() if access.on == HOST else self.name(access.on)
        self.access(actor, access.what, access.reads, access.writes)

    def _pinned(self, memory):
        self.hand_out(self.thread(), "pinned memory, taken", memory.ptr, memory.mem.size)
        return memory


def _site(does):
    """The place in xpnn that has asked for it."""
    frame, inside = sys._getframe(1), list[Any]()
    while frame is not None and len(inside) < 2:
        if frame.f_code.co_filename.startswith(XPNN):
            inside.append(frame)
        frame = frame.f_back
    first, second = [(one.f_code, one.f_lineno) for one in inside] + [(None, 0)] * (2 - len(inside))
    if not inside:
        return Site("", "", "", 0, does)
    caller = second[0].co_name if second[0] else ""
    return Site(Path(first[0].co_filename).name, first[0].co_name, caller, first[1], does)


def _wrap_streams(log, patch):
    base = cupy.cuda.stream._BaseStream
    names = ("record", "wait_event", "synchronize", "begin_capture", "end_capture")
    plain = {name: getattr(base, name) for name in names}
    made = cupy.cuda.Stream.__init__

    def make(self, *args, **options):
        made(self, *args, **options)
        log.begin(self.ptr)

    def record(self, event=None):
        event = plain["record"](self, event)
        log.record(event, self.ptr)
        return event

    def wait_event(self, event):
        plain["wait_event"](self, event)
        log.wait(event, self.ptr)

    def synchronize(self):
        plain["synchronize"](self)
        log.wait_for_stream(self.ptr)

    def begin_capture(self, mode=None):
        plain["begin_capture"](self, mode)
        log.begin_capture(self.ptr)

    def end_capture(self):
        graph = plain["end_capture"](self)
        return _Launched(graph, log.end_capture(self.ptr), log)

    patch.setattr(cupy.cuda.Stream, "__init__", make)
    for function in (record, wait_event, synchronize, begin_capture, end_capture):
        patch.setattr(base, function.__name__, function)


def _wrap_events(log, patch):
    plain_record, plain_synchronize = cupy.cuda.Event.record, cupy.cuda.Event.synchronize

    def record(self, stream=None):
        plain_record(self, stream)
        log.record(self, (stream or cupy.cuda.get_current_stream()).ptr)

    def synchronize(self):
        plain_synchronize(self)
        log.wait(self)

    patch.setattr(cupy.cuda.Event, "record", record)
    patch.setattr(cupy.cuda.Event, "synchronize", synchronize)


def _wrap_reads(log, patch):
    plain = cupy.ndarray.get

    def get(self, stream=None, order="C", out=None, blocking=True):
        found = plain(self, stream, order, out, blocking)
        address = (stream or cupy.cuda.get_current_stream()).ptr
        here = [span_of(found)]
        log.access(log.name(address), "a copy to the host", [span_of(self)], here)
        if blocking:
            log.wait_for_stream(address)
            log.access(log.thread(), "numbers, read by the host", here)
            log.entries.append(Fresh(*here[0]))  # the host's own memory is used again by others
        return found

    patch.setattr(cupy.ndarray, "get", get)


class _Launched:
    """A CUDA graph that tells the log of its launches."""

    def __init__(self, plain, captured, log):
        self.graph, self._plain, self._captured, self._log = plain.graph, plain, captured, log

    def launch(self, stream=None):
        self._plain.launch(stream)
        self._log.launch(self._captured, (stream or cupy.cuda.get_current_stream()).ptr)


class _Memory(cupy.cuda.MemoryHook):
    name = "happens before"

    def __init__(self, log):
        self.log = log

    def alloc_postprocess(self, *, mem_ptr, mem_size, **_):
        self.log.entries.append(Fresh(mem_ptr, mem_ptr + mem_size))

    def malloc_postprocess(self, *, mem_ptr, mem_size, **_):
        actor = self.log.name(cupy.cuda.get_current_stream().ptr)
        self.log.hand_out(actor, "memory of a pool, taken", mem_ptr, mem_size)
