"""The listening socket of an origin and its connections, one thread for each; they can be cut or held."""

from __future__ import annotations

import contextlib
import os
import socket
import socketserver
import threading
from pathlib import Path
from typing import Any

from cvtrace.lab.origin.access_log import AccessEntry, AccessLog
from cvtrace.lab.origin.injection import Injector


class OriginServer(socketserver.ThreadingTCPServer):
    """The listening socket and its connections."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256

    def __init__(
        self,
        address: tuple[str, int],
        handler: type[socketserver.BaseRequestHandler],
        root: Path,
        injector: Injector,
        access_log: AccessLog | None,
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.root = os.path.realpath(os.fsencode(root))
        self.injector = injector
        self.stopping = threading.Event()
        self.in_flight = InFlight()
        self._accepting = threading.Event()
        self._accepting.set()
        self._access_log = access_log
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, handler)

    def run(self) -> None:
        """Accept connections in a thread of its own."""
        threading.Thread(target=self.serve_forever, args=(0.1,), name="origin", daemon=True).start()

    def end(self) -> None:
        """Stop accepting, cut all connections, wait for what is in flight, close the log."""
        self.stopping.set()
        self._accepting.set()
        self.shutdown()
        self.server_close()
        self._cut()
        self.in_flight.wait_none(5.0)
        if self._access_log:
            self._access_log.close()
            self._access_log = None

    def _cut(self) -> None:
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def hold(self, for_s: float) -> None:
        """Cut all connections and keep the queue of those that wait to be accepted full, with one of our own in it."""
        self._accepting.clear()
        self.socket.listen(0)  # room for one
        self._cut()
        filler = socket.create_connection(self.socket.getsockname()[:2], timeout=5.0)

        def release() -> None:
            with contextlib.suppress(OSError):  # it may have ended meanwhile
                self.socket.listen(self.request_queue_size)
            self._accepting.set()
            filler.close()

        timer = threading.Timer(for_s, release)
        timer.daemon = True
        timer.start()

    def get_request(self) -> Any:
        """Accept a connection, unless they are held."""
        self._accepting.wait()
        return super().get_request()

    def log(self, entry: AccessEntry) -> None:
        """Write an entry, if there is a log."""
        if self._access_log:
            self._access_log.write(entry)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection, to be able to cut it."""
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget the connection and close it."""
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is no news; anything else is a bug and is printed."""
        if not self.stopping.is_set():
            super().handle_error(request, client_address)


class InFlight:
    """Counts the requests that have begun and are not logged yet; used as a context by each."""

    def __init__(self) -> None:
        self.ended = 0
        self._begun = 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._begun += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self.ended += 1
            self._changed.notify_all()

    def wait_none(self, timeout_s: float) -> bool:
        """Wait until none is left; False after `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._begun == self.ended, timeout_s)
