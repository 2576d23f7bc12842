"""Two lab mounts, a model on one of them: excluded mounts, reads of other processes, and a client with an empty cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cvtrace_run import cvtrace

from cvtrace.analysis import analyse
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.lab.origin import read_access_log
from cvtrace.lab.stack import Options, Stack, temporary, wipe_client_cache
from cvtrace.probes.events import Events, Kind
from cvtrace.tracer.store import read_trace

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse"),
]

ONE_TOKEN = """
import sys
import onnxruntime_genai as og

model = og.Model(sys.argv[1])
tokenizer = og.Tokenizer(model)
prompt = tokenizer.encode("a prompt whose embeddings nobody has looked at")
generator = og.Generator(model, og.GeneratorParams(model))
generator.append_tokens(prompt)
generator.generate_next_token()
"""
READS_ON = """
import os, sys
while True:
    for name in os.listdir(sys.argv[1]):
        descriptor = os.open(os.path.join(sys.argv[1], name), os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.read(descriptor, 1 << 20)
        os.close(descriptor)
    print("read", flush=True)
"""
SMALL = Options(size_bytes=4_000_000, client="lab", chunk_bytes=64 << 10)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with temporary(SMALL) as stack:
        yield stack


@pytest.fixture(scope="module")
def second_stack() -> Iterator[Stack]:
    with temporary(SMALL) as stack:
        yield stack


def recorded(folder: Path, model: Path, *mounts: Path, probes: str = "ebpf") -> Report:
    """Make one token of a model."""
    program, trace = folder / "script.py", folder / "trace"
    program.write_text(ONE_TOKEN)
    chosen = [word for mount in mounts for word in ("--mount", str(mount))]
    words = ["run", "-o", str(trace), "--force", "--probes", probes, "--no-summary", *chosen]
    cvtrace(*words, "--", sys.executable, program, model)
    return analyse(read_trace(trace))


def test_generation_that_reads_an_excluded_mount_is_a_yes_that_names_it(
    stack: Stack, second_stack: Stack, tmp_path: Path
) -> None:
    # GIVEN a model on a mount that is not recorded, of which nothing is cached
    cold = wipe_client_cache(second_stack)

    report = recorded(tmp_path, cold.model, stack.mountpoint)

    # THEN the requests of generation to it are counted, and the mount is named
    verdict = report.verdict
    assert verdict.generation_hits_cvmfs == "yes"
    assert any(str(second_stack.mountpoint) in reason and "was not observed" in reason for reason in verdict.missing)
    (mount,) = (mount for mount in verdict.unobserved_mounts if mount.path == str(second_stack.mountpoint))
    assert mount.is_cvmfs
    assert mount.generation_reads >= 1
    assert verdict.fuse_reads == mount.generation_reads


@pytest.mark.parametrize("probes", ["portable", "strace"])
def test_an_unobserved_mount_prevents_a_no_where_its_requests_are_not_seen(
    stack: Stack, second_stack: Stack, tmp_path: Path, probes: str
) -> None:
    verdict = recorded(tmp_path, second_stack.model, stack.mountpoint, probes=probes).verdict

    assert verdict.generation_hits_cvmfs == "inconclusive"
    assert any(
        f"on {second_stack.mountpoint}, a FUSE mount that was not observed" in reason for reason in verdict.missing
    )


def test_reads_of_other_processes_are_never_a_yes_with_the_portable_probe(
    stack: Stack, second_stack: Stack, tmp_path: Path
) -> None:
    # GIVEN a model on a local disk, and somebody who reads from an observed mount all the time
    local = tmp_path / "copy"
    shutil.copytree(stack.model, local)
    reader = subprocess.Popen(
        [sys.executable, "-c", READS_ON, str(second_stack.model)], stdout=subprocess.PIPE, text=True
    )
    assert reader.stdout is not None
    try:
        reader.stdout.readline()
        os.set_blocking(reader.stdout.fileno(), False)
        for _ in range(3):
            report = recorded(tmp_path, local, stack.mountpoint, second_stack.mountpoint, probes="portable")
            # THEN the client counted those reads, and they are not the target's
            trace = read_trace(tmp_path / "trace")
            mount = next(mount for mount in trace.meta["mounts"] if mount["path"] == str(second_stack.mountpoint))
            assert mount["counters_after"]["cvmfs.n_fs_read"] > mount["counters_before"]["cvmfs.n_fs_read"]
            assert report.verdict.generation_hits_cvmfs != "yes", report.verdict
            assert reader.poll() is None
    finally:
        reader.kill()
        reader.communicate()


def test_one_token_of_a_client_without_a_cache_fetches_for_it(stack: Stack, tmp_path: Path) -> None:
    # GIVEN a client that has nothing
    cold = wipe_client_cache(stack)

    report = recorded(tmp_path, cold.model, cold.mountpoint)

    # THEN the fetches of the first token are those that the origin served between the begin of the prefill and the token
    trace = read_trace(tmp_path / "trace")
    phases = {row.name: row for row in report.phases}
    calls = trace.events[trace.events["kind"] == Kind.PHASE]
    start_ns = int(report.answers[0].start_s * 1e9)
    began_ns = _life_start(trace.events, trace.meta["target"]["pid"]) + start_ns
    ended_ns = int((calls["ts"] + calls["dur"]).max())
    served = [
        entry
        for entry in read_access_log(cold.access_log)
        if began_ns <= entry.start_ns <= ended_ns and "/data/" in entry.path
    ]
    first = report.verdict.first_token
    assert report.verdict.generation_hits_cvmfs == "yes"
    assert first is not None
    assert first.http_fetches == len(served) >= 1
    assert first.http_bytes == sum(entry.body_bytes for entry in served)
    assert phases["prefill"].http_fetches == first.http_fetches


def _life_start(events: Events, pid: int) -> int:
    executed = events[(events["kind"] == Kind.PROC_EXEC) & (events["tgid"] == pid)]
    return int(executed["ts"][0])
