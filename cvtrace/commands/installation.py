"""How cvtrace was installed, and the command that adds missing packages to this installation."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Final

EXTRA: Final = re.compile(r"^(?P<package>[A-Za-z0-9._-]+)(?P<version>[^;]*);.*extra\s*==\s*['\"](?P<extra>[\w-]+)['\"]")


def packages_of(extra: str) -> list[str]:
    """Return the requirements of an extra, such as `onnx>=1.16`, from the installed metadata."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        lines = requires("cvtrace") or []
    except PackageNotFoundError:
        return []
    matches = [match for line in lines if (match := EXTRA.match(line)) and match["extra"] == extra]
    return [f"{match['package']}{match['version'].strip()}" for match in matches]


def how_to_add(extra: str, prefix: str = sys.prefix) -> str:
    """Return the command that installs the packages of an extra where cvtrace is installed: it needs no clone and no index of cvtrace."""
    packages = shlex.join(packages_of(extra))
    if "pipx" in Path(prefix).parts:
        return f"pipx inject cvtrace {packages}"
    return f"{shlex.quote(str(Path(prefix) / 'bin' / 'python'))} -m pip install {packages}"
