"""Ctrl-C and requests to end, at any moment: they stop the experiment even where Python drops the exception that a signal raises.

An exception that is raised while Python runs a callback of its own (after a fork, in a destructor) is printed and ignored. So a signal is also noted,
and the runner looks at the note before each step.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """Whether a signal asked to stop."""

    def __init__(self) -> None:
        self._is_noted = False
        self._has_ended = False

    def end(self) -> None:
        """Ignore signals from here on, so that the clean-up is not interrupted."""
        self._has_ended = True

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal asked to stop."""
        if self._is_noted:
            raise KeyboardInterrupt

    def note(self, number: int, frame: object) -> None:
        """Take a signal."""
        self._is_noted = True
        if not self._has_ended:
            raise KeyboardInterrupt


@contextlib.contextmanager
def interruption() -> Iterator[Interruption]:
    """Take the signals that end a program; those that the caller ignores stay ignored."""
    noted = Interruption()
    if threading.current_thread() is not threading.main_thread():  # only that one gets signals
        yield noted
        return
    taken = [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, noted.note) for number in taken}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
