"""Programs with llama.cpp: its server, as the package xllamacpp contains it, and its C API, on a mount and with a small model."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cvtrace_run import cvtrace
from lab_mount import Lab, LabMount, lab

from cvtrace.analysis import analyse
from cvtrace.analysis.contract.report_schema import Phase, Report
from cvtrace.lab.model.gguf_model import write_gguf
from cvtrace.tracer.store import read_trace

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse"),
    pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="needs the package xllamacpp"),
]

SERVER = """
import sys, threading
import xllamacpp

parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.n_ctx, parameters.n_parallel, parameters.cpuparams.n_threads = 512, int(sys.argv[3]), 1
parameters.fit_params = False
server = xllamacpp.Server(parameters)


def ask(number):
    request = {"prompt": f"question {number}", "n_predict": int(sys.argv[2]), "ignore_eos": True, "cache_prompt": False}
    server.handle_completions(request)


if parameters.n_parallel == 1:
    ask(1)
    ask(2)
else:
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(parameters.n_parallel)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""

C_API = """
import ctypes, sys
from importlib.util import find_spec

library = ctypes.CDLL(find_spec("xllamacpp").submodule_search_locations[0] + "/xllamacpp.abi3.so", ctypes.RTLD_GLOBAL)


class Parameters(ctypes.Structure):
    # Larger than the library's own: it fills the beginning, and gets a copy as its only argument in memory.
    _fields_ = [("bytes", ctypes.c_char * 1024)]


class Batch(ctypes.Structure):
    _fields_ = [("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)), ("embd", ctypes.c_void_p),
                ("pos", ctypes.POINTER(ctypes.c_int32)), ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
                ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))), ("logits", ctypes.POINTER(ctypes.c_int8))]


def function(name, result, *arguments):
    found = getattr(library, name)
    found.restype, found.argtypes = result, arguments
    return found


pointer = ctypes.c_void_p
function("llama_backend_init", None)()
parameters = function("llama_model_default_params", Parameters)()
load = function("llama_model_load_from_file", pointer, ctypes.c_char_p, Parameters)
model = load(sys.argv[1].encode(), parameters)
assert load(b"/no/such/model.gguf", parameters) is None
context = function("llama_init_from_model", pointer, pointer, Parameters)(
    model, function("llama_context_default_params", Parameters)())
batch = function("llama_batch_init", Batch, ctypes.c_int32, ctypes.c_int32, ctypes.c_int32)(128, 0, 1)
decode = function("llama_decode", ctypes.c_int32, pointer, Batch)
logits = function("llama_get_logits_ith", pointer, pointer, ctypes.c_int32)


def run(first, count, outputs):
    batch.n_tokens = count
    for place in range(count):
        batch.token[place], batch.pos[place] = 65 + place, first + place
        batch.n_seq_id[place], batch.logits[place] = 1, place >= count - outputs
        batch.seq_id[place][0] = 0
    assert decode(context, batch) == 0


run(0, 70, 0)   # the prompt in two pieces: the first makes no token
run(70, 30, 1)
assert logits(context, -1)
for number in range(5):
    run(100 + number, 1, 1)
    assert logits(context, -1)
run(105, 1, 1)  # nobody takes what this makes
function("llama_free", None, pointer)(context)
function("llama_model_free", None, pointer)(model)
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("llama")
    model = write_gguf(folder / "tiny.gguf", 256, extra_tokens=4000).read_bytes()
    with lab(folder, {"models/tiny.gguf": model}) as made:
        yield made


@pytest.fixture
def mount(published: Lab, tmp_path: Path) -> Iterator[LabMount]:
    with published.mount(cache=tmp_path / "cache") as mounted:
        yield mounted


def recorded(mount: LabMount, folder: Path, script: str, *arguments: str, probes: str = "ebpf") -> Report:
    program, trace = folder / "script.py", folder / "trace"
    program.write_text(script)
    words = ["run", "-o", str(trace), "--probes", probes, "--no-summary", "--mount", str(mount.root)]
    cvtrace(*words, "--", sys.executable, program, mount.root / "models/tiny.gguf", *arguments)
    return analyse(read_trace(trace))


def phase(report: Report, name: str) -> Phase:
    return next(row for row in report.phases if row.name == name)


def test_the_server_loads_from_the_mount_and_answers_two_requests(mount: LabMount, tmp_path: Path) -> None:
    before = mount.counters()
    report = recorded(mount, tmp_path, SERVER, "8", "1")
    counted = mount.counters()

    # THEN the load fetched the model, and the tokens are those that were asked for: warming up makes none
    assert (phase(report, "load").http_fetches or 0) > 0
    assert (report.verdict.tokens, report.verdict.steps) == (16, 16)
    assert [answer.tokens for answer in report.answers if answer.tokens] == [8, 8]
    assert phase(report, "tokenizer").count >= 2
    # AND all reads that the client counted are in some phase
    reads = sum(row.fuse_reads or 0 for row in report.phases)
    assert reads == counted["cvmfs.n_fs_read"] - before["cvmfs.n_fs_read"]


def test_a_batch_of_several_requests_makes_a_token_of_each(mount: LabMount, tmp_path: Path) -> None:
    report = recorded(mount, tmp_path, SERVER, "8", "3")

    assert report.verdict.tokens == 24


def test_a_second_run_needs_nothing_from_the_mount(mount: LabMount, tmp_path: Path) -> None:
    (mount.root / "models/tiny.gguf").read_bytes()
    report = recorded(mount, tmp_path, SERVER, "8", "1")

    assert report.verdict.generation_hits_cvmfs == "no", report.verdict


def test_prompts_and_tokens_of_the_c_api_are_told_apart_by_their_batches(mount: LabMount, tmp_path: Path) -> None:
    report = recorded(mount, tmp_path, C_API)

    # GIVEN a prompt in two pieces, 5 tokens after it, and one that is not taken
    assert phase(report, "load").count == 3
    assert phase(report, "prefill").count == 2
    assert report.verdict.tokens == 1 + 5
    assert [answer.tokens for answer in report.answers if answer.tokens] == [6]


def test_without_uprobes_the_report_says_that_phases_are_missing(mount: LabMount, tmp_path: Path) -> None:
    report = recorded(mount, tmp_path, SERVER, "4", "1", probes="strace")

    assert {row.name for row in report.phases}.isdisjoint({"load", "prefill", "decode"})
    assert report.verdict.question == "program"
