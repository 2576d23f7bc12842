# ruff: noqa: SIM105 - contextlib is not loaded for nothing
"""Reads the CVMFS client's counters where phases begin and end, inside the target: any later would be too late.

Runs in any Python from 3.9 on and imports nothing of cvtrace; the numbers of the counters are those of
probes/portable/counts.py, a test holds them together. Around a call that is not a token's, the counters are read before
and after it; around tokens before the first, after the last (when `is_done` says so), and between them so rarely that reading
costs half a percent.
"""

from __future__ import annotations

import os
import sys
from _thread import get_native_id
from time import monotonic_ns

from _cvtrace_marks import MASK, RECORD, Marks  # type: ignore[import-not-found]
from _cvtrace_table import OFTEN  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType
    from typing import Any

COUNTER = 72
NO_MOUNT = MASK
EVERY_NS = 100_000_000
SHARE = 200
"""Between tokens, one part in so many of the time goes into reading."""
TALK_S = 0.5
MOST_BYTES = 1 << 20
"""The client's answer is some 20 KB."""
MOST_DIGITS = 18
MOST = 10**18

XATTRS = (("user.nopen", 0), ("user.ndownload", 1), ("user.rx", 2), ("user.hitrate", 3), ("user.nioerr", 4))
HITRATE = 3
TALK = {
    b"cvmfs.n_fs_open": 5,
    b"cvmfs.n_fs_read": 6,
    b"cvmfs.n_fs_lookup": 7,
    b"cvmfs.n_fs_stat": 8,
    b"cvmfs.n_fs_readlink": 9,
    b"cvmfs.n_fs_dir_open": 10,
    b"fetch.n_invocations": 11,
    b"fetch.n_downloads": 12,
    b"download.n_requests": 13,
    b"download.sz_transferred_bytes": 14,
    b"download-external.n_requests": 15,
}
CPU, MAJOR, MINOR, READ_BYTES = 16, 17, 18, 20


class Counting(Marks):  # type: ignore[misc]
    """Marks that also read the counters of `mounts` (path or empty) and of this process."""

    def __init__(self, path: str, mounts: list[str], sockets: list[str]) -> None:
        super().__init__(path)
        self._mounts = list(enumerate(mounts))
        self._sockets = dict(enumerate(map(address_of, sockets)))
        self._repeating = -1
        self._calls_since = 0
        self._next_ns = 0
        self._attribute: Callable[[str, str], bytes] | None = None
        self._process = ProcessCounts()

    def open(self) -> None:
        if self._fd >= 0:
            return
        import atexit

        super().open()
        self._attribute = find_getxattr()
        atexit.register(self.read)

    def loaded(self, module: ModuleType) -> None:
        watch_end(module, self)

    def before(self, index: int) -> None:
        if index not in OFTEN or index != self._repeating:
            self._repeating = index
            self.read()

    def mark(self, index: int, begin: int, end: int, failed: bool, owner: int, value: int = 0) -> None:
        super().mark(index, begin, end, failed, owner, value)
        self._calls_since += 1
        if index not in OFTEN:
            self._repeating = -1
            self.read()
        elif end >= self._next_ns:
            self.read()

    def done(self) -> None:
        """Take note that generation has ended."""
        if self._calls_since:
            self.read()

    def read(self) -> None:
        """Read everything now, and write it with one write."""
        begin = monotonic_ns()
        try:
            data = b"".join(self._readings())
            self.write(data)
        except Exception:  # whatever it is, the target comes first
            pass
        self._calls_since = 0
        now = monotonic_ns()
        self._next_ns = now + max(EVERY_NS, SHARE * (now - begin))

    def _readings(self) -> Iterator[bytes]:
        pid, tid = os.getpid(), get_native_id()
        for mount, path in self._mounts:
            begin = monotonic_ns()
            values = self._of_mount(mount, path)
            length = monotonic_ns() - begin
            for count, value in values:
                yield RECORD.pack(begin, length, pid, tid, COUNTER, 0, 0, mount, count, value & MASK)
        begin = monotonic_ns()
        for count, value in self._process.read(pid):
            yield RECORD.pack(begin, 0, pid, tid, COUNTER, 0, 0, NO_MOUNT, count, value & MASK)

    def _of_mount(self, mount: int, path: str) -> list[tuple[int, int]]:
        if self._sockets[mount][0]:
            try:
                return parse_affairs(ask(*self._sockets[mount]))
            except (OSError, ValueError):
                self._sockets[mount] = ("", 0)  # not for this user, or gone: the attributes are left
        values = []
        if path and self._attribute is not None:
            for name, count in XATTRS:
                try:
                    number = number_of(self._attribute(path, name), 1000 if count == HITRATE else 1)
                except (OSError, ValueError):  # a number too few: `n/a`, protected, or the mount is gone
                    continue
                values.append((count, number))
        return values


class ProcessCounts:
    """What the kernel counts of this process."""

    def __init__(self) -> None:
        self._pid = 0
        self._own_bytes = 0

    def read(self, pid: int) -> Iterator[tuple[int, int]]:
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF)
        yield CPU, round((usage.ru_utime + usage.ru_stime) * 1e9)
        yield MAJOR, usage.ru_majflt
        yield MINOR, usage.ru_minflt
        if pid != self._pid:  # a forked child begins at zero
            self._pid, self._own_bytes = pid, 0
        try:
            fd = os.open("/proc/self/io", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # not Linux, or not dumpable
            return
        try:
            data = os.read(fd, 4096)
        finally:
            os.close(fd)
        read_bytes = int(data.split(None, 2)[1])
        yield READ_BYTES, max(read_bytes - self._own_bytes, 0)
        self._own_bytes += len(data)


def address_of(line: str) -> tuple[str, int]:
    """Return the path of a socket and whose it is, empty for none, from a line of CVTRACE_SOCKETS: `uid path`."""
    uid, _, path = line.partition(" ")
    return (path, int(uid)) if path.startswith("/") and uid.isascii() and uid.isdigit() else ("", 0)


def ask(path: str, uid: int) -> bytes:
    """Return the answer of the client of user `uid` to `internal affairs`.

    The socket must be that user's own, not a link to another; what is checked is what is connected to.
    """
    import _socket

    node = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    with_client = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        status = os.fstat(node)
        if status.st_mode & 0o170000 != 0o140000 or status.st_uid != uid:
            raise ValueError("no socket of the client's")
        deadline = monotonic_ns() + int(TALK_S * 1e9)
        with_client.settimeout(TALK_S)
        with_client.connect(f"/proc/self/fd/{node}")
        peer = with_client.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)[4:8]
        if int.from_bytes(peer, sys.byteorder) not in (uid, 0):
            raise ValueError("somebody else listens")
        with_client.sendall(b"internal affairs")
        return received(with_client, deadline)
    finally:
        with_client.close()
        os.close(node)


def received(connection: Any, deadline: int) -> bytes:
    """Return all that comes before the connection is closed; ValueError if that is too much or too late."""
    answer: list[bytes] = []
    size = 0
    while True:
        left_ns = deadline - monotonic_ns()
        if left_ns <= 0:
            raise ValueError("too late")
        connection.settimeout(left_ns / 1e9)
        part = connection.recv(1 << 16)
        if not part:
            return b"".join(answer)
        answer.append(part)
        size += len(part)
        if size > MOST_BYTES:
            raise ValueError("too long")


def parse_affairs(answer: bytes) -> list[tuple[int, int]]:
    """Return (number, value) of the counters in an answer; ValueError if it holds none."""
    values = {}
    for line in answer.partition(b"Name|Value|Description")[2].split(b"\n"):
        fields = line.split(b"|", 2)
        if len(fields) == 3 and fields[0] in TALK and fields[1].isdigit() and len(fields[1]) <= MOST_DIGITS:
            values[TALK[fields[0]]] = int(fields[1])
    if not values:
        raise ValueError("no counters")
    return list(values.items())


def number_of(value: bytes, scale: int = 1) -> int:
    """Return an attribute that is a number, decimals allowed, times `scale`; ValueError if it is none."""
    text = value.rstrip(b"\0\n ")
    digits, _, decimals = text.partition(b".")
    if not digits.isdigit() or len(text) > MOST_DIGITS or (decimals and not decimals.isdigit()):
        raise ValueError("no number")
    return min(round(float(text) * scale) if decimals else int(digits) * scale, MOST)


def find_getxattr() -> Callable[[str, str], bytes] | None:
    """Return what reads an attribute on this system: Python has it on Linux only."""
    builtin = getattr(os, "getxattr", None)
    if builtin is not None:
        return builtin  # type: ignore[no-any-return]
    if sys.platform != "darwin":
        return None
    try:
        import ctypes

        function = ctypes.CDLL(None, use_errno=True).getxattr
        function.restype = ctypes.c_ssize_t
        function.argtypes = [
            ctypes.c_char_p,
            ctypes.c_char_p,
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_uint32,
            ctypes.c_int,
        ]
    except (ImportError, OSError, AttributeError):
        return None

    def getxattr(path: str, name: str) -> bytes:
        value = ctypes.create_string_buffer(256)
        size = function(os.fsencode(path), name.encode(), value, len(value), 0, 0)
        if size < 0:
            raise OSError(ctypes.get_errno(), name)
        return value.raw[:size]

    return getxattr


def watch_end(module: Any, marks: Counting) -> None:
    """Read once more when a generator says that it is done: nothing else tells which token was the last."""
    kind: Any = getattr(module, "Generator", None)
    original = getattr(kind, "is_done", None)
    if original is None:
        return

    def is_done(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        if result:
            marks.done()
        return result

    is_done.__doc__ = original.__doc__
    try:
        kind.is_done = is_done
    except (AttributeError, TypeError):
        pass
