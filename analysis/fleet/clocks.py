"""How far a node's clock is from others: bounds from the Date of HTTP answers, and from what the node's kernel knows of NTP.

A server writes the second in which it answers: between the moment in which the GET was sent and the one in which its first bytes came,
the server's clock showed a time in [Date, Date + 1 s). Each answer bounds the difference of both clocks from both sides, and all together
bound it more closely than a second. Answers that a proxy had stored carry an old Date; they say so (Age, X-Cache) and are left out.
"""

import calendar
import re
import time
from typing import Any, Final, NamedTuple

import numpy as np

from cvtrace.probes.events import Events, Kind, Texts
from cvtrace.tracer.store import Trace

DATE: Final = re.compile(
    rb"^date: *([A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT)", re.IGNORECASE | re.MULTILINE
)
AGE: Final = re.compile(rb"^age: *(\d+)", re.IGNORECASE | re.MULTILINE)
CACHE: Final = re.compile(rb"^x-cache: *(.*)$", re.IGNORECASE | re.MULTILINE)
FORM: Final = "%a, %d %b %Y %H:%M:%S GMT"
SECOND: Final = 1_000_000_000


class Bounds(NamedTuple):
    """The node's clock less the servers', at least and at most, in seconds; None where no answer tells."""

    low_s: float | None
    high_s: float | None


class Answers(NamedTuple):
    """What the heads of the answers tell: the bounds of the clock, and how many came from a proxy's cache, and how many did not."""

    bounds: Bounds
    hits: int
    misses: int


def wall_offset_ns(trace: Trace) -> int:
    """Return what is to be added to a time of the trace to get the node's wall clock; 0 if the trace does not say."""
    offset = (trace.meta.get("clock") or {}).get("realtime_offset_ns")
    return offset if isinstance(offset, int) and abs(offset) < 2**62 else 0


def clock_error_s(trace: Trace) -> float | None:
    """Return the largest error of the node's clock as its kernel knows it, None where it is not synchronised or not known."""
    error = (trace.meta.get("clock") or {}).get("error_ns")
    return error / 1e9 if isinstance(error, int) and 0 <= error < 2**62 else None


def answers(trace: Trace) -> Answers:
    """Read the heads of HTTP answers."""
    offset = wall_offset_ns(trace)
    heads = trace.texts[(trace.texts["kind"] == Kind.HTTP_RECV) & (trace.texts["size"] > 0)]
    sent, received = _sent_and_received(trace.events, heads)
    low, high, hits, misses = -(2**63), 2**63, 0, 0
    for head, sent_ns, received_ns in zip(heads["text"].tolist(), sent.tolist(), received.tolist(), strict=True):
        stored = _is_stored(head)
        hits += stored is True
        misses += stored is False
        date = DATE.search(head)
        if stored or date is None or sent_ns < 0:
            continue
        second = _nanoseconds(date[1])
        if second is not None:
            low = max(low, sent_ns + offset - second - SECOND)
            high = min(high, received_ns + offset - second)
    known = -(2**62) < low <= high < 2**62  # else: no answer tells, or they contradict each other (a clock was set)
    return Answers(Bounds(low / 1e9, high / 1e9) if known else Bounds(None, None), hits, misses)


def _is_stored(head: bytes) -> bool | None:
    """Return whether the answer came from the cache of a proxy; None if no header shows it."""
    cache, age = CACHE.search(head), AGE.search(head)
    if cache is not None:
        return b"hit" in cache[1].lower()
    return int(age[1]) > 0 if age is not None else None


def _nanoseconds(date: bytes) -> int | None:
    try:
        return calendar.timegm(time.strptime(date.decode(), FORM)) * SECOND
    except (ValueError, OverflowError):
        return None


def _sent_and_received(events: Events, heads: Texts) -> tuple[Any, Any]:
    """Return when the GET before each answer on its socket was sent (-1: not seen), and when the first bytes of the answer were there."""
    kind = events["kind"]
    http = events[(kind == Kind.HTTP_SEND) | (kind == Kind.HTTP_RECV)]
    http = http[np.lexsort((http["ts"], http["a"], http["tgid"]))]
    start = http["ts"].astype(np.int64)
    is_send = http["kind"] == Kind.HTTP_SEND
    last_send = np.maximum.accumulate(np.where(is_send, np.arange(len(http)), -1))
    same = (last_send >= 0) & (http["a"][last_send] == http["a"]) & (http["tgid"][last_send] == http["tgid"])
    sent = np.where(same, start[last_send], -1) if len(http) else start
    order = np.argsort(start, kind="stable")
    if not len(order):
        nothing = np.full(len(heads), -1, dtype=np.int64)
        return nothing, nothing
    row = order[np.minimum(np.searchsorted(start[order], heads["ts"].astype(np.int64)), len(order) - 1)]
    fits = (http["ts"][row] == heads["ts"]) & (http["tid"][row] == heads["tid"]) & ~is_send[row]
    return np.where(fits, sent[row], -1), np.where(fits, start[row] + http["dur"][row].astype(np.int64), -1)
