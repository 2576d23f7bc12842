"""How the user calls this program as root, for sentences that say so."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

PATH_OF_SUDO: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What distributions have as secure_path in sudoers(5): an environment's `cvtrace` is not found there."""


def with_sudo(called: str, path: str = PATH_OF_SUDO) -> str:
    """Return the beginning of a command line: `called` is argv[0], `path` where sudo looks."""
    known = Path(called).name != "cvtrace" or shutil.which("cvtrace", path=path) is not None
    return f"sudo {'cvtrace' if known else shlex.quote(called)}"


SUDO: Final = with_sudo(sys.argv[0] if sys.argv else "")
