"""A target that does one thing after the other and logs, with times of its own, what it did: `acts.py LOG ACT …`.

Each act is one argument, a JSON list of a name and its arguments. Each line of LOG is a JSON object: `act`, `tid`, `start_ns` and `end_ns`
(CLOCK_MONOTONIC), `cpu_ns` (the thread's CPU clock) and `runnable_ns` (what the kernel's scheduler counted as waiting for a CPU).
It knows nothing of cvtrace.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PAGE = 4096
LOG = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def log(**values: Any) -> None:
    os.write(LOG, json.dumps(values).encode() + b"\n")


def runnable_ns() -> int:
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1])


@contextlib.contextmanager
def logged(act: str) -> Iterator[None]:
    """Log what the calling thread did inside."""
    waited_ns, cpu_ns, start_ns = runnable_ns(), time.thread_time_ns(), time.monotonic_ns()
    try:
        yield
    finally:
        end_ns, cpu_ns = time.monotonic_ns(), time.thread_time_ns() - cpu_ns
        log(
            act=act,
            tid=threading.get_native_id(),
            start_ns=start_ns,
            end_ns=end_ns,
            cpu_ns=cpu_ns,
            runnable_ns=runnable_ns() - waited_ns,
        )


def opened(path: str) -> int:
    """Open a file for reads that bring nothing but what they ask for."""
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    return fd


def compute(seconds: float) -> None:
    """Use the CPU without holding the interpreter's lock for long."""
    block, until_s = bytes(1 << 20), time.thread_time() + seconds
    while time.thread_time() < until_s:
        hashlib.sha256(block)


def spin(name: str, seconds: float) -> None:
    with logged(name):
        compute(seconds)


def pinned(name: str, seconds: float, core: int) -> None:
    """Compute on one core only, that two others keep busy."""
    hog = f"import os\nos.sched_setaffinity(0, {{{core}}})\nprint(flush=True)\nwhile True: pass"
    hogs = [subprocess.Popen([sys.executable, "-c", hog], stdout=subprocess.PIPE) for _ in range(2)]
    for process in hogs:
        assert process.stdout
        assert process.stdout.readline()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    with logged(name):
        compute(seconds)
    os.sched_setaffinity(0, before)
    for process in hogs:
        process.kill()
        process.wait()


def sleep(name: str, seconds: float) -> None:
    with logged(name):
        time.sleep(seconds)


def stdin(name: str) -> None:
    """Wait for a line; who writes it logs when it did."""
    with logged(name):
        os.read(0, 100)


def local(name: str, path: str, reads: int) -> None:
    """Read from a local file, past the page cache."""
    fd, block = os.open(path, os.O_RDONLY | os.O_DIRECT), mmap.mmap(-1, 1 << 20)
    places = random.Random(1).choices(range(os.fstat(fd).st_size // len(block)), k=reads)
    with logged(name):
        for place in places:
            os.preadv(fd, [block], place * len(block))
    os.close(fd)


def read(name: str, path: str, offset: int = 0, count: int = 1, step: int = PAGE) -> None:
    """Read pages of a file, `step` apart."""
    fd = opened(path)
    with logged(name):
        for number in range(count):
            os.pread(fd, PAGE, offset + number * step)
    os.close(fd)


def lookup(name: str, *paths: str) -> None:
    """Ask for files."""
    with logged(name):
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                Path(path).stat()


def in_thread(name: str, *act: Any) -> None:
    """Do something in a thread of its own and wait for it."""
    thread = threading.Thread(target=do, args=act)
    with logged(name):
        thread.start()
        thread.join()


def beside(name: str, other: list[Any], after_s: float, *act: Any) -> None:
    """Do something while a process of its own does something else that began a while ago."""
    child = os.fork()
    if not child:
        do(*other)
        os._exit(0)
    time.sleep(after_s)
    do(*act)
    with logged(name):
        os.waitpid(child, 0)


def origin(path: str, request: dict[str, Any]) -> None:
    """Ask the origin for something."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(json.dumps(request).encode() + b"\n")
        answer = json.loads(connection.makefile("rb").readline())
    assert answer["ok"], answer


def client(path: str, injection: dict[str, float]) -> None:
    """Ask the client to be slow."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(b"inject " + json.dumps(injection).encode())
        answer = connection.makefile("rb").read()
    assert answer == b"OK\n", answer


ACTS: dict[str, Callable[..., None]] = {
    act.__name__: act for act in (spin, pinned, sleep, stdin, local, read, lookup, in_thread, beside, origin, client)
}


def do(act: str, *arguments: Any) -> None:
    ACTS[act](*arguments)


if __name__ == "__main__":
    for step in sys.argv[2:]:
        do(*json.loads(step))
