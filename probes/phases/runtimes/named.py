"""What a script marks itself, with `cvtrace.phase` and `cvtrace.token`."""

from __future__ import annotations

from typing import Final

from cvtrace.probes.phases.runtimes.declaration import Function, Runtime

OWN: Final = Runtime(
    name="functions of `--phases FILE`",
    functions=(
        Function(99, "own.load", "load", returns="nothing"),
        Function(100, "own.tokenizer", "tokenizer", returns="nothing"),
        Function(101, "own.prefill", "prefill", "0", returns="nothing", counts=True),
        Function(102, "own.decode", "decode", "1: a call makes a token", returns="nothing", counts=True),
        Function(103, "own.run", "run", returns="nothing"),
        Function(104, "own.teardown", "teardown", returns="nothing"),
    ),
    tokens="a call of decode makes one",
    symbols="the symbols that the file names",
    hook="the Python functions that the file names, with every probe",
    tested="a C library and a Python module of the tests",
)

NAMED: Final = Runtime(
    name="a script's own phases",
    functions=(
        Function(16, "cvtrace.phase", "user"),
        Function(97, "cvtrace.first_token", "prefill", "the tokens that it made", counts=True),
        Function(98, "cvtrace.token", "decode", "the tokens that it made", counts=True),
    ),
    tokens="`cvtrace.token()`",
    hook="`cvtrace.phase` and `cvtrace.token`, with every probe",
    tested="scripts of every kind",
)
