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


def cvtrace_here(called: str | None = None) -> str:
    """Return how the same program is called again by the same user: `cvtrace` if a shell finds that, else its path."""
    called = (sys.argv[0] if sys.argv else "cvtrace") if called is None else called
    if Path(called).name != "cvtrace":  # python -m cvtrace
        return f"{shlex.quote(sys.executable)} -m cvtrace"
    on_path = shutil.which("cvtrace")
    same = on_path is not None and Path(on_path).resolve() == Path(shutil.which(called) or called).resolve()
    return "cvtrace" if same else shlex.quote(str(Path(called).absolute()))
