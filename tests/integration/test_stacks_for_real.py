"""`--stacks`: the lines of code that wait for the origin come back with the time that was injected, from Python and from compiled code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cvtrace_run import CVTRACE, cvtrace, run, script, trace_of
from lab_mount import LabMount, lab

from cvtrace.analysis import analyse
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.lab.origin import Injection
from cvtrace.tracer.stack_tables import read_stacks

pytestmark = pytest.mark.root

DELAY_S = 0.3
"""Of each object of the repository: a file of two chunks takes 0.6 s."""
# The second that Python sleeps at first is for py-spy, which takes that long to start on a busy machine.
SYSTEM_PYTHON = "/usr/bin/python3"

TWO_LINES = """import sys, time; time.sleep(1)
def two_chunks(path):
    return open(path, "rb").read()
def one_chunk(path):
    return open(path, "rb").read()
two_chunks(sys.argv[1] + "/two")
one_chunk(sys.argv[1] + "/one")
"""
IN_C = """#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
static char bytes[1 << 21];
__attribute__((noinline)) static int two_chunks(const char *path) {
  int fd = open(path, O_RDONLY), n = 0; while (pread(fd, bytes, 1 << 17, n) > 0) n += 1 << 17;
  return n;
}
__attribute__((noinline)) static int one_chunk(const char *path) {
  int fd = open(path, O_RDONLY), n = 0; while (pread(fd, bytes, 1 << 17, n) > 0) n += 1 << 17;
  return n + 1;
}
int main(int argc, char **argv) {
  char path[4096];
  snprintf(path, sizeof path, "%s/two", argv[1]);
  int sum = two_chunks(path);
  snprintf(path, sizeof path, "%s/one", argv[1]);
  return (sum + one_chunk(path)) == 0;
}
"""


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabMount]:
    files = {"two": os.urandom(1_500_000), "one": os.urandom(500_000)}
    slow = Injection(match="re:/data/../[0-9a-f]+P?$", first_byte_delay_s=DELAY_S)
    with (
        lab(tmp_path_factory.mktemp("stacks"), files, compression="none", injections=(slow,)) as served,
        served.mount() as each,
    ):
        yield each


@pytest.fixture(autouse=True)
def cold(mount: LabMount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount.talk("cleanup 0")
    mount.drop_caches()
    subprocess.run(["find", str(mount.root)], check=True, capture_output=True)
    monkeypatch.chdir(tmp_path)


def blocked_by_function(report: Report) -> dict[str, float]:
    times: dict[str, float] = {}
    for row in report.lines:
        times[row.function] = times.get(row.function, 0.0) + row.blocked_s
    return times


def assert_injected_times(report: Report) -> None:
    times = blocked_by_function(report)
    waited = {Path(file.path).name: file.blocked_s for file in report.files}
    for function, name in (("two_chunks", "two"), ("one_chunk", "one")):
        # On a busy machine the kernel reads the second chunk ahead while the first is copied.
        assert waited[name] >= 0.9 * DELAY_S
        assert times[function] >= 0.9 * waited[name]


def test_lines_of_python_wait_as_long_as_was_injected(mount: LabMount) -> None:
    result = run(mount.root, "--stacks", script(TWO_LINES), str(mount.root), probes="ebpf")

    report = analyse(trace_of(result))
    assert_injected_times(report)
    assert {(Path(row.file).name, row.line) for row in report.lines[:2]} == {("script.py", 3), ("script.py", 5)}
    summary = cvtrace("report", "trace").stdout
    assert "script.py:3" in summary
    assert "script.py:5" in summary


def test_every_output_goes_by_line(mount: LabMount) -> None:
    run(mount.root, "--stacks", script(TWO_LINES), str(mount.root), probes="ebpf")

    folded = cvtrace("report", "trace", "--format", "folded", "--by", "line", "--stacks", "waiting").stdout
    assert any("two_chunks (" in line for line in folded.splitlines())
    by_file = cvtrace("report", "trace", "--format", "folded").stdout
    total = [
        sum(int(line.rpartition(" ")[2]) for line in text.splitlines())
        for text in (cvtrace("report", "trace", "--format", "folded", "--by", "line").stdout, by_file)
    ]
    assert total[0] == total[1]
    scope = json.loads(cvtrace("report", "trace", "--format", "speedscope", "--by", "line").stdout)
    assert any("two_chunks" in frame["name"] for frame in scope["shared"]["frames"])
    contract = json.loads(cvtrace("report", "trace", "--format", "json").stdout)
    assert contract["stacks"]["samples"] > 0
    assert {row["function"] for row in contract["lines"][:2]} == {"two_chunks", "one_chunk"}
    cvtrace("report", "trace", "--format", "html", "-o", "page.html")
    assert "waiting, by line of code" in Path("page.html").read_text()
    cvtrace("report", "trace", "--format", "perfetto", "-o", "trace.pftrace")
    assert b"two_chunks" in Path("trace.pftrace").read_bytes()


@pytest.mark.skipif(not shutil.which("perf") or not shutil.which("gcc"), reason="needs perf and gcc")
@pytest.mark.parametrize("flags", [["-O2"], ["-O0"]])
def test_functions_of_compiled_code_wait_as_long_as_was_injected(mount: LabMount, flags: list[str]) -> None:
    Path("reads.c").write_text(IN_C)
    subprocess.run(["gcc", *flags, "-g", "-o", "reads", "reads.c"], check=True)

    result = run(mount.root, "--stacks", "--", "./reads", str(mount.root), probes="ebpf")

    report = analyse(trace_of(result))
    assert_injected_times(report)
    assert {(Path(row.file).name, row.line) for row in report.lines[:2]} == {("reads.c", 6), ("reads.c", 10)}


@pytest.mark.skipif(not Path(SYSTEM_PYTHON).exists(), reason="needs a Python that other users can execute")
def test_another_user_s_python_is_sampled_as_that_user(mount: LabMount, tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:3]):
        if folder != Path("/tmp"):
            folder.chmod(0o755)
    Path("script.py").write_text("import time\ntime.sleep(1)\ntime.sleep(0.3)\n")

    result = run(mount.root, "--stacks", "--user", "nobody", "--python", SYSTEM_PYTHON, "script.py", probes="ebpf")

    lines = {(Path(row.file).name, row.line): row.waited_s for row in analyse(trace_of(result)).lines}
    assert lines["script.py", 3] >= 0.9 * DELAY_S


def test_a_redacted_trace_has_no_name_of_the_code(mount: LabMount) -> None:
    run(mount.root, "--stacks", "--redact", script(TWO_LINES), str(mount.root), probes="ebpf")

    tables = read_stacks(Path("trace"))
    assert tables is not None
    words = {word for name in ("file", "function") for word in tables[1].column(name).to_pylist()}
    assert words
    assert not any("script" in word or "two_chunks" in word for word in words)


def test_a_run_without_stacks_has_no_lines(mount: LabMount) -> None:
    run(mount.root, script("pass\n"), probes="ebpf")

    refused = subprocess.run(
        [*CVTRACE, "report", "trace", "--format", "folded", "--by", "line"], capture_output=True, text=True, check=False
    )

    assert refused.returncode == 2
    assert "record it with cvtrace run --stacks" in refused.stderr


def test_a_missing_py_spy_is_one_sentence_and_nothing_runs(mount: LabMount) -> None:
    Path("hidden.py").write_text(
        "import sys\nfrom cvtrace.probes.stacks import able\nable.find_py_spy = lambda: None\n"
        "from cvtrace.cli import main\nsys.exit(main())\n"
    )
    Path("script.py").write_text("open('ran', 'w')\n")

    refused = subprocess.run(
        [sys.executable, "hidden.py", "run", "--stacks", "-o", "trace", "script.py"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert refused.returncode == 3
    assert len(refused.stderr.strip().splitlines()) == 1
    assert "pip install 'cvtrace[stacks]'" in refused.stderr
    assert not Path("ran").exists()
    assert not Path("trace").exists()
