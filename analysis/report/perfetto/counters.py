"""Counters of a Perfetto trace: bytes under way, and what is known of the page cache."""

from collections.abc import Iterator

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.report.perfetto.content import Content
from cvtrace.analysis.report.perfetto.slices import Counter
from cvtrace.analysis.storage.residency import residency
from cvtrace.analysis.trace.intervals import Ints
from cvtrace.probes.events import Opcode


def counters(study: Study, content: Content) -> Iterator[Counter]:
    """Return all counters; residency only where single requests were observed."""
    requests, gets = study.requests, study.gets
    read = requests.is_(Opcode.READ)
    if read.any():
        yield _under_way(
            content, "READ bytes in flight", requests.sent[read], requests.replied[read], requests.read_bytes[read]
        )
    answered = gets.last >= 0
    if answered.any():
        yield _under_way(
            content, "HTTP bytes in flight", gets.sent[answered], gets.last[answered], gets.body_bytes[answered]
        )
    pages = residency(study)
    if len(pages.time):
        series = {"Page cache: bytes seen there": pages.seen_bytes, "Page cache: read again": pages.again_bytes}
        for name, values in series.items():
            yield Counter(content.tracks.counter(content.target, name, "bytes"), pages.time, values)


def _under_way(content: Content, name: str, sent: Ints, end: Ints, size: Ints) -> Counter:
    """Count bytes from when they were asked for until they were there."""
    time = np.concatenate([sent, end])
    order = np.argsort(time, kind="stable")
    total = np.cumsum(np.concatenate([size, -size])[order])
    time = time[order]
    is_last = np.append(time[1:] != time[:-1], True)[: len(time)]
    track = content.tracks.counter(content.target, name, "bytes")
    return Counter(track, time[is_last], np.maximum(total[is_last], 0))
