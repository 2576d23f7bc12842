"""What stands on top of the page: four figures, each with what it would be if all were in memory, and one bar of the whole run."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cvtrace.analysis.contract.classes import LABELS, Class
from cvtrace.analysis.contract.quantities import pluralize, seconds, size
from cvtrace.analysis.contract.report_schema import Phase, Report
from cvtrace.analysis.report.brief_answers import waited_s
from cvtrace.analysis.report.html.palette import COLOURS

HOT: Final = "in_memory"
"""The prediction (WhatIf) of a run in which every page is in memory."""
FIGURES: Final = 4
ROOM_FOR_NAME, ROOM_FOR_VALUE = 0.14, 0.055
"""Share of the bar from which on a piece has room for its class and its time, or for its time alone."""

READABLE: Final = 0.2
"""Luminance of a colour from which on dark text is read better than light text."""


@dataclass(frozen=True)
class Figure:
    """One figure: its name, its value, and the value if all were in memory, empty where that is not known."""

    name: str
    value: str
    hot: str
    meaning: str
    better: bool = False
    """Whether a hot run would show a clearly better value."""


@dataclass(frozen=True)
class Piece:
    """One class of the bar of the whole run."""

    label: str
    colour: str
    share: float
    time: str
    anchor: str
    meaning: str
    caption: str
    """What fits in the piece: its class and time, its time, or nothing."""

    @property
    def ink(self) -> str:
        """Return the colour of a text that can be read on the piece."""
        parts = (int(self.colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
        light = sum(weight * part**2.2 for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))
        return "#111111" if light > READABLE else "#ffffff"


def figures(report: Report) -> list[Figure]:
    """Return the figures of a run: those of loading and generating where it did that, then the time, the waiting and the bytes."""
    of_model = [*_loading(report), *_generating(report)]
    of_run = _whole_run(report)
    entries = [*of_model, *_waiting(report), *of_run] if of_model else [*of_run[:1], *_waiting(report), *of_run[1:]]
    return entries[:FIGURES]


def bar(phases: Iterable[Phase]) -> list[Piece]:
    """Return the whole run by class, in the order of the legend."""
    rows = list(phases)
    total = sum(row.wall_s for row in rows)
    times = {member: sum(row.classes[LABELS[member]] for row in rows) for member in Class}
    return [
        Piece(
            label=member.label,
            colour=COLOURS[member],
            share=spent / total,
            time=seconds(spent),
            anchor=member.anchor,
            meaning=member.meaning,
            caption=_caption(member.label, spent, spent / total),
        )
        for member, spent in times.items()
        if spent > 0
    ]


def _caption(label: str, spent_s: float, share: float) -> str:
    if share > ROOM_FOR_NAME:
        return f"{label} {seconds(spent_s)}"
    return seconds(spent_s) if share > ROOM_FOR_VALUE else ""


def saved_when_hot(report: Report) -> dict[str, float] | None:
    """Return the seconds of each phase that a run with everything in memory would not take; None if that is not known."""
    predictions = report.what_if.predictions if report.what_if else ()
    hot = next((each for each in predictions if each.name == HOT), None)
    if hot is None or hot.wall_s is None:
        return None
    return {row.name: row.measured_s - row.predicted_s for row in hot.phases if row.predicted_s is not None}


def _loading(report: Report) -> list[Figure]:
    row = next((each for each in report.phases if each.name == "load" and each.wall_s), None)
    if row is None:
        return []
    return [_time(report, "Load", row.wall_s, ("load",), "From the call that loads the model to its return.")]


def _generating(report: Report) -> list[Figure]:
    verdict = report.verdict
    first, further = verdict.first_token, verdict.further_tokens
    entries = []
    if first and first.wall_s:
        firsts = sum(answer.first_token_s is not None for answer in report.answers)
        name = "First token" if firsts < 2 else f"First tokens, {firsts:,} answers"
        about = "The prompt is processed (prefill) and the first token is made."
        entries.append(_time(report, name, first.wall_s, ("prefill",), about))
    count = _further_tokens(report)
    if further and further.wall_s and count:
        saved = saved_when_hot(report)
        hot_s = None if saved is None else further.wall_s - saved.get("decode", 0.0) - saved.get("between", 0.0)
        hot = "" if hot_s is None or hot_s <= 0 else f"{count / hot_s:,.1f}"
        about = f"{pluralize(count, 'token')} after the first, in {seconds(further.wall_s)}."
        better = hot_s is not None and hot_s < 0.9 * further.wall_s
        entries.append(Figure("Tokens per second", f"{count / further.wall_s:,.1f}", hot, about, better))
    return entries


def _further_tokens(report: Report) -> int:
    if report.verdict.tokens is None:
        return 0
    return max(report.verdict.tokens - sum(answer.first_token_s is not None for answer in report.answers), 0)


def _time(report: Report, name: str, wall_s: float, phases: tuple[str, ...], about: str) -> Figure:
    saved = saved_when_hot(report)
    hot_s = None if saved is None else max(wall_s - sum(saved.get(phase, 0.0) for phase in phases), 0.0)
    better = hot_s is not None and hot_s < 0.9 * wall_s
    return Figure(name, seconds(wall_s), "" if hot_s is None else seconds(hot_s), about, better)


def _waiting(report: Report) -> list[Figure]:
    wall = sum(row.wall_s for row in report.phases)
    if not wall or all(row.fuse_requests is None for row in report.phases):
        return []
    waited = sum(waited_s(row) for row in report.phases)
    saved = saved_when_hot(report)
    hot = ""
    if saved is not None:
        saved_s = sum(saved.values())
        hot = _percent(max(waited - saved_s, 0.0) / max(wall - saved_s, 1e-9))
    about = f"{seconds(waited)} of {seconds(wall)}: network, the client's cache, and FUSE."
    return [Figure("Waited for CVMFS", _percent(waited / wall), hot, about, waited > 0.05 * wall)]


def _whole_run(report: Report) -> list[Figure]:
    wall = sum(row.wall_s for row in report.phases)
    if not wall:
        return []
    phases = tuple(row.name for row in report.phases)
    entries = [_time(report, "Whole run", wall, phases, "From the start of the program to its end.")]
    if all(row.fuse_requests is None for row in report.phases):
        return entries
    fetches, fetched = (
        sum(getattr(row, name) or 0 for row in report.phases) for name in ("http_fetches", "http_bytes")
    )
    requests = sum(row.fuse_requests or 0 for row in report.phases)
    reads, read = (sum(getattr(row, name) or 0 for row in report.phases) for name in ("fuse_reads", "fuse_read_bytes"))
    about = f"{pluralize(fetches, 'fetch')} over HTTP; compressed bytes on the wire."
    entries.append(Figure("Downloaded", size(fetched), size(0), about, fetched > 0))
    about = f"{pluralize(reads, 'read')} ({size(read)}) and {pluralize(requests - reads, 'other request')} reached the client."
    entries.append(Figure("FUSE requests", f"{requests:,}", "", about))
    return entries


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.095 or share == 0 else f"{100 * share:.1f} %"
