"""A small caching proxy, as a site has one between its nodes and the servers: started and stopped, empty or warm.

Requests for an object that is on its way wait for it, so that the server sends each object once. Answers say whether they were stored
(X-Cache, Age, Via). Only one server is asked for anything.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

from cvtrace.lab.errors import LabError

NAME: Final = "cvtrace-lab-proxy"
UPSTREAM_S: Final = 60.0
IDLE_S: Final = 0.5
"""A connection on which nothing was requested for so long is closed."""
PASSED_ON: Final = ("Content-Type", "Date")
"""Headers of the server that go to the client."""


@dataclass
class _Stored:
    """The answer to one URL; `ready` is set when it is there, or could not be had (`status` is not 200 then)."""

    ready: threading.Event = field(default_factory=threading.Event)
    status: int = HTTPStatus.BAD_GATEWAY
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    since_s: float = 0.0


class Proxy:
    """Serves `http://HOST:PORT/…` of one upstream server to clients that name the whole URL, in threads of this process."""

    def __init__(self, upstream: str, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._upstream = urlsplit(upstream).netloc
        self._address = (host, port)
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        """The address: http://127.0.0.1:3128."""
        host, port = self._running().server_address[:2]
        return f"http://{host!s}:{port}"

    @property
    def stored(self) -> int:
        """How many objects it has."""
        return sum(each.ready.is_set() for each in self._running().answers.values())

    def empty(self) -> None:
        """Forget everything."""
        self._running().answers.clear()

    def __enter__(self) -> Proxy:
        """Listen and serve. Raises LabError."""
        try:
            self._server = _Server(self._address, self._upstream)
        except OSError as error:
            raise LabError(f"cannot listen on {self._address[0]} port {self._address[1]}: {error.strerror}") from error
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="proxy", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _running(self) -> _Server:
        if self._server is None:
            raise LabError("the proxy is not running; start it first")
        return self._server


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], upstream: str) -> None:
        self.upstream = upstream
        self.answers: dict[str, _Stored] = {}
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def answer(self, path: str) -> tuple[_Stored, bool]:
        """Return the answer to a path, and whether it was there already."""
        with self._lock:
            stored = self.answers.get(path)
            is_first = stored is None
            if stored is None:
                stored = self.answers[path] = _Stored()
        if is_first:
            self._fetch(path, stored)
        was_there = stored.ready.is_set() and not is_first
        stored.ready.wait(UPSTREAM_S)
        return stored, was_there

    def _fetch(self, path: str, stored: _Stored) -> None:
        connection = http.client.HTTPConnection(self.upstream, timeout=UPSTREAM_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            stored.body = response.read()
            stored.headers = {name: value for name in PASSED_ON if (value := response.getheader(name))}
            stored.status, stored.since_s = response.status, time.monotonic()
        except (OSError, http.client.HTTPException):
            pass  # 502
        finally:
            if stored.status != HTTPStatus.OK:
                with self._lock:
                    self.answers.pop(path, None)
            stored.ready.set()
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = IDLE_S
    server: _Server

    def do_GET(self) -> None:
        """Answer with what is stored, or with what the server sends."""
        url = urlsplit(self.path)
        if url.scheme != "http" or url.netloc != self.server.upstream:
            return self._send(HTTPStatus.FORBIDDEN, {}, b"")
        stored, was_there = self.server.answer(url.path)
        headers = {**stored.headers, "X-Cache": f"{'HIT' if was_there else 'MISS'} from {NAME}", "Via": f"1.1 {NAME}"}
        if was_there:
            headers["Age"] = str(int(time.monotonic() - stored.since_s))
        return self._send(stored.status, headers, stored.body)

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        with contextlib.suppress(OSError):  # the client is gone
            self.send_response_only(status)
            for name, value in (*headers.items(), ("Content-Length", str(len(body)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
