"""One connection: its requests one after the other, each answered as the injection for it says; the kernel sends bodies (sendfile)."""

from __future__ import annotations

import os
import socket
import stat
import time
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import BinaryIO
from urllib.parse import unquote_to_bytes, urlsplit

from cvtrace.lab.origin.access_log import AccessEntry
from cvtrace.lab.origin.injection import Injection
from cvtrace.lab.origin.listener import OriginServer
from cvtrace.lab.origin.pacing import Link, Passage, wait_until


class Handler(BaseHTTPRequestHandler):
    """Parsing is the standard library's; what goes over the wire, and when, is decided here."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: OriginServer
    connection: socket.socket
    entry: AccessEntry

    def handle_one_request(self) -> None:
        """Serve one request and log it."""
        try:
            self.raw_requestline = self.rfile.readline(65537)
        except OSError:
            self.raw_requestline = b""
        if not self.raw_requestline or self.server.stopping.is_set():
            self.close_connection = True
            return
        self.entry = AccessEntry(time.monotonic_ns(), time.time_ns() // 1_000_000, self.client_address[1])
        with self.server.in_flight:
            try:
                if self.parse_request():
                    self.entry.method = self.command
                    self._respond()
            except OSError:  # the client is gone
                self.entry.aborted = True
                self.close_connection = True
            finally:
                self.entry.end_ns, self.entry.end_ms = time.monotonic_ns(), time.time_ns() // 1_000_000
                self.server.log(self.entry)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that cannot be parsed; called by the standard library."""
        self.close_connection = True
        self._send_text(code)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the access log says it."""

    def _respond(self) -> None:
        try:
            self.entry.path = urlsplit(self.path).path
        except ValueError:
            return self.send_error(HTTPStatus.BAD_REQUEST)
        injection, link = self.server.injector.pick(self.entry.path)
        if injection.first_byte_delay_s:
            due_ns = time.monotonic_ns() + round(injection.first_byte_delay_s * 1e9)
            self.entry.delay_ns = wait_until(due_ns, self.server.stopping)
        if self.server.stopping.is_set():
            raise ConnectionAbortedError("the origin is being stopped")
        if injection.drop:
            self.entry.dropped = self.close_connection = True
            return None
        if self.command not in ("GET", "HEAD"):
            self.close_connection = True  # it may have a body, which nobody reads
            return self._send_text(HTTPStatus.METHOD_NOT_ALLOWED, "Allow: GET, HEAD")
        if injection.status:
            return self._send_text(injection.status)
        file = open_object(self.server.root, self.entry.path)
        if file is None:
            return self._send_text(HTTPStatus.NOT_FOUND)
        with file:
            return self._send_file(file, injection, link)

    def _send_file(self, file: BinaryIO, injection: Injection, link: Link | None) -> None:
        size_bytes = os.fstat(file.fileno()).st_size
        head = self._head(HTTPStatus.OK, size_bytes, "Content-Type: application/octet-stream")
        wanted_bytes = 0 if self.command == "HEAD" else size_bytes
        limit_bytes = min(wanted_bytes, injection.truncate_after_bytes or 0)
        if injection.truncate_after_bytes is None:
            limit_bytes = wanted_bytes
        # Head and first bytes in one packet, unless the body is to come later.
        more = socket.MSG_MORE if limit_bytes and not link else 0
        self._send_head(HTTPStatus.OK, head, more)
        if link:
            self._send_paced(file, limit_bytes, link)
        else:
            self._send_range(file, 0, limit_bytes)
        if limit_bytes < wanted_bytes:
            self.entry.truncated = self.close_connection = True

    def _send_paced(self, file: BinaryIO, size_bytes: int, link: Link) -> None:
        passage = Passage(link, self.server.stopping)
        for offset in range(0, size_bytes, link.slice_bytes):
            slice_bytes = min(link.slice_bytes, size_bytes - offset)
            passage.wait(slice_bytes)
            self.entry.pace_ns = passage.waited_ns
            self._send_range(file, offset, slice_bytes)

    def _send_range(self, file: BinaryIO, offset: int, size_bytes: int) -> None:
        end = offset + size_bytes
        while offset < end:
            count = os.sendfile(self.connection.fileno(), file.fileno(), offset, end - offset)
            if count == 0:
                raise OSError("the object became shorter while it was sent")
            offset += count
            self.entry.body_bytes += count

    def _send_text(self, status: int, *headers: str) -> None:
        text = f"{status} {_phrase(status)}\n".encode()
        head = self._head(status, len(text), "Content-Type: text/plain", *headers)
        body = b"" if self.command == "HEAD" else text
        self._send_head(status, head + body)
        self.entry.body_bytes = len(body)

    def _send_head(self, status: int, head: bytes, flags: int = 0) -> None:
        self.entry.status = status
        self.entry.first_byte_ns = time.monotonic_ns()
        self.connection.sendall(head, flags)

    def _head(self, status: int, size_bytes: int, *headers: str) -> bytes:
        lines = [
            f"HTTP/1.1 {status} {_phrase(status)}",
            "Server: cvtrace-lab",
            f"Date: {formatdate(usegmt=True)}",
            *headers,
            f"Content-Length: {size_bytes}",
            f"Connection: {'close' if self.close_connection else 'keep-alive'}",
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


def open_object(root: bytes, url_path: str) -> BinaryIO | None:
    """Open the file that a URL path names below `root` (a real path); None when there is none, or it lies elsewhere.

    `root` is what /cvmfs stands for. Links that lead out of it are not followed.
    """
    decoded = unquote_to_bytes(url_path)
    if not decoded.startswith(b"/cvmfs/") or b"\0" in decoded:
        return None
    path = os.path.realpath(root + b"/" + decoded.removeprefix(b"/cvmfs/"))
    if not path.startswith(root + b"/"):
        return None
    try:
        # Without O_NONBLOCK, opening a pipe would wait for a writer.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb", buffering=0)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        return None
    return file


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Injected"
