"""Changing an origin while it runs: JSON objects, one per line, over a Unix socket that only its owner can use.

    {"command": "inject", "injections": [{"first_byte_delay_s": 0.05}]}    do this from the next request on ([]: nothing)
    {"command": "hold_connections", "for_s": 0.5}                          cut all connections, let none come about for so long
    {"command": "status"}                                                  what it serves, how much, and what is injected
    {"command": "wait_idle", "timeout_s": 10}                              answer when all begun requests are logged

Every answer has "ok"; if that is false, "error" is one sentence.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import socketserver
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from cvtrace.lab.errors import LabError
from cvtrace.lab.origin.injection import Injection


class Controlled(Protocol):
    """What is needed of an origin: see server.py."""

    injections: Sequence[Injection]

    @property
    def url(self) -> str: ...
    @property
    def store(self) -> Path: ...
    @property
    def requests(self) -> int: ...
    def hold_connections(self, for_s: float) -> int: ...
    def wait_idle(self, timeout_s: float) -> bool: ...


def control(socket_path: str | os.PathLike[str], request: Mapping[str, Any], timeout_s: float = 30.0) -> dict[str, Any]:
    """Send one request to a running origin and return its answer. Raises LabError when there is none."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            connection.connect(os.fspath(socket_path))
            connection.sendall(json.dumps(dict(request)).encode() + b"\n")
            with connection.makefile("rb") as lines:
                line = lines.readline()
    except OSError as error:
        raise LabError(
            f"no origin answers on {socket_path} ({error}); `cvtrace lab serve --control {socket_path}` starts one"
        ) from error
    if not line:
        raise LabError(f"the origin on {socket_path} ended before it answered")
    answer: dict[str, Any] = json.loads(line)
    if not answer.get("ok"):
        raise LabError(f"the origin refused: {answer.get('error')}")
    return answer


class ControlServer(socketserver.ThreadingUnixStreamServer):
    """The other end, in a thread of the origin's process."""

    daemon_threads = True

    def __init__(self, path: Path, origin: Controlled) -> None:
        self.origin = origin
        self._path = path
        _remove_stale(path)
        try:
            super().__init__(os.fspath(path), ControlHandler)
        except OSError as error:
            raise LabError(f"cannot make the control socket {path}: {error.strerror or error}") from error
        threading.Thread(target=self.serve_forever, args=(0.1,), name="control", daemon=True).start()

    def server_bind(self) -> None:
        """Bind with mode 0600 from the start: Linux gives the file the mode of the unbound socket."""
        os.fchmod(self.socket.fileno(), 0o600)
        super().server_bind()

    def close(self) -> None:
        """Stop listening and remove the socket."""
        self.shutdown()
        self.server_close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()


class ControlHandler(socketserver.StreamRequestHandler):
    """One caller, any number of requests."""

    server: ControlServer

    def handle(self) -> None:
        """Answer line by line."""
        with contextlib.suppress(ConnectionError):
            for line in self.rfile:
                self.wfile.write(json.dumps(_answer(line, self.server.origin)).encode() + b"\n")


def _answer(line: bytes, origin: Controlled) -> dict[str, Any]:
    try:
        request = json.loads(line)
        if not isinstance(request, dict):
            raise LabError("a request is a JSON object")
        return {"ok": True} | _obey(request, origin)
    except (LabError, ValueError, TypeError) as error:
        return {"ok": False, "error": str(error)}


def _obey(request: dict[str, Any], origin: Controlled) -> dict[str, Any]:
    match request.get("command"):
        case "inject":
            origin.injections = _injections(request.get("injections"))
        case "hold_connections":
            return {"until_ns": origin.hold_connections(float(request.get("for_s", 0.5)))}
        case "wait_idle":
            return {"idle": origin.wait_idle(float(request.get("timeout_s", 10)))}
        case "status":
            pass
        case name:
            raise LabError(f"'{name}' is not a command; there are inject, hold_connections, status and wait_idle")
    return {
        "url": origin.url,
        "store": str(origin.store),
        "pid": os.getpid(),
        "requests": origin.requests,
        "injections": [injection.to_json() for injection in origin.injections],
    }


def _injections(values: object) -> list[Injection]:
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise LabError("'injections' is a list of objects; an empty one ends all injections")
    return [Injection.from_json(value) for value in values]


def _remove_stale(path: Path) -> None:
    """Remove a socket whose origin is gone. Raises LabError when it is in use, or is no socket."""
    if not path.exists():
        return
    if not path.is_socket():
        raise LabError(f"{path} is there and is not a socket; name another path")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(path))
        except OSError:
            path.unlink()
            return
    raise LabError(f"another origin listens on {path}; stop it first, or name another path")
