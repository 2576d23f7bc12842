"""Functions of one's own that mark phases: `cvtrace run --phases FILE`, in TOML or JSON.

[[functions]]                      # a symbol of a library, or of a program; seen by eBPF
library = "libmine"                # part of the file's name
symbol = "mine_load"
phase = "load"

[[functions]]                      # a function or method of a Python module; seen with every probe
python = "mine.model:Model.step"
phase = "decode"                   # a call of decode makes one token
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cvtrace.probes.phases.functions import INDEX
from cvtrace.probes.phases.runtimes.declaration import PHASES
from cvtrace.probes.plain_file import open_plain

MOST_BYTES: Final = 1 << 20
MOST_FUNCTIONS: Final = 200
KEYS: Final = ({"library", "symbol", "phase"}, {"python", "phase"})
_PYTHON: Final = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):(?:([A-Za-z_]\w*)\.)?([A-Za-z_]\w*)")
_SYMBOL: Final = re.compile(r"[\w.$@]{1,1000}", re.ASCII)
_LIBRARY: Final = re.compile(r"[^/\0\n]{3,200}")


class BadPhases(ValueError):
    """The file cannot be used; the text is one sentence."""


@dataclass(frozen=True)
class OwnFunction:
    """A function that marks a phase: a symbol of files whose name contains `library`, or what `python` names."""

    phase: str
    library: str = ""
    symbol: str = ""
    python: str = ""

    @property
    def index(self) -> int:
        """The function that its events name."""
        return INDEX[f"own.{self.phase}"]


def read_own(path: Path) -> tuple[OwnFunction, ...]:
    """Return what a file declares. Raises BadPhases."""
    try:
        with open(open_plain(str(path)), "rb") as file:  # noqa: PTH123 - a descriptor
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise BadPhases(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise BadPhases(f"{path} is larger than 1 MiB: name the functions that mark phases only")
    try:
        text = content.decode()
        declared = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        what = "JSON" if content.lstrip().startswith(b"{") else "TOML"
        raise BadPhases(f"{path} is no {what}: {str(error).splitlines()[0]}") from None
    return tuple(_functions(str(path), declared))


def _functions(path: str, declared: Any) -> Iterable[OwnFunction]:
    if not isinstance(declared, dict) or set(declared) != {"functions"} or not isinstance(declared["functions"], list):
        raise BadPhases(f"{path} has to consist of [[functions]], each with library and symbol, or python, and phase")
    rows = declared["functions"]
    if not 0 < len(rows) <= MOST_FUNCTIONS:
        raise BadPhases(f"{path} declares {len(rows)} functions: 1 to {MOST_FUNCTIONS} are possible")
    return [_function(f"function {number} of {path}", row) for number, row in enumerate(rows, 1)]


def _function(where: str, row: Any) -> OwnFunction:
    if not isinstance(row, dict) or set(row) not in KEYS or not all(isinstance(value, str) for value in row.values()):
        raise BadPhases(f"{where} has to have library, symbol and phase, or python and phase, all of them texts")
    phase = row["phase"]
    if phase not in PHASES:
        raise BadPhases(f"{where} has the phase {phase!r}: use one of {', '.join(PHASES)}")
    if "python" in row:
        match = _PYTHON.fullmatch(row["python"])
        if match is None or match[1] == "__main__":
            raise BadPhases(
                f"{where} names {row['python']!r}: name a function as module:function or module:Class.method; "
                "the script itself names its phases with cvtrace.phase"
            )
        return OwnFunction(phase, python=row["python"])
    for key, pattern in (("symbol", _SYMBOL), ("library", _LIBRARY)):
        if pattern.fullmatch(row[key]) is None:
            raise BadPhases(
                f"{where} has the {key} {row[key]!r}, which no {key} can be: at least 3 characters of a file's name, and a symbol"
            )
    return OwnFunction(phase, row["library"], row["symbol"])


def for_hook(own: Iterable[OwnFunction]) -> str:
    """Return what the hook in Python is given: `module|class|function|name of the phase`, a line each."""
    lines = []
    for function in own:
        match = _PYTHON.fullmatch(function.python)
        if match is not None:
            lines.append("|".join((match[1], match[2] or "", match[3], function.phase)))
    return "\n".join(lines)


def library_pattern(own: Iterable[OwnFunction]) -> bytes:
    """Return a regular expression that matches the names of files that contain symbols, b"" if there are none."""
    names = dict.fromkeys(function.library for function in own if function.symbol)
    return "|".join(f"{re.escape(name)}[^/\\0]*(?=\\0|$|\\n)" for name in names).encode()


def symbols_of(own: Iterable[OwnFunction], name: str) -> Mapping[str, int]:
    """Return symbol -> index of its phase of the functions that a file of that name may contain."""
    return {function.symbol: function.index for function in own if function.symbol and function.library in name}
