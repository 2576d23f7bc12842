"""A target that does one thing after the other and logs, with times of its own, what it did: `acts.py LOG ACT …`.

Each act is one argument, a JSON list of a name and its arguments. Each line of LOG is a JSON object: `act`, `tid`, `start_ns` and `end_ns`
(CLOCK_MONOTONIC), `cpu_ns` (the thread's CPU clock), `runnable_ns` (what the kernel's scheduler counted as waiting for a CPU) and
`blocked` (how often the thread gave its CPU away). Some acts log more. It knows nothing of cvtrace.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = 4096
LOG = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def log(**values: Any) -> None:
    os.write(LOG, json.dumps(values).encode() + b"\n")


@dataclass(frozen=True)
class Moment:
    """What the kernel had counted for the calling thread at a time."""

    time_ns: int
    cpu_ns: int
    runnable_ns: int
    blocked: int

    @classmethod
    def now(cls) -> Moment:
        """Read all of it at one moment: again and again, until the thread was not kept waiting for a CPU meanwhile."""
        before_ns = _runnable_ns()
        while True:
            status = Path("/proc/thread-self/status").read_text()
            blocked = int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
            now = cls(time.monotonic_ns(), time.thread_time_ns(), _runnable_ns(), blocked)
            if now.runnable_ns == before_ns:
                return now
            before_ns = now.runnable_ns


def _runnable_ns() -> int:
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1])


@contextlib.contextmanager
def logged(act: str) -> Iterator[dict[str, Any]]:
    """Log what the calling thread did inside, with what is put into the dictionary."""
    more: dict[str, Any] = {}
    start = Moment.now()
    try:
        yield more
    finally:
        end = Moment.now()
        log(
            act=act,
            tid=threading.get_native_id(),
            start_ns=start.time_ns,
            end_ns=end.time_ns,
            cpu_ns=end.cpu_ns - start.cpu_ns,
            runnable_ns=end.runnable_ns - start.runnable_ns,
            blocked=end.blocked - start.blocked,
            **more,
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


@contextlib.contextmanager
def crowded(core: int, by: int = 2) -> Iterator[None]:
    """Keep a core busy with that many processes."""
    hog = f"import os\nos.sched_setaffinity(0, {{{core}}})\nprint(flush=True)\nwhile True: pass"
    hogs = [subprocess.Popen([sys.executable, "-c", hog], stdout=subprocess.PIPE) for _ in range(by)]
    try:
        for process in hogs:
            assert process.stdout
            assert process.stdout.readline()
        yield
    finally:
        for process in hogs:
            process.kill()
            process.wait()


def pinned(name: str, seconds: float, core: int) -> None:
    """Compute on one core only, that two others keep busy."""
    before = os.sched_getaffinity(0)
    with crowded(core):
        os.sched_setaffinity(0, {core})
        with logged(name):
            compute(seconds)
        os.sched_setaffinity(0, before)


def starve(pid: int, core: int, *act: Any) -> None:
    """Do something elsewhere while all threads of another process have to share one core with two others."""
    threads = [int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()]
    before, own_cpus = os.sched_getaffinity(pid), os.sched_getaffinity(0)
    with crowded(core):
        for tid in threads:
            os.sched_setaffinity(tid, {core})
        os.sched_setaffinity(0, own_cpus - {core} or own_cpus)
        do(*act)
        os.sched_setaffinity(0, own_cpus)
        for tid in threads:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(tid, before)


def sleep(name: str, seconds: float) -> None:
    with logged(name):
        time.sleep(seconds)


def stdin(name: str) -> None:
    """Wait for a line; who writes it logs when it did."""
    with logged(name):
        os.read(0, 100)


def local(name: str, path: str, reads: int) -> None:
    """Read from a local file, past the page cache."""
    # Large ones: how long an idle CPU takes to wake up for each is no wait for the disk, by the scheduler's count.
    fd, block = os.open(path, os.O_RDONLY | os.O_DIRECT), mmap.mmap(-1, 8 << 20)
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


def ahead(name: str, path: str, offset: int, size: int, seconds: float) -> None:
    """Let the kernel read ahead, and do something else until it has."""
    fd = os.open(path, os.O_RDONLY)
    with logged(name):
        os.posix_fadvise(fd, offset, size, os.POSIX_FADV_WILLNEED)
        time.sleep(seconds)
        os.pread(fd, size, offset)
    os.close(fd)


def hot(name: str, path: str, offset: int, size: int, seconds: float) -> None:
    """Read again and again what is cached; log how long that took, by a clock around each call."""
    fd, block = opened(path), bytearray(size)
    os.preadv(fd, [block], offset)
    inside_ns, clock = 0, time.monotonic_ns
    with logged(name) as more:
        until_ns = clock() + round(seconds * 1e9)
        while (began_ns := clock()) < until_ns:
            os.preadv(fd, [block], offset)
            inside_ns += clock() - began_ns
        more["inside_ns"] = inside_ns
    os.close(fd)


def touch(name: str, path: str, offset: int, size: int, rounds: int) -> None:
    """Map what is cached, anew each time, and touch every page."""
    fd = opened(path)
    os.preadv(fd, [bytearray(size)], offset)
    with logged(name):
        for _ in range(rounds):
            with mmap.mmap(fd, size, prot=mmap.PROT_READ, offset=offset) as mapping:
                for place in range(0, size, PAGE):
                    mapping[place]
    os.close(fd)


def lookup(name: str, *paths: str) -> None:
    """Ask for files."""
    with logged(name):
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                Path(path).stat()


def threads(*acts: list[Any]) -> None:
    """Do several things at once, each in a thread of its own."""
    running = [threading.Thread(target=do, args=act) for act in acts]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


def spin_for(name: str, *act: Any) -> None:
    """Spin, without a call, until a thread of its own has done something that blocks."""
    rounds: list[bool] = []

    def work() -> None:
        do(*act)
        rounds.append(True)

    thread = threading.Thread(target=work)
    with logged(name):
        thread.start()
        while not rounds:
            pass
    thread.join()


def stopped(pid: int, seconds: float, *act: Any) -> None:
    """Do something while another process is stopped; log for how long it was."""

    def stop() -> None:
        with logged("stop"):
            time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)

    os.kill(pid, signal.SIGSTOP)
    while any(" T " not in path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")):
        time.sleep(0.001)
    thread = threading.Thread(target=stop)
    thread.start()
    do(*act)
    thread.join()


def in_thread(name: str, *act: Any) -> None:
    """Do something in a thread of its own and wait for it."""
    thread = threading.Thread(target=do, args=act)
    with logged(name):
        thread.start()
        thread.join()


def beside(name: str, beside_act: list[Any], after_s: float, *act: Any) -> None:
    """Do something while a process of its own does something else that began a while ago."""
    child = os.fork()
    if not child:
        do(*beside_act)
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
    act.__name__: act
    for act in (
        *(spin, pinned, starve, sleep, stdin, local, read, ahead, hot, touch, lookup),
        *(in_thread, threads, spin_for, beside, stopped, origin, client),
    )
}


def do(act: str, *arguments: Any) -> None:
    ACTS[act](*arguments)


def main() -> None:
    """Do what the command line says."""
    for step in sys.argv[2:]:
        do(*json.loads(step))


if __name__ == "__main__":
    main()
