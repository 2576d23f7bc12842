"""The page of one run: what is said of it in words, and the numbers by which its pictures and tables are linked."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np

from cvtrace.analysis.contract.quantities import seconds
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.report import brief_answers as answers
from cvtrace.analysis.report import failed, predicted, sentences
from cvtrace.analysis.report.full import BLOCKS
from cvtrace.analysis.report.html.activity import zoomable
from cvtrace.analysis.report.html.document import document
from cvtrace.analysis.report.html.figures import bar, figures
from cvtrace.analysis.report.html.folders import tree
from cvtrace.analysis.report.html.heat import Heat
from cvtrace.analysis.report.html.pictures import Picture
from cvtrace.analysis.report.html.scene import Scene
from cvtrace.analysis.report.html.tables import Table
from cvtrace.analysis.report.names import printable
from cvtrace.analysis.trace.intervals import Ints

FLAME_MODES: Final = (("all", "all"), ("waiting", "waiting"), ("computing", "computing"))
FLAME_MODES_OF_LINES: Final = (("lines", "all, by line of code"), ("lines-waiting", "waiting, by line of code"))


def page(scene: Scene, pictures: Sequence[Picture], heats: Sequence[Heat], tables: Sequence[Table]) -> str:
    """Return the page. `pictures` and `tables` are in the order in which they stand."""
    report = scene.report
    question, reply = answers.headline(report)
    return document(
        "report.html",
        pictures,
        tables,
        _links(scene, heats),
        report=report,
        question=question,
        number=printable(reply.partition(": ")[2]),
        trouble=lines([*failed.sentences(report), *answers.trouble(report)]),
        brief=[(label, printable(text)) for label, text in (*answers.generation(report), *answers.load(report))],
        figures=figures(report),
        bar=bar(report.phases),
        duration=seconds(sum(row.wall_s for row in report.phases)),
        predicted=predicted.rows(report.what_if, report) if report.what_if else [],
        assumed=lines(predicted.sentences(report.what_if)) if report.what_if else [],
        answer=lines(sentences.answer(report)),
        particulars=[line for block in _blocks() for line in lines(block(report))],
        title=printable(sentences.title(report)),
        lacking=[*report.trace.missing, *report.notes],
        findings=report.findings,
        heats=heats,
        flame_modes=FLAME_MODES + (FLAME_MODES_OF_LINES if scene.lines else ()),
        has_tree=bool(tree(report)),
        opened=("phases",),
    )


def _blocks() -> list[Callable[[Report], list[str]]]:
    """Return what is written of a run beside its answer, without what the pictures show."""
    shown_elsewhere = (sentences.unobserved, sentences.times)
    return [sentences.token_times, *(block for block in BLOCKS if block not in shown_elsewhere)]


def lines(texts: Iterable[str]) -> list[str]:
    """Return sentences as harmless text."""
    return [printable(line) for line in texts]


def _links(scene: Scene, heats: Sequence[Heat]) -> dict[str, Any]:
    return {
        "duration": scene.duration_s,
        "phases": scene.phases,
        "spans": _spans(scene),
        "files": scene.file_names,
        "heats": [{"file": heat.file, "until": heat.top_mb} for heat in heats],
        "fetches": _fetch_links(scene),
        "tree": tree(scene.report),
        "activity": zoomable(scene),
    }


def _spans(scene: Scene) -> dict[str, list[list[float]]]:
    """Return from when to when each phase, token and fetch lasted, in seconds: what is zoomed to."""
    segments, calls = scene.study.segments, scene.study.phase_calls
    tokens = calls.token >= 0
    phases = [
        _span(scene, segments.start[segments.row == row], segments.end[segments.row == row])
        for row in range(len(scene.phases))
    ]
    fetches = [[row.start_s, row.start_s + row.life_s] for row in scene.report.fetches]
    ends = np.column_stack([scene.second(calls.start[tokens]), scene.second(calls.end[tokens])])
    return {"phase": phases, "token": _short(ends.tolist()), "fetch": _short(fetches)}


def _short(spans: list[list[float]]) -> list[list[float]]:
    return [[round(start, 6), round(end, 6)] for start, end in spans]


def _span(scene: Scene, start: Ints, end: Ints) -> list[float]:
    if not len(start):
        return []
    return [round((int(start.min()) - scene.since) / 1e9, 6), round((int(end.max()) - scene.since) / 1e9, 6)]


def _fetch_links(scene: Scene) -> dict[str, list[int]]:
    """Return phase, token and file of each fetch: what a picture without fetches shows when one is chosen."""
    request = scene.study.gets.request[scene.fetch_order]
    token = np.append(scene.study.request_token, -1)[request]
    return {
        "phase": scene.study.get_phase[scene.fetch_order].tolist(),
        "token": token.tolist(),
        "file": scene.file_of(request).tolist(),
    }
