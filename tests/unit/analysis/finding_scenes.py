"""Traces with the evidence of each finding, for tests."""

import errno
from dataclasses import replace
from typing import Any

from scene import CONNECTION, DOWNLOADER, START, TARGET, US, WORKER, WORKER2, Fetch, Scene, get_line

from cvtrace.analysis import analyse
from cvtrace.analysis.contract.report_schema import Finding
from cvtrace.probes.ebpf.phase_calls import LATE
from cvtrace.probes.events import Kind, Opcode
from cvtrace.tracer.store import Trace

MB = 1_000_000
SECOND = 1_000_000
REMOTE = 0x8D8E8F90
"""141.142.143.144, an address out in the world."""


PAGE = 4096


def imports_of(share: float) -> Trace:
    """A script of 10 ms whose imports wait for a part of it, half of that in a package that another imports."""
    scene = (
        Scene(end=10_000)
        .imported("app", 100, 9_900)
        .imported("app.core", 200, 9_000, 1)
        .imported("heavy", 5000, 8900, 2)
    )
    half = share * 5_000
    for at, node in ((300, 11), (5100, 12)):
        scene.off(at, at + half - 1, at + half, by=WORKER)
        scene.request(Opcode.OPEN, at + 1, at + half - 2, at + half, sent=at, node=node)
    return scene.trace()


def touched_here_and_there(touches: int, apart: int, *, begin_to_end: bool = False) -> Trace:
    """A program that maps a file and touches one page in `apart`, each of which brings 128 KiB."""
    scene = Scene(end=10_000)
    for number in range(touches):
        page = apart * number if begin_to_end else apart * (number * 37 % touches)
        scene.request(
            Opcode.READ, 5 + 6 * number, 6 + 6 * number, 7 + 6 * number, sent=4.5 + 6 * number, offset=page * PAGE
        )
        scene.page(Kind.FAULT, 4 + 6 * number, page)
        if begin_to_end:
            scene.page(Kind.PAGE_MAP, 7.5 + 6 * number, page, apart)
    return scene.trace()


def many_files(number: int, *, length: float = 20, imported: bool = False) -> Trace:
    """A program that opens so many files and waits `length` µs for each, in 10 ms."""
    scene = Scene(end=10_000)
    if imported:
        scene.imported("app", 1, 9_999)
    for item in range(number):
        at = 10 + (length + 5) * item
        scene.off(at, at + length - 1, at + length, by=WORKER)
        scene.request(Opcode.OPEN, at + 1, at + length - 2, at + length, sent=at, node=100 + item)
    return scene.trace()


def findings_by_id(trace: Trace) -> dict[str, Finding]:
    return {finding.id: finding for finding in analyse(trace).findings}


def run(end: float = 10_000) -> Scene:
    """Return a load until 5,000 µs with the model open, then three tokens, in a run of 10 ms."""
    scene = Scene(end=end)
    scene.add(Kind.PROC_EXEC, 0, tid=TARGET, text="/usr/bin/python3")
    scene.call("OgaCreateModel", 100, 5000)
    scene.opened(110, 130, 5)
    scene.request(Opcode.OPEN, 115, 120, 125, sent=112)
    for number in range(3):
        scene.call("OgaGenerator_GenerateNextToken", 6000 + 200 * number, 6100 + 200 * number)
    return scene


def waiting(
    scene: Scene,
    at: float,
    number: int,
    *,
    last: float = 200,
    size: int = 1 * MB,
    opcode: Opcode = Opcode.READ,
    suffix: str = "P",
    request: float = 10,
    status: int = 200,
    **more: Any,
) -> None:
    """Let the target wait `last` µs for a request that fetches."""
    scene.off(at, at + last, at + last, by=WORKER, state=2)
    scene.request(opcode, at + 5, at + last - 5, at + last + 1, sent=at - 1, offset=number << 20)
    get = at + 22
    end = at + last - 30
    times = Fetch(
        at + 20, get, get + request, end, end + 10, number=number, size=size, suffix=suffix, status=status, **more
    )
    scene.fetch(times)


def quota(trace: Trace, limit: int) -> Trace:
    """Return a trace whose client told the limit of its cache."""
    return replace(trace, meta={**trace.meta, "mounts": [{**trace.meta["mounts"][0], "quota_bytes": limit}]})


def thrashing() -> Trace:
    scene = run()
    for turn in range(2):
        for number in (1, 2):
            waiting(scene, 200 + 1000 * turn + 300 * number, number, size=80 * MB)
    return quota(scene.trace(), 100 << 20)


def too_large() -> Trace:
    scene = run()
    for number in (1, 2):
        waiting(scene, 300 * number, number, size=80 * MB)
    return quota(scene.trace(), 100 << 20)


def streaming() -> Trace:
    scene = run()
    scene.miss(116, 1)
    for turn in range(2):
        before = len(scene.events)
        waiting(scene, 300 + 300 * turn, 1)
        kinds = (Kind.CACHE_OPEN, Kind.CACHE_RENAME, Kind.CACHE_INSERT)
        scene.events[before:] = [event for event in scene.events[before:] if event[4] not in kinds]
    return scene.trace()


def evicted(reads: int = 12) -> Trace:
    scene = run()
    for turn in range(2):
        for number in range(reads):
            at = (200 if turn == 0 else 6001) + 5 * number
            scene.request(Opcode.READ, at + 1, at + 2, at + 3, sent=at, offset=number << 17)
    return scene.trace()


def cold() -> Trace:
    scene = run()
    waiting(scene, 300, 1, last=2000)
    return scene.trace()


def sequential() -> Trace:
    scene = run()
    for number in range(4):
        waiting(scene, 300 + 600 * number, number, last=500)
    return scene.trace()


def unchunked(size: int = 30 * MB) -> Trace:
    scene = run()
    waiting(scene, 300, 1, size=size, opcode=Opcode.OPEN, suffix="")
    return scene.trace()


def over_fetching() -> Trace:
    scene = run()
    waiting(scene, 300, 1, last=1000, size=8 * MB)
    scene.cache_read(1272, 1275, 66, 131072)
    return scene.trace()


def with_reload(again: bool = True) -> Trace:
    scene = run()
    scene.request(Opcode.LOOKUP, 205, 210, 212, sent=200, name="a")
    scene.manifest(400)
    scene.fetch(Fetch(410, 412, 415, 420, 424, number=50, suffix="C"), worker=WORKER2)
    scene.request(Opcode.LOOKUP, 505, 510, 512, sent=500, name="a" if again else "b")
    return scene.trace()


def retried() -> Trace:
    """Return a run in which a server answered nothing, on a connection that was kept, and a new one was made for the same try."""
    scene = run()
    waiting(scene, 300, 1)
    line = "GET /cvmfs/repo.test.org/data/00/000000000000000000000000000000000000ab HTTP/1.1"
    scene.add(Kind.HTTP_SEND, 600, 601, tid=DOWNLOADER, ret=90, a=77, c=90, text=line)
    scene.add(Kind.HTTP_SEND, 620, 621, tid=DOWNLOADER, ret=90, a=78, c=90, text=line)
    scene.add(
        Kind.HTTP_RECV, 630, tid=DOWNLOADER, ret=209, a=78, c=16384, text="HTTP/1.1 200 OK\r\nContent-Length: 9\r\n"
    )
    trace = scene.trace()
    trace.meta["mounts"][0]["counters_after"]["download.n_requests"] -= 1
    return trace


def reloaded_client(again: bool = True) -> Trace:
    scene = run()
    scene.request(Opcode.READ, 205, 210, 212, sent=200, offset=0)
    scene.add(Kind.CACHE_OPEN, 300, 310, tid=WORKER2, ret=9, text="/usr/lib/libcvmfs_fuse3.so.2.12.0")
    scene.request(Opcode.READ, 405, 410, 412, sent=400, offset=0 if again else 1 << 20)
    return scene.trace()


def failing(status: int = 503) -> Trace:
    scene = run()
    waiting(scene, 300, 1, status=status)
    return scene.trace()


def refused_open(error: int = errno.ENOSPC) -> Trace:
    """Return a run in which the client refused to open a file, and fetched nothing."""
    scene = run()
    scene.add(Kind.FUSE_DAEMON, 300, 320, tid=WORKER, ret=-error, a=4000, b=7, c=Opcode.OPEN << 32 | TARGET)
    scene.add(Kind.FUSE_REPLY, 310, 320, tid=WORKER, a=4000, b=16, ret=16)
    scene.add(Kind.FUSE_SEND, 290, 330, tid=TARGET, ret=-error, a=4000, b=CONNECTION, c=Opcode.OPEN << 32 | 80)
    return scene.trace()


def cut(result: int) -> Trace:
    """Return a run in which a download ended early, with the client's number of the reason."""
    scene = run()
    scene.request(Opcode.READ, 305, 495, 501, sent=299, offset=1 << 20)
    scene.add(Kind.HANDOVER, 320, 321, tid=WORKER, ret=8, a=0xF00, b=41)
    scene.add(Kind.HANDOVER_TAKEN, 322, tid=DOWNLOADER, ret=8, a=0xF00, b=40)
    scene.add(Kind.HTTP_SEND, 323, 324, tid=DOWNLOADER, ret=90, a=61, c=90, text=get_line(1))
    head = "HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n"
    scene.add(Kind.HTTP_RECV, 340, tid=DOWNLOADER, ret=200, a=61, c=16384, text=head)
    scene.add(Kind.HANDOVER_DONE, 400, tid=DOWNLOADER, ret=4, b=65)
    scene.add(Kind.HANDOVER_RESULT, 321.5, 401, tid=WORKER, ret=4, a=result, b=64)
    return scene.trace()


def failed_over() -> Trace:
    """Return a run whose client was refused twice at 127.0.0.1:7999, from 200 µs on, and went to :8000 at 321 µs."""
    scene = run()
    for at in (200, 250):
        peer = {"b": 2 | 7999 << 32, "c": 0x7F000001}
        scene.add(Kind.HTTP_CONNECT, at, at + 1, tid=DOWNLOADER, ret=-errno.ECONNREFUSED, a=60, **peer)
    waiting(scene, 300, 1, connect=321)
    return scene.trace()


def silent_server(again: bool = True) -> Trace:
    scene = run()
    line = "GET /cvmfs/repo.test.org/data/00/000000000000000000000000000000000000ab HTTP/1.1"
    scene.add(Kind.HTTP_SEND, 300, 301, tid=DOWNLOADER, ret=90, a=77, c=90, text=line)
    if again:
        scene.add(Kind.HTTP_SEND, 400, 401, tid=DOWNLOADER, ret=90, a=78, c=90, text=line)
        scene.add(
            Kind.HTTP_RECV, 410, tid=DOWNLOADER, ret=300, a=78, c=16384, text="HTTP/1.1 200 OK\r\nContent-Length: 9\r\n"
        )
    return scene.trace()


def run_well() -> Trace:
    return run().trace()


def client_ended() -> Trace:
    """Return a run whose client ended at 500 µs, while a READ was under way: the kernel gave the error."""
    scene = run()
    scene.add(Kind.FUSE_DAEMON, 300, 9000, tid=WORKER, a=4000, b=7, c=Opcode.READ << 32 | TARGET, unfinished=True)
    scene.add(Kind.FUSE_SEND, 290, 500, tid=TARGET, ret=-103, a=4000, b=CONNECTION, c=Opcode.READ << 32 | 80)
    trace = scene.trace()
    trace.meta["mounts"][0]["daemon_ended_ns"] = START + 500 * US
    return trace


def stopped(state: int = 4) -> Trace:
    """Return a run whose client was stopped from 300 to 2300 µs, and in which the target waited for a READ meanwhile."""
    scene = run()
    scene.add(Kind.OFFCPU, 300, 2300, tid=WORKER, a=START + 2300 * US, c=state)
    scene.request(Opcode.READ, 2310, 2320, 2330, sent=400)
    return scene.trace()


def silent_client(sent: float = 500) -> Trace:
    """Return a run in which a READ was sent and read, and had no answer when the recording ended at 2 s."""
    scene = run()
    scene.end = 2_000_000
    scene.add(
        Kind.FUSE_DAEMON, sent + 10, 2_000_000, tid=WORKER, a=4000, b=7, c=Opcode.READ << 32 | TARGET, unfinished=True
    )
    scene.add(
        Kind.FUSE_SEND, sent, 2_000_000, tid=TARGET, a=4000, b=CONNECTION, c=Opcode.READ << 32 | 80, unfinished=True
    )
    return scene.trace()


def observed(trace: Trace) -> Trace:
    """Return a trace whose client's functions were seen."""
    functions = ["PosixQuotaManager::DoCleanup", "DownloadManager::Backoff", "BackoffThrottle::Throttle"]
    return replace(trace, meta={**trace.meta, "mounts": [{**trace.meta["mounts"][0], "client_functions": functions}]})


def backing_off() -> Trace:
    scene = run()
    waiting(scene, 300, 1, last=900)
    return observed(scene.add(Kind.BACKOFF, 400, 600, tid=DOWNLOADER, a=0xF00).trace())


def cleaning() -> Trace:
    scene = run()
    for turn in range(2):
        waiting(scene, 200 + 1000 * turn, 1, size=80 * MB)
    return observed(scene.add(Kind.CLEANUP, 700, 900, tid=WORKER2, ret=1, a=50 * MB, b=80 * MB, c=20 * MB).trace())


def from_server(address: int = REMOTE, proxied: bool = False, fetches: int = 3) -> Trace:
    scene = run()
    for number in range(fetches):
        waiting(scene, 300 + 300 * number, number, connect=322 + 300 * number - 1)
    scene.events = [
        (*event[:9], address) if event[4] == Kind.HTTP_CONNECT else event  # `c`
        for event in scene.events
    ]
    if proxied:
        scene.texts = [
            (*text[:4], text[4].replace(b"GET /", b"GET http://stratum.example.org/"))
            if text[2] == Kind.HTTP_SEND
            else text
            for text in scene.texts
        ]
    return scene.trace()


def slow(first_byte: float = 0.03) -> Trace:
    scene = run(end=0.5 * SECOND)
    for number in range(3):
        waiting(scene, 300 + 50_000 * number, number, last=40_000, request=first_byte * SECOND)
    return scene.trace()


def path_checking(count: int = 150) -> Trace:
    scene = run()
    for number in range(count):
        at = 200 + 20 * number
        scene.off(at, at + 15, at + 15, by=WORKER, state=1)
        scene.request(Opcode.LOOKUP, at + 2, at + 14, at + 16, sent=at, name=f"n{number}")
    return scene.trace()


def starved(at: float = 1000) -> Trace:
    return run().preempted(at, at + 2000).trace()


def waiting_for_disk() -> Trace:
    scene = run()
    scene.off(500, 2500, 2500, by=0, state=2)
    scene.opened(490, 2510, 9, "/home/user/lib.so")
    return scene.trace()


def importing(length: float = 2.0) -> Trace:
    scene = Scene(end=(length + 1) * SECOND)
    scene.call("OgaCreateModel", length * SECOND, (length + 0.5) * SECOND)
    return scene.trace()


def importing_with_calls_missed() -> Trace:
    trace = importing()
    trace.meta["missing"] = [LATE.format(name="/opt/libonnxruntime-genai.so", late_ms=1900.0)]
    return trace


def imports_with_calls_missed() -> Trace:
    trace = imports_of(0.6)
    trace.meta["missing"] = [LATE.format(name="/opt/libonnxruntime-genai.so", late_ms=1900.0)]
    return trace


def tokenizing() -> Trace:
    scene = Scene(end=4 * SECOND)
    scene.call("OgaCreateModel", 100, 0.2 * SECOND).call("OgaTokenizerEncode", 0.3 * SECOND, 2.3 * SECOND)
    return scene.trace()


def writing(flags: int = 2) -> Trace:
    path = "/home/user/.cache/Microsoft/DeveloperTools/.onnxruntime/onnxruntime-genai.db"
    return run().add(Kind.SYS_OPEN, 200, 210, tid=TARGET, ret=7, a=-100, b=flags, text=path).trace()


def disagreeing() -> Trace:
    scene = run()
    mount = scene.mount(scene.arrays()[0])
    mount["counters_after"]["cvmfs.n_fs_read"] += 3
    return scene.trace(mounts=[mount])


def damaged() -> Trace:
    trace = run().trace()
    return Trace(trace.path, trace.meta, trace.events, trace.texts, "the trace ends at 0.1 s: the recorder was killed")
