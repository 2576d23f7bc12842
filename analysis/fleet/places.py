"""Which traces a fleet is made of: folders, globs, and folders of them at any depth, also partitioned as `key=value`."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cvtrace.analysis.contract.fleet_columns import FLEET_TABLES
from cvtrace.tracer.errors import TraceError
from cvtrace.tracer.folder import EVENTS_BLOCKS, EVENTS_PARQUET, META

DEEPEST: Final = 12
"""Folders below one that is given in which traces are looked for."""
PARQUET: Final = tuple(f"{name}.parquet" for name in FLEET_TABLES)
OF_TRACE: Final = (META, EVENTS_BLOCKS, EVENTS_PARQUET)
MAGIC: Final = frozenset("*?[")


class NoTraces(TraceError):
    """No given path contains a trace; the message is one sentence."""


@dataclass(frozen=True)
class Places:
    """Traces, and folders with the tables of an earlier fleet; absolute paths, each once, in order."""

    traces: tuple[str, ...]
    tables: tuple[str, ...]


def places_of(paths: Sequence[str | os.PathLike[str]]) -> Places:
    """Return the traces at some paths: a trace, a folder with traces at any depth, or a pattern such as `runs/*/node-?`.

    A trace that several paths lead to is there once. A folder of a run that holds anything else, or nothing, is among them: reading it
    will say what it is. Raises NoTraces.
    """
    traces: dict[str, str] = {}
    tables: dict[str, str] = {}
    for path in [os.fspath(each) for each in paths]:
        for each in _expanded(path):
            for place, is_table in _below(each, 0):
                places = tables if is_table else traces
                places.setdefault(os.path.realpath(place), os.path.abspath(place))  # noqa: PTH100 - links stay as given
    if not traces and not tables:
        shown = ", ".join(os.fspath(each) for each in paths) or "nothing"
        raise NoTraces(
            f"there is no trace in {shown}: name folders that `cvtrace run` made, or folders with such folders"
        )
    return Places(tuple(sorted(traces.values())), tuple(sorted(tables.values())))


def labels_of(trace: str) -> str:
    """Return the `key=value` folders above a trace, as Hive and Spark partition data: `job=17/site=a`."""
    parts = Path(trace).parts[:-1]
    return "/".join(each for each in parts if "=" in each.strip("="))


def _expanded(path: str) -> list[str]:
    """Return what a pattern stands for; a path that is there is no pattern."""
    if os.path.lexists(path) or not MAGIC & set(path):
        return [path]
    matches = sorted(glob.glob(path, recursive=True))
    if not matches:
        raise NoTraces(f"nothing matches {path}")
    return matches


def _below(path: str, depth: int) -> Iterator[tuple[str, bool]]:
    """Yield the traces at a path and below it, and whether each is the tables of a fleet."""
    try:
        with os.scandir(path) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError:
        yield path, False  # reading it says why
        return
    names = {entry.name for entry in entries}
    if names.issuperset(PARQUET) and META not in names:
        yield path, True
        return
    folders = [entry.path for entry in entries if _is_folder(entry)]
    if names.intersection(OF_TRACE) or not folders or depth >= DEEPEST:
        yield path, False
        return
    for each in folders:
        yield from _below(each, depth + 1)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder to look into; of links only those to a trace are, so that none leads in a circle."""
    if entry.name.startswith("."):
        return False
    if entry.is_symlink():
        return os.path.isfile(os.path.join(entry.path, META))  # noqa: PTH113, PTH118 - a path of bytes that are no text
    return entry.is_dir(follow_symlinks=False)
