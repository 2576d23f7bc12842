"""File bundles in a published tree: the catalog marks their triggers, as the publisher of cvmfs 2.14 does.

A bundle is a regular file `.cvmfsbundle-<trigger>` beside its trigger.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from cvtrace.lab.publish.catalog import Entry
from cvtrace.lab.publish.tree import SourceItem

PREFIX: Final = b".cvmfsbundle-"
LARGEST_BYTES: Final = 64 << 20


@dataclass(frozen=True)
class Bundle:
    """A bundle that was published."""

    path: str
    trigger: str
    """Name of the file that triggers it."""
    files: int
    """How many files it lists."""
    problem: str | None
    """Why a client will not prefetch all of it; one clause."""


def mark_triggers(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries of a repository with exactly those marked as triggers that have a bundle beside them."""
    triggers = {_trigger(entry.path) for entry in entries if _is_bundle(entry)}
    return [
        entry
        if entry.bundle_trigger == (marked := stat.S_ISREG(entry.mode) and entry.path in triggers)
        else replace(entry, bundle_trigger=marked)
        for entry in entries
    ]


def bundles_in(items: Sequence[SourceItem], entries: Sequence[Entry]) -> tuple[Bundle, ...]:
    """Return the bundles among what was added, each with what is wrong with it; `entries` are those of the whole repository."""
    files = {entry.path for entry in entries if stat.S_ISREG(entry.mode)}
    return tuple(_bundle(item, files) for item in items if _is_bundle(item.entry))


def _is_bundle(entry: Entry) -> bool:
    name = entry.path.rpartition(b"/")[2]
    return stat.S_ISREG(entry.mode) and name.startswith(PREFIX) and len(name) > len(PREFIX)


def _trigger(bundle: bytes) -> bytes:
    folder, _, name = bundle.rpartition(b"/")
    return folder + b"/" + name.removeprefix(PREFIX)


def _bundle(item: SourceItem, files: set[bytes]) -> Bundle:
    path = item.entry.path
    trigger, listed = _trigger(path), _listed(item)
    absent = [each for each in listed or () if os.path.normpath(os.path.join(os.path.dirname(path), each)) not in files]  # noqa: PTH118, PTH120 - paths of the repository, bytes
    problem = None
    if trigger not in files:
        problem = "its trigger is not beside it"
    elif listed is None:
        problem = "it is no JSON document with a list of dependencies"
    elif absent:
        problem = f"{len(absent):,} of its files are not in the repository, such as {os.fsdecode(absent[0])}"
    name = os.fsdecode(trigger.rpartition(b"/")[2])
    return Bundle(os.fsdecode(path), name, len(listed or ()), problem)


def _listed(item: SourceItem) -> list[bytes] | None:
    """Return the paths that a bundle lists, None where a client could not read it."""
    if item.entry.size_bytes > LARGEST_BYTES:
        return None
    try:
        content = item.source.read_bytes()
        while content.startswith(b"#"):
            content = content.partition(b"\n")[2]
        document: Any = json.loads(content)
    except (ValueError, RecursionError):
        return None
    listed = document.get("dependencies") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not all(isinstance(path, str) for path in listed):
        return None
    return [os.fsencode(path) for path in listed]
