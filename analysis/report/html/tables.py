"""The tables of the page: everything the pictures show, as text that sorts, filters, copies and prints.

A table travels as columns. The page makes rows of them as they come into view, so that a hundred thousand cost nothing.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np

from cvtrace.analysis.contract.classes import FETCH_PARTS, GROUP_COLUMNS, LABELS
from cvtrace.analysis.joins.phases import DECODE
from cvtrace.analysis.report.html.detail import EACH, longest
from cvtrace.analysis.report.html.scene import Scene
from cvtrace.analysis.report.names import printable
from cvtrace.analysis.storage.causes import CAUSES
from cvtrace.analysis.trace.intervals import pick
from cvtrace.probes.events import Opcode

MOST: Final = 20_000
"""Rows of one table; the rest is in the CSV and JSON forms of the report."""
REPORT_TABLES: Final = {
    "answers": "Answers",
    "unobserved_mounts": "Mounts that were not observed, and the requests that the program sent to them",
    "failures": "Failed requests of the run",
    "processes": "Processes, with the time of their main threads",
    "runs": "Runs of the session",
    "tensors": "Tensors",
    "layers": "Layers of the model",
    "chunks": "Objects of the client's cache",
    "lines": "Lines of code that waited",
    "imports": "Imported modules",
    "import_packages": "Imported packages",
    "folders": "Folders",
    "operators": "Operators",
    "operator_layers": "Operators by layer",
    "checks": "Cross-check with the client's counters",
}
"""Tables that are shown as the report has them, as far as it has them."""


@dataclass(frozen=True)
class Column:
    """One column: `unit` is s, bytes, n (a number), id (a number that identifies something), x (a ratio) or text; `units` are those of each value, where they differ.

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
    tables_of_run = [
        _phases(scene),
        _tokens(scene),
        _files(scene),
        _fetches(scene),
        _waits(scene),
        _stacks(scene),
        *_report_tables(scene),
    ]
    return [table for table in tables_of_run if table.total]


def _phases(scene: Scene) -> Table:
    rows = scene.report.phases
    number = {name: place for place, name in enumerate(scene.study.phases.names)}
    times = ("wall_s", *GROUP_COLUMNS)
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
    rows_drawn = np.flatnonzero(longest(times.sum(axis=1), np.zeros(len(rows), dtype=np.int64), MOST))
    there = [number for number in range(len(LABELS)) if times[:, number].any()]
    shown = [rows[place] for place in rows_drawn.tolist()]
    columns = (
        Column("token", "id", [row.index for row in shown]),
        Column("start", "s", [row.start_s for row in shown]),
        Column("wall", "s", [row.wall_s for row in shown]),
        *(Column(name.removesuffix("_s"), "s", [getattr(row, name) for row in shown]) for name in GROUP_COLUMNS),
        Column("FUSE reads", "n", [row.fuse_reads for row in shown]),
        *(Column(LABELS[number], "s", (times[rows_drawn, number] / 1e9).tolist()) for number in there),
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


PREFETCH: Final = "(prefetch)"
"""In the place of the phase of a fetch that no request asked for."""


def _fetches(scene: Scene) -> Table:
    rows = scene.report.fetches
    lengths = np.array([row.life_s for row in rows], dtype=np.float64)
    phase = scene.study.get_phase[scene.fetch_order]
    rows_drawn = np.flatnonzero(longest(np.rint(lengths * 1e9).astype(np.int64), phase, MOST))
    shown = [rows[place] for place in rows_drawn.tolist()]
    request = scene.study.gets.request[scene.fetch_order][rows_drawn]
    token, file = pick(scene.study.request_token, request, -1), scene.file_of(request)
    columns = (
        Column("fetch", "id", rows_drawn.tolist()),
        Column("start", "s", [row.start_s for row in shown]),
        Column("time", "s", lengths[rows_drawn].tolist()),
        *(Column(part.title, "s", [getattr(row, part.column) for row in shown]) for part in FETCH_PARTS),
        Column("bytes", "bytes", [row.bytes for row in shown]),
        Column("status", "id", [row.status for row in shown]),
        Column("phase", "text", [PREFETCH if row.prefetch else printable(row.phase or "") for row in shown]),
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
        "fetch": rows_drawn.tolist(),
        "phase": phase[rows_drawn].tolist(),
        "token": token.tolist(),
        "file": file.tolist(),
    }
    return Table("fetches", "Fetches", columns, links, len(rows))


def _waits(scene: Scene) -> Table:
    """The longest FUSE requests of every phase."""
    requests = scene.study.requests
    of_target = np.flatnonzero(requests.by_target & (requests.sent >= scene.since) & (requests.sent <= scene.until))
    length = (requests.replied - requests.sent)[of_target]
    rows_drawn = of_target[longest(length, scene.study.request_phase[of_target], EACH * 10)]
    rows_drawn = rows_drawn[np.argsort(-(requests.replied - requests.sent)[rows_drawn], kind="stable")]
    row, file = scene.study.request_phase[rows_drawn], scene.files.of_request[rows_drawn]
    cause = scene.details.cause[rows_drawn]
    known = {int(member): member.name for member in Opcode}
    use = scene.study.use
    origin = np.where(
        use.misses[rows_drawn] > 0,
        "network",
        np.where(use.shared[rows_drawn] > 0, "another fetch", np.where(use.hits[rows_drawn] > 0, "client's cache", "")),
    )
    columns = (
        Column("time", "s", ((requests.replied - requests.sent)[rows_drawn] / 1e9).tolist()),
        Column("start", "s", scene.second(requests.sent[rows_drawn]).tolist()),
        Column("request", "text", [known.get(code, str(code)) for code in requests.opcode[rows_drawn].tolist()]),
        Column("file", "text", [scene.file_names[each] if each >= 0 else "" for each in file.tolist()]),
        Column("offset", "n", [each if each >= 0 else None for each in requests.offset[rows_drawn].tolist()]),
        Column("bytes", "bytes", requests.read_bytes[rows_drawn].tolist()),
        Column("from", "text", origin.tolist()),
        Column("why", "text", [CAUSES[each].replace("_", " ") if each >= 0 else "" for each in cause.tolist()]),
        Column("phase", "text", [scene.phases[each] if each >= 0 else "" for each in row.tolist()]),
        Column("token", "n", [each if each >= 0 else None for each in scene.study.request_token[rows_drawn].tolist()]),
        Column("thread", "id", requests.asker[rows_drawn].tolist()),
    )
    links = {
        "phase": row.tolist(),
        "token": scene.study.request_token[rows_drawn].tolist(),
        "file": file.tolist(),
        "fetch": scene.fetch_of_request[rows_drawn].tolist(),
    }
    return Table("waits", "Longest waits for FUSE requests", columns, links, len(of_target))


def _stacks(scene: Scene) -> Table:
    pieces = scene.stacks
    order = np.argsort(-pieces.ns, kind="stable")[:MOST]
    columns = (
        Column("time", "s", (pieces.ns[order] / 1e9).tolist()),
        Column("phase", "text", [scene.phases[each] for each in pieces.phase[order].tolist()]),
        Column("thread", "id", pieces.thread[order].tolist()),
        Column("file", "text", [scene.file_names[each] if each >= 0 else "" for each in pieces.file[order].tolist()]),
        *(
            [
                Column(
                    "tensor",
                    "text",
                    [printable(pieces.tensors[each]) if each >= 0 else "" for each in pieces.tensor[order].tolist()],
                )
            ]
            if pieces.tensors
            else []
        ),
        Column("class", "text", [LABELS[each] for each in pieces.value[order].tolist()]),
        Column("pieces", "n", pieces.pieces[order].tolist()),
    )
    return Table(
        "stacks",
        "Time by phase, file and class",
        columns,
        {"phase": pieces.phase[order].tolist(), "file": pieces.file[order].tolist()},
        len(pieces),
    )


def _report_tables(scene: Scene) -> list[Table]:
    """Tables of the report that no picture shows: each column as it is named there."""
    return [_plain(scene, key, title, _rows(scene, key)) for key, title in REPORT_TABLES.items()]


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
    if key == "folders":
        columns = tuple(_named_folders(column) if column.name == "path" else column for column in columns)
    number = {name: place for place, name in reversed(list(enumerate(scene.files.names)))}
    links = {"file": [number.get(row.path, -1) for row in shown]} if hasattr(shown[0], "path") else {}
    return Table(key, title, columns, links, len(rows))


TITLES: Final = {
    "fuse_requests": "requests",
    "fuse_reads": "reads",
    "fuse_read_bytes": "bytes read",
    "read_bytes": "bytes read",
    "self_read_bytes": "bytes read itself",
    "http_fetches": "fetches",
    "http_bytes": "fetched",
    "self_http_fetches": "fetches itself",
    "self_http_bytes": "fetched itself",
    "self_s": "itself",
    "self_blocked_s": "waited itself",
    "self_opens": "opens itself",
    "self_lookups": "lookups itself",
    "self_reads": "reads itself",
    "blocked_s": "waited",
    "generation_blocked_s": "waited in generation",
    "total_requests": "requests below",
    "total_http_fetches": "fetches below",
    "total_http_bytes": "fetched below",
    "total_blocked_s": "waited below",
    "asked_bytes": "used",
    "op_type": "operator",
    "traced": "in the trace",
    "client": "of the client",
}
"""Titles of columns whose names in the report do not read well."""
IDENTIFIERS: Final = ("pid", "parent", "process", "layer", "index", "exit_code")


def _named_folders(column: Column) -> Column:
    """Return the paths of folders, with a text for the row of requests whose names were not observed."""
    return replace(column, values=[path or "(name not observed)" for path in column.values])


def _column(name: str, values: list[Any]) -> Column:
    title = TITLES.get(name) or name.removesuffix("_s").removesuffix("_bytes").replace("_", " ")
    if name in IDENTIFIERS:
        return Column(title, "id", values)
    if name.endswith("_s"):
        return Column(title, "s", values)
    if name.endswith("_bytes"):
        return Column(title, "bytes" if name != "offset_bytes" else "n", values)
    if all(each is None or (isinstance(each, int | float) and not isinstance(each, bool)) for each in values):
        return Column(title, "n", values)
    return Column(title, "text", ["" if each is None else printable(_as_text(each)) for each in values])


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " × ".join(map(str, value)) if isinstance(value, tuple) else str(value)
