"""What generation needed of CVMFS: in the calls that make tokens, and between them, for the first token and for further ones.

The time of an answer is that from its prefill to its last token. What the thread that generates does between its calls is part of it, and
so is what other threads of the process do meanwhile, and processes that make no calls of the library themselves.
"""

from dataclasses import dataclass

import numpy as np

from cvtrace.analysis.attribution.critical_path import CriticalPath, class_times
from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import BLOCKED_ON_CVMFS
from cvtrace.analysis.joins.phases import GENERATING, RUN
from cvtrace.analysis.trace.intervals import Bools, Ints, Lanes, Steps, covered, cut, match, overlay, pick

NOT, FURTHER, FIRST = range(3)
"""What a moment of a process is for: nothing, further tokens, or the first token of an answer."""


@dataclass(frozen=True)
class Windows:
    """What each moment of each process (or thread) is for, and of all of them together."""

    lanes: Lanes
    steps: Steps
    everyone: Steps

    @classmethod
    def of(cls, study: Study, key: Ints) -> "Windows":
        """Lay the answers out by `key`, one number for each answer."""
        found = study.phases.answers
        lanes = study.recording.lanes(key)
        until = np.where(found.first_end >= 0, found.first_end, found.end)
        steps = everyone = Steps.constant(NOT)
        for end, value in ((found.end, FURTHER), (until, FIRST)):
            steps = overlay(steps, lanes.at(key, found.start), lanes.at(key, end), value)
            everyone = overlay(everyone, found.start, end, value)
        return cls(lanes, steps, everyone)

    def at(self, key: Ints, time_ns: Ints) -> Ints:
        """Return what a moment is for; NOT for a key that has no answers."""
        place = self.lanes.at(key, time_ns)
        return np.where(place >= 0, self.steps.value_at(place), NOT)


@dataclass(frozen=True)
class GenerationNeeds:
    """Which requests generation needed, one entry per request.

    `inside` calls that make tokens, or `between` them; `first`: for the first token of an answer. `apart` are requests that another process
    sent meanwhile, one that makes calls of the library itself and generated nothing at that time. `step` is the step that came next.
    """

    inside: Bools
    between: Bools
    first: Bools
    apart: Bools
    step: Ints
    by_others: Bools
    """Sent by a thread that generates nothing itself."""

    @property
    def all(self) -> Bools:
        return self.inside | self.between


def process_of(study: Study, thread: Ints) -> Ints:
    """Return the process of each thread of the target, -1 for others."""
    tids, tgids = study.recording.target_threads
    return pick(tgids, match(tids, thread), -1)


@dataclass(frozen=True)
class _Placed:
    """Where in generation something lies that a thread did: as in GenerationNeeds, and what `use` the moment is of."""

    inside: Bools
    between: Bools
    first: Bools
    apart: Bools
    use: Ints
    process: Ints
    itself: Bools


def _placed(study: Study, thread: Ints, when: Ints, chosen: Bools) -> _Placed:
    """Tell where in generation the chosen moments of threads lie."""
    calls, found = study.phase_calls, study.phases.answers
    call = np.where(chosen, study.phases.call_at(thread, when), -1)
    inside = chosen & np.isin(pick(calls.row, call, -1), GENERATING)
    first = inside & (pick(calls.first.astype(np.int64), call, 0) == 1)
    process = process_of(study, thread)
    windows = Windows.of(study, found.process)
    itself = np.isin(process, calls.process[calls.row != RUN])
    anyones = windows.everyone.value_at(when)
    use = np.where(itself, windows.at(process, when), anyones)
    between = chosen & ~inside & (use != NOT)
    apart = chosen & ~inside & ~between & itself & (anyones != NOT)
    return _Placed(inside, between, first | (between & (use == FIRST)), apart, use, process, itself)


def generation_needs(study: Study) -> GenerationNeeds:
    """Find what generation needed of the observed mounts."""
    requests, found = study.requests, study.phases.answers
    when, chosen = requests.sent.copy(), requests.by_target & requests.expects_reply
    placed = _placed(study, requests.asker, when, chosen)
    inside, between, first, use = placed.inside, placed.between, placed.first, placed.use
    for request, is_first, since in _waited_in_calls(study):
        late = ~inside[request]
        when[request[late]], first[request[late]] = since[late], is_first[late]
        inside[request] = True
    between &= ~inside
    request, value, since = _waited_between(study)
    late = ~inside[request] & ~between[request]
    between[request[late]], use[request[late]], when[request[late]] = True, value[late], since[late]
    first |= between & (use == FIRST)
    return GenerationNeeds(
        inside=inside,
        between=between,
        first=first,
        apart=placed.apart & ~inside & ~between,
        step=np.where(inside | between, _step_after(study, placed.process, placed.itself, when), -1),
        by_others=chosen & ~np.isin(requests.asker, found.thread),
    )


@dataclass(frozen=True)
class UnobservedNeeds:
    """Which requests to mounts that were not observed generation made: as in GenerationNeeds, one entry per request of Study.elsewhere."""

    inside: Bools
    between: Bools
    first: Bools
    row: Ints
    """Row (see Phases.names) in which each was sent, whether generation or not."""

    @property
    def all(self) -> Bools:
        return self.inside | self.between


def generation_unobserved(study: Study) -> UnobservedNeeds:
    """Find what generation asked of mounts that were not observed; what a process that works for itself asked counts, too."""
    away = study.elsewhere
    placed = _placed(study, away.asker, away.sent, np.ones(len(away), dtype=bool))
    row = study.phases.row_at(away.asker, away.sent)
    return UnobservedNeeds(placed.inside, placed.between | placed.apart, placed.first, row)


def _waited_in_calls(study: Study) -> list[tuple[Ints, Bools, Ints]]:
    """Return (request, whether for a first token, since when) of what the calls that make tokens waited for."""
    calls, segments = study.phase_calls, study.segments
    parts = []
    for path, call in (
        (study.critical_path, segments.call[study.critical_path.of]),
        (study.call_path, study.call_path.of),
    ):
        waiting = (path.request >= 0) & np.isin(pick(calls.row, call, -1), GENERATING)
        of = call[waiting][::-1]  # the first wait of a request is written last
        parts.append((path.request[waiting][::-1], calls.first[of], path.start[waiting][::-1]))
    return parts


def _waited_between(study: Study) -> tuple[Ints, Ints, Ints]:
    """Return (request, what for, since when) of what the threads that generate waited for between their calls."""
    path, value = gaps(study)
    waiting = path.request >= 0
    return path.request[waiting], value[path.of[waiting]], path.start[waiting]


def gaps(study: Study) -> tuple[CriticalPath, Ints]:
    """Return the pieces of the time of answers in which their threads are in no call that makes tokens, and what each gap is for."""
    calls, found = study.phase_calls, study.phases.answers
    windows = Windows.of(study, found.thread)
    making = np.isin(calls.row, GENERATING) & (windows.lanes.rank(calls.thread) >= 0)
    lanes, thread = windows.lanes, calls.thread[making]
    steps = overlay(windows.steps, lanes.at(thread, calls.start[making]), lanes.at(thread, calls.end[making]), NOT)
    start = np.arange(len(lanes.keys), dtype=np.int64) * lanes.span_ns
    pieces = cut(steps, start, start + lanes.span_ns - 1)
    kept = pieces.value != NOT
    began = lanes.time(pieces.start[kept])
    ended = began + (pieces.end - pieces.start)[kept]
    path = study.threads.between(lanes.keys[pieces.which[kept]], began, ended)
    return path, pieces.value[kept]


def _step_after(study: Study, process: Ints, itself: Bools, when: Ints) -> Ints:
    """Return the first step of the process (of any, if it makes no calls itself) that ended after each time, -1 if there is none."""
    calls = study.phase_calls
    steps = np.flatnonzero(calls.token >= 0)
    if not len(steps):
        return np.full(len(when), -1, dtype=np.int64)
    lanes = study.recording.lanes(calls.process[steps])
    places = lanes.at(calls.process[steps], calls.end[steps])
    order = np.argsort(places, kind="stable")
    wanted = lanes.at(process, when)
    own = np.searchsorted(places[order], wanted, side="left").astype(np.int64)
    same = (wanted >= 0) & (pick(places[order], own, -1) // lanes.span_ns == wanted // lanes.span_ns)
    by_end = np.argsort(calls.end[steps], kind="stable")
    any_ = np.searchsorted(calls.end[steps][by_end], when, side="left").astype(np.int64)
    found = np.where(itself, np.where(same, pick(steps[order], own, -1), -1), pick(steps[by_end], any_, -1))
    return pick(calls.token, found, -1)


@dataclass(frozen=True)
class GenerationTimes:
    """Nanoseconds of generation, of shape (2, 2): inside calls or between them, by further or first token."""

    wall: Ints
    blocked: Ints


def generation_times(study: Study) -> GenerationTimes:
    """Return how long generation took, each thread by itself, and how long of that it was blocked on CVMFS."""
    calls = study.phase_calls
    making = np.isin(calls.row, GENERATING)
    group = np.where(making, calls.first.astype(np.int64), -1)
    inside = class_times(study.call_path, group[study.call_path.of], 2)
    path, value = gaps(study)
    between = class_times(path, (value == FIRST).astype(np.int64)[path.of], 2)
    blocked = list(BLOCKED_ON_CVMFS)
    return GenerationTimes(
        wall=np.stack([inside.sum(axis=1), between.sum(axis=1)]),
        blocked=np.stack([inside[:, blocked].sum(axis=1), between[:, blocked].sum(axis=1)]),
    )


def others_blocked_ns(study: Study, needs: GenerationNeeds, chosen: Bools) -> int:
    """Return in how much of the time requests of threads that generate nothing themselves were under way, of those `chosen`."""
    requests = study.requests
    mine = np.flatnonzero(chosen & needs.by_others)
    since = study.recording.start_ns
    start, end = requests.sent[mine] - since, requests.replied[mine] - since
    total = covered(np.zeros(len(mine), dtype=np.int64), np.maximum(start, 0), np.maximum(end, 0), 1)
    return int(total[0])
