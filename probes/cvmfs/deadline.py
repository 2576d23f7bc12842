"""Asking a mount or its daemon without being hung by it.

A call on a FUSE mount whose daemon does not answer cannot be ended: the thread sleeps uninterruptibly once
the daemon has taken the request. So such calls are made by a forked child, left behind when it is late.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import time
import warnings
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


class NoAnswer(Exception):
    """The call did not return in time."""


def within(seconds: float, call: Callable[[], Answer]) -> Answer:
    """Return `call()`, made in a child; its result must be picklable.

    Raises NoAnswer after `seconds`, and the OSError that the call raised. The child does nothing but
    `call`, which must not need other threads or open files of this process.
    """
    receiving, sending = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads: see the docstring
        pid = os.fork()
    if pid == 0:
        _answer(sending, call)
    os.close(sending)
    try:
        data = _read_all(receiving, time.monotonic() + seconds)
    except NoAnswer:
        os.kill(pid, signal.SIGKILL)  # it may die only when the daemon answers: it is not waited for
        raise
    finally:
        os.close(receiving)
    os.waitpid(pid, 0)
    if not data:
        raise NoAnswer
    answer = pickle.loads(data)
    if isinstance(answer, OSError):
        raise answer
    result: Answer = answer
    return result


def _answer(sending: int, call: Callable[[], object]) -> None:
    try:
        _let_go_of_files(sending)
        try:
            answer = call()
        except OSError as error:
            answer = error
        data = pickle.dumps(answer)
        while data:
            data = data[os.write(sending, data) :]
    finally:
        os._exit(0)


def _let_go_of_files(kept: int) -> None:
    """A child that hangs must not hold the terminal, a pipe or a lock of ours."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))


def _read_all(fd: int, deadline_s: float) -> bytes:
    data = bytearray()
    while True:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0 or not select.select([fd], [], [], left_s)[0]:
            raise NoAnswer
        part = os.read(fd, 1 << 16)
        if not part:
            return bytes(data)
        data += part
