"""Looking for files, and opening them, with the rights of the user whose files they are.

Who owns a folder decides what a path in it leads to: a link, a FIFO that waits for ever, a device that does something when it
is opened, another file a moment later. So a process of its own, which is that user's in every respect, looks and opens; what it
hands over are descriptors of plain files, and a descriptor stays what it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cvtrace.probes.plain_file import open_plain
from cvtrace.tracer.user import User, switch_user

MOST_FILES: Final = 16
LOOK_S: Final = 15.0
"""How long looking for a target's library may take; its interpreter may be slow, or on a mount that hangs."""
LONGEST_ANSWER: Final = 1 << 17


@dataclass(frozen=True)
class OpenFile:
    """A plain file that is open for reading, and where it was when it was opened."""

    fd: int
    path: str

    @property
    def pinned(self) -> str:
        """A path that leads to this very file for as long as it is open, whatever happens to its name."""
        return f"/proc/self/fd/{self.fd}"


@contextlib.contextmanager
def opened_by(
    user: User, seconds: float, look: Callable[[], Iterable[str]], root: int | None = None
) -> Iterator[list[OpenFile]]:
    """Give the plain files among those that `look` names, looked for and opened by a process of `user`'s; close them at the end.

    None are given if that takes longer than `seconds`. The process has no terminal, no other open file but `root`, and no
    capability unless `user` is root; it may execute what that user may. At most MOST_FILES are opened.
    """
    receiving, sending = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with receiving, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads: the child does nothing but look
        pid = os.fork()
        if pid == 0:
            _look(user, sending, look, root)
        sending.close()
        files = _received(receiving, time.monotonic() + seconds)
        if files is None:
            for end in (
                os.killpg,
                os.kill,
            ):  # with what it has started; it has no group of its own in its first moments
                with contextlib.suppress(OSError):
                    end(pid, signal.SIGKILL)  # in a call on a mount that hangs it dies later: it is not waited for
        else:
            os.waitpid(pid, 0)
    try:
        yield files or []
    finally:
        for file in files or []:
            os.close(file.fd)


def _received(receiving: socket.socket, deadline_s: float) -> list[OpenFile] | None:
    if not select.select([receiving], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
        return None
    data, descriptors, _, _ = socket.recv_fds(receiving, LONGEST_ANSWER, MOST_FILES)
    for fd in descriptors:
        os.set_inheritable(fd, False)
    paths = json.loads(data) if data else []
    return [OpenFile(fd, path) for fd, path in zip(descriptors, paths, strict=False)]


def _look(user: User, sending: socket.socket, look: Callable[[], Iterable[str]], root: int | None) -> None:
    """In the child, which never returns."""
    try:
        os.setsid()
        _reset_signals()
        _let_go_of_files([sending.fileno(), *([] if root is None else [root])])
        if user.is_other:
            switch_user(user)
        files: list[OpenFile] = []
        for path in look():
            if len(files) == MOST_FILES:
                break
            with contextlib.suppress(OSError, ValueError):
                files.append(OpenFile(open_plain(path, root), path))
        answer = json.dumps([file.path for file in files]).encode()
        socket.send_fds(sending, [answer], [file.fd for file in files])
    finally:
        os._exit(0)


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


def _let_go_of_files(exceptions: Sequence[int]) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    last = 2
    for fd in sorted(exceptions):
        os.closerange(last + 1, fd)
        last = fd
    os.closerange(last + 1, os.sysconf("SC_OPEN_MAX"))
