"""The calls that mark phases, in the order of the index that traces store. They are declared in runtimes/."""

from __future__ import annotations

from typing import Final

from cvtrace.probes.phases.runtimes.declaration import Function
from cvtrace.probes.phases.runtimes.table import RUNTIMES

FUNCTIONS: Final[tuple[Function, ...]] = tuple(
    sorted((function for runtime in RUNTIMES for function in runtime.functions), key=lambda function: function.index)
)

BATCH, BEAMS = 1, 2
"""Of OgaGeneratorParamsSetSearchNumber: it sets batch_size, or a number of beams or of sequences."""

TOKEN_FLAG: Final = 1
"""Of OgaEngineEventGetFlags: the event is a token."""

INDEX: Final = {function.symbol: function.index for function in FUNCTIONS}

NOTES: Final = frozenset(function.index for function in FUNCTIONS if function.phase == "note")

COUNTED: Final = tuple(function.index for function in FUNCTIONS if function.counts)
"""Functions whose events say how many tokens the call made; their first argument is what makes the tokens."""

USER_PHASE: Final = INDEX["cvtrace.phase"]
"""A phase that the script names: the name is the event's text."""
