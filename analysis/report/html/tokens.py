"""Tokens one after the other, each bar as high as its time and coloured by class; with percentiles."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from bokeh.models import Range1d, Span

from cvtrace.analysis.attribution.path import class_times
from cvtrace.analysis.contract.classes import LABELS
from cvtrace.analysis.contract.quantities import pluralize, seconds
from cvtrace.analysis.joins.phases import DECODE, PREFILL, PhaseCalls
from cvtrace.analysis.report.html.detail import longest
from cvtrace.analysis.report.html.pictures import Figure, Picture, blank, pointed_at, rectangles, values
from cvtrace.analysis.report.html.scene import Marks, Scene
from cvtrace.analysis.trace.intervals import Bools, Ints

MOST: Final = 1000
"""Tokens that are drawn one by one."""
PERCENTILES: Final = (50, 90, 99)
HEADROOM: Final = 3.0
"""The axis ends at so many times the slowest further token: a prompt that takes longer is cut off, and its time is written."""


@dataclass(frozen=True)
class TokenTimes:
    """Nanoseconds of each token by class. `first` marks first tokens, whose time has the prefill before them."""

    by_class: Ints
    first: Bools

    @property
    def wall(self) -> Ints:
        walls: Ints = self.by_class.sum(axis=1).astype(np.int64)
        return walls


def token_times(scene: Scene) -> TokenTimes:
    """Return the time of each token; a prefill counts to the token that follows it in the same thread."""
    calls = scene.study.phase_calls
    times = scene.token_classes.copy()
    first = np.zeros(len(times), dtype=bool)
    prefill = np.flatnonzero((calls.row == PREFILL) & (calls.token < 0))
    steps = np.flatnonzero(calls.token >= 0)
    if not len(prefill) or not len(steps):
        return TokenTimes(times, first)
    by_call = class_times(scene.study.call_path, np.arange(len(calls.row)), len(calls.row))
    order = steps[np.lexsort((calls.start[steps], calls.thread[steps]))]
    later = np.searchsorted(_by_thread(calls, order), _by_thread(calls, prefill))
    known = later < len(order)
    known[known] = calls.thread[order[later[known]]] == calls.thread[prefill[known]]
    token = calls.token[order[later[known]]]
    np.add.at(times, token, by_call[prefill[known]])
    first[token] = True
    return TokenTimes(times, first)


def _by_thread(calls: PhaseCalls, which: Ints) -> Ints:
    """Return numbers that sort calls by thread, then by time."""
    span = int(calls.end.max() - calls.start.min()) + 1
    thread = np.unique(calls.thread, return_inverse=True)[1].ravel()[which]
    return np.asarray(thread * span + calls.start[which] - calls.start.min(), dtype=np.int64)


def picture(scene: Scene) -> Picture | None:
    """Return a bar for each token; of very many tokens the slowest, and the mean of those between."""
    times = token_times(scene)
    wall = times.wall
    if not len(wall):
        return None
    one_by_one = longest(wall, times.first.astype(np.int64), MOST)
    further = wall[~times.first] if bool((~times.first).any()) else wall
    top_ms = _top(wall, further) / 1e6
    plot = blank(
        "tokens",
        260,
        Range1d(-1, len(wall) + 0.5, bounds=(-1, len(wall) + 0.5)),
        Range1d(0, top_ms),
        "token",
        "milliseconds",
    )
    pointed_at(plot, [rectangles(plot, "tokens", _marks(times, one_by_one))])
    _draw_percentiles(plot, further)
    high = np.flatnonzero(wall / 1e6 > top_ms)
    values(
        plot,
        "tokens",
        (high + 0.5).tolist(),
        [top_ms * 0.95] * len(high),
        [f"▲ {seconds(wall[each] / 1e9)}" for each in high],
    )
    return Picture(
        key="tokens",
        title="Tokens",
        about=_about(times, further, bool(one_by_one.all()), len(high)),
        model=plot,
        table="tokens",
        label=f"{pluralize(len(wall), 'token')}, median {seconds(float(np.median(further)) / 1e9)}, slowest {seconds(float(wall.max()) / 1e9)}",
    )


def _top(wall: Ints, further: Ints) -> float:
    """Return where the axis of time ends, in nanoseconds."""
    return max(min(float(wall.max()), HEADROOM * float(further.max())) * 1.08, 1.0)


def _about(times: TokenTimes, further: Ints, all_drawn: bool, cut: int) -> str:
    middle, high, highest = (seconds(float(each) / 1e9) for each in np.percentile(further, PERCENTILES))
    parts = ["The time of each token by class."]
    if times.first.any():
        parts.append("Token 0 is the first one: its bar has the prompt (prefill) in it.")
    parts.append(
        f"Further tokens: half take up to {middle} (p50), 90 % up to {high} (p90), 99 % up to {highest} (p99); dashed lines."
    )
    if cut:
        parts.append("▲ marks bars that go on beyond the picture, with their time.")
    if not all_drawn:
        parts.append(f"The {MOST:,} slowest are drawn one by one, those between them as their mean.")
    return " ".join(parts)


def _draw_percentiles(plot: Figure, further: Ints) -> None:
    heights = [float(each) / 1e6 for each in np.percentile(further, PERCENTILES)]
    for height in heights:
        plot.add_layout(
            Span(location=height, dimension="width", line_color="#888888", line_dash="dashed", line_width=1)
        )
    apart = [
        place == len(heights) - 1 or heights[place + 1] - height > 0.06 * plot.y_range.end
        for place, height in enumerate(heights)
    ]
    shown = [(height, f"p{share}") for height, share, room in zip(heights, PERCENTILES, apart, strict=True) if room]
    values(
        plot,
        "percentiles",
        [plot.x_range.end] * len(shown),
        [height for height, _ in shown],
        [text for _, text in shown],
        text_align="right",
        text_baseline="bottom",
        x_offset=-2,
    )


def _marks(times: TokenTimes, one_by_one: Bools) -> Marks:
    first, last, mean = bars(times.by_class, one_by_one)
    marks = Marks()
    ends = np.cumsum(mean, axis=1) / 1e6
    token, value = np.nonzero(mean > 0)
    names = [_name(a, b, bool(times.first[a])) for a, b in zip(first.tolist(), last.tolist(), strict=True)]
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
    return marks


def _name(first: int, last: int, with_prompt: bool) -> str:
    if first != last:
        return f"tokens {first} to {last}, mean"
    return f"token {first}{' with its prompt' if with_prompt else ''}"


def bars(times: np.ndarray, one_by_one: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return first token, last token and mean nanoseconds by class of each bar."""
    begins = one_by_one | np.append(True, one_by_one[:-1])  # merged tokens begin behind one that is drawn by itself
    begins |= np.arange(len(one_by_one)) % max(1, len(one_by_one) // MOST) == 0
    begins[0] = True
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(one_by_one)) - 1
    assert bool((~one_by_one | begins).all())
    return first, last, np.add.reduceat(times, first, axis=0) / (last - first + 1)[:, None]
