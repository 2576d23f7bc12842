"""`--keep-names`: the names and places of the model's tensors go into the trace, while the model can be read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cvtrace.commands.console import as_owner, doing, say

if TYPE_CHECKING:
    from cvtrace.tracer.user import User


def keep_names(path: Path, owner: User) -> None:
    """Write them as a file of the trace, as its owner; whatever goes wrong, the trace is whole and one sentence says so."""

    def keep() -> None:
        from cvtrace.analysis.attribution.study import study_of
        from cvtrace.analysis.storage.headers import headers_of
        from cvtrace.analysis.storage.headers.in_trace import as_bytes
        from cvtrace.analysis.storage.tensors import look_up
        from cvtrace.tracer.folder import TENSORS
        from cvtrace.tracer.safe_open import open_folder, replacing
        from cvtrace.tracer.store import read_trace

        with doing("reading the names of the model's tensors"):
            trace = read_trace(path)
            tensors, troubles = look_up(study_of(trace), headers_of(trace, owner))
        for trouble in troubles:
            say(f"--keep-names: not kept are {trouble}")
        if not tensors:
            say("--keep-names: no model with tensors was read, so there are no names to keep")
            return
        folder = open_folder(path)
        try:
            with replacing(folder, TENSORS) as file:
                file.write(as_bytes(tensors))
        finally:
            os.close(folder)

    as_owner(owner, keep, lambda reason: f"the names of tensors could not be kept{reason}; the trace is in {path}")
