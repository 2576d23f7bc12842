"""Each kind of generation on a lab mount has the right verdict, as the script and the client's counters prove."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import onnxruntime_genai
import pytest
from cvtrace_run import cvtrace

from cvtrace.analysis import analyse
from cvtrace.analysis.contract.report_schema import Phase, Report
from cvtrace.lab.stack import Options, Stack, drop_mount_cache, temporary, warm
from cvtrace.tracer.store import read_trace

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse"),
]

BEGIN = """
import os, sys, time
import numpy as np
import onnxruntime_genai as og

model = og.Model(sys.argv[1])
tokenizer = og.Tokenizer(model)
prompt = tokenizer.encode("the rain in spain")


def generator(**options):
    parameters = og.GeneratorParams(model)
    parameters.set_search_options(max_length=64, **options)
    return og.Generator(model, parameters)


def read_something(path=sys.argv[1] + "/tokenizer.json"):
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    size = len(os.read(descriptor, 4096))
    os.close(descriptor)
    return size


warmed = generator()
warmed.append_tokens(prompt)
for _ in range(30):
    warmed.generate_next_token()
for path in os.listdir(sys.argv[1]):  # no page of the model is left to be read for the first time
    with open(os.path.join(sys.argv[1], path), "rb") as file:
        file.read()
del warmed
"""
"""Loads the model and makes all of it hot, so that what the test does is all that is left to be seen."""
ANSWER = """
one = generator()
one.append_tokens(prompt)
for number in range(8):
    one.generate_next_token()
    {between}
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with temporary(Options(size_bytes=4_000_000, client="lab")) as stack:
        yield stack


def recorded(stack: Stack, folder: Path, script: str, *more: str, model: Path | None = None) -> Report:
    """Run a script with a model; its last line of output is for the test."""
    program, trace = folder / "script.py", folder / "trace"
    program.write_text(script)
    words = ["run", "-o", str(trace), "--probes", "ebpf", "--no-summary", "--mount", str(stack.mountpoint), *more]
    cvtrace(*words, "--", sys.executable, program, model or stack.model)
    return analyse(read_trace(trace))


def last_answer(report: Report) -> dict[str, object]:
    """Return the answers after the one that made everything hot."""
    return vars(report.answers[-1])


def phase(report: Report, name: str) -> Phase:
    return next(row for row in report.phases if row.name == name)


def test_an_answer_that_needs_nothing_is_a_proven_no(stack: Stack, tmp_path: Path) -> None:
    report = recorded(stack, tmp_path, BEGIN + ANSWER.format(between="pass"))

    assert (last_answer(report)["hits_cvmfs"], last_answer(report)["tokens"]) == ("no", 8), report.verdict


def test_reads_between_tokens_are_generation(stack: Stack, tmp_path: Path) -> None:
    # WHEN the thread that generates reads a page after each token, of which it has dropped the copy in memory
    report = recorded(stack, tmp_path, BEGIN + ANSWER.format(between="read_something()"))

    # THEN they are what the answer needed, and lie between its calls
    verdict, answer = report.verdict, report.answers[-1]
    assert verdict.generation_hits_cvmfs == answer.hits_cvmfs == "yes"
    assert verdict.between_calls is not None
    assert verdict.between_calls.fuse_reads is not None
    assert 7 <= verdict.between_calls.fuse_reads <= 8 * 4
    assert verdict.between_calls.fuse_reads == answer.fuse_reads
    assert (verdict.between_calls.blocked_s or 0) > 0
    assert phase(report, "between").fuse_reads == verdict.between_calls.fuse_reads


def test_reads_of_another_thread_meanwhile_are_generation(stack: Stack, tmp_path: Path) -> None:
    script = BEGIN + "import threading\n" + ANSWER.format(
        between="reader = threading.Thread(target=read_something); reader.start(); reader.join()"
    )  # fmt: skip
    report = recorded(stack, tmp_path, script)

    assert report.answers[-1].hits_cvmfs == "yes"
    assert (report.answers[-1].fuse_reads or 0) >= 7


def test_a_batch_makes_a_token_of_each_sequence(stack: Stack, tmp_path: Path) -> None:
    script = BEGIN + """
several = generator(batch_size=3)
several.append_tokens(np.array([prompt] * 3))
for _ in range(7):
    several.generate_next_token()
"""  # fmt: skip
    report = recorded(stack, tmp_path, script)

    assert (last_answer(report)["tokens"], last_answer(report)["steps"]) == (21, 7)
    assert (report.verdict.tokens, report.verdict.steps) == (30 + 21, 30 + 7)


def test_a_call_that_raises_does_not_count_as_a_token(stack: Stack, tmp_path: Path) -> None:
    script = BEGIN + ANSWER.format(between="pass") + """
empty, raised = generator(), 0
for _ in range(2):
    try:
        empty.generate_next_token()  # nothing was appended
    except Exception:
        raised += 1
assert raised == 2
"""  # fmt: skip
    report = recorded(stack, tmp_path, script)

    assert (report.verdict.tokens, report.verdict.failed_steps) == (38, 2)
    assert phase(report, "decode").count == 38


@pytest.mark.skipif(not hasattr(onnxruntime_genai, "Engine"), reason="this version of GenAI has no engine")
def test_an_engine_answers_requests_and_waits_for_work(stack: Stack, tmp_path: Path) -> None:
    # GIVEN a server that answers two requests at once, waits for the next one, and answers that
    script = BEGIN + """
engine = og.Engine(model)
buffer, counted = engine.create_event_buffer(16), 0


def ask(limit):
    request = engine.create_request()
    options = og.TurnOptions(request)
    options.set_max_generated_tokens(limit)
    request.begin_turn(prompt, options)
    return request


def answer():
    made = 0
    while engine.has_pending_requests():
        for event in engine.run(buffer):
            if int(event.flags) & int(og.EngineEventFlags.TOKEN):
                event.request, event.token
                made += 1
    return made


both = [ask(3), ask(5)]
assert answer() == 8
time.sleep(0.5)
last = ask(4)
assert answer() == 4
"""  # fmt: skip
    report = recorded(stack, tmp_path, script)

    # THEN each request has its row, and the time between is a wait
    assert [answer.tokens for answer in report.answers[-3:]] == [3, 5, 4]
    assert report.verdict.tokens == 30 + 12
    between_s = report.answers[-1].start_s - report.answers[-2].start_s
    assert 0.45 < phase(report, "waiting for work").wall_s < between_s + 0.25  # the first request waits, too
    assert report.verdict.question == "generation"


def test_a_model_on_a_local_disk_is_a_no_that_names_the_disk(stack: Stack, tmp_path: Path) -> None:
    local = tmp_path / "copy"
    shutil.copytree(stack.model, local)

    report = recorded(stack, tmp_path, BEGIN + ANSWER.format(between="pass"), model=local)

    assert report.verdict.generation_hits_cvmfs == "no", report.verdict.missing
    assert report.verdict.model_from == "elsewhere"
    assert {file.path for file in report.verdict.model_files} >= {str(local / "model.onnx.data")}
    assert any(str(local) in sentence and "not on CVMFS" in sentence for sentence in report.verdict.proof)


def test_one_token_of_a_cold_client_is_a_yes_because_of_its_prefill(stack: Stack, tmp_path: Path) -> None:
    # GIVEN a client that has everything, and a kernel that has nothing
    warm(stack)
    drop_mount_cache(stack.mountpoint, stack.workspace)
    script = """
import sys
import onnxruntime_genai as og

model = og.Model(sys.argv[1])
tokenizer = og.Tokenizer(model)
prompt = tokenizer.encode("a prompt whose embeddings nobody has looked at")
generator = og.Generator(model, og.GeneratorParams(model))
generator.append_tokens(prompt)
generator.generate_next_token()
"""
    report = recorded(stack, tmp_path, script)

    # THEN what the prefill read is what generation needed
    reads = phase(report, "prefill").fuse_reads
    assert reads
    assert report.verdict.generation_hits_cvmfs == "yes"
    assert report.verdict.tokens == 1
    assert report.verdict.first_token is not None
    assert report.verdict.first_token.fuse_reads == report.verdict.fuse_reads == reads
    assert report.verdict.further_tokens is not None
    assert report.verdict.further_tokens.fuse_requests == 0
    json.dumps(report.as_dict())
