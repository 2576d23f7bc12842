"""Runtimes in Python whose calls were not marked, as the interpreter did not load the hook that marks them."""

from __future__ import annotations

from typing import Final

import numpy as np

from cvtrace.analysis.joins.library_calls import is_attached
from cvtrace.analysis.trace.recording import Recording
from cvtrace.probes.events import TEXT, Kind
from cvtrace.probes.phases.runtimes.table import MODULE_FILE, RUNTIMES

UNMARKED: Final = (
    "calls of {name} are not marked in process {pid}: its interpreter did not load the hook "
    "(it ignores PYTHONPATH, as `python -I`, `-E`, `-S` and `env -i` have it)"
)


def unmarked_modules(recording: Recording) -> list[str]:
    """Return a sentence for each runtime and process that loaded its module and marked no import."""
    if is_attached(recording):
        return []
    texts = np.ascontiguousarray(recording.texts)
    threads, processes = recording.target_threads
    hooked = set(recording.of(Kind.IMPORT).tgid.tolist())
    sentences: dict[str, None] = {}
    for match in MODULE_FILE.finditer(texts.view("u1").data):
        row = texts[match.start() // TEXT.itemsize]
        place = int(np.searchsorted(threads, int(row["tid"])))
        if row["kind"] != Kind.SYS_OPEN or place == len(threads) or threads[place] != row["tid"]:
            continue
        pid = int(processes[place])
        if pid not in hooked:
            name = RUNTIMES[int(str(match.lastgroup).removeprefix("runtime"))].name
            sentences[UNMARKED.format(name=name, pid=pid)] = None
    return list(sentences)
