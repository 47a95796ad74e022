"""A page that follows a training, served on the loopback address of this machine alone."""

import contextlib
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from xpnn.errors import FileError
from xpnn.xray.data import FILE
from xpnn.xray.page import page

ADDRESS = "127.0.0.1"
HOSTS = (ADDRESS, "localhost")


class Server(ThreadingHTTPServer):
    """Serves the page, and the data of a run as they are by then.

    It answers no machine but this one. A request that names another host is refused: so no page
    from elsewhere can read the data by a name that leads here.

    Args:
        folder: of the run, in which ``xray.json`` is written again and again.
        port: of the address; 0 for any that is free.

    Raises:
        FileError: there is no such folder.
        OSError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, folder: Path, port: int = 0):
        if not folder.is_dir():
            raise FileError(
                f"wanted the folder of a run, but there is none at {folder}; name the one into "
                f"which the training writes"
            )
        self.file = folder / FILE
        super().__init__((ADDRESS, port), _Handler)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{ADDRESS}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    """Answers with the page, with the data, or that nothing is new."""

    server: Server

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # who asked has gone
            super().handle()

    def do_GET(self) -> None:
        host = self.headers.get("Host", "").rsplit(":", 1)[0]  # a port of 80 is not named
        if host not in HOSTS:
            self._answer(HTTPStatus.FORBIDDEN)
        elif self.path == "/":
            text = page({}, source="data.json").encode()
            self._answer(HTTPStatus.OK, text, "text/html; charset=utf-8")
        elif self.path == "/data.json":
            self._answer_data()
        else:
            self._answer(HTTPStatus.NOT_FOUND)

    def _answer_data(self) -> None:
        try:
            status = self.server.file.stat()
            mark = f'"{status.st_mtime_ns}-{status.st_size}"'
            if self.headers.get("If-None-Match") == mark:
                self._answer(HTTPStatus.NOT_MODIFIED)
                return
            content = self.server.file.read_bytes()
        except FileNotFoundError:  # no step was looked into so far
            self._answer(HTTPStatus.NO_CONTENT)
            return
        self._answer(HTTPStatus.OK, content, "application/json", mark)

    def _answer(
        self, status: HTTPStatus, content: bytes = b"", kind: str = "", mark: str = ""
    ) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "ETag": mark, "Cache-Control": "no-store"}
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        if status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a page asks every other second."""
