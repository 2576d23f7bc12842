"""Pipes that strace writes into: read by one thread, so that a traced process never waits for the recorder to parse."""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import threading
from typing import Final

from cvtrace.probes.capabilities import keep_only
from cvtrace.probes.strace.parse import split_lines

PIPE_BYTES: Final = 1 << 20


class Log:
    """What one strace wrote and nobody took yet, and whether it has ended."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._chunks: list[bytes] = []
        self._partial = b""
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def append(self, chunk: bytes) -> None:
        with self._lock:
            self._chunks.append(chunk)

    def take(self) -> list[bytes]:
        """Return the complete lines since the last call; once the log has ended, also what follows the last newline."""
        ended = self.ended.is_set()
        with self._lock:
            chunks, self._chunks = self._chunks, []
        lines, self._partial = split_lines(b"".join(chunks), self._partial)
        if ended and self._partial:
            lines.append(self._partial)
            self._partial = b""
        return lines


class LogReader:
    """The thread that empties the pipes."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        self._stopping = False
        self._thread: threading.Thread | None = None

    def add(self, fd: int) -> Log:
        """Read `fd` (the read end of a pipe or FIFO, which becomes the reader's) until its writers are gone."""
        os.set_blocking(fd, False)
        log = Log(fd)
        self._selector.register(fd, selectors.EVENT_READ, log)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="cvtrace-strace", daemon=True)
            self._thread.start()
        self._nudge()
        return log

    def close(self) -> None:
        """Stop reading; every log that is still open counts as ended."""
        if self._stopping:
            return
        self._stopping = True
        self._nudge()
        if self._thread is not None:
            self._thread.join()
        for key in list(self._selector.get_map().values()):
            if isinstance(key.data, Log):
                self._end(key.data)
        self._selector.close()
        os.close(self._wake)
        os.close(self._waker)

    def _run(self) -> None:
        keep_only(())  # the pipes are open
        while not self._stopping:
            for key, _ in self._selector.select():
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake, 4096)
                else:
                    self._read(key.data)

    def _read(self, log: Log) -> None:
        try:
            chunk = os.read(log.fd, PIPE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if chunk:
            log.append(chunk)
        else:
            self._end(log)

    def _end(self, log: Log) -> None:
        self._selector.unregister(log.fd)
        os.close(log.fd)
        log.ended.set()

    def _nudge(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._waker, b"\0")
