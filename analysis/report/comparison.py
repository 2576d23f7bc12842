"""A comparison as text and as JSON."""

import io
import json
from typing import Final

from rich.console import Console
from rich.table import Table

from cvtrace.analysis.comparison.compare import Comparison, Side, Word
from cvtrace.analysis.comparison.statistics import Change
from cvtrace.analysis.contract.classes import LABELS
from cvtrace.analysis.contract.quantities import pluralize, seconds, size
from cvtrace.analysis.contract.verdict_schema import GENERATION, INFERENCE, PROGRAM
from cvtrace.analysis.report.lines import wrapped
from cvtrace.analysis.report.names import printable, shortened, with_printable_texts

WORTH: Final = 0.02
"""Share of a phase's wall time from which on the change of a class is shown."""
COUNTS: Final = ("count", "fuse_reads", "fuse_read_bytes", "http_fetches", "http_bytes", "faults", "page_cache_bytes")
FIGURE_NAMES: Final = {
    "duration_s": "duration",
    "wall_s": "wall",
    "count": "times",
    "fuse_reads": "reads",
    "fuse_read_bytes": "read",
    "http_fetches": "fetches",
    "http_bytes": "fetched",
    "blocked_s": "blocked on CVMFS",
    "page_cache_bytes": "from page cache",
    "median_s": "median",
    "p99_s": "p99",
}
"""Names of figures, where they are not those of the JSON."""
WORDS: Final = {"hits_cvmfs": "hits CVMFS", "cache_state": "cache state"}
VERDICTS: Final = {
    GENERATION: "generation hits CVMFS",
    INFERENCE: "inference hits CVMFS",
    PROGRAM: "it waits for CVMFS",
}
"""Question of a verdict -> what its answer is to."""
CAUSES: Final = 2
"""Classes that are told as the reason of a change, in short."""
TOP: Final = 5
"""Phases that the text tells of, in short."""
NAME: Final = 12
PATH: Final = 60


def as_json(comparison: Comparison) -> str:
    """Return the contract for scripts: fields are added, never renamed."""
    return json.dumps(comparison.as_dict(), indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def render(comparison: Comparison, width: int) -> str:
    """Return what changed as lines of at most `width` columns, but for long paths."""
    comparison = with_printable_texts(comparison)
    out = io.StringIO()
    console = Console(
        file=out, width=width, color_system=None, markup=False, emoji=False, highlight=False, legacy_windows=False
    )
    console.print(answer(comparison))
    for line in _most(comparison):
        for each in wrapped(line, width, initial_indent="  ", subsequent_indent="    "):
            console.print(each)
    console.print()
    for letter, side in (("A", comparison.a), ("B", comparison.b)):
        console.print(f"{letter}: {_side(side)}", soft_wrap=True)  # a path stays in one piece
        console.print(f"   {_verdict_of(comparison, letter)}")
    for word in comparison.words:
        if word.a != word.b and word.of != "run":
            console.print(_word(word))
    console.print()
    intervals = any(change.low is not None for change in comparison.changes)
    console.print(_table(comparison, intervals, width))
    for note in comparison.notes:
        console.print(f"Note: {printable(note)}.")
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def _side(side: Side) -> str:
    scripts = shortened(", ".join(side.scripts), PATH)
    return f"{printable(side.path)}: {scripts}, {pluralize(side.runs, 'run')}, probes: {', '.join(side.probes)}"


def _word(word: Word) -> str:
    return f"{shortened(word.of, NAME)}: {WORDS[word.name]}: A {words_of_side(word.a)}, B {words_of_side(word.b)}"


def _verdict_of(comparison: Comparison, letter: str) -> str:
    """Return what was found of one side: its verdict, and how warm its caches were."""
    words = {word.name: word.a if letter == "A" else word.b for word in comparison.words if word.of == "run"}
    verdict = verdict_name(comparison.a if letter == "A" else comparison.b)
    return " · ".join(f"{WORDS.get(name, verdict)}: {words_of_side(each)}" for name, each in words.items())


def verdict_name(side: Side) -> str:
    """Return what the verdict of a side is on; of runs that are asked different things, only that it is a verdict."""
    return VERDICTS.get(side.questions[0], "verdict") if len(side.questions) == 1 else "verdict"


def answer(comparison: Comparison) -> str:
    """Return which side is faster, in one sentence."""
    change = _grouped(comparison)["run"][0]
    if change.a is None or change.b is None or change.difference is None:
        return "The two sides cannot be compared: the time of one is not known."
    a, b = seconds(change.a), seconds(change.b)
    if a == b:
        return f"A and B took the same time: {a}."
    slow, fast = ("A", "B") if change.difference < 0 else ("B", "A")
    share = abs(change.difference) / max(change.a, change.b)
    chance = "" if change.certain is None or change.certain else "; that may be chance"
    return f"{fast} is faster than {slow} by {seconds(abs(change.difference))} ({100 * share:.0f} %): A took {a}, B {b}{chance}."


def words_of_side(words: dict[str, int]) -> str:
    """Return the words of a side, with how many of its runs gave each, if there are several."""
    several = sum(words.values()) > 1
    return (
        ", ".join(f"{word} ×{count}" if several else word for word, count in sorted(words.items())) or "did not occur"
    )


def _most(comparison: Comparison) -> list[str]:
    """Return what is said in short of the phases that changed most."""
    groups = _grouped(comparison)
    run = groups["run"][0]
    least = WORTH * max(run.a or 0.0, run.b or 0.0)
    walls = {
        of: abs(each.difference or 0.0) for of, changes in groups.items() for each in changes if each.name == "wall_s"
    }
    top = [of for of in sorted(walls, key=lambda of: -walls[of]) if walls[of] > least][:TOP]
    starts = tuple(f"{shortened(of, PATH)}: " for of in top)
    return [line for line in in_short(comparison)[1:] if line.startswith(starts)] if starts else []


def in_short(comparison: Comparison) -> list[str]:
    """Return a sentence on the run and on each phase: wall time of both sides, and the classes that changed most."""
    groups = _grouped(comparison)
    lines = [_in_short("whole run", groups["run"][0], [])]
    for of, changes in groups.items():
        by_name = {change.name: change for change in changes}
        if "wall_s" not in by_name:
            continue
        classes = [change for change in _changes_worth_showing(changes)[1:] if change.name in LABELS]
        lines.append(_in_short(shortened(of, PATH), by_name["wall_s"], classes[:CAUSES]))
        if of == "decode":
            lines += [
                _in_short("a token (median)", each, [])
                for each in groups["tokens"]
                if each.name == "median_s" and each.difference is not None
            ]
    return lines


def _in_short(of: str, wall: Change, classes: list[Change]) -> str:
    a, b, change, share = _cells(wall)
    if change in ("", "="):
        return f"{of}: {a} → {b}"
    chance = "" if wall.certain is None or wall.certain else "; that may be chance"
    why = ", ".join(f"{each.name} {_signed(each.difference or 0.0, each.unit)}" for each in classes)
    return f"{of}: {a} → {b}, {change}{f' ({share})' if share else ''}{f': {why}' if why else ''}{chance}"


def _grouped(comparison: Comparison) -> dict[str, list[Change]]:
    groups: dict[str, list[Change]] = {}
    for change in comparison.changes:
        groups.setdefault(change.of, []).append(change)
    return groups


def _table(comparison: Comparison, intervals: bool, width: int) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("", no_wrap=True)
    for name in ("A", "B", "change", "", *(("95 % interval",) if intervals else ())):
        table.add_column(name, justify="right", no_wrap=True)
    spare = width - (80 if intervals else 72)
    name = (NAME - 2 if intervals else NAME) + max(min(spare, NAME), 0)
    for of, changes in _grouped(comparison).items():
        rows = _changes_worth_showing(changes)
        for number, change in enumerate(rows):
            cells = [
                shortened(of, name) if number == 0 else "",
                FIGURE_NAMES.get(change.name, change.name),
                *_cells(change),
            ]
            table.add_row(*cells, *([_interval(change)] if intervals else []))
    return table


def _changes_worth_showing(changes: list[Change]) -> list[Change]:
    """Return wall time, the classes that changed by a share of it worth telling, the greatest first, and the counts that changed."""
    by_name = {change.name: change for change in changes}
    wall = by_name.get("wall_s")
    if wall is None:
        return [change for change in changes if change.a is not None or change.b is not None]
    longest = max(wall.a or 0.0, wall.b or 0.0)
    classes = [by_name[name] for name in LABELS if abs(by_name[name].difference or 0.0) > WORTH * longest]
    classes.sort(key=lambda change: -abs(change.difference or 0.0))
    counts = [by_name[name] for name in COUNTS if by_name[name].a != by_name[name].b]
    return [wall, *classes, *counts]


def _cells(change: Change) -> list[str]:
    a, b = (_quantity(value, change.unit) for value in (change.a, change.b))
    if change.difference is None:
        return [a, b, "", ""]
    if change.difference == 0:
        return [a, b, "=", ""]
    return [a, b, _signed(change.difference, change.unit), _share(change.ratio)]


def _share(ratio: float | None) -> str:
    if ratio is None or abs(ratio - 1) < 0.005:
        return ""
    return f"{100 * (ratio - 1):+.0f} %" if ratio < 10 else f"{ratio:,.0f}x"


def _interval(change: Change) -> str:
    if change.low is None or change.high is None or not change.difference:
        return ""
    low, high = _signed(change.low, change.unit), _signed(change.high, change.unit)
    interval = f"{low}..{high}"  # as short as can be: two names and five numbers share 80 columns
    return interval if change.certain else f"({interval})"


def _signed(value: float, unit: str) -> str:
    return f"{'+' if value > 0 else '-' if value < 0 else ''}{_quantity(abs(value), unit)}"


def _quantity(value: float | None, unit: str) -> str:
    if value is None:
        return "n/a"
    if unit == "s":
        return seconds(value)
    return size(value) if unit == "bytes" else f"{value:,.6g}"
