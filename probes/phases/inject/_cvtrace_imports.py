"""Marks every import of a module that was not loaded yet: one IMPORT event and the module's name.

All imports of CPython go through `_find_and_load` of importlib: those of the import statement (Python/import.c looks it up in the
module on every call) and those of importlib.import_module. A module that is loaded already is in sys.modules and never gets there.

Runs in any CPython from 3.9 on and imports nothing of cvtrace. The numbers are those of probes/events.py and probes/phases/hook.py; a test
holds them together. Marks are packed when an import ends, and written when the outermost import of the thread does, so that an import
costs a few microseconds and no system call.
"""

from __future__ import annotations

import os
import struct
import sys
from _thread import get_ident, get_native_id
from time import monotonic_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

IMPORT = 12
UNFINISHED = 0x8000
IMPORT_NAME = 0x7F0C
NAME_BYTES = 24
TEXT_MAX = 496
ARMED = 1
"""`a` of the mark that tells when the interpreter had started, and imports began to be marked."""

WRITE_EVERY_NS = 100_000_000
"""An import that takes longer writes what it has imported so far, in case the process is killed."""
HIGH_FD = 202
"""Descriptors are handed out from the lowest free number, so nothing of the target gets this one if the target closes it."""
TRIED_FDS = 50

pack = struct.Struct("<QQIIHHiQQQ").pack
pack_name = struct.Struct("<QQIIHHi24s").pack


class File:
    """The file of marks, opened when there is something to write."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._armed = (monotonic_ns(), os.getpid(), get_native_id())

    def write(self, records: bytes) -> None:
        try:
            if self._fd < 0:
                records = self._first(records)
            os.write(self._fd, records)
        except OSError:
            self.write = _nothing  # type: ignore[method-assign]  # the target closed what it did not know

    def _first(self, records: bytes) -> bytes:
        self._fd = _high(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
        when, pid, tid = self._armed
        return pack(when, 0, pid, tid, IMPORT, 0, 0, ARMED, 0, 0) + records if pid == os.getpid() else records


def _nothing(records: bytes) -> None:
    pass


def _high(fd: int) -> int:
    """Move a descriptor to a high number that is free; without fcntl, which may lie on the mount."""
    for number in range(HIGH_FD, HIGH_FD + TRIED_FDS):
        try:
            os.fstat(number)
        except OSError:
            try:
                os.dup2(fd, number, inheritable=False)
            except OSError:  # RLIMIT_NOFILE
                return fd
            os.close(fd)
            return number
    return fd


class Importing:
    """The imports that a thread is in, from the outermost on, and the marks of those that ended within it."""

    __slots__ = ("begun", "file", "marks", "pid", "tid", "written", "written_ns")

    def __init__(self, file: File) -> None:
        self.file: File | None = file
        self.pid, self.tid = os.getpid(), get_native_id()
        self.begun: list[tuple[int, str]] = []
        self.marks: list[bytes] = []
        self.written = 0
        """So many of `begun` are in the file."""
        self.written_ns = 0

    def write_begun(self, now: int) -> None:
        """Write what there is, and that the imports under way have begun: the process may never see their end."""
        for depth in range(self.written, len(self.begun)):
            begin, name = self.begun[depth]
            self.marks.append(pack(begin, 0, self.pid, self.tid, IMPORT | UNFINISHED, 0, 0, 0, depth, 0))
            self.add_name(begin, name)
        self.written, self.written_ns = len(self.begun), now
        self.write()

    def add_name(self, begin: int, name: str) -> None:
        text = name.encode("utf-8", "replace")
        for place in range(0, min(len(text), TEXT_MAX), NAME_BYTES):
            self.marks.append(
                pack_name(
                    begin,
                    0,
                    self.pid,
                    self.tid,
                    IMPORT_NAME,
                    place // NAME_BYTES,
                    len(text),
                    text[place : min(place + NAME_BYTES, TEXT_MAX)],
                )
            )

    def end(self, depth: int, begin: int, name: str, failed: bool) -> None:
        """Mark an import that has ended; `depth` others of the thread are under way."""
        self.marks.append(pack(begin, monotonic_ns() - begin, self.pid, self.tid, IMPORT, 0, -failed, 0, depth, 0))
        if depth < self.written:
            self.written = depth
        else:
            self.add_name(begin, name)
        if not depth:
            self.write()

    def write(self) -> None:
        marks = self.marks
        self.marks = []
        if self.file is not None:
            self.file.write(b"".join(marks))


def watch_imports(path: str) -> None:
    """Mark imports from now on, in the file `path`, if this interpreter's can be."""
    try:
        _watch_imports(path)
    except Exception:
        return  # whatever it is, the target comes first


def _watch_imports(path: str) -> None:
    bootstrap: Any = sys.modules["_frozen_importlib"]
    find = bootstrap._find_and_load
    threads: dict[int, Importing] = {}
    file = File(path)

    def forked() -> None:
        for each in threads.values():  # what the parent has begun, the parent marks
            each.file = None
        threads.clear()

    os.register_at_fork(after_in_child=forked)
    bootstrap._find_and_load = _in_importlib(_marking(find, threads, file), bootstrap)


def _marking(find: Callable[..., Any], threads: dict[int, Importing], file: File) -> Callable[..., Any]:
    """Return what calls `find` and marks the call. It may use nothing but its own variables: see `_in_importlib`.

    What `site` looks for at the interpreter's start (usercustomize) is not marked.
    """
    site = getattr(sys.modules.get("site"), "__spec__", None)
    system, now, ident, importing, write_every_ns = sys, monotonic_ns, get_ident, Importing, WRITE_EVERY_NS

    def _find_and_load(name: str, import_: Any) -> Any:
        if name in system.modules or getattr(site, "_initializing", False):
            return find(name, import_)
        thread: Any = None
        begin = depth = 0
        try:
            key = ident()
            thread = threads.get(key)
            if thread is None:
                thread = threads[key] = importing(file)
            depth = len(thread.begun)
            begin = now()
            thread.begun.append((begin, name))
            if not depth or begin - thread.written_ns > write_every_ns:
                thread.write_begun(begin)
        except Exception:  # whatever it is, the target comes first
            pass
        failed = True
        try:
            module = find(name, import_)
            failed = False
            return module
        finally:
            try:
                del thread.begun[depth:]
                thread.end(depth, begin, name, failed)
                if not depth:
                    threads.pop(key, None)
            except Exception:
                pass

    return _find_and_load


def _in_importlib(function: Any, bootstrap: Any) -> Callable[..., Any]:
    """Return a function that counts as one of importlib: its frames are left out of tracebacks and of `warnings`' levels."""
    code = function.__code__.replace(co_filename=bootstrap._find_and_load.__code__.co_filename)
    return type(function)(code, vars(bootstrap), function.__name__, None, function.__closure__)  # type: ignore[no-any-return]
