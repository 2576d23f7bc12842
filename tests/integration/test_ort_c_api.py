"""A C program that calls onnxruntime through its table of pointers: its sessions and runs are phases, also of a stripped library."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cvtrace_run import cvtrace
from lab_mount import LabMount, lab
from onnx import TensorProto, helper

from cvtrace.analysis import analyse
from cvtrace.analysis.contract.report_schema import Phase, Report
from cvtrace.probes.ebpf.phase_calls import SLOTS
from cvtrace.probes.phases.functions import INDEX
from cvtrace.probes.phases.pointer_table import slots
from cvtrace.tracer.store import read_trace

PACKAGE = importlib.util.find_spec("onnxruntime")
LIBRARIES = sorted(Path(PACKAGE.submodule_search_locations[0]).glob("capi/libonnxruntime.so*")) if PACKAGE else []  # type: ignore[index]
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse"),
    pytest.mark.skipif(not LIBRARIES, reason="this version of onnxruntime comes without libonnxruntime.so"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
]

PROGRAM = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct base { const void *const *(*get_api)(uint32_t); const char *(*version)(void); };
extern const struct base *OrtGetApiBase(void);
typedef void *(*call)();
static volatile int done;

static void check(void *status) {
  if (status)
    exit(3);
}

static void when_done(void *data, void **outputs, size_t count, void *status) {
  check(status);
  done = 1;
}

int main(int count, char **words) {
  const void *const *api = OrtGetApiBase()->get_api(16);
  const char *output = "y";
  void *environment = 0, *options = 0, *session = 0, *other = 0, *value = 0;
  check(((call)api[3])(3, "test", &environment));
  check(((call)api[10])(&options));
  check(((call)api[24])(options, 2)); /* threads within an operator: RunAsync needs more than one */
  check(((call)api[7])(environment, words[1], options, &session));
  if (!((call)api[7])(environment, "/no/such/model.onnx", options, &other))
    return 4;
  for (int number = 0; number < 3; number++) {
    value = 0;
    check(((call)api[9])(session, 0, 0, 0, (size_t)0, &output, (size_t)1, &value));
  }
  if (count > 2 && !strcmp(words[2], "async")) {
    value = 0;
    check(((call)api[260])(session, 0, 0, 0, (size_t)0, &output, (size_t)1, &value, when_done, 0));
    while (!done)
      usleep(1000);
  }
  ((void (*)(void *))api[95])(session);
  return 0;
}
"""

PYTHON = """
import sys
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1])
session.run(None, {})
"""


def model() -> bytes:
    """Return a model without inputs: random numbers times weights of 4 MB."""
    weights = np.random.default_rng(1).standard_normal((512, 2048)).astype(np.float32)
    nodes = [
        helper.make_node("RandomUniform", [], ["x"], shape=[1, 512], dtype=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2048])
    tensor = helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.tobytes(), raw=True)
    graph = helper.make_graph(nodes, "random", [], [output], [tensor])
    opset = helper.make_opsetid("", 17)
    return bytes(helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString())


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabMount]:
    folder = tmp_path_factory.mktemp("ort")
    with lab(folder, {"models/random.onnx": model()}) as made, made.mount() as mounted:
        yield mounted


def built(folder: Path, *, stripped: bool) -> Path:
    """Build the program, linked to the library of the wheel or to a copy without symbols."""
    library = folder / "lib" / "libonnxruntime.so.1"
    library.parent.mkdir()
    if stripped:
        subprocess.run(["strip", "--strip-all", "-o", library, LIBRARIES[0]], check=True)
    else:
        library.symlink_to(LIBRARIES[0])
    (folder / "program.c").write_text(PROGRAM)
    program = folder / "program"
    command = ["cc", "-w", "-o", program, folder / "program.c", library, f"-Wl,-rpath,{library.parent}"]
    subprocess.run(command, check=True)
    return program


def recorded(mount: LabMount, folder: Path, *command: str | Path) -> Report:
    trace = folder / "trace"
    words = ["run", "-o", str(trace), "--probes", "ebpf", "--no-summary", "--mount", str(mount.root)]
    cvtrace(*words, "--", *command)
    return analyse(read_trace(trace))


def phase(report: Report, name: str) -> Phase:
    return next(row for row in report.phases if row.name == name)


@pytest.mark.parametrize("stripped", [False, True], ids=["as it is", "stripped"])
def test_sessions_and_runs_of_a_c_program_are_phases(mount: LabMount, tmp_path: Path, stripped: bool) -> None:
    if stripped and shutil.which("strip") is None:
        pytest.skip("needs strip")
    mount.drop_caches()
    report = recorded(mount, tmp_path, built(tmp_path, stripped=stripped), mount.root / "models/random.onnx")

    assert (phase(report, "load").count, phase(report, "run").count) == (2, 3)  # one load failed
    assert (phase(report, "load").fuse_reads or 0) >= 4_000_000 / 131072
    assert (report.verdict.question, report.verdict.answer) == ("inference", "no"), report.verdict


def test_what_run_async_computes_is_not_taken_for_nothing(mount: LabMount, tmp_path: Path) -> None:
    report = recorded(mount, tmp_path, built(tmp_path, stripped=False), mount.root / "models/random.onnx", "async")

    assert phase(report, "run").count == 4
    assert report.verdict.answer == "inconclusive"
    assert any("RunAsync" in sentence for sentence in report.verdict.missing)


def test_a_session_in_a_python_that_ignores_the_hook_is_said_to_be_unmarked(mount: LabMount, tmp_path: Path) -> None:
    program = tmp_path / "script.py"
    program.write_text(PYTHON)
    path = mount.root / "models/random.onnx"

    isolated = recorded(mount, tmp_path, sys.executable, "-I", program, path)
    shutil.rmtree(tmp_path / "trace")
    hooked = recorded(mount, tmp_path, sys.executable, program, path)

    sentences = [each for each in isolated.trace.missing if "onnxruntime" in each and "PYTHONPATH" in each]
    assert any("did not load the hook" in each for each in sentences), isolated.trace.missing
    assert "run" not in {row.name for row in isolated.phases}
    assert phase(hooked, "run").count == 1
    assert not any("did not load the hook" in each for each in hooked.trace.missing)


def test_no_table_is_seen_in_other_libraries() -> None:
    assert set(slots(str(LIBRARIES[0]), SLOTS)) == set(SLOTS)
    assert INDEX["OrtApi.Run"] in SLOTS
    assert slots(os.path.realpath(sys.executable), SLOTS) == {}
