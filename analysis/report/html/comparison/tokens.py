"""The tokens of both runs over each other: latency by token number."""

import numpy as np
from bokeh.models import ColumnDataSource, Range1d

from cvtrace.analysis.contract.quantities import seconds, signed
from cvtrace.analysis.joins.phases import DECODE
from cvtrace.analysis.report.html.comparison.sides import LETTERS, Sides
from cvtrace.analysis.report.html.detail import longest
from cvtrace.analysis.report.html.palette import FIRST_SIDE, SIDES
from cvtrace.analysis.report.html.pictures import Figure, Picture, blank, pointed_at, rectangles, values
from cvtrace.analysis.report.html.scene import Marks
from cvtrace.analysis.report.html.tokens import HEADROOM, MOST, bars
from cvtrace.analysis.trace.intervals import Ints

FAINT = 0.3
"""Opacity of bars, so that the lower one is seen through the higher."""


def picture(sides: Sides) -> Picture | None:
    """Return a line for each run, with the bars below it; of very many tokens the slowest, and the mean of those between."""
    walls = np.column_stack(sides.tokens_with_prompt)
    if not len(walls):
        return None
    first, last, mean = bars(walls, _one_by_one(walls))
    present_in = mean >= 0
    end_ms = top_ms(walls)
    plot = blank(
        "tokens",
        260,
        Range1d(-1, len(walls), bounds=(-1, len(walls))),
        Range1d(0, end_ms),
        "token",
        "milliseconds",
    )
    drawn = []
    for side, letter in enumerate(LETTERS):
        present = present_in[:, side]
        marks = _marks(letter, side, first[present], last[present], mean[present])
        renderer = rectangles(plot, f"tokens-{letter.lower()}", marks)
        renderer.glyph.fill_alpha = FAINT
        drawn.append(renderer)
        _line(plot, SIDES[side], first[present], last[present], mean[present, side])
    pointed_at(plot, drawn)
    beyond = np.flatnonzero(walls.max(axis=1) / 1e6 > end_ms)
    texts = [f"▲ {_both(walls[each])}" for each in beyond]
    values(plot, "tokens", (beyond + 0.6).tolist(), [end_ms * 0.94] * len(beyond), texts)
    spoken = " and ".join(_spoken(letter, walls[:, side]) for side, letter in enumerate(LETTERS))
    return Picture(
        key="tokens",
        title="Tokens",
        about="Time of each token in both runs; that of token 0 has its prompt (prefill) in it."
        + (" ▲ marks bars that are higher than the picture, with their times." if len(beyond) else "")
        + ("" if len(first) == len(walls) else f" The {MOST:,} slowest one by one; those between them as their mean."),
        model=plot,
        table="tokens",
        label=f"Two lines of time by token: {spoken}",
    )


def top_ms(walls: Ints) -> float:
    """Return the end of the axis: a prompt that takes far longer than every further token does not make these too small to see."""
    highest = float(walls.max())
    further = float(walls[1:].max()) if len(walls) > 1 else highest
    return max(highest * 1.05 if highest <= HEADROOM * further else further * HEADROOM, 1.0) / 1e6


def _both(walls: Ints) -> str:
    return ", ".join(
        f"{letter} {seconds(wall / 1e9)}" for letter, wall in zip(LETTERS, walls.tolist(), strict=True) if wall >= 0
    )


def _one_by_one(walls: Ints) -> np.ndarray:
    """Tell which tokens are drawn one by one: the slowest, and where one run ends, since no mean goes across that."""
    one_by_one = longest(walls.max(axis=1), np.zeros(len(walls), dtype=np.int64), MOST)
    ends = np.flatnonzero((walls[1:] < 0).any(axis=1) != (walls[:-1] < 0).any(axis=1))
    one_by_one[ends] = one_by_one[ends + 1] = True
    return one_by_one


def _marks(letter: str, side: int, first: Ints, last: Ints, mean: np.ndarray) -> Marks:
    marks = Marks()
    marks.add(
        [
            f"{letter}, token {a}" if a == b else f"{letter}, tokens {a} to {b}, mean"
            for a, b in zip(first, last, strict=True)
        ],
        [_how(side, *both) for both in mean.tolist()],
        left=first - 0.5,
        right=last + 0.5,
        bottom=0.0,
        top=mean[:, side] / 1e6,
        paint=FIRST_SIDE + side,
        phase=DECODE,
        token=np.where(first == last, first, -1),
    )
    return marks


def _how(side: int, a_ns: float, b_ns: float) -> str:
    """Tell both times at the higher bar, which is under the pointer wherever the lower one is."""
    if min(a_ns, b_ns) < 0:
        return f"{seconds(max(a_ns, b_ns) / 1e9)}; the other run has no such token"
    if side != int(b_ns > a_ns):
        return seconds((a_ns, b_ns)[side] / 1e9)
    return f"A {seconds(a_ns / 1e9)}, B {seconds(b_ns / 1e9)}: {signed(b_ns - a_ns)}"


def _line(plot: Figure, colour: str, first: Ints, last: Ints, mean: np.ndarray) -> None:
    """Draw the upper edges of the bars as one line, which is seen however narrow they are."""
    x = np.column_stack([first - 0.5, last + 0.5]).ravel()
    y = np.repeat(mean / 1e6, 2)
    plot.line(x="x", y="y", source=ColumnDataSource({"x": x, "y": y}), line_color=colour, line_width=2)


def _spoken(letter: str, walls: Ints) -> str:
    known = walls[walls >= 0]
    if not len(known):
        return f"{letter} none"
    return f"{letter} {len(known)}, median {seconds(float(np.median(known)) / 1e9)}, slowest {seconds(float(known.max()) / 1e9)}"
