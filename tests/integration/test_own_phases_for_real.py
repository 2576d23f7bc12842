"""`cvtrace run --phases FILE`: a C library and a program of one's own get phases, a verdict and tokens."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cvtrace_run import run, trace_of

from cvtrace.analysis import analyse

pytestmark = [pytest.mark.root, pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")]

LIBRARY = """
#include <fcntl.h>
#include <unistd.h>
static int file;
__attribute__((noinline)) int mine_open(const char *path) { usleep(5000); return file = open(path, O_RDONLY); }
int mine_load(const char *path) { return mine_open(path); }
int mine_step(int number) { char byte; usleep(5000); return number == 3 ? pread(file, &byte, 1, 4096) : 0; }
"""
PROGRAM = """
int mine_load(const char *);
int mine_step(int);
int main(int count, char **words) {
  if (mine_load(words[1]) < 0)
    return 1;
  for (int number = 0; number < 6; number++)
    mine_step(number);
  return 0;
}
"""
DECLARED = """
[[functions]]
library = "libmine"
symbol = "mine_load"
phase = "load"

[[functions]]
library = "libmine"
symbol = "mine_open"  # within mine_load
phase = "load"

[[functions]]
library = "libmine"
symbol = "mine_step"
phase = "decode"
"""
BY_HAND = """
import ctypes, sys, time
mine = ctypes.CDLL(sys.argv[1])
# A uprobe puts a breakpoint at the begin of each function: it is attached some milliseconds after the library was opened.
addresses = [ctypes.cast(getattr(mine, name), ctypes.c_void_p).value for name in ("mine_load", "mine_step")]
deadline = time.monotonic() + 20
while any(ctypes.string_at(address, 1) != b"\\xcc" for address in addresses):
    assert time.monotonic() < deadline, "no probe was attached"
    time.sleep(0.001)
assert mine.mine_load(sys.argv[2].encode()) >= 0
for number in range(6):
    mine.mine_step(number)
"""


@pytest.fixture
def library(tmp_path: Path) -> Path:
    (tmp_path / "mine.c").write_text(LIBRARY)
    path = tmp_path / "libmine.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", path, tmp_path / "mine.c"], check=True)
    return path


@pytest.mark.parametrize("kind", ["linked", "loaded by Python"])
def test_functions_of_a_library_of_ones_own_are_phases(workdir: Path, mount: Path, library: Path, kind: str) -> None:
    Path("phases.toml").write_text(DECLARED)
    if kind == "linked":
        Path("program.c").write_text(PROGRAM)
        subprocess.run(["cc", "-o", "program", "program.c", library, f"-Wl,-rpath,{library.parent}"], check=True)
        command = ["./program", f"{mount}/model"]
    else:
        Path("by_hand.py").write_text(BY_HAND)
        command = [sys.executable, "by_hand.py", str(library), f"{mount}/model"]

    result = run(mount, "--phases", "phases.toml", "--", *command, probes="ebpf")

    assert result.returncode == 0, result.stderr
    trace = trace_of(result)
    report = analyse(trace)
    rows = {row.name: row for row in report.phases}
    assert [each for each in trace.meta["missing"] if "onnxruntime-genai" not in each] == []
    assert rows["load"].wall_s >= 0.005
    assert rows["load"].count == 1
    assert report.verdict.tokens == 6
    assert report.verdict.question == "generation"
    assert report.verdict.generation_hits_cvmfs == "yes"
    assert rows["decode"].fuse_reads


def test_symbols_that_no_file_has_are_named(workdir: Path, mount: Path) -> None:
    Path("phases.toml").write_text(DECLARED)

    result = run(mount, "--phases", "phases.toml", "--", "true", probes="ebpf")

    assert any("mine_load, mine_open, mine_step" in each for each in trace_of(result).meta["missing"])


def test_without_ebpf_it_is_said_that_symbols_are_not_marked(workdir: Path, mount: Path) -> None:
    Path("phases.toml").write_text(DECLARED)

    result = run(mount, "--phases", "phases.toml", "--", "true", probes="portable")

    assert any("only eBPF sees calls of libraries" in each for each in trace_of(result).meta["missing"])
