"""The GenAI library is recognised while the target runs, for any program."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cvtrace_run import CVTRACE
from ebpf_recording import of_kind
from namespaces import unshare
from tiny import tiny_mount
from waiting import wait_until

from cvtrace.analysis.joins.phases import LOAD, phases
from cvtrace.analysis.trace.recording import recording
from cvtrace.probes.ebpf.probe import EbpfProbe
from cvtrace.probes.events import Events, Kind
from cvtrace.probes.phases.functions import INDEX
from cvtrace.probes.phases.library import find_libraries
from cvtrace.probes.probe import Scope
from cvtrace.tracer.observation import MARKED
from cvtrace.tracer.store import read_trace

LIBRARIES = find_libraries(sys.executable, {})
# The library looks for onnxruntime when it is loaded; the Python module helps it in the same way.
ORT = [
    str(path) for library in LIBRARIES for path in Path(library).parents[1].glob("onnxruntime/capi/libonnxruntime.so*")
]

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not ORT, reason="needs onnxruntime-genai"),
]

CALLER = r"""
#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv) {
  char line[8];
  void *result = 0;
  read(0, line, 1);
  dlopen(argv[2], RTLD_NOW | RTLD_GLOBAL);
  void *library = dlopen(argv[1], RTLD_NOW);
  if (!library)
    return fprintf(stderr, "%s\n", dlerror()), 1;
  void *(*create)(const char *, void **) = (void *(*)(const char *, void **))dlsym(library, "OgaCreateConfig");
  read(0, line, 1);
  create("/nowhere", &result);
  return 0;
}
"""


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A C program: loads the library when it is told to, calls it when it is told again."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    program = tmp_path_factory.mktemp("caller") / "caller"
    program.with_suffix(".c").write_text(CALLER)
    subprocess.run([compiler, "-o", program, program.with_suffix(".c"), "-ldl"], check=True)
    return program


@pytest.fixture
def probe() -> Iterator[EbpfProbe]:
    probe = EbpfProbe()
    probe.start(Scope(daemons=(), devices=()))
    yield probe
    probe.stop()


def observe(probe: EbpfProbe, argv: list[str]) -> Events:
    """Run a program; let it go on once the library it loaded is attached."""
    target = subprocess.Popen(argv, stdin=subprocess.PIPE)
    assert target.stdin is not None
    drained = []

    def is_seen() -> bool:
        drained.append(probe.drain()[0])
        return probe.marks_phases

    try:
        probe.add_target(target.pid)
        target.stdin.write(b"1")
        target.stdin.flush()
        wait_until(is_seen, "the library is attached")
        target.communicate(b"2", timeout=120)
    finally:
        target.kill()
        target.wait()
    assert target.returncode == 0
    probe.stop()
    return np.concatenate([*drained, probe.drain()[0]])


def test_a_c_program_that_loads_the_library_by_hand(probe: EbpfProbe, caller: Path) -> None:
    # GIVEN nothing known of the library before / WHEN the program loads it and calls it
    events = observe(probe, [str(caller), LIBRARIES[0], ORT[0]])

    # THEN its call is there
    calls = of_kind(events, Kind.PHASE)
    assert calls["a"].tolist() == [INDEX["OgaCreateConfig"]]
    assert calls["ret"].tolist() == [-1]
    assert probe.missing() == []


def test_a_library_that_only_the_target_can_see(probe: EbpfProbe, caller: Path, tmp_path: Path) -> None:
    # GIVEN a mount namespace with a copy of the library on a file system of its own
    place = tmp_path / "private"
    place.mkdir()
    name = f"{Path(LIBRARIES[0]).name}.0.1"
    script = f"mount -t tmpfs none {place} && cp {LIBRARIES[0]} {place}/{name} && cd {place} && exec {caller} ./{name} {ORT[0]}"

    # WHEN
    events = observe(probe, [*unshare("--mount"), "sh", "-c", script])

    # THEN
    assert list(place.iterdir()) == []
    assert of_kind(events, Kind.PHASE)["a"].tolist() == [INDEX["OgaCreateConfig"]]


def test_a_library_that_is_there_before_is_located_when_the_recording_begins(probe: EbpfProbe, caller: Path) -> None:
    # GIVEN a program that has loaded the library already
    target = subprocess.Popen([str(caller), LIBRARIES[0], ORT[0]], stdin=subprocess.PIPE)
    assert target.stdin is not None
    target.stdin.write(b"1")
    target.stdin.flush()
    maps = Path(f"/proc/{target.pid}/maps")
    wait_until(lambda: "libonnxruntime-genai.so" in maps.read_text(), "the library is mapped")

    # WHEN
    probe.add_target(target.pid)
    target.communicate(b"2", timeout=120)
    probe.stop()

    # THEN
    assert of_kind(probe.drain()[0], Kind.PHASE)["a"].tolist() == [INDEX["OgaCreateConfig"]]


LINKED = r"""
extern void *OgaCreateConfig(const char *, void **);
int main(void) {
  void *result = 0;
  OgaCreateConfig("/nowhere", &result);
  return 0;
}
"""


@pytest.mark.parametrize("between", [False, True], ids=["by the program", "by a library of the program"])
def test_a_program_that_is_linked_to_the_library_may_call_it_at_once(tmp_path: Path, between: bool) -> None:
    # GIVEN a program that calls the library first thing, linked to it, or to a library that is
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler is not None
    program, source = tmp_path / "program", tmp_path / "program.c"
    (tmp_path / "libonnxruntime.so.1").symlink_to(ORT[0])  # its name among libraries; the wheel's file has another
    linked = ["-Wl,--no-as-needed", ORT[0], LIBRARIES[0], "-Wl,--unresolved-symbols=ignore-in-shared-libs"]
    linked += [f"-Wl,-rpath,{folder}" for folder in (Path(LIBRARIES[0]).parent, tmp_path)]
    if between:
        source.write_text(LINKED.replace("main", "indirect"))
        library = tmp_path / "libindirect.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, *linked], check=True)
        source.write_text("extern int indirect(void);\nint main(void) { return indirect(); }\n")
        linked = [str(library), "-Wl,-rpath,$ORIGIN", "-Wl,--unresolved-symbols=ignore-in-shared-libs"]
    else:
        source.write_text(LINKED)
    subprocess.run([compiler, "-o", program, source, *linked], check=True)

    # WHEN
    with tiny_mount(tmp_path) as (mount, _):
        argv = [*CVTRACE, "run", "-o", tmp_path / "trace", "--probes", "ebpf", "--no-summary"]
        result = subprocess.run([*argv, "--mount", mount, "--", program], capture_output=True, text=True, check=False)

    # THEN its call is not missed
    assert result.returncode == 0, result.stderr
    assert of_kind(read_trace(tmp_path / "trace").events, Kind.PHASE)["a"].tolist() == [INDEX["OgaCreateConfig"]]


def test_a_python_behind_a_shell_script_marks_its_phases_once(tmp_path: Path) -> None:
    # GIVEN a wrapper that says nothing of the interpreter it starts, and a script that makes one call of the library, after
    # as much time as other imports take
    script, wrapper = tmp_path / "script.py", tmp_path / "wrapper"
    script.write_text(
        "import time\nimport onnxruntime_genai as og\ntime.sleep(0.5)\n"
        "try: og.Config('/nowhere')\nexcept Exception: pass\n"
    )
    wrapper.write_text(f"#!/bin/sh\n{sys.executable} {script}\n")
    wrapper.chmod(0o755)
    environ = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    with tiny_mount(tmp_path) as (mount, _):
        # WHEN
        argv = [*CVTRACE, "run", "-o", tmp_path / "trace", "--probes", "ebpf", "--no-summary"]
        result = subprocess.run(
            [*argv, "--mount", mount, "--", wrapper], env=environ, capture_output=True, text=True, check=False
        )

    # THEN the call is there once, although the hook has marked it too, and nothing is said to be missing about phases
    assert result.returncode == 0, result.stderr
    trace = read_trace(tmp_path / "trace")
    assert MARKED not in json.loads((tmp_path / "trace" / "meta.json").read_text())["missing"]
    calls = of_kind(trace.events, Kind.PHASE)
    assert (calls["a"] == INDEX["OgaCreateConfig"]).sum() == 1
    assert (phases(recording(trace)).calls.row == LOAD).sum() == 1
