"""Whether this machine lets a test have namespaces of its own."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache


@cache
def may_unshare(*options: str) -> bool:
    """Tell whether `unshare` works with these options."""
    return shutil.which("unshare") is not None and _works("unshare", *options, "true")


@cache
def has_bwrap() -> bool:
    """Tell whether bubblewrap is installed and works."""
    return shutil.which("bwrap") is not None and _works("bwrap", "--dev-bind", "/", "/", "--unshare-pid", "true")


def _works(*command: str) -> bool:
    return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0
