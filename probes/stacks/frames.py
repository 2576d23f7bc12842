"""A stack as a key that can be kept: the target chooses the names in it, so they are bounded and printable."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

MOST_FRAMES: Final = 64
"""Of a deeper stack, the innermost ones are kept."""
LONGEST_FUNCTION: Final = 200
LONGEST_FILE: Final = 1000
MOST_STACKS: Final = 100_000
"""Different stacks of one recording."""
MOST_SAMPLES: Final = 5_000_000
LAST_LINE: Final = 2**31 - 1


class Frame(NamedTuple):
    """A function, and where in it the thread was; `line` is 0 where it is not known, `library` is empty for Python."""

    function: str
    file: str
    line: int
    library: str = ""
    is_own: bool = True
    """Whether it is not of the language's runtime: its standard library, the C library, the hook that marks phases."""


_RUNTIME: Final = re.compile(
    r"<frozen |<string>|.*/lib(?:64)?/python3(?:\.\d+)?t?/(?!(?:site|dist)-packages/)|.*/probes/phases/inject/"
)
_C_RUNTIME: Final = re.compile(
    r"\[|(?:.*/)?(?:libc|libpthread|libdl|librt|libm|libstdc\+\+|libgcc_s|ld|ld-linux[^/]*)(?:-[\d.]+)?\.so"
)


def _is_own(file: str, library: str) -> bool:
    return not (_C_RUNTIME.match(library) if library else _RUNTIME.match(file))


def safe_frame(function: str, file: str, line: int, library: str = "") -> Frame:
    """Return a frame whose texts are bounded and printable: of a name the begin is kept, of a path the end."""
    number = line if 0 <= line <= LAST_LINE else 0
    file, library = file[-LONGEST_FILE:], library[-LONGEST_FILE:]
    return Frame(
        _printable(function[:LONGEST_FUNCTION]) or "?",
        _printable(file),
        number,
        _printable(library),
        _is_own(file, library),
    )


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(each if each.isprintable() else "?" for each in text)


@dataclass
class Samples:
    """What samplers saw: thread `tid` had stack `stack` (outermost frame first) from `ts` until at least `ts + dur`, CLOCK_MONOTONIC in ns."""

    ts: list[int] = field(default_factory=list)
    dur: list[int] = field(default_factory=list)
    tid: list[int] = field(default_factory=list)
    stack: list[int] = field(default_factory=list)
    stacks: dict[tuple[Frame, ...], int] = field(default_factory=dict)
    dropped: int = 0
    """Samples that were too many, or of too many different stacks."""

    def add(self, ts: int, dur: int, tid: int, frames: Sequence[Frame]) -> None:
        """Add a sample."""
        kept = tuple(frames[-MOST_FRAMES:])
        number = self.stacks.get(kept)
        if len(self.ts) >= MOST_SAMPLES or (number is None and len(self.stacks) >= MOST_STACKS):
            self.dropped += 1
            return
        if number is None:
            number = self.stacks[kept] = len(self.stacks)
        self.ts.append(ts)
        self.dur.append(dur)
        self.tid.append(tid)
        self.stack.append(number)

    def renamed(self, file: Callable[[str], str], function: Callable[[str], str]) -> Iterable[tuple[Frame, ...]]:
        """Return the stacks with files and functions under other names, in the order of their numbers."""
        for frames in self.stacks:
            yield tuple(
                each._replace(
                    function=function(each.function),
                    file=file(each.file) if each.file else "",
                    library=file(each.library) if each.library else "",
                )
                for each in frames
            )
