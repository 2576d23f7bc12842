"""The signals that reach the recorder while the target runs, and waiting for them.

From a terminal they reach the target too, as it is in the same process group; otherwise they are passed on.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections import deque
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, Final

ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
FROM_TERMINAL: Final = (signal.SIGINT, signal.SIGQUIT)


class Signals:
    """While entered, signals neither interrupt nor end this process: `wait` returns at once and `take` gives them."""

    def __init__(self, also: tuple[signal.Signals, ...] = ()) -> None:
        """Note the signals `also`, too."""
        self._handled = (*ENDING_SIGNALS, *also)
        self._received: deque[int] = deque()
        self._before: dict[int, Any] = {}
        self._reading, self._writing = -1, -1
        self._awaited = select.poll()

    def __enter__(self) -> Signals:
        self._reading, self._writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.watch(self._reading)
        self._wakeup_before = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        for number in (*self._handled, signal.SIGCHLD):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._reading)
        os.close(self._writing)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._received.append(number)

    def watch(self, descriptor: int, events: int = select.POLLIN) -> None:
        """Let `wait` return when that descriptor is ready, too; whoever watches it has to see to it that it is not for ever."""
        self._awaited.register(descriptor, events)

    def wait(self, seconds: float) -> set[int]:
        """Sleep until a signal comes (the end of a child is one), a watched descriptor is ready, or the time is over.

        Returns the watched descriptors that are ready.
        """
        ready = {descriptor for descriptor, _ in self._awaited.poll(seconds * 1000)}
        if self._reading in ready:
            os.read(self._reading, 1 << 12)
        return ready - {self._reading}

    def take(self) -> list[int]:
        """Return the signals that came since the last call, without those that only tell of children."""
        # One by one: a signal may come between any two steps, and what is cleared then is lost.
        return [self._received.popleft() for _ in range(len(self._received))]


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise SystemExit, so that what was begun is cleaned up, while no target runs yet."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def reached_target(number: int) -> bool:
    """Return whether a signal most likely came from the terminal, which gave it to the target as well."""
    if number not in FROM_TERMINAL:
        return False
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
