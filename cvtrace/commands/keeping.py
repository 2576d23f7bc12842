"""`--keep-names`: the names and places of the model's tensors go into the trace, while the model can be read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cvtrace.commands.telling import say

if TYPE_CHECKING:
    from cvtrace.tracer.user import User


def keep_names(path: Path, owner: User) -> None:
    """Write them as a file of the trace, as its owner; whatever goes wrong, the trace is whole and one sentence says so."""
    try:
        from cvtrace.analysis.headers import headers_of
        from cvtrace.analysis.headers.kept import as_bytes
        from cvtrace.analysis.study import study
        from cvtrace.analysis.tensors import look_up
        from cvtrace.tracer.folder import TENSORS, Folder
        from cvtrace.tracer.store import read_trace
        from cvtrace.tracer.user import acting_as

        with acting_as(owner):
            trace = read_trace(path)
        tensors, troubles = look_up(study(trace), headers_of(trace, owner))
        for trouble in troubles:
            say(f"--keep-names: not kept are {trouble}")
        if not tensors:
            say("--keep-names: no model with tensors was read, so there are no names to keep")
            return
        with acting_as(owner):
            folder = Folder(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC), owner)
        try:
            folder.write_whole(TENSORS, as_bytes(tensors), durable=False)
        finally:
            folder.close()
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        say(f"the names of tensors could not be kept ({type(error).__name__}: {first}); the trace is in {path}")
