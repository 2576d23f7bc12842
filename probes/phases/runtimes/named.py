"""What a script marks itself, with `cvtrace.phase`."""

from __future__ import annotations

from typing import Final

from cvtrace.probes.phases.runtimes.declaration import Function, Runtime

NAMED: Final = Runtime(
    name="a script's own phases",
    functions=(Function(16, "cvtrace.phase", "user"),),
    tokens="none",
    hook="`cvtrace.phase`, with every probe",
    tested="scripts of every kind",
)
