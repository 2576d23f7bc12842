"""The origin: an HTTP server for one store, started and stopped, and changed while it runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from cvtrace.lab.errors import LabError
from cvtrace.lab.origin.access_log import AccessLog
from cvtrace.lab.origin.control import ControlServer
from cvtrace.lab.origin.injection import Injection, Injector
from cvtrace.lab.origin.listener import OriginServer
from cvtrace.lab.origin.response import Handler


class Origin:
    """Serves STORE/cvmfs as /cvmfs, in threads of this process; keys are not served.

    `port` 0 takes a free one. `access_log` is appended to. `control` is the path of a Unix socket
    (control.py), mode 0600.
    """

    def __init__(
        self,
        store: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        injections: Sequence[Injection] = (),
        access_log: Path | None = None,
        control: Path | None = None,
    ) -> None:
        self.store = store
        self._address = (host, port)
        self._injections = tuple(injections)
        self._log_path = access_log
        self._control_path = control
        self._server: OriginServer | None = None
        self._control: ControlServer | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._running().server_address[1])

    @property
    def url(self) -> str:
        """The address without a path: http://127.0.0.1:8000."""
        host = self._address[0]
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def requests(self) -> int:
        """How many requests have ended."""
        return self._running().in_flight.ended

    @property
    def injections(self) -> tuple[Injection, ...]:
        """What is done to requests; the first that matches counts. Setting it starts all counts and links anew."""
        return self._server.injector.injections if self._server else self._injections

    @injections.setter
    def injections(self, injections: Sequence[Injection]) -> None:
        self._injections = tuple(injections)
        if self._server:
            self._server.injector = Injector(self._injections)

    def start(self) -> Origin:
        """Listen and serve. Raises LabError when there is nothing to serve, or the port or a file cannot be had."""
        root = self.store / "cvmfs"
        if not root.is_dir():
            raise LabError(f"{self.store} is not a store: it has no folder 'cvmfs'; `cvtrace lab publish` makes one")
        try:
            log = AccessLog(self._log_path) if self._log_path else None
        except OSError as error:
            raise LabError(f"cannot write the access log {self._log_path}: {error.strerror}") from error
        try:
            self._server = OriginServer(self._address, Handler, root, Injector(self._injections), log)
        except OSError as error:
            if log:
                log.close()
            host, port = self._address
            raise LabError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
        self._server.run()
        if self._control_path:
            try:
                self._control = ControlServer(self._control_path, self)
            except LabError:
                self.stop()
                raise
        return self

    def stop(self) -> None:
        """Close all connections and end; what was in flight is logged as aborted. Does nothing when not running."""
        if self._control:
            self._control.close()
            self._control = None
        if self._server:
            self._server.end()
            self._server = None

    def hold_connections(self, for_s: float) -> int:
        """Cut all connections, and for some seconds let no new one come about; return until when (CLOCK_MONOTONIC, ns).

        The queue of the listening socket is full meanwhile, as it is when a server is overloaded: the kernel drops a client's SYN, and the
        client's kernel sends it again 1 s later, then 2 s later, and so on.
        """
        self._running().hold(for_s)
        return time.monotonic_ns() + round(for_s * 1e9)

    def wait_idle(self, timeout_s: float = 10.0) -> bool:
        """Wait until every request that has begun is answered and logged; False when that takes too long.

        A client has the last byte of a response a moment before the log has its line: call this before
        reading the log.
        """
        return self._running().in_flight.wait_none(timeout_s)

    def __enter__(self) -> Origin:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _running(self) -> OriginServer:
        if self._server is None:
            raise LabError("the origin is not running; start it first")
        return self._server
