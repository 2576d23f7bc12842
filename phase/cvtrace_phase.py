"""`cvtrace.phase("name")`: a part of a script that its author gives a name. `cvtrace.token()`: a token that the script has made.

This file needs no other and nothing but Python 3.8: it is `cvtrace.marking`, the package `cvtrace-phase`, and may be copied beside a
script. `cvtrace run` gives it to interpreters that have neither (probes/phases/inject).

It runs in the target, whether that is traced or not: outside of a recording a phase is a look at a global, and nothing but builtin
modules is imported. In a recording each phase is two marks (probes/phases/hook.py reads them), so that one that never ends
is known, too.
"""

from __future__ import annotations

import os
from _thread import _local, get_native_id
from collections.abc import Callable
from time import monotonic_ns

TYPE_CHECKING = False  # typing is not imported for nothing
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, TypeVar

    Function = TypeVar("Function", bound=Callable[..., Any])

__all__ = ["phase", "token"]

PHASE = 4
UNFINISHED = 0x8000
NAME = 0x7F04
NAME_BYTES = 24
TEXT_MAX = 496
FIRST_TOKEN = 97
TOKEN = 98
USER_PHASE = 16
"""Of probes/events.py, probes/phases/functions.py and probes/phases/hook.py; a test holds them together."""

HIGH_FD = 201
"""Descriptors are handed out from the lowest free number, so nothing of the target gets this one if the target closes it."""

COROUTINE = 0x80
"""CO_COROUTINE of inspect, which is slow to import."""


class phase:
    """A named phase of a script: `with cvtrace.phase("tokenize"):`, or `@cvtrace.phase("tokenize")` on a function.

    Phases may nest, repeat and run in any thread. It never raises; without a recording it does nothing.
    """

    __slots__ = ("_begun", "name")

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> phase:
        if _path is not None:
            self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if _path is not None:
            self._end(kind is not None)

    def __call__(self, function: Function) -> Function:
        """Return `function` with every call of it a phase."""
        from functools import wraps

        name = self.name
        call: Any
        if getattr(getattr(function, "__code__", None), "co_flags", 0) & COROUTINE:

            @wraps(function)
            async def call(*args: Any, **kwargs: Any) -> Any:
                with phase(name):
                    return await function(*args, **kwargs)
        else:

            @wraps(function)
            def call(*args: Any, **kwargs: Any) -> Any:
                with phase(name):
                    return function(*args, **kwargs)

        return call  # type: ignore[no-any-return]

    def _begin(self) -> None:
        try:
            marks = _opened()
            if not hasattr(self, "_begun"):
                self._begun: list[tuple[int, int]] = []
            begun = marks.begin(str(self.name))
            self._begun.append(begun)
            if not _answer.depths:
                _answer.begin(begun[0])
            _answer.depths += 1
        except Exception:  # the target comes first
            pass

    def _end(self, failed: bool) -> None:
        try:
            end = monotonic_ns()
            marks = _opened()
            tid = get_native_id()
            for place in range(len(self._begun) - 1, -1, -1):  # one object may be in use by several threads
                if self._begun[place][1] == tid:
                    marks.end(*self._begun.pop(place), end, failed)
                    _answer.depths = max(_answer.depths - 1, 0)
                    if not _answer.depths:
                        _answer.begin(end)
                    return
        except Exception:
            pass


def token(count: int = 1) -> None:
    """Note that a script has made a token, or `count` tokens at once (one of each sequence of a batch).

    A token takes the time since the one before it in the same thread. The first one of an outermost `cvtrace.phase` takes the time since
    that phase began, and counts as prefill; so each answer is to have a phase. It never raises; without a recording it does nothing.
    """
    if _path is None:
        return
    try:
        end = monotonic_ns()
        begin, function = _answer.next(end)
        _opened().token(function, begin, end, count)
    except Exception:  # the target comes first
        pass


class Answer(_local):
    """Of a thread: when its next token began, whether that is the first one of an answer, and how many phases it is in."""

    since = 0
    is_first = True
    depths = 0

    def begin(self, since: int) -> None:
        self.since, self.is_first = since, True

    def next(self, end: int) -> tuple[int, int]:
        """Return when the token that ends now began, and which function it marks."""
        begin, function = self.since or end, FIRST_TOKEN if self.is_first else TOKEN
        self.since, self.is_first = end, False
        return begin, function


class Marks:
    """Appends records to the file of marks: one write for each begin and each end."""

    def __init__(self, path: str) -> None:
        import fcntl
        import struct

        self.record = struct.Struct("<QQIIHHiQQQ").pack
        self.cell = struct.Struct("<QQQ").unpack
        self.fd = fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self.fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH_FD)
        except OSError:  # RLIMIT_NOFILE
            return
        os.close(fd)

    def begin(self, name: str) -> tuple[int, int]:
        """Mark the begin of a phase, with its name; returns (ts, tid)."""
        tid, pid = get_native_id(), os.getpid()
        text = name.encode("utf-8", "replace")
        begin = monotonic_ns()
        data = self.record(begin, 0, pid, tid, PHASE | UNFINISHED, 0, 0, USER_PHASE, 0, 0)
        for place in range(0, min(len(text), TEXT_MAX), NAME_BYTES):
            words = self.cell(text[place : min(place + NAME_BYTES, TEXT_MAX)].ljust(NAME_BYTES, b"\0"))
            data += self.record(begin, 0, pid, tid, NAME, place // NAME_BYTES, len(text), *words)
        self._write(data)
        return begin, tid

    def end(self, begin: int, tid: int, end: int, failed: bool) -> None:
        """Mark the end of the phase that began so."""
        self._write(self.record(begin, end - begin, os.getpid(), tid, PHASE, 0, -failed, USER_PHASE, 0, 0))

    def token(self, function: int, begin: int, end: int, count: int) -> None:
        """Mark a token; what makes it is the thread."""
        tid = get_native_id()
        self._write(self.record(begin, end - begin, os.getpid(), tid, PHASE, 0, 0, function, tid, count & 0xFFFFFFFF))

    def _write(self, data: bytes) -> None:
        try:
            os.write(self.fd, data)
        except OSError:
            self.fd = -1  # the target closed what it did not know; from here on nothing is written


_path = os.environ.get("CVTRACE_MARKS") or None
_marks: Marks | None = None
_answer = Answer()


def _opened() -> Marks:
    """Return the file of marks, opened at the first phase."""
    global _marks
    if _marks is None:
        _marks = Marks(_path or "")
    return _marks
