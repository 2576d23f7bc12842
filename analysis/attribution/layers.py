"""Paints intervals of threads window by window; the rest of an interval that ends after the window is carried into the next one.

What is painted at a moment depends on nothing but the intervals that cover this moment, so a cut may lie anywhere: the sum of the windows is
the whole, to the nanosecond. What is held is what a window needs, however long the trace is.
"""

from dataclasses import dataclass

import numpy as np

from cvtrace.analysis.trace.intervals import Ints, Lanes, Steps, empty, ints, overlay
from cvtrace.analysis.trace.recording import Recording


def window_edges(recording: Recording, lanes: Lanes) -> Ints:
    """Return the times between the windows, with begin and end of the lanes: one more than there are windows.

    A window has the events that are packed together (columns.PART_EVENTS): with fewer, the work that each is by itself counts; with more, memory.
    """
    begin, end = lanes.start_ns, lanes.start_ns + lanes.span_ns - 1
    times = ints([part.first_ns for part in recording.columns.parts])
    inner = np.unique(times[(times > begin) & (times < end)])
    return np.concatenate([[begin], inner, [end]]).astype(np.int64)


@dataclass(frozen=True)
class Layer:
    """Intervals of threads, painted with `value`: one for all, or one for each."""

    tid: Ints
    start: Ints
    end: Ints
    value: Ints | int


class Sweep:
    """Goes through intervals in the order of time, window by window."""

    def __init__(self, start: Ints, end: Ints) -> None:
        is_sorted = bool((start[1:] >= start[:-1]).all())
        self._order = None if is_sorted else np.argsort(start, kind="stable")
        self._start = start if self._order is None else start[self._order]
        self._end = end
        self._next = 0
        self._carried = empty()

    def until(self, end_ns: int, *, last: bool) -> Ints:
        """Return the intervals that begin before the window's end and are not over at its begin, those that began first before the others."""
        stop = len(self._start) if last else int(np.searchsorted(self._start, end_ns, side="left"))
        begun = np.arange(self._next, stop, dtype=np.int64) if self._order is None else self._order[self._next : stop]
        inside = np.concatenate([self._carried, begun])
        self._next, self._carried = stop, inside[self._end[inside] > end_ns]
        return inside


class LayerSweep:
    """Paints a layer window by window."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._sweep = Sweep(layer.start, layer.end)

    def paint(self, steps: Steps, lanes: Lanes, window: "Window") -> Steps:
        """Return the steps with what of the layer lies in the window."""
        index = self._sweep.until(window.end_ns, last=window.last)
        if not len(index):
            return steps
        layer = self._layer
        value = layer.value if isinstance(layer.value, int) else ints(layer.value[index])
        return window.paint(steps, lanes, layer.tid[index], layer.start[index], layer.end[index], value)


@dataclass(frozen=True)
class Window:
    """A stretch of time."""

    start_ns: int
    end_ns: int
    last: bool

    def paint(self, steps: Steps, lanes: Lanes, tid: Ints, start: Ints, end: Ints, value: Ints | int) -> Steps:
        """Overlay what of the intervals lies in the window; of those that overlap, the earlier ones of equal begin come first."""
        rank = lanes.rank(tid)
        start, end = np.maximum(start, self.start_ns), np.minimum(end, self.end_ns)
        chosen = np.flatnonzero((rank >= 0) & (end > start))
        if not isinstance(value, int):
            value = value[chosen]
        rank = rank[chosen]
        return overlay(steps, lanes.at_rank(rank, start[chosen]), lanes.at_rank(rank, end[chosen]), value)


def windows_between(edges: Ints) -> list[Window]:
    """Return the windows between the edges."""
    pairs = zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    return [Window(start, end, place == len(edges) - 2) for place, (start, end) in enumerate(pairs)]
