"""Questions to a CVMFS client over its talk socket, as `cvmfs_talk` asks them.

The socket lies in the client's cache, where its user puts what it likes: a link to root's socket, say, which root would then write
to. So a socket is connected to only if it is one itself, belongs to the daemon's user, and lies in a folder that nobody else
can write; all of that is checked on open descriptors, and who listens is checked before a word is said.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import time
from typing import Final

from cvtrace.probes.cvmfs.mounts import Mount

ANSWER_S: Final = 1.5
MOST_BYTES: Final = 1 << 20
"""The longest answer, `internal affairs`, is some 20 KB."""
PART_BYTES: Final = 1 << 16
PEER: Final = struct.Struct("3i")
"""struct ucred: pid, uid, gid (unix(7), SO_PEERCRED)."""


def talk_address(mount: Mount) -> str | None:
    """Return a path of the socket that is right in every mount namespace and short enough; None without a daemon."""
    if mount.daemon is None or mount.daemon.workspace is None:
        return None
    return f"/proc/{mount.daemon.pid}/cwd/{_name(mount)}"


def _name(mount: Mount) -> str:
    return f"cvmfs_io.{mount.fqrn}"


def ask(mount: Mount, command: str, seconds: float = ANSWER_S) -> str:
    """Return the client's answer to a command.

    Raises OSError if the socket cannot be reached, is not to be trusted, or does not answer in time and in short.
    """
    deadline_s = time.monotonic() + seconds
    daemon = mount.daemon
    if daemon is None or daemon.workspace is None:
        raise OSError("the cache of its daemon cannot be seen from here")
    # Through /proc/PID/cwd the path is right in every mount namespace; through a descriptor it
    # stays shorter than the 108 bytes of a socket address.
    folder = os.open(f"/proc/{daemon.pid}/cwd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not daemon.is_alive:  # its number may be another process's by now
            raise ProcessLookupError("its daemon has ended")
        _check_folder(os.fstat(folder), daemon.uid)
        node = os.open(_name(mount), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        _check_socket(os.fstat(node), daemon.uid)
        return _ask(f"/proc/self/fd/{node}", command, daemon.uid, deadline_s)
    finally:
        os.close(node)


def _check_folder(status: os.stat_result, uid: int) -> None:
    if status.st_uid not in (uid, 0):
        raise OSError(f"the folder of its talk socket belongs to user {status.st_uid}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError("others can write in the folder of its talk socket")


def _check_socket(status: os.stat_result, uid: int) -> None:
    if not stat.S_ISSOCK(status.st_mode):
        raise OSError("its talk socket is no socket")
    if status.st_uid != uid:  # root's may be a hard link to one that only root can reach
        raise OSError(f"its talk socket belongs to user {status.st_uid}")


def _ask(address: str, command: str, uid: int, deadline_s: float) -> str:
    answer = bytearray()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        while True:
            connection.settimeout(_left_s(deadline_s))
            try:
                connection.connect(address)
                break
            except BlockingIOError:  # its queue is full: the client serves one caller at a time
                _left_s(deadline_s)
                time.sleep(0.01)
        _check_peer(connection, uid)
        connection.settimeout(_left_s(deadline_s))
        connection.sendall(command.encode())
        while part := _receive(connection, deadline_s):
            answer += part
            if len(answer) > MOST_BYTES:
                raise OSError(f"its answer is longer than {MOST_BYTES >> 20} MiB")
    return answer.decode("utf-8", "replace")


def _check_peer(connection: socket.socket, uid: int) -> None:
    """The socket may have been opened before the daemon let go of root."""
    _, peer, _ = PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))
    if peer not in (uid, 0):
        raise OSError(f"at its talk socket listens user {peer}")


def _receive(connection: socket.socket, deadline_s: float) -> bytes:
    connection.settimeout(_left_s(deadline_s))
    return connection.recv(PART_BYTES)


def _left_s(deadline_s: float) -> float:
    """Return how much time is left. Raises TimeoutError when there is none."""
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("it does not answer")
    return left_s
