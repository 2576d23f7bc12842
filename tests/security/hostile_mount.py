"""A FUSE mount that calls itself one of cvmfs2 and does what its maker likes: `python3 hostile_mount.py MOUNT WORKSPACE JSON`.

Speaks the protocol of the kernel itself, so that it can leave any request unanswered. Needs nothing but Python, as it runs as
users who can read little. Mounts with fusermount3, unless it is given a descriptor. The JSON says how it behaves:

    fd          descriptor of /dev/fuse that is mounted already
    xattrs      name -> value of the root's attributes, as latin-1
    hang        names of requests that are never answered, and `first`: those before it hangs
    socket      how the talk socket is made: `listen`, or `link`, with `target`
    talk        what is answered: `silent`, `endless`, `drip`, or text for `affairs` and `limit`
    fqrn        part of the socket's name
    threads     1, or 2 as a daemon has at least
    file        whether there is a file, of whatever name
"""

from __future__ import annotations

import array
import contextlib
import errno
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

HEADER = struct.Struct("<IIQQIIII")
REPLY = struct.Struct("<IiQ")
ATTRIBUTES = struct.Struct("<QQQQQQIIIIIIIIII")
OPCODES = {
    "lookup": 1,
    "getattr": 3,
    "readlink": 5,
    "open": 14,
    "read": 15,
    "write": 16,
    "statfs": 17,
    "getxattr": 22,
    "opendir": 27,
    "access": 34,
}
INIT, FORGET, BATCH_FORGET, INTERRUPT, RELEASEDIR = 26, 2, 42, 36, 29
FOLDER = 0o40755
FILE_NODE = 2
FILE = ATTRIBUTES.pack(FILE_NODE, 4096, 8, 0, 0, 0, 0, 0, 0, 0o100666, 1, 0, 0, 0, 4096, 0)


def mounted(mountpoint: str) -> int:
    """Mount as anybody may; return the descriptor of the connection (libfuse's protocol with fusermount3)."""
    client_end, daemon_end = socket.socketpair()
    options = "fsname=cvmfs2,subtype=cvmfs2,nosuid,nodev"
    subprocess.run(
        ["fusermount3", "-o", options, "--", mountpoint],
        env={**os.environ, "_FUSE_COMMFD": str(daemon_end.fileno())},
        pass_fds=[daemon_end.fileno()],
        check=True,
    )
    descriptors = array.array("i")
    _, ancillary, _, _ = client_end.recvmsg(1, socket.CMSG_SPACE(4))
    descriptors.frombytes(ancillary[0][2][:4])
    return descriptors[0]


class Server:
    """Answers requests, or not."""

    def __init__(self, fd: int, behaviour: dict) -> None:
        self.fd = fd
        self.behaviour = behaviour
        self.hang = {OPCODES[name] for name in behaviour.get("hang", ())}
        self.remaining = behaviour.get("first", 0)
        self.opened = 0

    def run(self) -> None:
        while True:
            try:
                data = os.read(self.fd, 1 << 20)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return  # unmounted
                continue
            _, opcode, unique, node, *_ = HEADER.unpack_from(data)
            if opcode in (FORGET, BATCH_FORGET, INTERRUPT):
                continue
            if opcode in self.hang:
                self.remaining -= 1
                if self.remaining < 0:
                    continue
            error, body = self.answer(opcode, node, data[HEADER.size :])
            with contextlib.suppress(OSError):
                os.write(self.fd, REPLY.pack(REPLY.size + len(body), -error, unique) + body)

    def answer(self, opcode: int, node: int, body: bytes) -> tuple[int, bytes]:
        if opcode == INIT:
            return 0, struct.pack("<IIIIHHIIHHII6I", 7, 31, 0, 0, 16, 12, 1 << 16, 1, 1, 0, 0, 0, *[0] * 6)
        if self.behaviour.get("file") and opcode in (OPCODES["lookup"], OPCODES["open"], OPCODES["read"]):
            return self.file(opcode)
        if opcode == OPCODES["getattr"] and node == FILE_NODE:
            return 0, struct.pack("<QII", 3600, 0, 0) + FILE
        if opcode == OPCODES["getattr"]:
            now = int(time.time())
            return 0, struct.pack("<QII", 0, 0, 0) + ATTRIBUTES.pack(
                node, 0, 0, now, now, now, 0, 0, 0, FOLDER, 2, 0, 0, 0, 4096, 0
            )
        if opcode == OPCODES["getxattr"]:
            return self.attribute(body)
        if opcode == OPCODES["statfs"]:
            return 0, b"\0" * 80
        if opcode == OPCODES["opendir"]:
            return 0, b"\0" * 16
        if opcode == RELEASEDIR:
            return 0, b""
        return (errno.ENOENT if opcode == OPCODES["lookup"] else errno.ENOSYS), b""

    def file(self, opcode: int) -> tuple[int, bytes]:
        """Have one file; opened for the second time, it is mapped uncached (FOPEN_DIRECT_IO, FOPEN_KEEP_CACHE)."""
        if opcode == OPCODES["lookup"]:
            return 0, struct.pack("<QQQQII", FILE_NODE, 0, 3600, 3600, 0, 0) + FILE
        if opcode == OPCODES["read"]:
            return 0, b"\0" * 4096
        self.opened += 1
        return 0, struct.pack("<QII", self.opened, 3 if self.opened > 1 else 0, 0)

    def attribute(self, body: bytes) -> tuple[int, bytes]:
        size, _ = struct.unpack_from("<II", body)
        value = self.behaviour.get("xattrs", {}).get(body[8:].rstrip(b"\0").decode())
        if value is None:
            return errno.ENODATA, b""
        data = value.encode("latin-1")
        if size == 0:
            return 0, struct.pack("<II", len(data), 0)
        return (0, data) if len(data) <= size else (errno.ERANGE, b"")


def make_socket(behaviour: dict) -> socket.socket | None:
    name = f"cvmfs_io.{behaviour.get('fqrn', 'evil.org')}"
    if behaviour.get("socket") == "link":
        Path(name).symlink_to(behaviour["target"])
    if behaviour.get("socket") != "listen":
        return None
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(name)
    listener.listen(8)
    return listener


def talk(listener: socket.socket, behaviour: dict) -> None:
    """Answer one caller after the other, each in its own thread as they may never end."""
    while True:
        caller, _ = listener.accept()
        threading.Thread(target=answer_caller, args=(caller, behaviour.get("talk", {})), daemon=True).start()


def answer_caller(caller: socket.socket, answers: dict) -> None:
    with caller, contextlib.suppress(OSError):
        command = caller.recv(512).decode()
        manner = answers.get("how")
        while manner == "silent":
            time.sleep(60)
        while manner == "endless":
            caller.sendall(b"Name|Value|Description\n" + b"x|1|y\n" * 10_000)
        while manner == "drip":
            caller.sendall(b"x")
            time.sleep(0.05)
        caller.sendall(answers.get("limit" if "limit" in command else "affairs", "").encode("latin-1"))


if __name__ == "__main__":
    mountpoint, workspace, behaviour = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    os.chdir(workspace)
    Path("/proc/self/comm").write_text("cvmfs2")
    listener = make_socket(behaviour)
    if listener is not None:
        threading.Thread(target=talk, args=(listener, behaviour), daemon=True).start()
    fd = behaviour["fd"] if "fd" in behaviour else mounted(mountpoint)
    print("mounted", flush=True)
    if behaviour.get("threads", 2) > 1:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    Server(fd, behaviour).run()
