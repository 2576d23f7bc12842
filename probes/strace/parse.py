"""Lines of `strace -f -ttt -T -yy` -> completed system calls, handed to one handler per call.

A line is `<tid> <seconds>.<fraction> <call>(<arguments>) = <result> <duration>`. A call that another thread's line
interrupts is printed twice: `... <unfinished ...>` and `<... name resumed>...`; both halves are joined here, so a handler sees
whole calls only. Nothing a log can contain raises: what cannot be read is counted in `LineParser.skipped`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from cvtrace.probes.strace.decode import ERRNO, SIGNALS

Handler = Callable[[int, int, bytes, int | None, int], None]
"""(tid, ts_ns, arguments, result, dur_ns); result is -errno for an error and None for a call that never returned."""

EXITED: Final = b"+++"
"""Name of the handler for the end of a thread: its result is the exit code, 128 + n for signal n."""

HEAD: Final = re.compile(rb"(\d{1,10}) +(\d+)\.(\d+) (?:(\w+)\(|<\.\.\. (\w+) resumed>)")
RESULT: Final = re.compile(
    rb"(-?\d+|0x[0-9a-f]+|\?)(?=<| <[\d.]+>$| E[A-Z]| \(| /\*| *$)(?:<[^ ]*)?(?: (E[A-Z0-9_]+))?"
)
TRANSLATED: Final = re.compile(rb" /\* (\d{1,10}) in strace's PID NS \*/")
"""What follows the number of a process that is in another PID namespace."""
ENDED: Final = re.compile(rb"(\d{1,10}) +(\d+)\.(\d+) \+\+\+ (?:exited with (\d+)|killed by (\w+)|superseded by)")
QUIET: Final = re.compile(rb"(?:\d+ +\d+\.\d+ (?:---|\+\+\+|strace: )|strace: )")

TO_NS: Final[dict[int, int]] = {digits: 10 ** (9 - digits) for digits in range(1, 10)}
"""Digits of a fraction of a second -> factor that makes it ns; strace prints 6, with precision:ns 9."""

UNREADABLE: Final = (ValueError, IndexError, KeyError, OverflowError, struct.error)
"""What a handler may raise for a line it cannot make sense of."""


def split_lines(chunk: bytes, partial: bytes) -> tuple[list[bytes], bytes]:
    """Return the complete lines of `rest + chunk` and what follows the last newline."""
    lines = (partial + chunk).split(b"\n")
    return lines[:-1], lines[-1]


class LineParser:
    """Feeds the calls of one log to handlers; keeps the unfinished call of every thread between feeds."""

    def __init__(self, handlers: Mapping[bytes, Handler], *, realtime_offset_ns: int) -> None:
        self._handlers = handlers
        self._offset_ns = realtime_offset_ns
        self._pending: dict[int, tuple[bytes, int, bytes]] = {}
        self.lines = 0
        self.skipped = 0
        self.last_ns = 0
        """Latest time stamp seen, CLOCK_MONOTONIC ns."""

    def set_offset(self, realtime_offset_ns: int) -> None:
        """Take over what CLOCK_REALTIME is ahead of CLOCK_MONOTONIC from now on."""
        self._offset_ns = realtime_offset_ns

    def feed(self, lines: Iterable[bytes]) -> None:
        """Parse lines, with or without their newline."""
        for line in lines:
            self.lines += 1
            try:
                self._line(line.rstrip(b"\r\n"))
            except UNREADABLE:
                self.skipped += 1

    def finish(self, end_ns: int | None = None) -> None:
        """Hand every call that has not returned to its handler, with a duration that reaches to the end of the log."""
        end = self.last_ns if end_ns is None else max(end_ns, self.last_ns)
        pending, self._pending = self._pending, {}
        for tid, (name, ts, arguments) in pending.items():
            try:
                self._handlers[name](tid, ts, arguments, None, max(0, end - ts))
            except UNREADABLE:
                self.skipped += 1

    def pending(self, *names: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield (tid, arguments) of the calls of these names that have not returned yet."""
        for tid, (name, _, arguments) in self._pending.items():
            if name in names:
                yield tid, arguments

    def _line(self, line: bytes) -> None:
        head = HEAD.match(line)
        if head is None:
            self._other(line)
            return
        pid, seconds, fraction, name, resumed = head.groups()
        handler = self._handlers.get(name or resumed)
        if handler is None:
            return
        tid = int(pid)
        now = int(seconds + fraction) * TO_NS[len(fraction)] - self._offset_ns
        arguments = line[head.end() :]
        if name is not None:
            ts = now
        else:
            ts, arguments = self._resume(tid, resumed, arguments)
        if now > self.last_ns:
            self.last_ns = now
        if arguments.endswith((b"<unfinished ...>", b"<detached ...>")):
            self._pending[tid] = (name or resumed, ts, arguments[: arguments.rindex(b"<")])
            return
        self._completed(handler, tid, ts, now, arguments)

    def _resume(self, tid: int, name: bytes, text: bytes) -> tuple[int, bytes]:
        begun = self._pending.get(tid)
        if begun is None or begun[0] != name:
            raise ValueError("resumed without a beginning")
        return begun[1], begun[2] + text

    def _completed(self, handler: Handler, tid: int, ts: int, now: int, text: bytes) -> None:
        end, result = text.rfind(b" = "), None
        while end > 0:
            # A decorated descriptor may be called `) = 5`, so that the last " = " is not always the one before the result.
            if text[end - 1] in b") " and (result := RESULT.match(text, end + 3)) is not None:
                break
            end = text.rfind(b" = ", 0, end)
        if result is None:
            raise ValueError("no result")
        arguments = text[:end].rstrip(b" ")[:-1]
        value, error = result.groups()
        if value == b"?" and error is None:
            # The thread ended inside the call: `<... futex resumed> <unfinished ...>) = ?`.
            self._pending.pop(tid, None)
            handler(tid, ts, arguments.replace(b"<unfinished ...>", b""), None, max(0, now - ts))
            return
        dur = _duration_ns(text)
        self._pending.pop(tid, None)
        if translated := TRANSLATED.match(text, result.end()):
            value = translated[1]
        handler(tid, ts, arguments, -ERRNO[error] if error else int(value, 0), dur)

    def _other(self, line: bytes) -> None:
        ended = ENDED.match(line)
        if ended is None:
            if line and not QUIET.match(line):
                self.skipped += 1
            return
        pid, seconds, fraction, code, signal = ended.groups()
        now = int(seconds + fraction) * TO_NS[len(fraction)] - self._offset_ns
        self.last_ns = max(self.last_ns, now)
        tid = int(pid)
        if (begun := self._pending.pop(tid, None)) is not None:
            self._handlers[begun[0]](tid, begun[1], begun[2], None, max(0, now - begun[1]))
        if (handler := self._handlers.get(EXITED)) is not None:
            handler(tid, now, b"", int(code) if code else _signal_code(signal), 0)


def _duration_ns(text: bytes) -> int:
    """Return the `<seconds>` at the end of a line in ns; a line that does not end with it was cut."""
    begin = text.rindex(b"<")
    if not text.endswith(b">"):
        raise ValueError("cut line")
    seconds, fraction = text[begin + 1 : -1].split(b".")
    return int(seconds + fraction) * TO_NS[len(fraction)]


def _signal_code(name: bytes | None) -> int:
    return 128 + SIGNALS.get(name, 0) if name else 0
