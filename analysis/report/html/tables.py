"""The tables of the page: everything the pictures show, as text that sorts, filters, copies and prints.

A table travels as columns. The page makes rows of them as they come into view, so that a hundred thousand cost nothing.
"""

from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np

from cvtrace.analysis.contract.classes import LABELS
from cvtrace.analysis.joins.phases import DECODE
from cvtrace.analysis.report.html.detail import EACH, longest
from cvtrace.analysis.report.html.scene import Scene
from cvtrace.analysis.report.names import printable
from cvtrace.analysis.storage.causes import CAUSES
from cvtrace.analysis.trace.intervals import pick
from cvtrace.probes.events import Opcode

MOST: Final = 20_000
"""Rows of one table; the rest is in the CSV and JSON forms of the report."""
OTHERS: Final = {
    "answers": "Answers",
    "unobserved_mounts": "Mounts that were not observed, and what was asked of them",
    "failures": "What the run wanted and did not get",
    "processes": "Processes, by the time of their main threads",
    "runs": "Runs of the session",
    "tensors": "Tensors",
    "layers": "Layers of the model",
    "chunks": "Objects of the client's cache",
    "imports": "Imported modules",
    "import_packages": "Imported packages",
    "folders": "Folders",
    "operators": "Operators",
    "operator_layers": "Operators by layer",
    "checks": "Traced against counted by the client",
}
"""Tables that are shown as the report has them, as far as it has them."""


@dataclass(frozen=True)
class Column:
    """One column: `unit` is s, bytes, n (a number), x (a ratio) or text; `units` are those of each value, where they differ.

    `signed` values are changes: what is more than 0 has a plus.
    """

    name: str
    unit: str
    values: list[Any]
    units: list[str] | None = None
    signed: bool = False


@dataclass(frozen=True)
class Table:
    """A table: `links` number the phase, token, file and fetch that each row belongs to, -1 for none."""

    key: str
    title: str
    columns: tuple[Column, ...]
    links: dict[str, list[int]]
    total: int
    """Rows there would be, if the table were not cut."""

    @property
    def rows(self) -> int:
        return len(self.columns[0].values)


def tables(scene: Scene) -> list[Table]:
    """Return all tables that have a row."""
    made = [
        _phases(scene),
        _tokens(scene),
        _files(scene),
        _fetches(scene),
        _waits(scene),
        _stacks(scene),
        *_others(scene),
    ]
    return [table for table in made if table.total]


def _phases(scene: Scene) -> Table:
    rows = scene.report.phases
    number = {name: place for place, name in enumerate(scene.study.phases.names)}
    times = ("wall_s", "network_s", "cache_s", "compute_s", "other_s", "unattributed_s")
    counts = (
        ("FUSE reads", "fuse_reads", "n"),
        ("bytes read", "fuse_read_bytes", "bytes"),
        ("from page cache", "page_cache_bytes", "bytes"),
        ("from disk", "disk_bytes", "bytes"),
        ("from network", "network_bytes", "bytes"),
        ("cache hits", "cache_hits", "n"),
        ("misses", "cache_misses", "n"),
        ("fetches", "http_fetches", "n"),
        ("fetched", "http_bytes", "bytes"),
        ("faults", "faults", "n"),
    )
    classes = [name for name in LABELS if any(row.classes[name] for row in rows)]
    columns = (
        Column("phase", "text", [scene.phases[number[row.name]] for row in rows]),
        Column("×", "n", [row.count for row in rows]),
        *(Column(name.removesuffix("_s"), "s", [getattr(row, name) for row in rows]) for name in times),
        *(Column(title, unit, [getattr(row, name) for row in rows]) for title, name, unit in counts),
        Column("hits CVMFS", "text", [row.hits_cvmfs for row in rows]),
        *(Column(name, "s", [row.classes[name] for row in rows]) for name in classes),
    )
    return Table("phases", "Phases", columns, {"phase": [number[row.name] for row in rows]}, len(rows))


def _tokens(scene: Scene) -> Table:
    rows = scene.report.tokens
    times = scene.token_classes
    kept = np.flatnonzero(longest(times.sum(axis=1), np.zeros(len(rows), dtype=np.int64), MOST))
    there = [number for number in range(len(LABELS)) if times[:, number].any()]
    groups = ("network_s", "cache_s", "compute_s", "other_s", "unattributed_s")
    shown = [rows[place] for place in kept.tolist()]
    columns = (
        Column("token", "n", [row.index for row in shown]),
        Column("start", "s", [row.start_s for row in shown]),
        Column("wall", "s", [row.wall_s for row in shown]),
        *(Column(name.removesuffix("_s"), "s", [getattr(row, name) for row in shown]) for name in groups),
        Column("FUSE reads", "n", [row.fuse_reads for row in shown]),
        *(Column(LABELS[number], "s", (times[kept, number] / 1e9).tolist()) for number in there),
    )
    links = {"token": [row.index for row in shown], "phase": [DECODE] * len(shown)}
    return Table("tokens", "Tokens", columns, links, len(rows))


def _files(scene: Scene) -> Table:
    number = {name: place for place, name in reversed(list(enumerate(scene.files.names)))}
    rows = scene.report.files
    shown = rows[:MOST]
    places = [number.get(row.path, -1) for row in shown]
    columns = (
        Column(
            "file",
            "text",
            [
                scene.file_names[place] if place >= 0 else printable(row.path)
                for place, row in zip(places, shown, strict=True)
            ],
        ),
        Column("opens", "n", [row.opens for row in shown]),
        Column("reads", "n", [row.reads for row in shown]),
        Column("bytes read", "bytes", [row.read_bytes for row in shown]),
        Column("fetched", "bytes", [row.fetched_bytes for row in shown]),
        Column("fetched/read", "x", [row.amplification for row in shown]),
        Column("cache hits", "n", [row.cache_hits for row in shown]),
        Column("misses", "n", [row.cache_misses for row in shown]),
        Column("blocked", "s", [row.blocked_s for row in shown]),
        Column("used at least", "bytes", [row.used_bytes for row in shown]),
        Column("access", "text", [row.access or "" for row in shown]),
    )
    return Table("files", "Files", columns, {"file": places}, len(rows))


def _fetches(scene: Scene) -> Table:
    rows = scene.report.fetches
    lengths = np.array(
        [row.queue_s + row.connect_s + row.request_s + row.transfer_s + row.fill_s for row in rows], dtype=np.float64
    )
    phase = scene.study.get_phase[scene.fetch_order]
    kept = np.flatnonzero(longest(np.rint(lengths * 1e9).astype(np.int64), phase, MOST))
    shown = [rows[place] for place in kept.tolist()]
    request = scene.study.gets.request[scene.fetch_order][kept]
    token, file = pick(scene.study.request_token, request, -1), scene.file_of(request)
    parts = (
        ("queue", "queue_s"),
        ("connect", "connect_s"),
        ("first byte", "request_s"),
        ("transfer", "transfer_s"),
        ("fill", "fill_s"),
    )
    columns = (
        Column("fetch", "n", kept.tolist()),
        Column("start", "s", [row.start_s for row in shown]),
        Column("time", "s", lengths[kept].tolist()),
        *(Column(title, "s", [getattr(row, name) for row in shown]) for title, name in parts),
        Column("bytes", "bytes", [row.bytes for row in shown]),
        Column("status", "n", [row.status for row in shown]),
        Column("phase", "text", [printable(row.phase or "") for row in shown]),
        Column(
            "file",
            "text",
            [
                scene.file_names[each] if each >= 0 else printable(row.path)
                for each, row in zip(file.tolist(), shown, strict=True)
            ],
        ),
        Column("URL", "text", [printable(row.url) for row in shown]),
        *(
            [Column("proxy", "text", [printable(row.proxy or "") for row in shown])]
            if any(row.proxy for row in rows)
            else []
        ),
    )
    links = {
        "fetch": kept.tolist(),
        "phase": phase[kept].tolist(),
        "token": token.tolist(),
        "file": file.tolist(),
    }
    return Table("fetches", "Fetches", columns, links, len(rows))


def _waits(scene: Scene) -> Table:
    """The longest FUSE requests of every phase."""
    asked = scene.study.requests
    mine = np.flatnonzero(asked.by_target & (asked.sent >= scene.since) & (asked.sent <= scene.until))
    length = (asked.replied - asked.sent)[mine]
    kept = mine[longest(length, scene.study.request_phase[mine], EACH * 10)]
    kept = kept[np.argsort(-(asked.replied - asked.sent)[kept], kind="stable")]
    row, file = scene.study.request_phase[kept], scene.files.of_request[kept]
    cause = scene.details.cause[kept]
    known = {int(member): member.name for member in Opcode}
    use = scene.study.use
    origin = np.where(
        use.misses[kept] > 0,
        "network",
        np.where(use.shared[kept] > 0, "another fetch", np.where(use.hits[kept] > 0, "client's cache", "")),
    )
    columns = (
        Column("time", "s", ((asked.replied - asked.sent)[kept] / 1e9).tolist()),
        Column("start", "s", scene.second(asked.sent[kept]).tolist()),
        Column("request", "text", [known.get(code, str(code)) for code in asked.opcode[kept].tolist()]),
        Column("file", "text", [scene.file_names[each] if each >= 0 else "" for each in file.tolist()]),
        Column("offset", "n", [each if each >= 0 else None for each in asked.offset[kept].tolist()]),
        Column("bytes", "bytes", asked.read_bytes[kept].tolist()),
        Column("from", "text", origin.tolist()),
        Column("why", "text", [CAUSES[each].replace("_", " ") if each >= 0 else "" for each in cause.tolist()]),
        Column("phase", "text", [scene.phases[each] if each >= 0 else "" for each in row.tolist()]),
        Column("token", "n", [each if each >= 0 else None for each in scene.study.request_token[kept].tolist()]),
        Column("thread", "n", asked.asker[kept].tolist()),
    )
    links = {
        "phase": row.tolist(),
        "token": scene.study.request_token[kept].tolist(),
        "file": file.tolist(),
        "fetch": scene.fetch_of_request[kept].tolist(),
    }
    return Table("waits", "Longest waits for FUSE requests", columns, links, len(mine))


def _stacks(scene: Scene) -> Table:
    found = scene.stacks
    order = np.argsort(-found.ns, kind="stable")[:MOST]
    columns = (
        Column("time", "s", (found.ns[order] / 1e9).tolist()),
        Column("phase", "text", [scene.phases[each] for each in found.phase[order].tolist()]),
        Column("thread", "n", found.thread[order].tolist()),
        Column("file", "text", [scene.file_names[each] if each >= 0 else "" for each in found.file[order].tolist()]),
        *(
            [
                Column(
                    "tensor",
                    "text",
                    [printable(found.tensors[each]) if each >= 0 else "" for each in found.tensor[order].tolist()],
                )
            ]
            if found.tensors
            else []
        ),
        Column("class", "text", [LABELS[each] for each in found.value[order].tolist()]),
        Column("pieces", "n", found.pieces[order].tolist()),
    )
    return Table(
        "stacks",
        "Time by phase, file and class",
        columns,
        {"phase": found.phase[order].tolist(), "file": found.file[order].tolist()},
        len(found),
    )


def _others(scene: Scene) -> list[Table]:
    """Tables of the report that no picture shows: each column as it is named there."""
    return [_plain(scene, key, title, _rows(scene, key)) for key, title in OTHERS.items()]


def _rows(scene: Scene, key: str) -> tuple[Any, ...]:
    """Return the rows of a table; a single answer is what the whole page is about, and is no table."""
    if key == "unobserved_mounts":
        return scene.report.verdict.unobserved_mounts
    rows: tuple[Any, ...] = getattr(scene.report, key)
    return rows if key != "answers" or len(rows) > 1 else ()


def _plain(scene: Scene, key: str, title: str, rows: tuple[Any, ...]) -> Table:
    if not rows:
        return Table(key, title, (), {}, 0)
    shown = rows[:MOST]
    names = [field.name for field in fields(shown[0]) if not isinstance(getattr(shown[0], field.name), dict)]
    columns = tuple(_column(name, [getattr(row, name) for row in shown]) for name in names)
    number = {name: place for place, name in reversed(list(enumerate(scene.files.names)))}
    links = {"file": [number.get(row.path, -1) for row in shown]} if hasattr(shown[0], "path") else {}
    return Table(key, title, columns, links, len(rows))


def _column(name: str, values: list[Any]) -> Column:
    title = name.removesuffix("_s").removesuffix("_bytes").replace("_", " ")
    if name.endswith("_s"):
        return Column(title, "s", values)
    if name.endswith("_bytes"):
        return Column(title, "bytes" if name != "offset_bytes" else "n", values)
    if all(each is None or (isinstance(each, int | float) and not isinstance(each, bool)) for each in values):
        return Column(title, "n", values)
    return Column(title, "text", ["" if each is None else printable(_told(each)) for each in values])


def _told(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " × ".join(map(str, value)) if isinstance(value, tuple) else str(value)
