"""A web server on this machine that misbehaves as told, and notes what it was asked for."""

import contextlib
import hashlib
import http.server
import re
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path

from nemesis.downloads import Patience

# Options of `fetch` for a server that is near.
FAST = {"patience": Patience(3, 0.001, 5)}
ONCE = {"patience": Patience(1, 0.001, 5)}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def names(folder: Path) -> set:
    """Names of what is in a folder."""
    return {path.name for path in folder.iterdir()}


@dataclass
class Served:
    """One file and how it is served; change the fields between requests."""

    body: bytes
    etag: str | None = '"v1"'
    modified: str | None = None
    ranges: bool = True
    tell_length: bool = True
    stops: list = field(default_factory=list)  # for each request: bytes to send before breaking off
    statuses: list = field(default_factory=list)  # for each request: a status to answer instead
    headers: dict = field(default_factory=dict)
    content_range: str | None = None  # a false Content-Range


@dataclass
class Asked:
    """One request: its path, its headers, the status of the answer and the bytes of body sent."""

    path: str
    headers: dict
    status: int = 0
    sent: int = 0


class Server:
    """`files` maps a path such as "/a.zip" to what is Served there; `asked` lists the requests."""

    def __init__(self, port: int):
        self.files: dict[str, Served] = {}
        self.asked: list[Asked] = []
        self.address = f"http://127.0.0.1:{port}"

    def serve(self, path: str, body: bytes, **options) -> str:
        """Serve `body` at `path`; return its address."""
        self.files[path] = Served(body, **options)
        return self.address + path


@contextlib.contextmanager
def running_server():
    """Yield a Server that listens on a free port of 127.0.0.1."""
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    httpd.daemon_threads = True
    httpd.server = Server(httpd.server_address[1])
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield httpd.server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def refused_address() -> str:
    """An address on a port where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/down.zip"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server.server
        asked = Asked(self.path, dict(self.headers))
        server.asked.append(asked)
        served = server.files.get(self.path)
        asked.status = self._status(served)
        if asked.status not in (200, 206):
            self._answer(asked.status, {**(served.headers if served else {}), "Content-Length": "0"})
            return
        start = self._start() if asked.status == 206 else 0
        self._answer(asked.status, self._headers_for(served, start, asked.status))
        body = served.body[start:]
        stop = served.stops.pop(0) if served.stops else None
        asked.sent = len(body) if stop is None else stop
        self.wfile.write(body[:stop])
        self.close_connection = True

    def _status(self, served) -> int:
        if served is None:
            return 404
        if served.statuses:
            return served.statuses.pop(0)
        condition = self.headers.get("If-Range")
        fits = condition is None or condition in (served.etag, served.modified)
        if not (served.ranges and "Range" in self.headers and fits):
            return 200
        return 206 if self._start() < len(served.body) else 416

    def _start(self) -> int:
        return int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])

    def _headers_for(self, served: Served, start: int, status: int) -> dict:
        headers = {"ETag": served.etag, "Last-Modified": served.modified, **served.headers}
        if served.tell_length:
            headers["Content-Length"] = str(len(served.body) - start)
        if status == 206:
            last = len(served.body) - 1
            headers["Content-Range"] = served.content_range or f"bytes {start}-{last}/{last + 1}"
        return {name: value for name, value in headers.items() if value is not None}

    def _answer(self, status: int, headers: dict):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        """Keep the test's output quiet."""
