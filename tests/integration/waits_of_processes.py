"""`python waits_of_processes.py DATA LOG WAY…`: waits, in one way after the other, for a process of its own that reads a fresh chunk.

What the reader took by its own clock goes into the log, with when the waiter began and went on.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import multiprocessing
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

DATA, LOG = sys.argv[1:3] if __name__ == "__main__" else ("", "")  # the test imports the names of the ways
CHUNK = 65536
Read = Callable[[], float]


def read(offset: int) -> float:
    """Read a page of a chunk that nobody has read; return the seconds it took."""
    fd = os.open(DATA, os.O_RDONLY)
    start_ns = time.monotonic_ns()
    assert os.pread(fd, 4096, offset)
    os.close(fd)
    return (time.monotonic_ns() - start_ns) / 1e9


def child(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid


class Shared:
    """Memory of two processes, with what the reader took in it."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 4096)

    def put(self, took_s: float) -> None:
        self.memory[:8] = struct.pack("d", took_s)

    def get(self) -> float:
        return float(struct.unpack("d", self.memory[:8])[0])


def pool(offset: int) -> float:
    return float(POOL.map(read, [offset])[0])


def waitpid(offset: int) -> float:
    shared = Shared()
    os.waitpid(child(lambda: shared.put(read(offset))), 0)
    return shared.get()


def waitid(offset: int) -> float:
    shared = Shared()
    os.waitid(os.P_PID, child(lambda: shared.put(read(offset))), os.WEXITED)
    return shared.get()


def pipe(offset: int) -> float:
    out, into = os.pipe()
    pid = child(lambda: os.write(into, struct.pack("d", read(offset))) and None)
    took_s = struct.unpack("d", os.read(out, 8))[0]
    os.waitpid(pid, 0)
    return float(took_s)


def polled_pipe(offset: int) -> float:
    out, into = os.pipe()
    pid = child(lambda: os.write(into, struct.pack("d", read(offset))) and None)
    poll = select.poll()
    poll.register(out, select.POLLIN)
    assert poll.poll(20_000)
    os.waitpid(pid, 0)
    return float(struct.unpack("d", os.read(out, 8))[0])


def unix_socket(offset: int) -> float:
    parent_end, child_end = socket.socketpair()
    pid = child(lambda: child_end.sendall(struct.pack("d", read(offset))))
    took_s = struct.unpack("d", parent_end.recv(8))[0]
    os.waitpid(pid, 0)
    return float(took_s)


def tcp_socket(offset: int) -> float:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def send() -> None:
            with socket.create_connection(server.getsockname()) as connection:
                connection.sendall(struct.pack("d", read(offset)))

        pid = child(send)
        connection, _ = server.accept()
        with connection:
            took_s = struct.unpack("d", connection.recv(8))[0]
        os.waitpid(pid, 0)
    return float(took_s)


def semaphore(offset: int) -> float:
    shared, done = Shared(), multiprocessing.Semaphore(0)

    def work() -> None:
        shared.put(read(offset))
        done.release()

    pid = child(work)
    assert done.acquire(timeout=20)
    os.waitpid(pid, 0)
    return shared.get()


def condition(offset: int) -> float:
    """A queue: a semaphore, a lock and a pipe behind it, with a thread that feeds it."""
    queue: multiprocessing.Queue[float] = multiprocessing.Queue()
    process = multiprocessing.get_context("fork").Process(target=lambda: queue.put(read(offset)))
    process.start()
    took_s = queue.get(timeout=20)
    process.join()
    return took_s


def file_lock(offset: int) -> float:
    shared = Shared()
    with tempfile.NamedTemporaryFile() as file:
        locked, tell = os.pipe()

        def work() -> None:
            descriptor = os.open(file.name, os.O_RDWR)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.write(tell, b"x")
            shared.put(read(offset))

        pid = child(work)
        os.read(locked, 1)
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        os.waitpid(pid, 0)
    return shared.get()


def a_signal(offset: int) -> float:
    shared, parent = Shared(), os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])

    def work() -> None:
        shared.put(read(offset))
        os.kill(parent, signal.SIGUSR1)

    pid = child(work)
    signal.sigwait([signal.SIGUSR1])
    os.waitpid(pid, 0)
    return shared.get()


def eventfd(offset: int) -> float:
    shared, event = Shared(), os.eventfd(0)

    def work() -> None:
        shared.put(read(offset))
        os.eventfd_write(event, 1)

    pid = child(work)
    os.eventfd_read(event)
    os.waitpid(pid, 0)
    return shared.get()


def a_program(offset: int) -> float:
    code = f"import os, time; fd = os.open({DATA!r}, os.O_RDONLY); a = time.monotonic(); "
    code += f"os.pread(fd, 4096, {offset}); print(time.monotonic() - a)"
    return float(subprocess.run([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE, check=True).stdout)


def grandchild(offset: int) -> float:
    """A shell in between: the waiter waits for it, and it for the reader."""
    code = f"import os, time; fd = os.open('{DATA}', os.O_RDONLY); a = time.monotonic(); "
    code += f"os.pread(fd, 4096, {offset}); print(time.monotonic() - a)"
    command = f'"{sys.executable}" -S -c "{code}"; true'
    return float(subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, check=True).stdout)


WAYS: dict[str, Callable[[int], float]] = {
    "pool": pool,
    "waitpid": waitpid,
    "waitid": waitid,
    "pipe": pipe,
    "polled pipe": polled_pipe,
    "unix socket": unix_socket,
    "tcp socket": tcp_socket,
    "semaphore": semaphore,
    "queue": condition,
    "file lock": file_lock,
    "signal": a_signal,
    "eventfd": eventfd,
    "program": a_program,
    "grandchild": grandchild,
}

if __name__ == "__main__":
    POOL = multiprocessing.get_context("fork").Pool(1)
    with Path(LOG).open("w") as log:
        for number, name in enumerate(sys.argv[3:]):
            start_ns = time.monotonic_ns()
            took_s = WAYS[name](number * CHUNK)
            log.write(json.dumps([name, start_ns, time.monotonic_ns(), took_s]) + "\n")
        # Somebody computes while the waiter sleeps by the clock: it waits for nobody.
        busy = child(lambda: [None for _ in iter(lambda: time.process_time() > 0.3, True)] and None)
        start_ns = time.monotonic_ns()
        time.sleep(0.2)
        log.write(json.dumps(["sleep", start_ns, time.monotonic_ns(), 0.2]) + "\n")
        os.waitpid(busy, 0)
    POOL.terminate()
