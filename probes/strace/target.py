"""System calls of the target -> events of the target (SYS_*, PROC_*)."""

from __future__ import annotations

from typing import Final

from cvtrace.probes.events import AT_FDCWD, NO_OFFSET, Kind
from cvtrace.probes.strace import decode
from cvtrace.probes.strace.parse import EXITED, Handler
from cvtrace.probes.strace.threads import CLONES
from cvtrace.probes.strace.translator import Translator

WAITS: Final = {
    b"poll": 7,
    b"select": 23,
    b"pause": 34,
    b"nanosleep": 35,
    b"connect": 42,
    b"accept": 43,
    b"recvfrom": 45,
    b"recvmsg": 47,
    b"wait4": 61,
    b"flock": 73,
    b"fsync": 74,
    b"futex": 202,
    b"restart_syscall": 219,
    b"clock_nanosleep": 230,
    b"epoll_wait": 232,
    b"waitid": 247,
    b"pselect6": 270,
    b"ppoll": 271,
    b"epoll_pwait": 281,
    b"accept4": 288,
    b"io_uring_enter": 426,
}
"""Calls that may block and have no kind of their own -> x86-64 number."""

CREAT_FLAGS: Final = 0o1101
"""What creat() means: O_WRONLY | O_CREAT | O_TRUNC."""


class TargetTranslator(Translator):
    """Translates the log of the target and of all that it forked."""

    def _handlers(self) -> dict[bytes, Handler]:
        handlers: dict[bytes, Handler] = {
            b"open": self._open,
            b"creat": self._creat,
            b"read": self._read,
            b"readv": self._readv,
            b"pread64": self._pread64,
            b"preadv": self._preadv,
            b"preadv2": self._preadv,
            b"mmap": self._mmap,
            b"munmap": self._munmap,
            b"close": self._close,
            b"fcntl": self._fcntl,
            b"getdents64": self._getdents64,
            b"readlink": self._readlink,
            b"readlinkat": self._readlinkat,
            b"chdir": self._chdir,
            b"fchdir": self._fchdir,
            EXITED: self._exited,
        }
        handlers |= dict.fromkeys((b"dup", b"dup2", b"dup3"), self._dup)
        handlers |= dict.fromkeys((b"openat", b"openat2"), self._openat)
        handlers |= dict.fromkeys((b"execve", b"execveat"), self._exec)
        handlers |= dict.fromkeys(CLONES, self._clone)
        return handlers | {name: self._waiting(name, number) for name, number in WAITS.items()}

    def processes(self) -> tuple[int, ...]:
        """Return the processes that the log has threads of that have not ended."""
        return self._threads.processes()

    def take_ended(self) -> dict[int, int]:
        """Return the threads that ended since the last call, and when, ns."""
        return self._threads.take_ended()

    # Files

    def _open(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        escaped, end = decode.string_at(arguments)
        flags = decode.open_flags(arguments, end)
        self._opened(tid, ts, AT_FDCWD, flags, escaped, ret, dur)

    def _openat(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        escaped, end = decode.string_at(arguments, arguments.index(b", "))
        flags = decode.open_flags(arguments, end)
        self._opened(tid, ts, decode.dirfd_of(arguments), flags, escaped, ret, dur)

    def _creat(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        escaped, _ = decode.string_at(arguments)
        self._opened(tid, ts, AT_FDCWD, CREAT_FLAGS, escaped, ret, dur)

    def _opened(self, tid: int, ts: int, directory: int, flags: int, escaped: bytes, ret: int | None, dur: int) -> None:
        self._event(Kind.SYS_OPEN, tid, ts, dur, ret, directory, flags)
        self.columns.text(Kind.SYS_OPEN, ts, tid, decode.unescape(escaped))

    def _read(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        size = 0 if ret is None else decode.last_int(arguments)
        self._event(Kind.SYS_READ, tid, ts, dur, ret, decode.leading_int(arguments), NO_OFFSET, size)

    def _readv(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        size = decode.iov_bytes(arguments)
        self._event(Kind.SYS_READ, tid, ts, dur, ret, decode.leading_int(arguments), NO_OFFSET, size)

    def _pread64(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        offset = size = 0
        if ret is not None:
            _, count, position = arguments.rsplit(b", ", 2)
            offset, size = int(position), int(count)
        self._event(Kind.SYS_READ, tid, ts, dur, ret, decode.leading_int(arguments), offset, size)

    def _preadv(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        size, offset = decode.iov_bytes(arguments), 0
        if ret is not None:
            offset = int(arguments[arguments.rindex(b"]") :].split(b", ")[2])
        self._event(Kind.SYS_READ, tid, ts, dur, ret, decode.leading_int(arguments), offset, size)

    def _mmap(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        _, length, _, flags, fd_and_offset = arguments.split(b", ", 4)
        if b"MAP_ANON" in flags:
            return
        fd, _, offset = fd_and_offset.rpartition(b", ")
        failed = ret if ret is None or -4096 < ret < 0 else 0
        self._event(Kind.SYS_MMAP, tid, ts, dur, failed, decode.leading_int(fd), int(offset, 0), int(length, 0))
        if ret is not None and not failed:
            self._event(Kind.SYS_MAPPED, tid, ts, dur, 0, ret, decode.leading_int(fd), int(length, 0))

    def _munmap(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        address, _, length = arguments.partition(b", ")
        self._event(Kind.SYS_UNMAP, tid, ts, dur, ret, int(address, 0), 0, int(length, 0))

    def _dup(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        if ret is not None and ret >= 0:
            self._event(Kind.SYS_DUP, tid, ts, dur, ret, decode.leading_int(arguments))

    def _fcntl(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        if b", F_DUPFD" in arguments:
            self._dup(tid, ts, arguments, ret, dur)

    def _getdents64(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        size = 0 if ret is None else decode.last_int(arguments)
        self._event(Kind.SYS_LIST, tid, ts, dur, ret, decode.leading_int(arguments), 0, size)

    def _readlink(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        escaped, _ = decode.string_at(arguments)
        self._event(Kind.SYS_LINK, tid, ts, dur, ret, AT_FDCWD)
        self.columns.text(Kind.SYS_LINK, ts, tid, decode.unescape(escaped))

    def _readlinkat(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        escaped, _ = decode.string_at(arguments, arguments.index(b", "))
        self._event(Kind.SYS_LINK, tid, ts, dur, ret, decode.dirfd_of(arguments))
        self.columns.text(Kind.SYS_LINK, ts, tid, decode.unescape(escaped))

    def _close(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        self._event(Kind.SYS_CLOSE, tid, ts, dur, ret, decode.leading_int(arguments))

    def _chdir(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        if ret != 0:
            return
        escaped, _ = decode.string_at(arguments)
        self._event(Kind.SYS_CHDIR, tid, ts, dur, ret)
        self.columns.text(Kind.SYS_CHDIR, ts, tid, decode.unescape(escaped))

    def _fchdir(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        if ret != 0:
            return
        _, _, path = arguments.partition(b"<")
        self._event(Kind.SYS_CHDIR, tid, ts, dur, ret)
        self.columns.text(Kind.SYS_CHDIR, ts, tid, decode.unescape(path.rstrip(b"> ")))

    # Waiting

    def _waiting(self, name: bytes, number: int) -> Handler:
        """Return the handler of a call that may block: its first two arguments as far as strace prints numbers."""

        def handle(tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
            if name == b"futex":
                address, operation, _ = arguments.split(b", ", 2)
                if not operation.startswith(b"FUTEX_WAIT"):
                    return
                first, second = int(address, 0), decode.flag_bits(operation, "futex")
            else:
                first, second = _two_numbers(arguments)
            self._event(Kind.SYS_WAIT, tid, ts, dur, ret, number, first, second)

        return handle

    # Processes and threads

    def _clone(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        if ret is not None and ret > 0:
            tgid = self._threads.cloned(tid, ret, arguments, self.parser)
            self._event(Kind.PROC_FORK, tid, ts, dur, ret, tgid, ret)

    def _exec(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        if ret == 0:
            escaped, _ = decode.string_at(arguments)
            self._event(Kind.PROC_EXEC, tid, ts, dur, ret)
            self.columns.text(Kind.PROC_EXEC, ts, tid, decode.unescape(escaped))

    def _exited(self, tid: int, ts: int, arguments: bytes, ret: int | None, dur: int) -> None:
        self._event(Kind.PROC_EXIT, tid, ts, 0, ret)
        self._threads.forget(tid, ts)


def _two_numbers(arguments: bytes) -> tuple[int, int]:
    """Return the first two arguments; 0 for each that strace prints as a structure or by name."""
    first, _, remainder = arguments.partition(b", ")
    second = remainder.partition(b", ")[0].partition(b")")[0]
    return _number(first), _number(second)


def _number(text: bytes) -> int:
    match = decode.INTEGER.match(text)
    if match is None:
        return 0
    return int(text, 16) if text.startswith(b"0x") and text[2:].isalnum() else int(match[0])
