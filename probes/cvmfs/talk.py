"""Questions to a CVMFS client over its talk socket, as `cvmfs_talk` asks them."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Final

from cvtrace.probes.cvmfs.mounts import Mount

ANSWER_S: Final = 2.0


def talk_address(mount: Mount) -> str | None:
    """Return a path of the socket that is right in every mount namespace and short enough; None without a daemon."""
    if mount.daemon is None or mount.daemon.workspace is None:
        return None
    return f"/proc/{mount.daemon.pid}/cwd/cvmfs_io.{mount.fqrn}"


def ask(mount: Mount, command: str, seconds: float = ANSWER_S) -> str:
    """Return the client's answer to a command. Raises OSError if the socket cannot be reached or does not answer in time."""
    if mount.daemon is None or mount.daemon.workspace is None:
        raise OSError("the cache of its daemon cannot be seen from here")
    # Through /proc/PID/cwd the path is right in every mount namespace; through a descriptor it
    # stays shorter than the 108 bytes of a socket address.
    folder = os.open(f"/proc/{mount.daemon.pid}/cwd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _ask(str(Path(f"/proc/self/fd/{folder}") / f"cvmfs_io.{mount.fqrn}"), command, seconds)
    finally:
        os.close(folder)


def _ask(address: str, command: str, seconds: float) -> str:
    deadline_s = time.monotonic() + seconds
    answer = bytearray()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        while True:
            try:
                connection.connect(address)
                break
            except BlockingIOError:  # its queue is full: the client serves one caller at a time
                if time.monotonic() > deadline_s:
                    raise TimeoutError("it does not answer") from None
                time.sleep(0.01)
        connection.sendall(command.encode())
        while part := _receive(connection, deadline_s):
            answer += part
    return answer.decode("utf-8", "replace")


def _receive(connection: socket.socket, deadline_s: float) -> bytes:
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("it does not answer")
    connection.settimeout(left_s)
    return connection.recv(1 << 16)
