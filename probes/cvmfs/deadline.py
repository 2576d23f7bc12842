"""Asking mounts and daemons without being hung, filled or broken into by one of them.

A call on a FUSE mount whose daemon does not answer cannot be ended: the thread sleeps uninterruptibly once
the daemon has taken the request. So such calls are made by forked children, left behind when they are late. A child may
take on another user's rights for good. What it sends back is JSON of a bounded size: nothing in it can make this process do more
than read numbers and text.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final

MOST_BYTES: Final = 8 << 20
"""What a child may send; a mount's answers are some kilobytes."""
MOST_CHILDREN: Final = 32
"""How many ask at the same time."""
PART_BYTES: Final = 1 << 16

Call = Callable[[], Any]
"""Returns what JSON can say: None, bool, int, float, str, and lists and dicts (with str keys) of those."""


class NoAnswer(Exception):
    """The call did not return in time, or not with an answer that can be believed."""


def within(seconds: float, call: Call, most_bytes: int = MOST_BYTES) -> Any:
    """Return `call()`, made in a child. Raises NoAnswer after `seconds`, and the OSError that the call raised."""
    (answer,) = all_within(seconds, [call], most_bytes)
    if isinstance(answer, (NoAnswer, OSError)):
        raise answer
    return answer


def all_within(seconds: float, calls: Sequence[Call], most_bytes: int = MOST_BYTES) -> list[Any]:
    """Return the results of all calls, made in a child each, side by side, in `seconds` together.

    In the place of a result stands NoAnswer, or the OSError that the call raised. A child does nothing but its call, which
    must not need other threads or open files of this process.
    """
    until_s = time.monotonic() + seconds
    _reap()
    answers: list[Any] = [NoAnswer("there was no time left to ask")] * len(calls)
    waiting = list(enumerate(calls))[::-1]
    asking: dict[int, _Child] = {}
    poll = select.poll()
    try:
        while (waiting or asking) and (left_s := until_s - time.monotonic()) > 0:
            while waiting and len(asking) < MOST_CHILDREN:
                place, call = waiting.pop()
                child = _Child(place, call, left_s, most_bytes)
                asking[child.receiving] = child
                poll.register(child.receiving, select.POLLIN)
            for descriptor, _ in poll.poll(left_s * 1000):
                if asking[descriptor].receive():
                    poll.unregister(descriptor)
                    child = asking.pop(descriptor)
                    answers[child.place] = child.finish()
    finally:
        for child in asking.values():
            answers[child.place] = child.leave()
    return answers


class _Child:
    """A process that makes one call and sends what it returned."""

    def __init__(self, place: int, call: Call, seconds: float, most_bytes: int) -> None:
        self.place = place
        self._most_bytes = most_bytes
        self._data = bytearray()
        self._is_too_much = False
        self.receiving, sending = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads: see all_within
            self._pid = os.fork()
        if self._pid == 0:
            _answer(sending, call, seconds)
        os.close(sending)

    def receive(self) -> bool:
        """Take what is there; returns whether that was all."""
        part = os.read(self.receiving, PART_BYTES)
        self._data += part
        self._is_too_much = len(self._data) > self._most_bytes
        return not part or self._is_too_much

    def finish(self) -> Any:
        if self._is_too_much:
            self.leave()
            return NoAnswer(f"its answer is larger than {self._most_bytes >> 20} MiB")
        os.close(self.receiving)
        os.waitpid(self._pid, 0)  # the pipe is closed by its end
        return _answer_in(bytes(self._data))

    def leave(self) -> NoAnswer:
        """Kill it, and do not wait: it may die only when the daemon answers."""
        os.close(self.receiving)
        with contextlib.suppress(PermissionError):  # it has become another user; then its own alarm ends it
            os.kill(self._pid, signal.SIGKILL)
        _late.append(self._pid)
        return NoAnswer("it does not answer")


_late: list[int] = []
"""Children that were left behind."""


def _reap() -> None:
    """Take note of those that have died by now."""
    for pid in tuple(_late):
        with contextlib.suppress(ChildProcessError, ValueError):
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                continue
        with contextlib.suppress(ValueError):  # another thread was faster
            _late.remove(pid)


def _answer_in(data: bytes) -> Any:
    """Return what a child sent, or the exception that stands for it."""
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return NoAnswer("it does not answer")
    if not isinstance(message, dict):
        return NoAnswer("it does not answer")
    if "error" in message:
        code, text = message["error"]
        return OSError(int(code), str(text)) if code is not None else OSError(str(text))
    return message.get("answer")


def _answer(sending: int, call: Call, seconds: float) -> None:
    """Be the child; never returns."""
    try:
        _be_on_its_own(sending, seconds)
        try:
            message = {"answer": call()}
        except TimeoutError as error:
            message = {"error": [error.errno or errno.ETIMEDOUT, error.strerror or str(error)]}
        except OSError as error:
            message = {"error": [error.errno, error.strerror or str(error)]}
        data = memoryview(json.dumps(message).encode("ascii"))
        while data:
            data = data[os.write(sending, data) :]
    finally:
        os._exit(0)


def _be_on_its_own(descriptor: int, seconds: float) -> None:
    """Let go of the terminal, pipes and locks, which a child that hangs must not hold; end by itself, and by nothing else."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C is for the recording, which still wants the answer
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        if fd != descriptor:
            os.dup2(null, fd)
    os.closerange(3, descriptor)
    os.closerange(max(descriptor + 1, 3), os.sysconf("SC_OPEN_MAX"))
