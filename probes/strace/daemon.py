"""System calls of the CVMFS client -> events of the daemon (FUSE_*, CACHE_*, HANDOVER*, HTTP_*, DAEMON_*)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from cvtrace.probes import http, wire
from cvtrace.probes.events import Kind, Opcode
from cvtrace.probes.strace import decode
from cvtrace.probes.strace.parse import EXITED, Handler
from cvtrace.probes.strace.threads import CLONES
from cvtrace.probes.strace.translator import Translator

FUSE_DEVICE: Final = b"<char 10:229>"
"""-yy decorates every descriptor of /dev/fuse with its device number, under whatever path it was opened."""

PIPE: Final = re.compile(rb"\d+<(?:pipe:|\\x70\\x69\\x70\\x65\\x3a)")
SOCKET: Final = re.compile(rb"\d+<TCP")
REQUEST: Final = b"GET "
TLS_DATA: Final = wire.TLS_DATA.to_bytes(2, "little")
RESPONSE: Final = b"HTTP/1."
TRANSACTION: Final = (b"/txn/", b"\\x2f\\x74\\x78\\x6e\\x2f")
PPOLL_TIMEOUT: Final = re.compile(rb", (\d+), (?:NULL|\{tv_sec=(\d+), tv_nsec=(\d+)\})")
PORT: Final = re.compile(rb"htons\((\d+)\)")

LATE_NS: Final = 60 * 10**9
"""Within this time of a request the target's log reports the end of its thread. Later, the number may be another thread's."""
MOST_UNDECIDED: Final = 20_000
"""Threads whose names are kept until it is known whose they are; the oldest are dropped."""

LRU_INSERTS: Final = frozenset({wire.LRU_INSERT, wire.LRU_INSERT_VOLATILE})


class Asker(NamedTuple):
    """Who sent a FUSE request: the number of a thread, and when a worker read the request, ns."""

    pid: int
    ts: int


class DaemonTranslator(Translator):
    """Translates the log of one or more daemons; FUSE requests are kept until they are answered."""

    def __init__(
        self, *, realtime_offset_ns: int, tgids: Mapping[int, int] | None, default_tgid: int | None = None
    ) -> None:
        super().__init__(realtime_offset_ns=realtime_offset_ns, tgids=tgids, default_tgid=default_tgid)
        self._requests: dict[tuple[int, int], tuple[int, int, decode.Request]] = {}
        self.is_target: Callable[[int, int], bool | None] = lambda pid, ts: True
        """Tells whether a number was at a time (ns) that of a thread of the target, None if only `decide` can know that."""
        self._askers: dict[int, Asker] = {}
        """Who sent the last request that a worker read."""
        self._undecided: dict[int, list[tuple[Asker, Kind, int, int, bytes, int]]] = {}
        """Number of a thread -> names, as arguments of `_name`."""
        self._waiting: set[int] = set()
        """Workers that handed a job over and have not read its result."""

    def finish(self, end_ns: int | None = None) -> None:
        """Emit every call that has not returned and every request that was not answered as UNFINISHED."""
        super().finish(end_ns)
        end = max(self.parser.last_ns, end_ns or 0)
        last_askers = [names[-1][0] for names in self._undecided.values()]
        self.decide({asker.pid: asker.ts for asker in last_askers if self.is_target(*asker)})
        self._undecided.clear()
        for (tgid, _), (ts, tid, request) in self._requests.items():
            self._fuse_daemon(ts, max(0, end - ts), tgid, tid, request, None)
        self._requests.clear()

    def decide(self, ended_ns: Mapping[int, int]) -> None:
        """Keep the names that threads of the target looked up before they ended: number -> when, ns.

        strace reports an end when it runs again, which takes a while on a busy machine.
        """
        for tid in ended_ns.keys() & self._undecided.keys():
            for asker, kind, ts, worker, name, size in self._undecided.pop(tid):
                if asker.ts <= ended_ns[tid] <= asker.ts + LATE_NS:
                    self.columns.text(kind, ts, worker, name, size)

    def _name(self, asker: Asker, kind: Kind, ts: int, tid: int, name: bytes, size: int) -> None:
        """Emit a name if the target asked for it: what others ask for stays out of a trace."""
        is_target = self.is_target(*asker)
        if is_target:
            self.columns.text(kind, ts, tid, name, size)
        elif is_target is None:
            self._undecided.setdefault(asker.pid, []).append((asker, kind, ts, tid, name, size))
            if len(self._undecided) > MOST_UNDECIDED:
                del self._undecided[next(iter(self._undecided))]

    def _handlers(self) -> dict[bytes, Handler]:
        handlers: dict[bytes, Handler] = {
            b"read": self._read,
            b"write": self._write,
            b"writev": self._writev,
            b"pread64": self._pread64,
            b"close": self._close,
            b"open": self._open,
            b"openat": self._openat,
            b"openat2": self._openat,
            b"connect": self._connect,
            b"poll": self._poll,
            b"ppoll": self._ppoll,
            b"futex": self._futex,
            b"restart_syscall": self._restarted,
            EXITED: self._exited,
        }
        handlers |= dict.fromkeys((b"rename", b"renameat", b"renameat2"), self._rename)
        handlers |= dict.fromkeys((b"sendto", b"sendmsg"), self._send)
        handlers |= dict.fromkeys((b"recvfrom", b"recvmsg"), self._receive)
        return handlers | dict.fromkeys(CLONES, self._clone)

    # FUSE

    def _read(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        if arguments.find(FUSE_DEVICE, 0, 96) > 0:
            if ret is not None and ret > 0:
                self._request(tid, ts + dur, arguments, ret)
        elif PIPE.match(arguments):
            self._read_pipe(tid, ts, arguments, ret, dur)
        elif SOCKET.match(arguments):
            self._receive(tid, ts, arguments, ret, dur)

    def _request(self, tid: int, ts: int, arguments: bytes, length: int) -> None:
        escaped, _ = decode.string_at(arguments)
        request = decode.request_of(escaped, length)
        tgid = self._threads.tgid(tid, self.parser)
        if request.opcode in decode.NO_REPLY:
            self._fuse_daemon(ts, 0, tgid, tid, request, 0)
        else:
            self._requests[tgid, request.unique] = (ts, tid, request)
        asker = self._askers[tid] = Asker(request.pid, ts)
        if request.opcode == Opcode.READ:
            fh = decode.signed32(request.fh)
            self._event(Kind.FUSE_READ, tid, ts, 0, fh, request.unique, request.offset, request.size)
        elif request.opcode == Opcode.LOOKUP:
            self._name(asker, Kind.FUSE_DAEMON, ts, tid, request.name, request.name_size)

    def _fuse_daemon(self, ts: int, dur: int, tgid: int, tid: int, request: decode.Request, error: int | None) -> None:
        c = request.opcode << 32 | request.pid
        self.columns.event(Kind.FUSE_DAEMON, ts, dur, tgid, tid, error, request.unique, request.nodeid, c)

    def _writev(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        if arguments.find(FUSE_DEVICE, 0, 96) > 0:
            self._reply(tid, ts, arguments, ret, dur)
        elif SOCKET.match(arguments):
            self._send(tid, ts, arguments, ret, dur)

    def _reply(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        first, end = decode.string_at(arguments)
        head = decode.unescape(first, 32)
        if len(head) == decode.REPLY.size and b'"' in arguments[end:]:
            head += decode.unescape(decode.string_at(arguments, end)[0], 16)
        length, error, unique = decode.REPLY.unpack_from(head)
        if unique == 0:  # a notification of the daemon's own, e.g. FUSE_NOTIFY_INVAL_ENTRY
            return
        tgid = self._threads.tgid(tid, self.parser)
        pending = self._requests.get((tgid, unique))
        body = head[decode.REPLY.size :]
        if pending is None:  # a request from before the recording
            return
        begun, worker, request = pending
        opcode, b, c = request.opcode, length, 0
        if opcode in (Opcode.LOOKUP, Opcode.OPEN) and len(body) >= 8:
            c = int.from_bytes(body[:8], "little")
        if opcode == Opcode.OPEN and len(body) >= 12:
            b |= int.from_bytes(body[8:12], "little") << 32
        self.columns.event(Kind.FUSE_REPLY, ts, dur, tgid, tid, ret, unique, b, c)
        if ret is not None:
            del self._requests[tgid, unique]
            self._fuse_daemon(begun, max(0, ts + dur - begun), tgid, worker, request, error)

    # The cache

    def _open(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        self._opened(tid, ts, arguments, 0, ret, dur)

    def _openat(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        self._opened(tid, ts, arguments, arguments.index(b", "), ret, dur)

    def _opened(self, tid: int, ts: int, arguments: bytes, start: int, ret: int | None, dur: int) -> None:
        escaped, end = decode.string_at(arguments, start)
        flags = decode.open_flags(arguments, end)
        self._event(Kind.CACHE_OPEN, tid, ts, dur, ret, flags)
        self.columns.text(Kind.CACHE_OPEN, ts, tid, decode.unescape(escaped))

    def _pread64(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        fd, offset, size = decode.leading_int(arguments), 0, 0
        if ret is not None:
            _, count, position = arguments.rsplit(b", ", 2)
            offset, size = int(position), int(count)
        self._event(Kind.CACHE_READ, tid, ts, dur, ret, fd, offset, size)

    def _rename(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        _, end = decode.string_at(arguments)
        escaped, _ = decode.string_at(arguments, end)
        self._event(Kind.CACHE_RENAME, tid, ts, dur, ret)
        self.columns.text(Kind.CACHE_RENAME, ts, tid, decode.unescape(escaped))

    def _close(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        if not ret:  # a client that becomes a daemon closes every number there is: 55,000 times EBADF
            self._event(Kind.CACHE_CLOSE, tid, ts, dur, ret, decode.leading_int(arguments))

    def _write(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        quote = arguments.find(b'"')
        if any(arguments.find(mark, 0, quote) > 0 for mark in TRANSACTION):
            size = decode.last_int(arguments)
            self._event(Kind.CACHE_WRITE, tid, ts, dur, ret, decode.leading_int(arguments), 0, size)
        elif arguments.find(FUSE_DEVICE, 0, 96) > 0:
            self._reply(tid, ts, arguments, ret, dur)
        elif SOCKET.match(arguments):
            self._send(tid, ts, arguments, ret, dur)
        else:
            self._write_pipe(tid, ts, arguments, ret, dur)

    def _inserted(self, tid: int, ts: int, escaped: bytes, written: int, ret: int | None, dur: int) -> None:
        """Emit CACHE_INSERT if the bytes are an LruCommand that is followed by its description."""
        data = decode.unescape(escaped)
        command = int.from_bytes(data[:4], "little")
        described = int.from_bytes(data[40:42], "little")
        if command in LRU_INSERTS and described == written - wire.LRU_COMMAND_BYTES:
            size = int.from_bytes(data[8:16], "little") & wire.LRU_SIZE_MASK
            self._event(Kind.CACHE_INSERT, tid, ts, dur, ret, size)
            if asker := self._askers.get(tid):
                self._name(asker, Kind.CACHE_INSERT, ts, tid, data[wire.LRU_COMMAND_BYTES :], described)

    # Pipes between worker, download thread and quota manager

    def _write_pipe(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        escaped, _ = decode.string_at(arguments)
        written = decode.last_int(arguments)
        if written > wire.LRU_COMMAND_BYTES:
            self._inserted(tid, ts, escaped, written, ret, dur)
        elif written in (4, 8) and PIPE.match(arguments):
            value = int.from_bytes(decode.unescape(escaped), "little")
            kind = Kind.HANDOVER if written == 8 else Kind.HANDOVER_DONE
            if written == 8:
                self._waiting.add(tid)
            self._event(kind, tid, ts, dur, ret, value, decode.leading_int(arguments))

    def _read_pipe(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        fd = decode.leading_int(arguments)
        if ret is None:
            if tid in self._waiting:
                self._event(Kind.HANDOVER_RESULT, tid, ts, dur, None, 0, fd)
        elif ret in (4, 8) and decode.last_int(arguments) == ret:
            value = int.from_bytes(decode.unescape(decode.string_at(arguments)[0]), "little")
            kind = Kind.HANDOVER_TAKEN if ret == 8 else Kind.HANDOVER_RESULT
            self._waiting.discard(tid)
            self._event(kind, tid, ts, dur, ret, value, fd)

    # The network

    def _connect(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        family = wire.AF_INET6 if b"sa_family=AF_INET6" in arguments else wire.AF_INET
        if b"sa_family=AF_INET" not in arguments:
            return
        match = PORT.search(arguments)
        port = int(match[1]) if match else 0
        address = 0
        if family == wire.AF_INET:
            escaped, _ = decode.string_at(arguments, arguments.index(b"inet_addr("))
            for part in decode.unescape(escaped).split(b"."):
                address = address << 8 | int(part)
        fd = decode.leading_int(arguments)
        self._event(Kind.HTTP_CONNECT, tid, ts, dur, ret, fd, family | port << 32, address)

    def _send(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        if not SOCKET.match(arguments):
            return
        escaped, end = decode.string_at(arguments)
        begin = decode.unescape(escaped, len(REQUEST))
        fd, size = decode.leading_int(arguments), _size(arguments, end)
        if begin.startswith(TLS_DATA) and size >= wire.TLS_REQUEST_MIN:
            self._event(Kind.HTTP_SEND, tid, ts, dur, ret, fd, 1, size)
        elif begin == REQUEST:
            self._event(Kind.HTTP_SEND, tid, ts, dur, ret, fd, 0, size)
            self.columns.text(Kind.HTTP_SEND, ts, tid, http.without_names(http.request_line(decode.unescape(escaped))))

    def _receive(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        if not SOCKET.match(arguments) or (ret is not None and ret < 0):
            return
        fd, size = decode.leading_int(arguments), 0
        if b'"' in arguments:
            escaped, end = decode.string_at(arguments)
            size = _size(arguments, end)
            if decode.unescape(escaped, len(RESPONSE)) == RESPONSE:
                head = http.response_head(decode.unescape(escaped))
                self.columns.text(Kind.HTTP_RECV, ts, tid, head)
        self._event(Kind.HTTP_RECV, tid, ts, dur, ret, fd, 0, size)

    # Waiting

    def _poll(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        _, count, timeout = arguments.rstrip(b" ").rsplit(b", ", 2)
        if int(timeout):  # 0 only looks, and libcurl looks at every step
            self._event(Kind.DAEMON_POLL, tid, ts, dur, ret, int(count), int(timeout))

    def _ppoll(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        match = PPOLL_TIMEOUT.search(arguments, arguments.rfind(b"]"))
        if match is None:
            raise ValueError("ppoll without a count")
        count, seconds, nanoseconds = match.groups()
        timeout_ms = -1 if seconds is None else int(seconds) * 1000 + int(nanoseconds) // 1_000_000
        self._event(Kind.DAEMON_POLL, tid, ts, dur, ret, int(count), timeout_ms)

    def _restarted(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        # What was interrupted is not said ("interrupted read" is printed for all). Of the calls that the kernel restarts this way
        # only poll() returns a positive number; the wait of the download thread before its first job is such a call.
        if ret is not None and ret > 0:
            self._event(Kind.DAEMON_POLL, tid, ts, dur, ret, 0, -1)

    def _futex(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        address, operation, _ = arguments.split(b", ", 2)
        if operation.startswith(b"FUTEX_WAIT"):
            self._event(Kind.DAEMON_FUTEX, tid, ts, dur, ret, int(address, 0))

    # Threads

    def _clone(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        if ret is not None and ret > 0:
            self._threads.cloned(tid, ret, arguments, self.parser)

    def _exited(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        self._waiting.discard(tid)
        self._threads.forget(tid, ts)
        self._askers.pop(tid, None)


def _size(arguments: bytes, end: int) -> int:
    """Return the bytes asked for: the argument after the buffer, or the sum of the vector."""
    lengths = decode.iov_bytes(arguments)
    return lengths if lengths else decode.number_after(arguments, end)
