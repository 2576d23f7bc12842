"""What if: the critical path replayed with something changed. What each prediction assumes is said with it; docs/what-if.md
compares predictions with runs in the lab.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import BLOCKED_ON_CVMFS, Class
from cvtrace.analysis.contract.quantities import seconds, size
from cvtrace.analysis.contract.report_options import Changes
from cvtrace.analysis.contract.whatif_schema import PredictedPhase, Prediction, WhatIf
from cvtrace.analysis.storage.chunks import Chunks
from cvtrace.analysis.trace.intervals import Ints, add_by_group
from cvtrace.analysis.whatif.lab_error import LAB_ERROR
from cvtrace.analysis.whatif.larger_model import larger_model
from cvtrace.analysis.whatif.own_time import OwnTime, own_time
from cvtrace.analysis.whatif.path_waits import NETWORK, Link, PathWaits, link, path_waits
from cvtrace.probes.events import Opcode, Sight

PROXY_RTT_S: Final = 0.0005
PROXY_BYTES_PER_S: Final = 1.25e8
"""1 Gbit/s."""


class CannotTell(Exception):
    """A prediction cannot be made from this trace; the message says why."""


@dataclass(frozen=True)
class _Basis:
    """What predictions are made from; `count` phases."""

    study: Study
    waits: PathWaits
    own: OwnTime
    link: Link
    count: int

    def by_row(self, amount: Ints) -> Ints:
        """Add up amounts of waits by phase."""
        return add_by_group(self.waits.row, amount, self.count)


def what_if(study: Study, objects: Chunks, cause: Ints, changes: Changes) -> WhatIf:
    """Predict how long the phases take if something is changed; `objects` are the client's, `cause` is that of each request."""
    count = len(study.phases.names)
    wall = add_by_group(study.segments.row, study.segments.end - study.segments.start, count)
    basis = _Basis(study, path_waits(study), own_time(study), link(study), count)
    rtt = seconds(changes.rtt_s)
    at_once = f"{changes.parallel:,} chunks fetched at once"
    model = f"a model {changes.scale:g} times larger"
    predictions: list[tuple[str, str, Callable[[], tuple[Ints, tuple[str, ...]]]]] = [
        ("all_cached", "everything in the client's cache", lambda: _cached(basis)),
        ("in_memory", "everything in the page cache", lambda: _in_memory(basis)),
        ("local_copy", "a local copy, in the page cache", lambda: _local(basis)),
        ("round_trip", f"a round trip of {rtt}", lambda: _round_trip(basis, changes.rtt_s)),
        ("near_proxy", "a near proxy that has every object", lambda: _near_proxy(basis)),
        ("parallel", at_once, lambda: _parallel(basis, changes.parallel)),
        ("larger_model", model, lambda: _larger(basis, objects, cause, changes.scale)),
    ]
    return WhatIf(
        rtt_s=basis.link.rtt_s,
        rtt_from=basis.link.rtt_from,
        bytes_per_s=basis.link.bytes_per_s,
        predictions=tuple(_prediction(study, wall, *each) for each in predictions),
    )


def _prediction(
    study: Study, wall: Ints, name: str, title: str, predict: Callable[[], tuple[Ints, tuple[str, ...]]]
) -> Prediction:
    names = study.phases.names
    error = LAB_ERROR.get(name) if study.recording.sees >= set(Sight) else None
    try:
        if not study.recording.sees_requests:
            raise CannotTell(
                f"the {study.recording.probe} probe sees no single request, so the time spent on CVMFS is not known"
            )
        change, assumptions = predict()
    except CannotTell as reason:
        unknown = tuple(PredictedPhase(names[row], int(wall[row]) / 1e9, None) for row in np.flatnonzero(wall).tolist())
        return Prediction(name, title, None, unknown, (), error, str(reason))
    after = np.maximum(wall + change, 0)
    phases = tuple(
        PredictedPhase(names[row], int(wall[row]) / 1e9, int(after[row]) / 1e9) for row in np.flatnonzero(wall).tolist()
    )
    return Prediction(name, title, int(after.sum()) / 1e9, phases, assumptions, error, None)


def _cached(basis: _Basis) -> tuple[Ints, tuple[str, ...]]:
    gone = basis.waits.of(*NETWORK, Class.CACHE_FILL)
    return -basis.by_row(gone) - basis.own.ousted_by_download, (
        "objects are read from the client's cache as fast as in this run, in which they had just been written and were in memory",
    )


def _in_memory(basis: _Basis) -> tuple[Ints, tuple[str, ...]]:
    waits = basis.waits
    read = basis.study.requests.is_(Opcode.READ)[waits.request] if len(waits) else waits.row > 0
    blocked = waits.of(*(Class(number) for number in BLOCKED_ON_CVMFS))
    gone = np.where(read, blocked, waits.of(*NETWORK, Class.CACHE_FILL))
    return -basis.by_row(gone) - basis.own.filling - basis.own.ousted, (
        "files are still opened through the client",
        "no other program needs the memory",
        *_not_seen(basis),
    )


def _local(basis: _Basis) -> tuple[Ints, tuple[str, ...]]:
    gone = basis.waits.of(*(Class(number) for number in BLOCKED_ON_CVMFS))
    return -basis.by_row(gone) - basis.own.filling - basis.own.ousted, (
        "no time on CVMFS is left; opening local files costs no time",
        *_not_seen(basis),
    )


def _not_seen(basis: _Basis) -> tuple[str, ...]:
    """Return the assumptions that make a prediction too long if the probe did not observe faults or the scheduler."""
    recording = basis.study.recording
    return (
        *(
            ()
            if recording.sees_pages
            else ("the CPU time of the program for page faults was not observed, so it is not subtracted",)
        ),
        *(
            ()
            if recording.sees_scheduler
            else (
                "the time that the program waits for a CPU that the client uses was not observed, so it is not subtracted",
            )
        ),
    )


def _round_trip(basis: _Basis, rtt_s: float) -> tuple[Ints, tuple[str, ...]]:
    """Every GET waited for, and every connect, takes one round trip of another length."""
    waits, base_s = basis.waits, basis.link.rtt_s
    trips = _round_trips(waits)
    if not trips.any():
        return np.zeros(basis.count, dtype=np.int64), ("the run waited for no fetch",)
    if base_s is None:
        raise CannotTell("no answer to a GET was seen, so the round trip of this run is not known")
    change = (trips * round((rtt_s - base_s) * 1e9)).astype(np.int64)
    spent = waits.of(Class.NETWORK_CONNECT, Class.NETWORK_REQUEST, Class.NETWORK_SHARED)
    assumptions = (
        f"the round trip of this run is {seconds(base_s)} ({basis.link.rtt_from})",
        "each GET and each connect takes one round trip; slow start of TCP on a long path is not included",
    )
    return basis.by_row(np.maximum(change, -spent)), assumptions


def _round_trips(waits: PathWaits) -> Ints:
    """Return how many round trips each wait contains; a wait for the fetch of another request contains one."""
    shared = (waits.gets == 0) & (waits.of(Class.NETWORK_SHARED) > 0)
    trips: Ints = waits.gets + waits.connects + shared
    return trips


def _near_proxy(basis: _Basis) -> tuple[Ints, tuple[str, ...]]:
    """Requests take the proxy's round trip; a body takes its time on the wire, or that of unpacking it if that is longer."""
    waits = basis.waits
    trips = _round_trips(waits)
    wire = (waits.bytes / PROXY_BYTES_PER_S * 1e9).astype(np.int64)
    unpacking = waits.of(Class.CACHE_FILL)
    spent = waits.of(Class.NETWORK_CONNECT, Class.NETWORK_REQUEST, Class.NETWORK_TRANSFER)
    is_fetch = waits.gets > 0
    predicted_ns = trips * round(PROXY_RTT_S * 1e9) + np.maximum(wire - unpacking, 0)
    shared = waits.of(Class.NETWORK_SHARED)
    change = np.where(is_fetch, predicted_ns - spent, 0) - np.where(is_fetch, 0, shared // 2)
    assumptions = (
        f"the proxy answers in {seconds(PROXY_RTT_S)} and sends {size(PROXY_BYTES_PER_S)}/s; unpacking goes on as measured",
        "half of the time waited for fetches of other requests is saved" if (shared[~is_fetch] > 0).any() else "",
    )
    return basis.by_row(change), tuple(each for each in assumptions if each)


def _parallel(basis: _Basis, at_once: int) -> tuple[Ints, tuple[str, ...]]:
    """Chunks that were fetched one after the other are fetched `at_once` at a time.

    The client's one thread that unpacks turns to whatever has arrived: chunks that were requested together are ready together, and so the next ones
    are requested together. The waits of `at_once` chunks pass at once, and the unpacking of each comes on top. That takes each phase the longest of: this;
    the bytes on the wire; a single chunk.
    """
    waits = basis.waits
    chosen = np.flatnonzero(waits.foreseeable)
    if len(chosen) < 2:
        return np.zeros(basis.count, dtype=np.int64), ("fewer than two chunks could be fetched at the same time",)
    speed = basis.link.bytes_per_s
    if speed is None:
        raise CannotTell("no large object was fetched, so the bandwidth of the link is not known")
    row, fill = waits.row[chosen], waits.of(Class.CACHE_FILL)[chosen]
    wait_ns = waits.of(*NETWORK)[chosen] + fill
    wire = (waits.bytes[chosen] / speed * 1e9).astype(np.int64)
    first = np.flatnonzero(np.append(True, row[1:] != row[:-1]))
    sequential_ns = np.add.reduceat(wait_ns, first)
    unpacking_ns, wire_ns, longest_ns = (
        np.add.reduceat(fill, first),
        np.add.reduceat(wire, first),
        np.maximum.reduceat(wait_ns, first),
    )
    together_ns = (sequential_ns - unpacking_ns) // at_once + unpacking_ns
    predicted_ns = np.maximum.reduce([together_ns, wire_ns, longest_ns])
    saved = add_by_group(row[first], np.maximum(sequential_ns - predicted_ns, 0), basis.count)
    assumptions = (
        f"the link transfers at most {size(speed)}/s, the rate of the fastest object of this run",
        "one thread of the client unpacks, as in this run; exactly the chunks that the run needs next are fetched ahead",
    )
    return -saved, assumptions


def _larger(basis: _Basis, objects: Chunks, cause: Ints, scale: float) -> tuple[Ints, tuple[str, ...]]:
    longer_ns = larger_model(basis.study, objects, basis.waits, basis.own, cause, scale)
    if longer_ns is None:
        raise CannotTell("no model load was seen: the target made no call of the GenAI library that could be marked")
    return longer_ns, (
        "the model has the same number of tensors, which are larger: files are opened and looked up as often",
        "chunks keep their size; pages that generation touches first are at the same relative offsets of the file",
        "packing weights in the load, and all computing of prefill and decode, takes time in proportion to the weights",
        "the memory and the client's cache are large enough for it",
    )
