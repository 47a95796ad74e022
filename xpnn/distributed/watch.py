"""Watch: no process waits for ever for one that is late, or has ended.

Each process notes how many sums it has begun, and since when it waits inside of one. A thread of
each tells process 0 once a second, over a socket of its own. Process 0 judges; what it has found it
tells to all, and all end. So the step is as it was, and the process that is late is named by what
it has said itself.
"""

import atexit
import json
import os
import secrets
import selectors
import socket
import struct
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.agreeing import PLACES, STEP, place_number
from xpnn.backends import Communicator
from xpnn.distributed.verdicts import GONE, SILENCE, Row, Verdict, judged
from xpnn.errors import XpnnError

VERBS = ("all_sum", "broadcast", "small_sum", "barrier")
PERIOD = 1.0  # seconds between two words of a process
LAST_WORDS = 1.5  # seconds in which a process that is late may say where it is
BEAT = struct.Struct("<qdq")
BYE = -1
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Watch:
    """What a process knows of its own sums, and the thread that tells it.

    Args:
        communicator: whose verbs are watched from here on; all processes make theirs at once.
        timeout: seconds that a process may wait inside of a sum.
    """

    def __init__(self, communicator: Communicator, timeout: float):
        self.rank, self.size, self.timeout = communicator.rank, communicator.size, timeout
        self.begun = 0
        self.since: float | None = None  # when it has begun with the sum that it is in
        self._communicator, self._abort = communicator, communicator.abort
        self._pid, self._speaking = os.getpid(), threading.Lock()
        self._connections: dict[socket.socket, Row] = {}
        run = self._listening(communicator) if self.rank == 0 else self._connected(communicator)
        for verb in VERBS:
            setattr(communicator, verb, partial(self.inside, getattr(communicator, verb)))
        begin = communicator.start_all_sum

        def start(array: Any) -> Callable[[], Any]:
            return partial(self.inside, self.inside(begin, array))

        communicator.start_all_sum = start  # type: ignore[method-assign]
        atexit.register(self._leave)
        threading.Thread(target=run, name="xpnn-watch", daemon=True).start()

    def inside(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """A call that may wait for the other processes."""
        self.begun += 1
        outer, self.since = self.since, time.monotonic()
        try:
            return call(*arguments)
        finally:
            self.since = outer

    @property
    def waited(self) -> float:
        """Seconds since it has begun with the sum that it is in; 0 outside of one."""
        since = self.since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def place(self) -> str:
        """Where it is, as far as it says so to the others."""
        return self._communicator.place or STEP

    # Process 0 -----------------------------------------------------------------------------------

    def _listening(self, communicator: Communicator) -> Callable[[], None]:
        address = "127.0.0.1" if _on_one_machine(communicator) else _own_address()
        try:
            listening = socket.create_server((address, 0), backlog=self.size)
        except OSError as error:
            raise _unreachable(0, address, error) from error
        token = secrets.randbits(62)
        number = int.from_bytes(socket.inet_aton(address))
        communicator.broadcast(np.asarray([number, listening.getsockname()[1], token]))
        return partial(self._judge, listening, token)

    def _judge(self, listening: socket.socket, token: int) -> None:
        rows = {rank: Row(rank) for rank in range(self.size)}
        with selectors.DefaultSelector() as selector:
            selector.register(listening, selectors.EVENT_READ)
            due = time.monotonic() + PERIOD
            while True:
                for key, _ in selector.select(PERIOD):
                    if key.fileobj is listening:
                        self._welcome(listening, token, rows, selector)
                    else:
                        self._hear(key.fileobj, selector)
                if time.monotonic() >= due:
                    due = time.monotonic() + PERIOD
                    rows[0].heard(self.begun, self.waited, self.place)
                    if found := judged([*rows.values()], self.timeout):
                        self._end_all(found)

    def _welcome(
        self,
        listening: socket.socket,
        token: int,
        rows: dict[int, Row],
        selector: selectors.BaseSelector,
    ) -> None:
        """Take up a process that knows the token; whoever does not is none."""
        connection, _ = listening.accept()
        connection.settimeout(PERIOD)
        try:
            told, rank = struct.unpack("<2q", connection.recv(16, socket.MSG_WAITALL))
        except (OSError, struct.error):
            told, rank = None, 0
        if told != token or rank not in rows:
            connection.close()
            return
        connection.settimeout(None)
        self._connections[connection] = rows[rank]
        rows[rank].heard(0, 0.0)
        selector.register(connection, selectors.EVENT_READ)

    def _hear(self, connection: Any, selector: selectors.BaseSelector) -> None:
        row = self._connections[connection]
        try:
            data = connection.recv(BEAT.size, socket.MSG_WAITALL)
        except OSError:
            data = b""
        if len(data) == BEAT.size:
            begun, waited, place = BEAT.unpack(data)
            if begun != BYE:
                row.heard(begun, waited, PLACES[place])
                return
            row.has_left = True
        row.is_gone = True
        selector.unregister(connection)
        del self._connections[connection]

    def _end_all(self, verdict: Verdict) -> None:
        _tell(verdict.text)
        self._tell_others({"late": verdict.asked})
        if self.rank in verdict.asked:
            _tell(_where_it_is(self.rank, self.place))
        time.sleep(LAST_WORDS)
        self._abort(1)

    def _tell_others(self, what: dict[str, Any]) -> None:
        line = json.dumps(what).encode() + b"\n"
        for connection in [*self._connections]:
            try:
                connection.sendall(line)
            except OSError:  # it has ended meanwhile
                continue

    # The others ----------------------------------------------------------------------------------

    def _connected(self, communicator: Communicator) -> Callable[[], None]:
        _on_one_machine(communicator)
        told = communicator.broadcast(np.zeros(3, dtype=np.int64))
        number, port, token = np.asarray(told).tolist()
        address = socket.inet_ntoa(int(number).to_bytes(4))
        try:
            connection = socket.create_connection((address, port), timeout=30)
            connection.sendall(struct.pack("<2q", token, self.rank))
        except OSError as error:
            raise _unreachable(self.rank, address, error) from error
        self._connections[connection] = Row(0)
        return partial(self._report, connection)

    def _report(self, connection: socket.socket) -> None:
        connection.settimeout(PERIOD)
        lines, first_has_left = b"", False
        while True:
            try:
                with self._speaking:
                    connection.sendall(BEAT.pack(self.begun, self.waited, place_number(self.place)))
                data = connection.recv(4096)
            except TimeoutError:
                if self.waited > self.timeout + SILENCE:
                    self._end(f"process 0 does not answer, for which {self._waits()}")
                continue
            except OSError:
                data = b""
            lines += data
            if lines.endswith(b"\n"):
                told = json.loads(lines)
                lines, first_has_left = b"", "late" not in told
                if self.rank in told.get("late", ()):
                    _tell(_where_it_is(self.rank, self.place))
                if not first_has_left:
                    time.sleep(2 * LAST_WORDS)  # process 0 ends all, if it can
                    self._abort(1)
            if not data or first_has_left:
                break
        while first_has_left and self.waited < GONE:
            time.sleep(PERIOD)
        if first_has_left:
            self._end(f"process 0 has ended its program, and {self._waits()} for it")
        self._end("process 0 has ended, and all others end, too; its own output says why")

    def _waits(self) -> str:
        return f"process {self.rank} has waited for {self.waited:.0f} s"

    def _end(self, text: str) -> None:
        _tell(text)
        self._abort(1)

    # The end -------------------------------------------------------------------------------------

    def _leave(self) -> None:
        """The program is over: say so, as what just ends is a fault."""
        if os.getpid() != self._pid:  # a process that this one has forked
            return
        if self.rank == 0:
            self._tell_others({"left": True})
            return
        with self._speaking:
            for connection in self._connections:
                try:
                    connection.sendall(BEAT.pack(BYE, 0.0, 0))
                except OSError:  # process 0 has ended before
                    continue


def _on_one_machine(communicator: Communicator) -> bool:
    """Whether all processes are; asked of all of them at once."""
    boot = BOOT_ID.read_text() if BOOT_ID.exists() else ""
    own = zlib.crc32(f"{socket.gethostname()} {boot}".encode())
    found = communicator.gathered(np.asarray([own], dtype=np.int64))
    return all(int(one[0]) == own for one in found)


def _own_address() -> str:
    """Where the others reach this machine."""
    name = os.environ.get("MASTER_ADDR") or socket.gethostname()
    try:
        return socket.gethostbyname(name)
    except OSError as error:
        raise _unreachable(0, name, error) from error


def _unreachable(rank: int, address: str, error: OSError) -> XpnnError:
    return XpnnError(
        f"process {rank} does not reach process 0 at {address}, to which all tell how far they "
        f"are: {error}; set MASTER_ADDR to an address of the machine of process 0, or "
        f"XPNN_TIMEOUT=0 to watch nothing"
    )


def _where_it_is(rank: int, place: str) -> str:
    """The lines at which the main thread is."""
    frame = sys._current_frames()[threading.main_thread().ident or 0]
    return f"process {rank} is here, at {place}:\n{''.join(traceback.format_stack(frame)).rstrip()}"


def _tell(text: str) -> None:
    sys.stderr.write(f"xpnn: {text}\n")
    sys.stderr.flush()
