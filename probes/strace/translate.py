"""A whole log -> events and texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from cvtrace.probes.events import Events, Texts
from cvtrace.probes.strace.daemon import DaemonTranslator
from cvtrace.probes.strace.target import TargetTranslator
from cvtrace.probes.strace.translator import Translator


@dataclass(frozen=True)
class Parsed:
    """What a log said: `events` and `texts` sorted by ts, how many lines there were and how many could not be read."""

    events: Events
    texts: Texts
    lines: int
    skipped: int


def parse_daemon(lines: Iterable[bytes], *, realtime_offset_ns: int, tgids: Mapping[int, int] | None = None) -> Parsed:
    """Translate a log of CVMFS clients.

    `realtime_offset_ns` is CLOCK_REALTIME minus CLOCK_MONOTONIC. `tgids` maps the threads that were there before strace
    to their process; later ones are learnt from the log, and what neither tells counts as a process of its own.
    """
    return _parse(DaemonTranslator(realtime_offset_ns=realtime_offset_ns, tgids=tgids), lines)


def parse_target(lines: Iterable[bytes], *, realtime_offset_ns: int, tgids: Mapping[int, int] | None = None) -> Parsed:
    """Translate a log of the target and of what it forked; arguments as for `parse_daemon`."""
    return _parse(TargetTranslator(realtime_offset_ns=realtime_offset_ns, tgids=tgids), lines)


def _parse(translator: Translator, lines: Iterable[bytes]) -> Parsed:
    translator.parser.feed(lines)
    translator.finish()
    events, texts = translator.columns.take()
    return Parsed(
        events=events[np.argsort(events["ts"], kind="stable")],
        texts=texts[np.argsort(texts["ts"], kind="stable")],
        lines=translator.parser.lines,
        skipped=translator.parser.skipped,
    )
