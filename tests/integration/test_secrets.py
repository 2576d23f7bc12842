"""Nothing of the contents of files, of bodies, headers, queries and credentials is in any byte of a trace."""

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cvtrace_run import CVTRACE
from lab_mount import FQRN, lab

from cvtrace.analysis import analyse
from cvtrace.lab.client import configure, start, unmount
from cvtrace.probes.events import EVENT, TEXT, Kind
from cvtrace.probes.http import drop_contents, redact_texts
from cvtrace.tracer.store import read_trace

SECRET = b"T0pS3cr3tValue"
EIGHT, FOUR = b"Pa55w0rd", b"S3cr"
ENCODED = base64.b64encode(b"user:" + SECRET).rstrip(b"=")
HEAD = b"HTTP/1.1 200 " + SECRET + b"\r\nX-Cache: " + SECRET + b"\x00\r\n\r\n" + SECRET
FILES = {
    "model/weights.bin": (SECRET + b" ") * 40_000,
    "model/like-a-response": HEAD * 20_000,
    "model/like-a-request": (b"GET /" + SECRET + b" HTTP/1.1\r\n") * 20_000,
    "model/eight": EIGHT,
    "model/four": FOUR,
    "very-private-name/another-private-name.txt": b"x" * 5000,
}

TARGET = """
import os, pathlib, socket, sys
mount, host, port = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
SECRET = b"T0p" + b"S3cr3t" + b"Value"
for path in sorted(mount.rglob("*")):
    if path.is_file():
        content = path.read_bytes()
        print(path.name, len(content))
with open("written", "wb") as file:
    file.write(SECRET * 100)
os.lseek(os.open("written", os.O_RDONLY), 0, 0)
open("written", "rb").read()
reading, writing = os.pipe()
os.write(writing, SECRET)
os.read(reading, 100)
with socket.create_connection((host, port)) as connection:
    connection.sendall(b"GET /x?token=" + SECRET + b" HTTP/1.1\\r\\nHost: h\\r\\nCookie: " + SECRET + b"\\r\\n"
                       b"Authorization: Bearer " + SECRET + b"\\r\\nConnection: close\\r\\n\\r\\n" + SECRET)
    while connection.recv(4096):
        pass
os.environ["LATER"] = SECRET.decode()
"""


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, int]]:
    """Mount a repository whose files hold secrets, through a proxy that wants a password."""
    folder = tmp_path_factory.mktemp("secrets")
    with lab(folder, FILES, compression="none") as up:
        host, port = "127.0.0.1", int(up.origin.url.rpartition(":")[2])
        mountpoint = folder / "mnt"
        mountpoint.mkdir()
        url = f"http://user:{SECRET.decode()}@{host}:{port}/cvmfs/{FQRN}"
        start(configure(FQRN, mountpoint, url, up.published.key_path, folder / "cache"))
        try:
            yield mountpoint, host, port
        finally:
            unmount(mountpoint)


def record(mounted: tuple[Path, str, int], folder: Path, probes: str, *options: str) -> Path:
    """Record the target on a cold client; return the trace."""
    mountpoint, host, port = mounted
    (folder / "target.py").write_text(TARGET)
    command = [*CVTRACE, "run", "-o", "trace", "--probes", probes, "--mount", str(mountpoint)]
    result = subprocess.run(
        [*command, *options, "--no-summary", "target.py", str(mountpoint), host, str(port)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert result.returncode == 0, result.stderr
    return folder / "trace"


def all_bytes(trace: Path) -> bytes:
    """Return what a reader of the trace can get: its files, and what is compressed in them."""
    read = read_trace(trace)
    files = b"".join(path.read_bytes() for path in trace.iterdir())
    return files + read.events.tobytes() + read.texts.tobytes() + json.dumps(read.meta).encode()


@pytest.mark.root
@pytest.mark.parametrize("probes", ["ebpf", "strace"])
def test_no_secret_is_in_any_byte_of_the_trace(mounted, tmp_path, probes):
    # GIVEN files, bodies, headers, queries and a password that are secret
    # WHEN all of it passes by the probes
    trace = record(mounted, tmp_path, probes)
    # THEN the probes were there
    read = read_trace(trace)
    assert (read.events["kind"] == Kind.FUSE_DAEMON).any()
    # AND nothing of it is in the trace
    data = all_bytes(trace)
    for secret in (SECRET, SECRET[::-1], ENCODED, EIGHT, FOUR, SECRET.hex().encode()):
        assert secret not in data, secret
    for encoding in ("utf-16-le",):
        assert SECRET.decode().encode(encoding) not in data


@pytest.mark.root
@pytest.mark.parametrize("probes", ["ebpf", "strace"])
def test_redaction_leaves_no_name_of_a_file_and_keeps_the_answer(mounted, tmp_path, probes):
    # GIVEN a recording whose paths are hashed, of a run that finds no page in memory
    for path in mounted[0].rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    trace = record(mounted, tmp_path, probes, "--redact")
    # THEN no name of a file, folder or script is left of it
    data = all_bytes(trace)
    for name in (b"private", b"weights.bin", b"target.py", b"like-a", tmp_path.name.encode(), b"site-packages"):
        assert name not in data, name
    # AND the analysis still joins opens, look-ups and requests: the files of the mount, below the mount's own name
    mountpoint = str(mounted[0])
    report = analyse(read_trace(trace))
    below = [file.path for file in report.files if file.path.startswith(mountpoint + "/")]
    assert len(below) >= len(FILES)
    assert sum(file.reads for file in report.files) > 0
    assert [mount.path for mount in report.trace.mounts] == [mountpoint]


def test_a_record_contains_nothing_of_an_earlier_one_in_the_ring():
    # GIVEN a record whose text is short, in a place of the ring that held a header before
    texts = np.zeros(2, dtype=TEXT)
    texts["kind"] = [Kind.SYS_OPEN, Kind.HTTP_SEND]
    texts["text"] = [b"/etc/x\0Authorization: " + SECRET, b"GET /a HTTP/1.1\r\nCookie: x\r\n\r\n\0\0" + SECRET]
    texts["size"] = [6, 31]
    # WHEN it is drained THEN nothing is behind its end
    assert SECRET not in redact_texts(texts).tobytes()
    assert texts["text"].tolist() == [b"/etc/x", "GET /… HTTP/1.1".encode()]


def test_file_contents_are_not_taken_for_job_addresses():
    # GIVEN handovers and writes of file contents of the same length
    events = np.zeros(5, dtype=EVENT)
    events["kind"] = [Kind.HANDOVER, Kind.HANDOVER, Kind.HANDOVER_DONE, Kind.HANDOVER_DONE, Kind.SYS_READ]
    events["a"] = [0x7F0012345678, int.from_bytes(EIGHT, "little"), 0, int.from_bytes(FOUR, "little"), 2**63]
    # THEN only those that can be handovers are kept, and other kinds are not concerned
    assert drop_contents(events)["a"].tolist() == [0x7F0012345678, 0, 2**63]
    assert len(drop_contents(events[:0])) == 0
