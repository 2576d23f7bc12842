"""Tokens one after the other, each bar as high as its time and coloured by class."""

import numpy as np
from bokeh.models import Range1d

from cvtrace.analysis.contract.classes import LABELS
from cvtrace.analysis.contract.quantities import seconds
from cvtrace.analysis.joins.phases import DECODE
from cvtrace.analysis.report.html.detail import longest
from cvtrace.analysis.report.html.pictures import Picture, blank, pointed_at, rectangles
from cvtrace.analysis.report.html.scene import Marks, Scene

MOST = 1000
"""Tokens that are drawn one by one."""


def picture(scene: Scene) -> Picture | None:
    """Return a bar for each token; of very many tokens the slowest, and the mean of those between."""
    times = scene.token_classes
    if not len(times):
        return None
    wall = times.sum(axis=1)
    kept = longest(wall, np.zeros(len(wall), dtype=np.int64), MOST)
    first, last, mean = bars(times, kept)
    marks = Marks()
    ends = np.cumsum(mean, axis=1) / 1e6
    token, value = np.nonzero(mean > 0)
    names = [f"token {a}" if a == b else f"tokens {a} to {b}, mean" for a, b in zip(first, last, strict=True)]
    totals = mean.sum(axis=1)
    marks.add(
        [f"{names[each]}: {LABELS[kind]}" for each, kind in zip(token.tolist(), value.tolist(), strict=True)],
        [
            f"{seconds(mean[each, kind] / 1e9)} of {seconds(totals[each] / 1e9)}"
            for each, kind in zip(token.tolist(), value.tolist(), strict=True)
        ],
        left=first[token] - 0.42,
        right=last[token] + 0.42,
        bottom=(ends - mean / 1e6)[token, value],
        top=ends[token, value],
        paint=value,
        phase=DECODE,
        token=np.where(first == last, first, -1)[token],
    )
    plot = blank(
        "tokens",
        240,
        Range1d(-1, len(wall), bounds=(-1, len(wall))),
        Range1d(0, float(wall.max()) / 1e6 * 1.05),
        "token",
        "milliseconds",
    )
    pointed_at(plot, [rectangles(plot, "tokens", marks)])
    return Picture(
        key="tokens",
        title="Tokens",
        about="Time of each token (one call of GenerateNextToken) by class."
        + ("" if kept.all() else f" The {MOST:,} slowest one by one; those between them as their mean."),
        model=plot,
        table="tokens",
        label=f"{len(wall)} tokens, median {seconds(float(np.median(wall)) / 1e9)}, slowest {seconds(float(wall.max()) / 1e9)}",
    )


def bars(times: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return first token, last token and mean nanoseconds by class of each bar."""
    other = ~kept
    begins = kept | np.append(True, kept[:-1])  # a run of merged tokens begins behind one that is kept
    begins |= np.arange(len(kept)) % max(1, len(kept) // MOST) == 0
    begins[0] = True
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(kept)) - 1
    assert bool((other | begins).all())
    return first, last, np.add.reduceat(times, first, axis=0) / (last - first + 1)[:, None]
