"""Having the client fetch parts of files, many at a time, before a program needs them one after the other."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

READ_BYTES: Final = 1 << 20
PAGE: Final = 4096
READERS: Final = 8
"""How many pieces are read at a time, unless the user says otherwise."""


@dataclass(frozen=True)
class Piece:
    """A part of a file that is fetched as one.

    `whole`: every byte is read, where it is not known what the client fetches as one; else a single page is, which brings the object.
    """

    path: str
    offset: int
    size: int
    whole: bool = False


@dataclass
class Progress:
    """What has been done so far; the numbers only grow."""

    pieces: int = 0
    bytes: int = 0
    failures: list[str] = field(default_factory=list)
    """A sentence for each piece that could not be read."""


class Warming:
    """Readers that go through pieces in their order. They are daemon threads: one that hangs in a read ends with the process."""

    def __init__(self, pieces: Sequence[Piece], threads: int) -> None:
        self.progress = Progress()
        self._pieces: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()
        for piece in (*pieces, *[None] * threads):
            self._pieces.put(piece)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(min(threads, len(pieces)))]

    def run(self, show: Callable[[Progress], None], every_s: float = 0.2) -> float:
        """Read everything and return the seconds that took; calls `show` now and then. On KeyboardInterrupt no further piece is begun."""
        start_s = time.monotonic()
        for thread in self._threads:
            thread.start()
        try:
            for thread in self._threads:
                while thread.is_alive():
                    thread.join(every_s)
                    show(self.progress)
        except KeyboardInterrupt:
            self._stopping.set()
            raise
        show(self.progress)
        return time.monotonic() - start_s

    def _work(self) -> None:
        while not self._stopping.is_set() and (piece := self._pieces.get()) is not None:
            try:
                self._read(piece)
            except OSError as failure:
                with self._lock:
                    self.progress.failures.append(
                        f"{piece.path} at {piece.offset:,}: {os.strerror(failure.errno or 0)}"
                    )
                continue
            with self._lock:
                self.progress.pieces += 1
                self.progress.bytes += piece.size

    def _read(self, piece: Piece) -> None:
        fd = os.open(piece.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            os.posix_fadvise(
                fd, 0, 0, os.POSIX_FADV_RANDOM
            )  # no readahead: it would fetch the neighbour in the same reader
            if not piece.whole:
                # A page that lies wholly in the object, if there is one: at its edge the read would bring the object before it, too.
                aligned = -(-piece.offset // PAGE) * PAGE
                os.pread(fd, 1, aligned if aligned < piece.offset + piece.size else piece.offset)
                return
            offset, end = piece.offset, piece.offset + piece.size
            while offset < end and not self._stopping.is_set():
                part = os.pread(fd, min(READ_BYTES, end - offset), offset)
                if not part:
                    return
                offset += len(part)
        finally:
            os.close(fd)
