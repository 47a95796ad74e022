"""How bytes of process 0 reach all processes before anything connects them: a port of its machine.

It is the one behind ``MASTER_PORT``, where torchrun itself may listen.
"""

import errno
import socket
import time
from collections.abc import Callable

from xpnn.backends.portable.launched import Launched
from xpnn.errors import BackendUnavailable

PATIENCE = 300.0  # seconds: other processes may still import what they need
RETRY = 0.1
GREETED = 10.0  # seconds for one that has come to say who it is
LONGEST = 4  # bytes of a length


def from_first(place: Launched, make: Callable[[], bytes], seconds: float = PATIENCE) -> bytes:
    """What ``make`` returns in process 0, in all of them.

    Args:
        place: what this process was told when it was started.
        seconds: how long to wait for the others.

    Raises:
        BackendUnavailable: nobody has told where process 0 is, its port is taken, or some process
            did not come in time.
    """
    if place.address is None:
        raise BackendUnavailable(
            f"wanted to know where process 0 of {place.size} can be reached, and {place.by} did "
            f"not tell; set MASTER_ADDR to its machine and MASTER_PORT to a free port there"
        )
    deadline = time.monotonic() + seconds
    if place.rank == 0:
        data = make()
        _hand_out(data, place, deadline)
        return data
    while time.monotonic() < deadline:
        try:
            return _fetched(place)
        except OSError:  # it has not come so far
            time.sleep(RETRY)
    raise BackendUnavailable(
        f"process {place.rank} did not find process 0 at {place.address}, port {place.port + 1}, "
        f"within {seconds:g} s; see whether it runs, and whether MASTER_ADDR and MASTER_PORT are "
        f"those of its machine"
    )


def _hand_out(data: bytes, place: Launched, deadline: float) -> None:
    """Wait for all others, and give each the bytes."""
    served: set[bytes] = set()
    wanted = {_greeting(place, rank) for rank in range(1, place.size)}
    with _server(place) as server:
        while served != wanted:
            server.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                connection, _ = server.accept()
            except TimeoutError:
                raise BackendUnavailable(
                    f"wanted {place.size} processes, but only {len(served)} others have come to "
                    f"process 0; see what the missing ones say, and start all at once"
                ) from None
            with connection:
                try:
                    connection.settimeout(GREETED)
                    greeting = _read(connection, len(_greeting(place, 0)))
                    if greeting in wanted:
                        connection.sendall(len(data).to_bytes(LONGEST) + data)
                        served.add(greeting)
                except OSError:  # a stranger, or one that comes again
                    continue


def _server(place: Launched) -> socket.socket:
    try:
        if place.address in ("127.0.0.1", "localhost"):
            return socket.create_server(("127.0.0.1", place.port + 1))
        if socket.has_dualstack_ipv6():
            family = socket.AF_INET6
            return socket.create_server(("", place.port + 1), family=family, dualstack_ipv6=True)
        return socket.create_server(("", place.port + 1))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise BackendUnavailable(
            f"port {place.port + 1} of process 0 is taken, by another job perhaps; set "
            f"MASTER_PORT to another number, the same in all processes"
        ) from error


def _fetched(place: Launched) -> bytes:
    with socket.create_connection((place.address, place.port + 1), GREETED) as connection:
        connection.sendall(_greeting(place, place.rank))
        return _read(connection, int.from_bytes(_read(connection, LONGEST)))


def _greeting(place: Launched, rank: int) -> bytes:
    return f"xpnn: process {rank:10} of {place.size:10}".encode()


def _read(connection: socket.socket, count: int) -> bytes:
    """So many bytes.

    Raises:
        OSError: the other side has ended before.
    """
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise ConnectionError("the other side has ended")
        data += more
    return data
