"""A comparison as one file of HTML: both runs side by side, made as the report of one is.

sides     the runs that are shown, and one numbering of phases and files for both
phases, tokens, flame   one picture each
tables    the same as text, and all figures
"""

from dataclasses import dataclass
from typing import Any, Final

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.comparison.compare import Comparison, Side
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.report import brief_answers as answers
from cvtrace.analysis.report.comparison import answer, in_short, verdict_name, words_of_side
from cvtrace.analysis.report.html.comparison import flame, phases, tokens
from cvtrace.analysis.report.html.comparison.sides import LETTERS, Sides
from cvtrace.analysis.report.html.comparison.tables import tables
from cvtrace.analysis.report.html.document import document
from cvtrace.analysis.report.html.figures import figures
from cvtrace.analysis.report.html.page import lines
from cvtrace.analysis.report.html.palette import SIDES
from cvtrace.analysis.report.html.scene import Scene, scene
from cvtrace.analysis.report.names import printable
from cvtrace.analysis.storage.tables import Tables

HASHED: Final = "names are hashed in one of the traces: which file is the same in the other cannot be told"
Studied = tuple[Study, Tables, Report]


@dataclass(frozen=True)
class Heading:
    """What stands above the pictures about one side; `shown` names the run that the pictures show, if there are several."""

    letter: str
    colour: str
    path: str
    what: str
    question: str
    verdict: str
    mark: str
    """Of the verdict of all runs: yes, no, inconclusive, or nothing if they differ."""
    state: str
    answer: list[str]
    shown: str
    report: Report
    lacking: tuple[str, ...]


def render(comparison: Comparison, a: Studied, b: Studied) -> str:
    """Return the page on a comparison; the pictures show the runs `a` and `b`."""
    sides = Sides(comparison, scene(*a), scene(*b))
    pictures = [phases.picture(sides), tokens.picture(sides), flame.picture(sides)]
    vanished, new = flame.vanished_and_new(sides)
    return document(
        "comparison.html",
        [each for each in pictures if each],
        tables(sides),
        _links(sides),
        title=" · ".join(
            f"{letter}: {printable(side.path)}"
            for letter, side in zip(LETTERS, (comparison.a, comparison.b), strict=True)
        ),
        headings=[_heading(comparison, number, shown) for number, shown in enumerate(sides.both)],
        short=answer(comparison),
        figures=_figures(sides),
        changed=in_short(comparison)[1:],
        notes=lines((*comparison.notes, *([HASHED] if sides.hashed else []))),
        vanished=vanished,
        new=new,
        changes=flame.legend(),
        opened=("figures",),
    )


def _figures(sides: Sides) -> list[tuple[str, str, str]]:
    """Return the figures that both runs have: name, value of A, value of B."""
    a, b = ({each.name: each.value for each in figures(scene.report)} for scene in sides.both)
    return [(name, value, b[name]) for name, value in a.items() if name in b]


def _heading(comparison: Comparison, number: int, shown: Scene) -> Heading:
    side = (comparison.a, comparison.b)[number]
    words = {word.name: (word.a, word.b)[number] for word in comparison.words if word.of == "run"}
    report = shown.report
    return Heading(
        letter=LETTERS[number],
        colour=SIDES[number],
        path=printable(side.path),
        what=printable(_what(side)),
        question=verdict_name(side),
        verdict=words_of_side(words["verdict"]),
        mark=next(iter(words["verdict"])) if len(words["verdict"]) == 1 else "",
        state=words_of_side(words["cache_state"]),
        answer=lines(f"{label[:1].upper()}{label[1:]}: {text}" for label, text in answers.generation(report)),
        shown=printable(_run(report.trace.path)) if side.runs > 1 else "",
        report=report,
        lacking=(*report.trace.missing, *report.notes),
    )


def _what(side: Side) -> str:
    runs = "" if side.runs == 1 else f", {side.runs:,} runs"
    return f"{', '.join(side.scripts)}{runs}, probes: {', '.join(side.probes)}"


def _run(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _links(sides: Sides) -> dict[str, Any]:
    """Return what marks and rows are linked by; fetches are not shown, and times of two runs are not one axis."""
    return {
        "phases": sides.phases,
        "files": [printable(name) for name in sides.differences.parts],
        "spans": {"phase": [], "token": [[]] * len(sides.tokens[0]), "fetch": []},
        "heats": [],
        "fetches": {},
    }
