"""The declared runtimes: their numbers never change, and what is written from them is what they declare."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from cvtrace.probes.phases.functions import FUNCTIONS, INDEX
from cvtrace.probes.phases.runtimes.declaration import PHASES
from cvtrace.probes.phases.runtimes.table import LIBRARY, MODULE_FILE, PROGRAM, RUNTIMES

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "scripts"))

import make_runtimes

RELEASED = {
    0: "OgaCreateConfig",
    9: "OgaGenerator_AppendTokenSequences",
    11: "OgaGenerator_GenerateNextToken",
    15: "OgaShutdown",
    16: "cvtrace.phase",
    17: "onnxruntime.InferenceSession",
    18: "onnxruntime.InferenceSession.run",
    19: "OgaCreateConfigFromPackageEp",
    34: "OgaStreamingProcessorProcess",
    43: "OgaMtpGenerator_GenerateNextToken",
    47: "OgaDestroyAdapters",
    52: "OgaEngineEventGetToken",
    53: "cvtrace.sequences",
}
"""Numbers in traces of version 0.2."""


def test_every_number_belongs_to_one_function_and_none_is_left_out() -> None:
    assert [function.index for function in FUNCTIONS] == list(range(len(FUNCTIONS)))
    assert len(INDEX) == len(FUNCTIONS)
    assert {number: FUNCTIONS[number].symbol for number in RELEASED} == RELEASED


def test_every_function_marks_a_phase_or_describes_others() -> None:
    assert {function.phase for function in FUNCTIONS} <= {*PHASES, "note", "user"}


def test_what_the_hook_wraps_marks_declared_functions() -> None:
    for runtime in RUNTIMES:
        for module, methods in runtime.methods:
            for method in methods:
                assert method.function in INDEX, (module, method)
                assert method.destroyed in (*INDEX, ""), (module, method)


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda runtime: runtime.name)
def test_a_declaration_says_how_tokens_are_counted_and_how_it_is_tested(runtime) -> None:
    assert runtime.tokens
    assert runtime.tested
    assert runtime.symbols != "–" or runtime.hook != "–"


def test_the_table_of_the_hook_and_that_of_the_documentation_are_made_from_the_declarations() -> None:
    """GIVEN the two files WHEN they are made anew THEN they are the same; `make man` writes them."""
    assert make_runtimes.TABLE.read_text(encoding="utf-8") == make_runtimes.table()
    assert make_runtimes.PAGE.read_text(encoding="utf-8") == make_runtimes.page()


def test_each_tail_is_that_of_a_library_and_has_the_length_that_the_programs_compare() -> None:
    for runtime in RUNTIMES:
        assert all(len(tail) == 8 for tail in runtime.tails)
        assert bool(runtime.tails) == bool(runtime.library)


def test_files_of_python_modules_are_recognised_by_their_runtime() -> None:
    match = MODULE_FILE.search(b"/x/onnxruntime_pybind11_state.cpython-311-x86_64-linux-gnu.so")
    assert match is not None
    assert RUNTIMES[int(str(match.lastgroup).removeprefix("runtime"))].name == "onnxruntime in Python"


def test_libraries_are_recognised_by_their_names() -> None:
    names = (
        b"libonnxruntime-genai.so",
        b"libonnxruntime-genai-cuda.so.1",
        b"libllama.so",
        b"libllama.so.0",
        b"xllamacpp.abi3.so",
    )
    for name in (b"/x/" + each for each in names):
        assert LIBRARY.search(name)
    for name in (b"llama-server", b"llama-cli", b"ollama", b"llamafile-0.9"):
        assert PROGRAM.fullmatch(name)
    assert not PROGRAM.fullmatch(b"python3")
    for name in (b"/x/libc.so.6", b"/x/libonnxruntime-genai/lib.so", b"/x/liblzma.so.5"):
        assert not re.search(LIBRARY, name)
