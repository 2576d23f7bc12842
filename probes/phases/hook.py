"""Phase marks without uprobes: an import hook that wraps the calls of GenAI and of onnxruntime inside a Python target.

The target's interpreter finds `inject/` through PYTHONPATH; nothing in there imports cvtrace, so it may be any Python from
3.9 on, in any environment. A mark is one PHASE event, appended to a file with a single write.

Not seen: interpreters that ignore PYTHONPATH (`python -I`, `-E`), that do not run `site` (`-S`), and other languages. `dur` of
a destructor is 0: pybind types tell only that an object is gone.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from cvtrace.probes.events import EVENT, TEXT, TEXT_MAX, UNFINISHED, Events, Kind, Texts, no_texts
from cvtrace.probes.phases.functions import FUNCTIONS, USER_PHASE
from cvtrace.probes.phases.library import PACKAGE
from cvtrace.probes.phases.own import OwnFunction, for_hook
from cvtrace.probes.phases.runtimes.table import MODULES

INJECT: Final = Path(__file__).resolve().parent / "inject"
MARKS: Final = "CVTRACE_MARKS"
"""Environment variable that names the file of marks."""
PROFILE: Final = "CVTRACE_PROFILE"
"""Environment variable that says how the names of onnxruntime's profiles begin."""
HOOK: Final = "CVTRACE_HOOK"
"""Environment variable that names the packages to wrap, and `imports` if imports are to be marked."""
MOUNTS: Final = "CVTRACE_MOUNTS"
"""Paths of the mounts whose counters are read at phase boundaries, a line each; empty lines keep the numbering."""
SOCKETS: Final = "CVTRACE_SOCKETS"
"""Talk sockets of the same mounts, `uid path` each with the daemon's user; used if the target's user may."""
PHASES: Final = "CVTRACE_PHASES"
"""Functions of the user's own, as own.for_hook writes them."""
NAME: Final = 0x7F04
IMPORT_NAME: Final = 0x7F0C
ARMED: Final = 1
"""`a` of the IMPORT event that tells from where on imports are marked."""
NAME_BYTES: Final = 24
MAX_CELLS: Final = -(-TEXT_MAX // NAME_BYTES)
"""A user's phase is a PHASE event flagged UNFINISHED when it begins, one without the flag and with the same ts and tid when it
ends, and its name in records of kind NAME with that ts and tid, 24 bytes in a, b and c of each. An import is the same with IMPORT events and
IMPORT_NAME, but its begin is only there if it was written before the end (inject/_cvtrace_imports.py)."""

MOST_BYTES: Final = 1_000_000 * EVENT.itemsize
"""A million calls; more is no model's doing."""


@dataclass(frozen=True)
class CounterSource:
    """A mount whose counters the hook is to read at phase boundaries; empty strings for what is not there."""

    path: str
    socket: str
    uid: int = 0
    """Whose the socket is."""


def environment(
    marks_path: Path,
    base_env: Mapping[str, str],
    counters: Sequence[CounterSource] = (),
    *,
    genai: bool = True,
    profile: str = "",
    own: Iterable[OwnFunction] = (),
) -> dict[str, str]:
    """Return `base_env` with what makes a Python target load the hook and append its marks to `marks_path`.

    With `profile`, onnxruntime writes its own profile to files that begin so. `genai` is False where a probe sees the calls of the GenAI library itself; onnxruntime's own sessions are always wrapped. The
    file is created by the target, as its user, when it imports one of the packages or enters a `cvtrace.phase`. An existing
    PYTHONPATH, sitecustomize and usercustomize stay in effect. With `counters`, the COUNTER events of those mounts are among
    the marks.
    """
    before = base_env.get("PYTHONPATH")
    path = os.pathsep.join([str(INJECT), before] if before else [str(INJECT)])
    names = [module for module in MODULES if module != PACKAGE]
    packages = ",".join(["imports", *names, PACKAGE if genai else "sequences"])
    profiling = {PROFILE: profile} if profile else {}
    environ = {**base_env, "PYTHONPATH": path, MARKS: str(marks_path), HOOK: packages, **profiling}
    if lines := for_hook(own):
        environ[PHASES] = lines
    if counters:
        environ[MOUNTS] = "\n".join("" if "\n" in each.path else each.path for each in counters)
        sockets = (f"{each.uid} {each.socket}" if each.socket else "" for each in counters)
        environ[SOCKETS] = "\n".join("" if "\n" in line else line for line in sockets)
    return environ


def read_marks(path: Path, end_ns: int = 0) -> tuple[Events, Texts]:
    """Return the marks that a target wrote; see `written` and `parse_marks`."""
    return parse_marks(written(path), end_ns)


def parse_marks(data: bytes, end_ns: int = 0) -> tuple[Events, Texts]:
    """Return marks sorted by ts: PHASE events (`b` the id of the object, `ret` -1 for an exception) and IMPORT events.

    Phases of the user and imports that have not ended reach to `end_ns`, flagged UNFINISHED; their names are the texts. Whatever
    is not a mark (half a record at the end, a foreign write, one from the future) is left out.
    """
    records = np.frombuffer(data[: len(data) - len(data) % EVENT.itemsize], dtype=EVENT)
    now_ns = np.uint64(time.monotonic_ns())
    records = records[(records["ts"] <= now_ns) & (records["dur"] <= now_ns - np.minimum(records["ts"], now_ns))]
    ended = records[(records["kind"] == Kind.PHASE) & (records["a"] < len(FUNCTIONS))]
    begun = records[(records["kind"] == Kind.PHASE | UNFINISHED) & (records["a"] == USER_PHASE)]
    users = ended[ended["a"] == USER_PHASE]
    imports = records[records["kind"] == Kind.IMPORT]
    importing = records[records["kind"] == Kind.IMPORT | UNFINISHED]
    parts = [ended, _left_open(begun, users, end_ns), imports, _left_open(importing, imports, end_ns)]
    marks: Events = np.concatenate([*parts, records[records["kind"] == Kind.COUNTER]])
    names = [
        _names(records[records["kind"] == cell], kind)
        for cell, kind in ((NAME, Kind.PHASE), (IMPORT_NAME, Kind.IMPORT))
    ]
    return np.sort(marks, order="ts", kind="stable"), np.concatenate(names)


def _left_open(begun: Events, ended: Events, end_ns: int) -> Events:
    """Return those of `begun` that have no end, and let them reach to `end_ns`."""
    unfinished = begun[~np.isin(begun[["ts", "tid"]], ended[["ts", "tid"]])].copy()
    unfinished["dur"] = np.maximum(end_ns, unfinished["ts"].astype(np.int64)) - unfinished["ts"].astype(np.int64)
    return unfinished


def written(path: Path) -> bytes:
    """Return what a target wrote to its file of marks, nothing if there is none.

    The target has had the file in its hands: links are not followed, nothing but a plain file is read, and no more than
    MOST_BYTES.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return b""
    with os.fdopen(fd, "rb") as file:
        return file.read(MOST_BYTES)


def _names(cells: Events, kind: Kind) -> Texts:
    """Put names together from their cells: `cpu` counts them, `ret` is the size in bytes."""
    cells = cells[cells["cpu"] < MAX_CELLS]
    if not len(cells):
        return no_texts()
    keys, which = np.unique(cells[["ts", "tid"]], return_inverse=True)
    pieces = np.zeros((len(keys), MAX_CELLS, NAME_BYTES), dtype="u1")
    words = np.stack([cells["a"], cells["b"], cells["c"]], axis=1)
    pieces[which, cells["cpu"]] = np.ascontiguousarray(words, dtype="<u8").view("u1").reshape(-1, NAME_BYTES)
    texts = np.zeros(len(keys), dtype=TEXT)
    texts["ts"], texts["tid"], texts["kind"] = keys["ts"], keys["tid"], kind
    texts["size"][which] = np.clip(cells["ret"], 0, 2**16 - 1)
    texts["text"] = np.ascontiguousarray(pieces.reshape(len(keys), -1)[:, :TEXT_MAX]).view(f"S{TEXT_MAX}").reshape(-1)
    return texts
