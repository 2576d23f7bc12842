"""The page of a fleet: one file of HTML that needs no network."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from cvtrace.analysis.contract.fleet_report import FleetReport, SharedObject
from cvtrace.analysis.contract.quantities import seconds, size
from cvtrace.analysis.fleet.fleet import Fleet
from cvtrace.analysis.fleet.frames import Frames
from cvtrace.analysis.report.fleet import sentences
from cvtrace.analysis.report.fleet.pictures import pictures, slowest_first
from cvtrace.analysis.report.fleet.single import report_name
from cvtrace.analysis.report.html.document import unlinked
from cvtrace.analysis.report.names import printable, with_printable_texts

SECONDS: Final = len("2026-01-01T00:00:00")
"""Of a time in ISO 8601, the part down to the second."""
MOST_ROWS: Final = 200
"""Of objects and files."""


@dataclass(frozen=True)
class Cell:
    """Text of a cell, the number by which it is sorted (None: by its text, empty: unknown), and the target of its link."""

    text: str
    sort: float | str | None = None
    link: str = ""


@dataclass(frozen=True)
class PlainTable:
    """A table of the page: columns are (name, is it text)."""

    key: str
    title: str
    about: str
    columns: tuple[tuple[str, bool], ...]
    rows: list[list[Cell]]


NODE_COLUMNS: Final = {
    "answer": ("hits CVMFS", None),
    "cache_state": ("caches", None),
    "work_s": ("work", seconds),
    "load_s": ("load", seconds),
    "first_token_s": ("first token", seconds),
    "tokens_per_s": ("tokens/s", lambda value: f"{value:,.1f}"),
    "network_s": ("network", seconds),
    "cache_s": ("cache", seconds),
    "compute_s": ("compute", seconds),
    "other_s": ("other", seconds),
    "fetches": ("fetches", lambda value: f"{value:,}"),
    "fetched_bytes": ("fetched", size),
    "warm_proxy_saves_s": ("warm proxy saves", lambda value: seconds(max(value, 0.0))),
    "evicted": ("evicted", lambda value: f"{value:,}"),
    "proxy": ("proxy", None),
    "labels": ("labels", None),
    "started": ("started", None),
    "exit_code": ("exit code", lambda value: f"{value}"),
}
"""Column -> its name on the page, and how a number of it is written; None for texts."""


def render(fleet: Fleet, place: Path, reports: Path | None) -> str:
    """Return the page, to lie in the folder `place`; `reports` is where the reports of single traces were written, if they were."""
    frames, report = Frames(fleet.part), with_printable_texts(fleet.report)
    sections = [
        ("Slowest nodes", [sentences.slow(row) for row in report.slowest[:5]] or ["no node is slower than the median"]),
        ("Stragglers", sentences.stragglers(report)),
        ("Failed", sentences.failed(report)),
        ("The start", sentences.start(report)),
        ("Fetched by many", sentences.shared(report)),
        ("Evictions", sentences.evicting(report)),
        ("Clocks", sentences.clocks(report)),
        ("Notes", list(report.notes)),
        ("Skipped", [f"{row.trace}: {row.reason}" for row in report.skipped]),
    ]
    return unlinked(
        "fleet.html",
        "fleet.js",
        pictures(frames, report.timeline),
        title=sentences.title(report),
        verdicts=sentences.verdicts(report),
        figures=_figures(report),
        sections=[(name, [_sentence(line) for line in lines]) for name, lines in sections if lines],
        tables=[table for table in _tables(frames, report, place, reports) if table.rows],
    )


def _sentence(text: str) -> str:
    """Return a clause as a sentence; names stay as they are."""
    first = text.partition(" ")[0]
    return f"{text[:1].upper() if first.isalpha() else text[:1]}{text[1:]}."


def _figures(report: FleetReport) -> list[tuple[str, str, str]]:
    rows = []
    for each in report.spreads:
        extent = f"{sentences.value(each, each.least)} to {sentences.value(each, each.most)}, {each.nodes:,} nodes"
        rows.append((sentences.FIGURES[each.name].capitalize(), sentences.value(each, each.median), extent))
    return rows


def _tables(frames: Frames, report: FleetReport, place: Path, reports: Path | None) -> list[PlainTable]:
    return [
        _nodes(frames, place, reports),
        PlainTable(
            "slow",
            "Slower than the median node",
            "Classes of time in which a node spent more than the median of the nodes that ran the same script.",
            (("node", True), ("work", False), ("above the median", False), ("why", True)),
            [
                [Cell(row.node), _number(row.work_s, seconds), _number(row.over_s, seconds), Cell(sentences.why(row))]
                for row in report.slowest
            ],
        ),
        _shared("files", "Files", report.files),
        _shared("objects", "Objects", report.objects),
        PlainTable(
            "evicting",
            "Nodes whose client's cache is too small",
            "The client evicted objects that the run needed again.",
            (("node", True), ("evicted", False), ("fetched again", False), ("bytes again", False), ("limit", False)),
            [
                [
                    Cell(row.node),
                    _number(row.evicted, "{:,}".format),
                    _number(row.fetched_again, "{:,}".format),
                    _number(row.fetched_again_bytes, size),
                    _number(row.quota_bytes, size),
                ]
                for row in report.evicting
            ],
        ),
    ]


def _nodes(frames: Frames, place: Path, reports: Path | None) -> PlainTable:
    columns = {name: frames.nodes[name].to_pylist() for name in ("trace", *NODE_COLUMNS)}
    order = slowest_first(frames).tolist()
    cut = (
        f" The slowest of {frames.nodes.num_rows:,} nodes are shown, and a sample of the others."
        if len(order) < frames.nodes.num_rows
        else ""
    )
    linked = 0
    rows = []
    for row in order:
        link = _link(columns["trace"][row], place, reports)
        linked += bool(link)
        cells = [Cell(printable(frames.names[row]), link=link)]
        for name, (_, written) in NODE_COLUMNS.items():
            value = columns[name][row]
            text = str(value or "")[:SECONDS].replace("T", " ") if name == "started" else str(value or "")
            cells.append(Cell(printable(text)) if written is None else _number(value, written))
        rows.append(cells)
    heads = [("node", True), *((title, written is None) for title, written in NODE_COLUMNS.values())]
    telling = [
        number
        for number in range(len(heads))
        if number == 0 or any(row[number].text not in ("", "n/a") for row in rows)
    ]
    about = (
        "The slowest node first; a name leads to the report of that trace."
        if linked
        else ("The slowest node first. With --reports DIR, each name leads to the report of that trace.")
    )
    chosen = tuple(heads[number] for number in telling)
    return PlainTable("nodes", "Nodes", about + cut, chosen, [[row[number] for number in telling] for row in rows])


def _link(trace: str, place: Path, reports: Path | None) -> str:
    """Return where the report of a trace is, as seen from the page; empty if it was not written."""
    beside = reports / report_name(trace) if reports is not None else Path(f"{trace}.html")
    if not beside.is_file():
        return ""
    return "./" + quote(os.fsencode(os.path.relpath(beside, place)))


def _shared(key: str, title: str, rows: Sequence[SharedObject]) -> PlainTable:
    chosen = list(rows[:MOST_ROWS])
    cut = f" The first {MOST_ROWS:,} of them." if len(rows) > MOST_ROWS else ""
    names: Iterable[tuple[str, Callable[[SharedObject], str]]] = (
        *((("object", lambda row: row.object),) if key == "objects" else ()),
        ("file", lambda row: row.path),
    )
    numbers: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
        ("nodes", "nodes", "{:,}".format),
        ("GETs", "fetches", "{:,}".format),
        ("bytes", "bytes", size),
        ("repeated", "repeated_bytes", size),
        ("on the network", "network_s", seconds),
    )
    return PlainTable(
        key,
        f"{title} that were fetched",
        "Sorted by the bytes that were fetched repeatedly." + cut,
        (*((name, True) for name, _ in names), *((name, False) for name, *_ in numbers)),
        [
            [
                *(Cell(text(row)) for _, text in names),
                *(_number(getattr(row, field), written) for _, field, written in numbers),
            ]
            for row in chosen
        ],
    )


def _number(value: float | None, written: Callable[[Any], str]) -> Cell:
    return Cell("n/a", "") if value is None else Cell(written(value), value)
