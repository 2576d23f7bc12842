"""onnxruntime's profile: turned on inside a target, read, and put on the clock of the trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cvtrace.probes.events import EVENT, Events, Kind
from cvtrace.probes.phases.functions import INDEX
from cvtrace.probes.phases.hook import environment, read_marks
from cvtrace.probes.phases.profile import parse_profile, place
from cvtrace.tracer.profile import SCHEMA, nodes_of, read_profiles

US = 1000

GENERATE = """
import sys
import onnxruntime_genai as og

model = og.Model(og.Config(sys.argv[1]) if sys.argv[2] == "config" else sys.argv[1])
parameters = og.GeneratorParams(model)
parameters.set_search_options(max_length=64)
generator = og.Generator(model, parameters)
generator.append_tokens(og.Tokenizer(model).encode("the rain in spain"))
for _ in range(6):
    generator.generate_next_token()
print(model.type)
"""

SESSION = """
import sys
import onnxruntime as ort

own = ort.SessionOptions()
own.enable_profiling = True
own.profile_file_prefix = sys.argv[2]
print(ort.InferenceSession(sys.argv[1] + "/model.onnx", providers=["CPUExecutionProvider"]).get_providers())
ort.InferenceSession(sys.argv[1] + "/model.onnx", own, providers=["CPUExecutionProvider"])
try:
    ort.InferenceSession("/nowhere/model.onnx")
except Exception as error:
    print(type(error).__name__)
"""


def run(script: str, folder: Path, *arguments: object, genai: bool = True) -> subprocess.CompletedProcess[str]:
    profile = str(folder / "ort-profile")
    base = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    environ = environment(folder / "marks", base, genai=genai, profile=profile)
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("way", ["path", "config"])
def test_the_nodes_of_every_token_are_located_in_its_call(model: Path, tmp_path: Path, way: str) -> None:
    # GIVEN a model folder
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    # WHEN a script generates six tokens with the profile on
    result = run(GENERATE, tmp_path, model, way)
    # THEN it runs as ever and its model folder is as it was
    assert (result.returncode, result.stdout) == (0, "phi3\n"), result.stderr
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before
    # AND prefill and each token that runs the model have all nodes, within their calls
    (data,) = read_profiles(tmp_path)
    profile = parse_profile(data)
    marks, _ = read_marks(tmp_path / "marks")
    nodes = place(profile, marks)
    assert profile.is_complete
    assert nodes is not None
    assert len(profile.run_start_ns) == 6
    per_run = len(nodes) // 6
    assert nodes.phase == ["prefill"] * per_run + ["decode"] * 5 * per_run
    assert nodes.token.tolist() == np.repeat([-1, 1, 2, 3, 4, 5], per_run).tolist()
    calls = marks[marks["a"] == INDEX["OgaGenerator_GenerateNextToken"]][nodes.token[per_run:]]
    begin = calls["ts"].astype(np.int64)
    assert (nodes.start_ns[per_run:] >= begin - 2 * US).all()
    assert ((nodes.start_ns + nodes.dur_ns)[per_run:] <= begin + calls["dur"].astype(np.int64) + 2 * US).all()
    assert {"MatMulNBits", "GroupQueryAttention"} <= set(nodes.op_type)


def test_profiling_alone_marks_no_calls(model: Path, tmp_path: Path) -> None:
    assert run(GENERATE, tmp_path, model, "path", genai=False).returncode == 0
    assert len(read_profiles(tmp_path)) == 1
    marks, _ = read_marks(tmp_path / "marks")
    called = marks["a"][marks["kind"] == Kind.PHASE]
    assert set(called.tolist()) == {INDEX["cvtrace.sequences"]}  # which is no call
    assert set(marks["kind"]) == {Kind.IMPORT, Kind.PHASE}


def test_a_model_that_cannot_be_loaded_fails_as_without_profiling(tmp_path: Path) -> None:
    result = run(GENERATE, tmp_path, "/nowhere", "path")
    plain = subprocess.run(
        [sys.executable, "-c", GENERATE, "/nowhere", "path"], capture_output=True, text=True, check=False
    )
    assert result.returncode == plain.returncode == 1
    assert result.stderr.splitlines()[-1] == plain.stderr.splitlines()[-1]


def test_plain_sessions_are_profiled_and_keep_options_of_their_own(model: Path, tmp_path: Path) -> None:
    result = run(SESSION, tmp_path, model, tmp_path / "own")
    assert result.stdout.splitlines() == ["['CPUExecutionProvider']", "NoSuchFile"], result.stderr
    assert len(read_profiles(tmp_path)) == 1
    assert len(list(tmp_path.glob("own*.json"))) == 1


def calls(*spans: tuple[str, int, int]) -> Events:
    """Return marks of calls, in µs."""
    marks = np.zeros(len(spans), dtype=EVENT)
    marks["kind"], marks["tgid"] = Kind.PHASE, 7
    for mark, (name, begin, end) in zip(marks, spans, strict=True):
        mark["a"], mark["ts"], mark["dur"] = INDEX[name], begin * US, (end - begin) * US
    return marks


def profile_of(*runs: tuple[int, int], end: str = "]") -> bytes:
    """Return a profile with a node in the middle of each run, in µs."""
    events = []
    for begin, length in runs:
        node = {"cat": "Node", "name": "add_kernel_time", "ts": begin + length // 2, "dur": 1, "pid": 7}
        events.append({**node, "args": {"op_name": "Add"}})
        events.append({"cat": "Session", "name": "model_run", "ts": begin, "dur": length, "pid": 7})
    return ("[\n" + ",\n".join(json.dumps(event) for event in events) + "\n" + end).encode()


TOKENS = (
    ("OgaGenerator_AppendTokens", 10_000, 18_000),  # most of it is not the model's
    ("OgaGenerator_GenerateNextToken", 20_000, 20_010),
    *(("OgaGenerator_GenerateNextToken", 21_000 + 1000 * turn, 21_600 + 1000 * turn) for turn in range(5)),
)


def test_the_offset_is_the_one_under_which_all_runs_lie_in_calls() -> None:
    # GIVEN runs that fit a token late and a token early, too, but not all of them
    runs = ((2_500, 4_000), *((11_050 + 1000 * turn, 500) for turn in range(5)))
    # WHEN
    nodes = place(parse_profile(profile_of(*runs)), calls(*TOKENS))
    # THEN the session began at 10 ms, give or take what the calls leave open
    assert nodes is not None
    assert abs(nodes.start_ns[1] - 21_300 * US) <= 52 * US
    assert nodes.token.tolist() == [-1, 1, 2, 3, 4, 5]


def test_a_prefill_long_enough_for_all_runs_is_one_run() -> None:
    # GIVEN a prefill that took longer than all of decode, most of it not in the model
    spans = (("OgaGenerator_AppendTokens", 1_000, 18_000), *TOKENS[1:])
    runs = ((7_000, 500), *((11_050 + 1000 * turn, 500) for turn in range(5)))
    # WHEN
    nodes = place(parse_profile(profile_of(*runs)), calls(*spans))
    # THEN
    assert nodes is not None
    assert nodes.token.tolist() == [-1, 1, 2, 3, 4, 5]


def test_a_prefill_of_several_runs_is_placed_in_its_call() -> None:
    spans = (("OgaGenerator_AppendTokens", 1_000, 9_000), ("OgaGenerator_GenerateNextToken", 9_100, 9_110))
    nodes = place(parse_profile(profile_of(*((50 + 1_000 * piece, 900) for piece in range(7)))), calls(*spans))
    assert nodes is not None
    assert nodes.phase == ["prefill"] * 7


def test_calls_that_were_marked_twice_count_once() -> None:
    # GIVEN the same calls, seen from without and a little later from within
    inner = [(name, begin + 2, end - 2) for name, begin, end in TOKENS]
    runs = ((2_500, 4_000), *((11_050 + 1000 * turn, 500) for turn in range(5)))
    nodes = place(parse_profile(profile_of(*runs)), calls(*TOKENS, *inner))
    assert nodes is not None
    assert nodes.token.tolist() == [-1, 1, 2, 3, 4, 5]


def test_a_profile_that_matches_no_call_is_not_placed() -> None:
    assert place(parse_profile(profile_of((0, 90_000))), calls(*TOKENS)) is None
    assert place(parse_profile(profile_of((0, 10))), calls()) is None
    _, missing = nodes_of([profile_of((0, 90_000))], [calls(*TOKENS)])
    assert "could not be aligned with the trace" in missing[0]


@pytest.mark.parametrize(
    "data", [b"", b"[", b"[\n]", b"\xff\xfe", b'[\n{"cat": 1, "ts": "x"},\n{"ts": 1', b'[\n{"ts":1}\n]']
)
def test_an_invalid_profile_is_empty(data: bytes) -> None:
    assert parse_profile(data).name == []
    nodes_of([data], [])


def test_a_profile_that_is_cut_off_is_used_and_reported() -> None:
    profile = profile_of(*((11_050 + 1000 * turn, 500) for turn in range(5)))
    data, missing = nodes_of([profile[:-200]], [calls(*TOKENS)])
    assert data is not None
    assert "is incomplete" in missing[0]


def test_a_missing_profile_is_reported(tmp_path: Path) -> None:
    (tmp_path / "ort-profile-1.json").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "ort-profile-2.json")
    assert read_profiles(tmp_path) == []
    assert "wrote no profile" in nodes_of([], [])[1][0]
    assert SCHEMA.names == ["phase", "token", "name", "op_type", "start_ns", "dur_ns"]
