"""What the client itself counted: `internal affairs` over its talk socket, or its extended attributes."""

from __future__ import annotations

import os
import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cvtrace.probes.cvmfs.deadline import NoAnswer, within
from cvtrace.probes.cvmfs.mounts import Mount, read_xattrs

ANSWER_S: Final = 2.0
TALK: Final = b"internal affairs"
HEADING: Final = "Name|Value|Description"
"""Line above the counters in the answer (cvmfs/statistics.cc)."""

NUMBER: Final = re.compile(r"-?[0-9]{1,18}")
"""A counter; what Python's isdigit() takes for digits is not always one."""

XATTRS: Final = (
    "user.nopen",
    "user.ndownload",
    "user.ndiropen",
    "user.nioerr",
    "user.nclg",
    "user.rx",
    "user.hitrate",
)
"""Readable by anybody: opens, downloads, opened folders, I/O errors, catalogs, kB received, hit rate in %."""


@dataclass(frozen=True)
class Counters:
    """Counters by the client's names (`cvmfs.n_fs_read`), or by attribute (`nopen`) without the socket."""

    values: dict[str, int]
    error: str | None
    """One sentence if the talk socket could not be asked."""


def counters(mount: Mount) -> Counters:
    """Ask the daemon of `mount` for its counters, else its extended attributes. Never hangs or raises."""
    try:
        return Counters(parse_internal_affairs(_talk(mount)), None)
    except OSError as failure:
        reason = os.strerror(failure.errno) if failure.errno else str(failure)
        error = f"the talk socket of {mount.fqrn} cannot be read ({reason}): reads and bytes are not compared"
    try:
        answers = within(ANSWER_S, lambda: read_xattrs(mount.path, XATTRS))
    except NoAnswer:
        return Counters({}, f"{mount.path} does not answer within {ANSWER_S:.0f} s: its counters are unknown")
    except OSError as failure:
        return Counters({}, f"{mount.path} cannot be read: {os.strerror(failure.errno or 0)}")
    values = {name.removeprefix("user."): int(value) for name, value in answers.items() if NUMBER.fullmatch(value)}
    return Counters(values, error)


def parse_internal_affairs(text: str) -> dict[str, int]:
    """Return the raw counters in the answer to `internal affairs`: lines of name|value|description."""
    values = {}
    for line in text.partition(HEADING)[2].splitlines():
        name, _, rest = line.partition("|")
        value = rest.partition("|")[0]
        if name and NUMBER.fullmatch(value):
            values[name] = int(value)
    if not values:
        raise OSError("the answer holds no counters")
    return values


def _talk(mount: Mount) -> str:
    workspace = mount.daemon.workspace if mount.daemon else None
    if mount.daemon is None or workspace is None:
        raise OSError("the cache of its daemon cannot be seen from here")
    # Through /proc/PID/cwd the path is right in every mount namespace; through a descriptor it
    # stays shorter than the 108 bytes of a socket address.
    folder = os.open(f"/proc/{mount.daemon.pid}/cwd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _ask(str(Path(f"/proc/self/fd/{folder}") / f"cvmfs_io.{mount.fqrn}"))
    finally:
        os.close(folder)


def _ask(address: str) -> str:
    deadline_s = time.monotonic() + ANSWER_S
    answer = bytearray()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_S)
        while True:
            try:
                connection.connect(address)
                break
            except BlockingIOError:  # its queue is full: the client serves one caller at a time
                if time.monotonic() > deadline_s:
                    raise TimeoutError("it does not answer") from None
                time.sleep(0.01)
        connection.sendall(TALK)
        while part := _receive(connection, deadline_s):
            answer += part
    return answer.decode("utf-8", "replace")


def _receive(connection: socket.socket, deadline_s: float) -> bytes:
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("it does not answer")
    connection.settimeout(left_s)
    return connection.recv(1 << 16)
