"""The corpus of the fuzzer: one zip for each target, each input under the name of its content, or of what it is of.

    python tests/fuzz/corpus.py add TARGET FILE…    add inputs, such as those in tests/fuzz/new/TARGET and tests/fuzz/found
    python tests/fuzz/corpus.py list [TARGET…]      say how many inputs there are, and their bytes

The zips are plain (stored, sorted, of one date), so that the same inputs make the same bytes.
"""

from __future__ import annotations

import hashlib
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
CORPUS: Final = HERE / "corpus"
DATE: Final = (1980, 1, 1, 0, 0, 0)
"""Of every input: the first that a zip can hold."""


def archive(target: str) -> Path:
    """Return where the inputs of a target are kept."""
    return CORPUS / f"{target}.zip"


def name_of(data: bytes) -> str:
    """Return the name of an input: the begin of the hash of its content."""
    return hashlib.sha256(data).hexdigest()[:16]


def read(target: str) -> dict[str, bytes]:
    """Return the inputs of a target by name; none where there is no archive."""
    if not archive(target).exists():
        return {}
    with zipfile.ZipFile(archive(target)) as stored:
        return {name: stored.read(name) for name in stored.namelist()}


def add(target: str, inputs: Iterable[bytes]) -> int:
    """Add inputs to the archive of a target under the names of their contents; return how many are new."""
    known = read(target)
    new = {name_of(data): data for data in set(inputs) - set(known.values())}
    write(target, known | new)
    return len(new)


def write(target: str, inputs: Mapping[str, bytes]) -> None:
    """Write the archive of a target."""
    with zipfile.ZipFile(archive(target), "w", zipfile.ZIP_STORED) as stored:
        for name, data in sorted(inputs.items()):
            entry = zipfile.ZipInfo(name, DATE)
            entry.create_system = 3  # a zip says which system made it: always the same one here
            entry.external_attr = 0o644 << 16
            stored.writestr(entry, data)


def main(words: list[str]) -> int:
    """Add inputs or list what there is; return the exit code."""
    from fuzz_targets import TARGETS

    if words[:1] == ["list"]:
        for target in words[1:] or TARGETS:
            inputs = read(target)
            print(f"{target:<16} {len(inputs):>4} inputs {sum(map(len, inputs.values())):>8,} bytes")
        return 0
    if words[:1] != ["add"] or len(words) < 3 or words[1] not in TARGETS:
        print(f"{__doc__}\nThe targets: {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    if missing := [path for path in words[2:] if not Path(path).is_file()]:
        print(f"corpus: there is no file {missing[0]}", file=sys.stderr)
        return 2
    print(f"corpus: {add(words[1], (Path(path).read_bytes() for path in words[2:]))} added to {archive(words[1])}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
