"""A stack of its own for a test or a benchmark: own state folder, port and mountpoint, gone afterwards."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cvtrace.lab.stack.lifecycle import down, up
from cvtrace.lab.stack.state import Options, Stack


@contextlib.contextmanager
def temporary(options: Options | None = None) -> Iterator[Stack]:
    """Yield a stack that shares nothing with any other; afterwards nothing is mounted, running or left on disk.

    The default is a model of 4 MB served to the lab client. Raises LabError.
    """
    options = options or Options(size_bytes=4_000_000, client="lab")
    with tempfile.TemporaryDirectory(prefix="cvtrace-lab-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # other users read the mount
        state = folder / "state"
        try:
            yield up(replace(options, mount=options.mount or folder / "mnt"), state=state)
        finally:
            down(state=state, purge=True, force=True)
