"""Phases that a script marks itself, through `cvtrace run` on every rung."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from cvtrace_run import RUNGS, run, script, trace_of
from lab_mount import LabMount, lab
from onnx import TensorProto, helper, numpy_helper

from cvtrace.analysis import analyse
from cvtrace.lab.model import build

pytestmark = pytest.mark.root


@pytest.mark.parametrize("probes", RUNGS)
def test_phases_of_a_script_are_rows(workdir: Path, mount: Path, probes: str) -> None:
    # GIVEN a script that names two phases, one of which reads from the mount, and ends within a third
    name = script(
        "import cvtrace, os, time\n"
        f"with cvtrace.phase('read the file'): os.open('{mount}/model', os.O_RDONLY); time.sleep(0.05)\n"
        "for _ in range(3):\n with cvtrace.phase('rest'): time.sleep(0.02)\n"
        "cvtrace.phase('last').__enter__(); time.sleep(0.02); os._exit(0)\n"
    )
    # WHEN
    result = run(mount, "--python", sys.executable, name, probes=probes)
    # THEN
    assert result.returncode == 0, result.stderr
    trace = trace_of(result)
    rows = {row.name: row for row in analyse(trace).phases}
    assert list(rows) == ["script", "read the file", "rest", "last"]
    assert rows["rest"].count == 3
    assert rows["read the file"].wall_s >= 0.05
    assert rows["rest"].wall_s >= 0.06
    assert rows["last"].wall_s >= 0.02
    if probes == "ebpf":
        assert rows["read the file"].fuse_requests
        assert rows["rest"].fuse_requests == 0


@pytest.mark.parametrize("probes", ["portable", "ebpf"])
def test_tokens_that_a_script_notes_are_generation(workdir: Path, mount: Path, probes: str) -> None:
    # GIVEN a program of an unknown runtime: two answers, the second of which reads from the mount while it makes a token
    name = script(
        "import cvtrace, os, time\n"
        f"descriptor = os.open('{mount}/model', os.O_RDONLY)\n"
        "for answer in range(2):\n with cvtrace.phase('answer'):\n"
        "  for number in range(4):\n   time.sleep(0.01)\n"
        "   if answer and number == 2: os.pread(descriptor, 4096, 0)\n"
        "   cvtrace.token()\n"
    )
    # WHEN
    result = run(mount, "--python", sys.executable, name, probes=probes)
    # THEN
    assert result.returncode == 0, result.stderr
    report = analyse(trace_of(result))
    rows = {row.name: row for row in report.phases}
    assert (report.verdict.tokens, report.verdict.question) == (8, "generation")
    assert [answer.tokens for answer in report.answers] == [4, 4]
    assert rows["prefill"].count == 2
    assert rows["decode"].wall_s >= 6 * 0.01
    if probes == "ebpf":
        assert [answer.hits_cvmfs for answer in report.answers][1] == "yes"
        assert report.verdict.generation_hits_cvmfs == "yes"


SESSION = """
import sys
import numpy as np
import onnxruntime as ort

options = ort.SessionOptions()
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
for _ in range(4):
    session.run(None, {"x": np.ones((1, 256), dtype=np.float32)})
"""


@pytest.fixture(scope="module")
def onnx_mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabMount]:
    """Mount a repository with a plain ONNX model whose weights are external data."""
    folder = tmp_path_factory.mktemp("onnx")
    save_model(folder / "made")
    files = {path.name: path.read_bytes() for path in (folder / "made").iterdir()}
    with lab(folder, files) as published, published.mount() as mounted:
        yield mounted


def save_model(folder: Path) -> None:
    folder.mkdir()
    weights = np.random.default_rng(0).standard_normal((256, 4096), dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 256])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4096])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "m.onnx", save_as_external_data=True, location="m.onnx.data")


@pytest.mark.parametrize("probes", RUNGS)
def test_a_plain_session_from_cvmfs_has_a_load_and_run_phase(workdir: Path, onnx_mount: LabMount, probes: str) -> None:
    # GIVEN a script that uses onnxruntime without GenAI on a model from the mount
    name = script(SESSION)
    # WHEN
    result = run(onnx_mount.root, "--python", sys.executable, name, str(onnx_mount.root / "m.onnx"), probes=probes)
    # THEN load and runs are told apart, once each
    assert result.returncode == 0, result.stderr
    report = analyse(trace_of(result))
    rows = {row.name: row for row in report.phases}
    assert (rows["load"].count, rows["run"].count) == (1, 4)
    assert rows["import"].wall_s > 0
    assert report.verdict.tokens == 0
    if probes != "portable":
        assert rows["load"].fuse_requests
        assert {file.path.rpartition("/")[2] for file in report.files} >= {"m.onnx", "m.onnx.data"}


GENERATES = """
import sys
import onnxruntime_genai as og
model = og.Model(sys.argv[1])
parameters = og.GeneratorParams(model)
parameters.set_search_options(max_length=64)
generator = og.Generator(model, parameters)
generator.append_tokens(og.Tokenizer(model).encode("the rain in spain"))
for _ in range(9): generator.generate_next_token()
"""


@pytest.mark.parametrize("probes", RUNGS)
@pytest.mark.parametrize("wrapped", [False, True])
def test_tokens_marked_by_probe_and_script_are_counted_once(
    workdir: Path, mount: Path, tmp_path: Path, probes: str, wrapped: bool
) -> None:
    # GIVEN a script that generates nine tokens, run by a shell so that nobody knows its interpreter before it starts, or not
    build(tmp_path / "model", 2 << 20)
    words = [sys.executable, script(GENERATES), str(tmp_path / "model")]
    command = ["--", "sh", "-c", shlex.join(words) + "; exit $?"] if wrapped else ["--python", *words]
    # WHEN
    result = run(mount, "--ort-profile", *command, probes=probes, ORT_DISABLE_TELEMETRY="1")
    # THEN
    assert result.returncode == 0, result.stderr
    report = analyse(trace_of(result))
    rows = {row.name: row for row in report.phases}
    assert report.verdict.tokens == rows["decode"].count == 9
    counts = {(row.phase, row.op_type): row.count for row in report.operators}
    assert counts["decode", "MatMulNBits"] == 8 * counts["prefill", "MatMulNBits"]
