"""What is fuzzed: every parser of something that others wrote. A target takes any bytes, and fails by raising.

Each holds what its parser promises: it never raises but for what it documents, and what it returns makes sense.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import sys
import tempfile
from collections.abc import Callable
from json import dumps as json_text
from json import loads as json_of
from pathlib import Path
from typing import Any, Final

import numpy as np

from cvtrace.analysis import analyse
from cvtrace.analysis.report import json, text
from cvtrace.analysis.storage.headers import gguf, onnx, safetensors
from cvtrace.analysis.storage.headers.source import Source, Unreadable
from cvtrace.analysis.storage.headers.tensor import layer_of
from cvtrace.analysis.storage.operators import operators
from cvtrace.probes.credentials import hidden
from cvtrace.probes.cvmfs.attributes import cleaned
from cvtrace.probes.cvmfs.choice import MountChoice
from cvtrace.probes.cvmfs.counters import parse_internal_affairs
from cvtrace.probes.cvmfs.daemon import find_daemon
from cvtrace.probes.cvmfs.mounts import MountPoint, parse_mountinfo
from cvtrace.probes.cvmfs.processes import Client
from cvtrace.probes.cvmfs.quota import megabytes
from cvtrace.probes.cvmfs.strict import CONTROL, number, pid
from cvtrace.probes.cvmfs.survey import mount_of
from cvtrace.probes.doctor.meeting import read_parameters, used_bytes
from cvtrace.probes.events import EVENT, TEXT, TEXT_MAX, UNFINISHED, Kind, in_order
from cvtrace.probes.http import redact_texts, request_line, response_head
from cvtrace.probes.phases.hook import INJECT, read_marks
from cvtrace.probes.strace import decode, parse_daemon, parse_target
from cvtrace.probes.strace.parse import split_lines
from cvtrace.tracer.blocks import BlockSource, read_records, scan
from cvtrace.tracer.folder import EVENTS_BLOCKS, EVENTS_PARQUET, META, NODES_PARQUET, TEXTS_BLOCKS, TEXTS_PARQUET
from cvtrace.tracer.pages import Head
from cvtrace.tracer.redaction import Redaction
from cvtrace.tracer.sorted_groups import SortedGroups
from cvtrace.tracer.store import TraceDamaged, TraceWriter, read_trace

OFFSET_NS: Final = 1_700_000_000 * 10**9
SEPARATOR: Final = b"\n--8<--\n"
"""Between the files of a folder in one input."""


def strace(data: bytes, parse: Callable[..., object] = parse_daemon) -> None:
    """Hold that a log never raises, and that its events are sorted, of known kinds, and no more than its lines allow."""
    lines, tail = split_lines(data, b"")
    parsed = parse_daemon([*lines, tail], realtime_offset_ns=OFFSET_NS, tgids={7: 7})
    if parse is parse_target:
        parsed = parse_target([*lines, tail], realtime_offset_ns=OFFSET_NS, tgids={7: 7})
    assert parsed.skipped <= 2 * parsed.lines
    assert len(parsed.events) <= 4 * parsed.lines
    assert (np.diff(parsed.events["ts"].astype(np.float64)) >= 0).all()
    assert set((parsed.events["kind"] & ~np.uint16(UNFINISHED)).tolist()) <= set(Kind)


def strace_daemon(data: bytes) -> None:
    """A log of the client's system calls."""
    strace(data)


def strace_target(data: bytes) -> None:
    """A log of the target's system calls."""
    strace(data, parse_target)


def fuse_request(data: bytes) -> None:
    """The bytes of a request as strace prints them: the length in front, then the string."""
    length = int.from_bytes(data[:2], "little")
    try:
        request = decode.request_of(data[2:], length)
    except (ValueError, KeyError, decode.struct.error):  # what the parser of lines expects
        return
    assert len(request.name) <= 256
    assert 0 <= request.unique < 2**64


def http_heads(data: bytes) -> None:
    """A request or a response: nothing of what must not enter a trace is left of it."""
    request, answered = request_line(data), response_head(data)
    assert len(request) <= len(data) + 4  # a blank and an ellipsis
    assert b"?" not in request
    assert b"\n" not in request
    assert b"\r" not in request
    for line in answered.split(b"\r\n")[1:]:
        assert line.partition(b":")[0].strip().lower() in (b"content-length", b"x-cache", b"via", b"age")
    texts = np.zeros(2, dtype=TEXT)
    texts["kind"] = (Kind.HTTP_SEND, Kind.HTTP_RECV)
    texts["text"] = data[:TEXT_MAX]
    texts["size"] = min(len(data), 0xFFFF)
    cut = redact_texts(texts)
    assert (cut["size"] <= TEXT_MAX).all()


def talk(data: bytes) -> None:
    """The client's answers over its talk socket, as the recorder, the target and the doctor read them."""
    text = data.decode("utf-8", "replace")
    with contextlib.suppress(OSError):
        for name, value in parse_internal_affairs(text).items():
            assert 0 <= value < 2**62
            assert name.isascii()
            assert name.isprintable()
    with contextlib.suppress(ValueError):
        for _, value in hook_counts().parse_affairs(data):
            assert 0 <= value < 2**62
    limit = megabytes(text)
    assert limit is None or 0 <= limit < 2**62
    used = used_bytes(text)
    assert used is None or 0 <= used < 2**62
    for name, value in read_parameters(text).items():
        assert name.isascii()
        assert CONTROL.search(value) is None


def mountinfo(data: bytes) -> None:
    """The table of mounts: paths are what anybody called a folder."""
    text = data.decode("utf-8", "surrogateescape")
    scope = MountChoice(arguments=("/cvmfs/x/y",), users=frozenset({7}))
    points = parse_mountinfo(text, frozenset({"/cvmfs/x"}))
    for point in points:
        assert point.path.startswith("/")
        assert CONTROL.search(point.path) is None
        assert point.connection >= 0
        assert point.owner >= 0
    chosen, left_out = scope.split(points)
    assert len(chosen) + len(left_out) <= len(points)
    json_text([item.why for item in left_out])


def xattrs(data: bytes) -> None:
    """The attributes of a mount, a line each, and what is made of them: names, numbers, and a sentence at most."""
    values = (cleaned(part) for part in data.split(SEPARATOR))
    xattrs = dict(zip(("user.fqrn", "user.pid", "user.version", "user.nopen"), values, strict=False))
    mount = mount_of(MountPoint("/mnt/x", 39, 7), xattrs, (), 1.0)
    for text_ in (mount.fqrn, mount.version or "", mount.error or ""):
        assert text_.isprintable()
        assert len(text_) < 300
    assert "/" not in mount.fqrn
    assert mount.answers or mount.error
    read = number(xattrs.get("user.nopen"))
    assert read is None or 0 <= read < 2**62
    with contextlib.suppress(ValueError):
        assert 0 <= hook_counts().number_of(data, 1000) < 2**63
    if plain := pid(xattrs.get("user.pid")):
        assert 0 < plain < 2**34


def client_process(data: bytes) -> None:
    """The command line of a process called cvmfs2, which it writes itself; and where the daemon of a mount is looked for."""
    arguments = tuple(part for part in os.fsdecode(data).split("\0") if part)
    clients = [Client(7, 1, 7, 7, arguments, 7, 2, None, None, "/cache", "/usr/bin/cvmfs2")]
    daemon = find_daemon(None, "/mnt/x", "x.org", owner=7, connection=39, among=clients)
    assert daemon is None or daemon.pid == 7
    assert find_daemon(7, "/mnt/x", "x.org", owner=8, connection=39, among=clients) is None
    json_text([arguments, find_daemon(7, "/mnt/x", "x.org", owner=7, among=clients) is None])


def hook_counts() -> Any:
    """Return what the target reads counters with, which imports nothing of cvtrace."""
    if str(INJECT) not in sys.path:
        sys.path.append(str(INJECT))
    return importlib.import_module("_cvtrace_counts")


def marks(data: bytes) -> None:
    """The file that a target appends its marks to."""
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        file.write(data)
        file.flush()
        read, names = read_marks(Path(file.name))
    assert ((read["kind"] & ~np.uint16(UNFINISHED)) == Kind.PHASE).all()
    assert (read["ts"].astype(np.int64) >= 0).all()
    assert (read["dur"].astype(np.int64) >= 0).all()
    assert (names["kind"] == Kind.PHASE).all()


def blocks(data: bytes) -> None:
    """A file of blocks: what is returned was checked, and lies inside."""
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        file.write(data)
        file.flush()
        source = BlockSource(file.fileno())
        for dtype in (EVENT, TEXT):
            blocks = scan(source, dtype)
            assert (blocks.offsets + blocks.counts * dtype.itemsize <= len(data)).all()
            read, damage = read_records(source, dtype)
            assert (len(read), damage) == (int(blocks.counts.sum()), blocks.damage)
            groups = [np.empty(0, dtype=dtype), *SortedGroups(source, dtype, rows=8)]
            assert np.concatenate(groups).tobytes() == in_order(read).tobytes()


def trace(data: bytes) -> None:
    """A trace folder from elsewhere: whole, damaged, or refused in one sentence."""
    parts = data.split(SEPARATOR)
    names = (META, EVENTS_BLOCKS, TEXTS_BLOCKS, EVENTS_PARQUET, TEXTS_PARQUET)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for name, part in zip(names, parts, strict=False):
            (Path(folder) / name).write_bytes(part)
        try:
            read = read_trace(folder)
        except TraceDamaged as refusal:
            if "\n" in str(refusal):
                raise ValueError("more than one sentence") from refusal
            return
    assert read.events.dtype == EVENT
    assert read.texts.dtype == TEXT
    assert (np.diff(read.events["ts"].astype(np.float64)) >= 0).all()
    assert read.damage is None or "\n" not in read.damage


def model_headers(data: bytes) -> None:
    """The header of a model's file: tensors with a place, or a reason; no more is read than there is."""
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        file.write(data)
        file.flush()
        for parser in (onnx.tensors, safetensors.tensors, gguf.tensors):
            try:
                tensors = parser(Source(file.fileno(), len(data)), "/models/model")
            except Unreadable as reason:
                if not str(reason):
                    raise ValueError("no reason is given") from reason
                continue
            for tensor in tensors:
                assert 0 <= tensor.offset < 2**62
                assert 0 <= tensor.size < 2**62
                assert tensor.path == "/models/model" or tensor.path.startswith("/models/")
                layer_of(tensor.name)


@functools.cache
def _whole_trace() -> dict[str, bytes]:
    """Return the files of a small trace that is whole."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = Path(folder) / "trace"
        writer = TraceWriter(
            path,
            {
                "clock": {"start_ns": 0, "end_ns": 10**6},
                "target": {"argv": ["python", "qa.py"], "pid": 7, "cwd": "/", "exit_code": 0, "user": "ann"},
                "mounts": [
                    {
                        "path": "/cvmfs/a",
                        "fqrn": "a",
                        "connection": 1,
                        "device": 1,
                        "daemon_pid": 5,
                        "counters_before": {"x": 1},
                    }
                ],
                "missing": ["x"],
                "lost": {"SYS_READ": 1},
                "host": "h",
                "probe": "ebpf",
            },
        )
        events, texts = np.zeros(50, dtype=EVENT), np.zeros(5, dtype=TEXT)
        events["ts"], events["kind"], events["tgid"] = np.arange(50) * 1000, np.arange(50), 7
        texts["ts"], texts["kind"], texts["text"], texts["size"] = np.arange(5), Kind.SYS_OPEN, b"/cvmfs/a/x", 10
        writer.write(events, texts)
        writer.finish(end="exited")
        return {path.name: path.read_bytes() for path in path.iterdir()}


def _read_with(name: str, data: bytes, *, report: bool) -> None:
    """Hold that a trace with this in the place of one of its files is read, and reported if wanted, or refused in one sentence."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for item, content in {**_whole_trace(), name: data}.items():
            (Path(folder) / item).write_bytes(content)
        try:
            read = read_trace(folder)
            if not report:
                return
            analysed = analyse(read)
        except TraceDamaged as refusal:
            if "\n" in str(refusal) or len(str(refusal)) > 10_000:
                raise ValueError("more than one sentence") from refusal
            return
        summary = text.render(analysed, verbose=True) + text.render(analysed)
        json.render(analysed)
    assert "\x1b" not in summary


def json_bytes(value: Any) -> bytes:
    return json_text(value).encode("utf-8", "surrogatepass")


def meta_json(data: bytes) -> None:
    """meta.json: as it is, and as changes to the fields of one that is right."""
    _read_with(META, data, report=True)
    try:
        changes = json_of(data)
    except (ValueError, RecursionError):
        return
    if isinstance(changes, dict):
        document = json_of(_whole_trace()[META])
        document.update(changes)
        _read_with(META, json_bytes(document), report=True)


def parquet(data: bytes) -> None:
    """A Parquet file: bytes put over those of one that is right, and one whose metadata is what is given."""
    for name in (EVENTS_PARQUET, TEXTS_PARQUET):
        content = bytearray(_whole_trace()[name])
        for at in range(0, len(data) - 2, 3):
            content[-1 - int.from_bytes(data[at : at + 2], "little") % len(content)] = data[at + 2]
        _read_with(name, bytes(content), report=False)
        body = _whole_trace()[name]
        length = int.from_bytes(body[-8:-4], "little")
        _read_with(name, body[: -8 - length] + data + len(data).to_bytes(4, "little") + b"PAR1", report=False)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        (Path(folder) / NODES_PARQUET).write_bytes(data)
        operators(Path(folder))


def parquet_pages(data: bytes) -> None:
    """The head of a page: fields that are read, or a refusal; never more than the head is long."""
    head = Head(data)
    try:
        fields = head.struct(0)
    except (ValueError, IndexError):
        return
    assert head.position <= len(data) + 2**40
    assert all(isinstance(number, int) for number in fields)


def command_line(data: bytes) -> None:
    """Arguments: none is lost, and what is hidden stays hidden when it is looked at again."""
    argv = [word.decode("utf-8", "surrogateescape") for word in data.split(b"\0")]
    arguments = hidden(argv)
    assert len(arguments) == len(argv)
    redacted = Redaction().meta({"target": {"argv": arguments, "cwd": "/", "user": "x"}, "missing": arguments})
    assert len(redacted["target"]["argv"]) == len(argv)


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "strace_daemon": strace_daemon,
    "strace_target": strace_target,
    "fuse_request": fuse_request,
    "http_heads": http_heads,
    "talk": talk,
    "mountinfo": mountinfo,
    "xattrs": xattrs,
    "client_process": client_process,
    "marks": marks,
    "blocks": blocks,
    "trace": trace,
    "model_headers": model_headers,
    "meta_json": meta_json,
    "parquet": parquet,
    "parquet_pages": parquet_pages,
    "command_line": command_line,
}
