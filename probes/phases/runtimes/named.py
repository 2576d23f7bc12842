"""What a script marks itself, with `cvtrace.phase` and `cvtrace.token`."""

from __future__ import annotations

from typing import Final

from cvtrace.probes.phases.runtimes.declaration import Function, Runtime

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
