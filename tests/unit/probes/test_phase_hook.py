"""The import hook in real interpreters with the real onnxruntime_genai."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime_genai
import pytest
from onnx import TensorProto, helper

from cvtrace.probes.events import EVENT, Events, Kind
from cvtrace.probes.phases.functions import FUNCTIONS, INDEX, TOKEN_FLAG
from cvtrace.probes.phases.hook import INJECT, environment, read_marks

GENERATE = """
import os, sys
import onnxruntime_genai as og

config = og.Config(sys.argv[1])
model = og.Model(config)
tokenizer = og.Tokenizer(model)
tokens = tokenizer.encode("the rain in spain")
parameters = og.GeneratorParams(model)
parameters.set_search_options(max_length=64)
generator = og.Generator(model, parameters)
generator.append_tokens(tokens)
for _ in range(5):
    generator.generate_next_token()
{then}
del generator
"""


def python(script: str, environ: dict[str, str], *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)


def run(script: str, marks: Path, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    base = {**os.environ, "ORT_DISABLE_TELEMETRY": "1", **variables}
    return python(script, environment(marks, base), *arguments)


def calls_of(marks: Path) -> Events:
    """Return the marks of calls; those of imports have tests of their own."""
    events, _ = read_marks(marks)
    return events[events["kind"] == Kind.PHASE]


def names_of(marks: Path) -> list[str]:
    return [FUNCTIONS[index].symbol for index in calls_of(marks)["a"].tolist()]


def test_every_call_of_a_run_is_marked_once(model: Path, tmp_path: Path) -> None:
    # GIVEN a script that loads a model and generates five tokens
    # WHEN it runs with the hook
    marks = tmp_path / "marks"
    result = run(GENERATE.format(then=""), marks, model)

    # THEN each call is one mark, in order, within its process, on the clock of the trace
    assert result.returncode == 0, result.stderr
    assert names_of(marks)[:10] == [
        "OgaCreateConfig",
        "OgaCreateModelFromConfig",
        "OgaCreateTokenizer",
        "OgaTokenizerEncode",
        "cvtrace.sequences",
        "OgaCreateGenerator",
        "OgaGenerator_AppendTokens",
        *["OgaGenerator_GenerateNextToken"] * 3,
    ]
    assert Counter(names_of(marks))["OgaGenerator_GenerateNextToken"] == 5
    assert "OgaDestroyGenerator" in names_of(marks)
    events = calls_of(marks)
    assert events["c"][events["a"] == INDEX["cvtrace.sequences"]].tolist() == [1]
    calls = events[events["a"] != INDEX["cvtrace.sequences"]][: 6 + 5]
    assert len(set(events["tgid"])) == 1
    assert (calls["dur"] > 0).all()
    assert (calls["ret"] == 0).all()
    assert (calls["ts"][1:] >= calls["ts"][:-1] + calls["dur"][:-1]).all()
    assert oct(marks.stat().st_mode)[-3:] == "600"


def test_a_model_from_a_path_is_distinguished_from_one_from_a_config(model: Path, tmp_path: Path) -> None:
    result = run("import onnxruntime_genai as og, sys; og.Model(sys.argv[1])", tmp_path / "marks", model)
    assert result.returncode == 0, result.stderr
    assert names_of(tmp_path / "marks")[0] == "OgaCreateModel"


SESSION = """
import sys
import numpy as np
import onnxruntime as ort

session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
for _ in range(3):
    session.run(None, {"x": np.ones(4, dtype=np.float32)})
binding = session.io_binding()
binding.bind_cpu_input("x", np.ones(4, dtype=np.float32))
binding.bind_output("y")
session.run_with_iobinding(binding)
try:
    session.run(None, {})
except ValueError as error:
    print(type(error).__name__, type(session).__name__)
"""


def test_sessions_of_plain_onnxruntime_are_marked(tmp_path: Path) -> None:
    # GIVEN a model of one operator
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "twice",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    # WHEN a script runs it without GenAI
    result = run(SESSION, tmp_path / "marks", tmp_path / "m.onnx")
    # THEN its load and its runs are marked, the failed one as such
    assert result.stdout == "ValueError InferenceSession\n", result.stderr
    assert names_of(tmp_path / "marks") == ["onnxruntime.InferenceSession", *["onnxruntime.InferenceSession.run"] * 5]
    assert calls_of(tmp_path / "marks")["ret"].tolist() == [0, 0, 0, 0, 0, -1]


def test_the_hook_does_not_wrap_genai_where_a_probe_sees_it(model: Path, tmp_path: Path) -> None:
    environ = environment(tmp_path / "marks", {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}, genai=False)
    result = python(GENERATE.format(then="print(og.Model.__init__.__module__)"), environ, model)
    assert (result.returncode, result.stderr) == (0, "")
    assert names_of(tmp_path / "marks") == ["cvtrace.sequences"]  # which no probe sees


BATCH = """
import sys
import numpy as np
import onnxruntime_genai as og

model = og.Model(sys.argv[1])
parameters = og.GeneratorParams(model)
parameters.set_search_options(max_length=64, batch_size=3)
generator = og.Generator(model, parameters)
generator.append_tokens(np.array([og.Tokenizer(model).encode("the rain")] * 3))
for _ in range(7):
    generator.generate_next_token()
try:
    generator.append_tokens(np.array([[1], [2], [3]]))
except Exception as error:
    print("refused")
"""
ENGINE = """
import sys
import onnxruntime_genai as og

model = og.Model(sys.argv[1])
tokenizer, engine = og.Tokenizer(model), og.Engine(model)
buffer, tokens, requests = engine.create_event_buffer(16), 0, []
for limit in (3, 5):
    request = engine.create_request()
    options = og.TurnOptions(request)
    options.set_max_generated_tokens(limit)
    request.begin_turn(tokenizer.encode("the rain in spain"), options)
    requests.append(request)
while engine.has_pending_requests():
    tokens += sum(bool(int(event.flags) & int(og.EngineEventFlags.TOKEN)) for event in engine.run(buffer))
print(tokens)
"""


def test_the_size_of_a_batch_is_written_down(model: Path, tmp_path: Path) -> None:
    result = run(BATCH, tmp_path / "marks", model)
    assert result.stdout == "refused\n", result.stderr
    events = calls_of(tmp_path / "marks")
    (count,) = events["c"][events["a"] == INDEX["cvtrace.sequences"]].tolist()
    assert count == 3
    appended = events[events["a"] == INDEX["OgaGenerator_AppendTokens"]]
    assert appended["ret"].tolist() == [0, -1]


@pytest.mark.skipif(not hasattr(onnxruntime_genai, "Engine"), reason="this version of GenAI has no engine")
def test_tokens_of_an_engine_are_reported_by_request(model: Path, tmp_path: Path) -> None:
    # WHEN an engine answers two requests, with three and five tokens
    result = run(ENGINE, tmp_path / "marks", model)
    # THEN the marks tell so many tokens, of two requests
    assert result.stdout == "8\n", result.stderr
    events = calls_of(tmp_path / "marks")
    flags = events["c"][events["a"] == INDEX["OgaEngineEventGetFlags"]]
    assert int((flags & TOKEN_FLAG).sum()) == 8
    begun = events["b"][events["a"] == INDEX["OgaRequestBeginTurn"]]
    requests = events["c"][events["a"] == INDEX["OgaEngineEventGetRequest"]]
    assert set(requests.tolist()) == set(begun.tolist())
    assert len(set(begun.tolist())) == 2


def test_a_call_that_raises_is_marked_and_raises(tmp_path: Path) -> None:
    # GIVEN a model that does not exist WHEN it is loaded THEN the script sees its exception and the mark says that it failed
    script = (
        "import onnxruntime_genai as og\ntry: og.Model('/nonexistent')\nexcept Exception as e: print(type(e).__name__)"
    )
    result = run(script, tmp_path / "marks")
    assert result.stdout.strip() == "RuntimeError", result.stderr
    assert calls_of(tmp_path / "marks")["ret"].tolist() == [-1]


def test_a_forked_child_writes_marks(model: Path, tmp_path: Path) -> None:
    # GIVEN a script that forks after its tokens WHEN the child encodes THEN its marks carry its own process
    then = "pid = os.fork()\nif pid == 0:\n    tokenizer.encode('child')\n    os._exit(0)\nos.waitpid(pid, 0)\n"
    result = run(GENERATE.format(then=then), tmp_path / "marks", model)
    assert result.returncode == 0, result.stderr
    encodes = calls_of(tmp_path / "marks")
    encodes = encodes[encodes["a"] == INDEX["OgaTokenizerEncode"]]
    assert len(set(encodes["tgid"])) == 2


def test_a_target_that_closes_every_descriptor_continues(model: Path, tmp_path: Path) -> None:
    # GIVEN a script that closes all descriptors and opens a file of its own
    directory = tmp_path / "own"
    then = (
        f"os.closerange(3, 4096)\nmine = open({str(directory)!r}, 'w')\ngenerator.generate_next_token()\nmine.close()\n"
    )
    # WHEN it runs on
    result = run(GENERATE.format(then=then), tmp_path / "marks", model)
    # THEN nothing is written into its file and nothing is raised
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert directory.read_bytes() == b""


def test_marks_that_cannot_be_written_do_not_change_the_target(model: Path, tmp_path: Path) -> None:
    result = run(GENERATE.format(then=""), tmp_path / "missing" / "marks", model)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert len(read_marks(tmp_path / "missing" / "marks")[0]) == 0


def test_an_existing_sitecustomize_still_runs(tmp_path: Path) -> None:
    # GIVEN a PYTHONPATH with a sitecustomize, a usercustomize (which virtual environments ignore) and a module
    for name in ("sitecustomize", "usercustomize", "neighbour"):
        (tmp_path / f"{name}.py").write_text(f"import builtins; builtins.{name} = __file__\n")
    script = (
        "import builtins, neighbour, sys, sitecustomize; "
        "print(sys.path, sitecustomize.__file__, builtins.sitecustomize, getattr(builtins, 'usercustomize', None))"
    )
    # WHEN an interpreter starts without and with the hook
    plain = python(script, {**os.environ, "PYTHONPATH": str(tmp_path)})
    hooked = run(script, tmp_path / "marks", PYTHONPATH=str(tmp_path))
    # THEN the same are in effect and the hook is not to be seen
    assert hooked.returncode == 0, hooked.stderr
    assert hooked.stdout == plain.stdout
    assert str(tmp_path / "sitecustomize.py") in hooked.stdout


def test_an_error_in_the_next_sitecustomize_is_reported_as_without_the_hook(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("1 / 0\n")
    plain = python("print('ran')", {**os.environ, "PYTHONPATH": str(tmp_path)})
    hooked = run("print('ran')", tmp_path / "marks", PYTHONPATH=str(tmp_path))
    assert (hooked.returncode, hooked.stdout, hooked.stderr) == (plain.returncode, plain.stdout, plain.stderr)


def test_the_hook_imports_nothing_into_a_target_that_does_not_use_genai(tmp_path: Path) -> None:
    script = "import sys; print(sorted(sys.modules))"
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    plain = python(script, environ)
    hooked = python(script, environment(tmp_path / "marks", environ))
    more = set(eval(hooked.stdout)) - set(eval(plain.stdout))
    assert more <= {"sitecustomize", "struct", "_struct"}
    assert not (tmp_path / "marks").exists()


def test_indices_and_record_are_those_of_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(INJECT))
    spec = importlib.util.spec_from_file_location("marks_under_test", INJECT / "_cvtrace_marks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert {name: INDEX[name] for name in module.FUNCTIONS} == module.FUNCTIONS
    assert {row[2] for rows in module.METHODS.values() for row in rows} <= set(module.FUNCTIONS)
    assert module.PHASE == Kind.PHASE
    record = np.frombuffer(module.RECORD.pack(1, 2, 3, 4, 5, 6, -7, 8, 9, 10), dtype=EVENT)
    assert record[0].tolist() == (1, 2, 3, 4, 5, 6, -7, 8, 9, 10)


def test_incomplete_marks_and_other_bytes_are_ignored(tmp_path: Path) -> None:
    rows = np.zeros(2, dtype=EVENT)
    rows["kind"] = Kind.PHASE
    rows["ts"] = [5, 3]
    (tmp_path / "marks").write_bytes(rows.tobytes() + b"\xff" * 56 + b"half")
    assert read_marks(tmp_path / "marks")[0]["ts"].tolist() == [3, 5]
    assert len(read_marks(tmp_path / "none")[0]) == 0
