"""What generation needed of CVMFS: in the calls that make tokens, and between them, for the first token and for further ones.

The time of an answer is that from its prefill to its last token. What the thread that generates does between its calls is part of it, and
so is what other threads of the process do meanwhile, and processes that make no calls of the library themselves.
"""

from dataclasses import dataclass

import numpy as np

from cvtrace.analysis.attribution.path import CriticalPath, class_times, first_waits, last_waits
from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import BLOCKED_ON_CVMFS
from cvtrace.analysis.joins.phases import GENERATING, RUN
from cvtrace.analysis.trace.intervals import Bools, Ints, Lanes, Steps, covered, cut, match, overlay, pick

NO_USE, FURTHER, FIRST = range(3)
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
        answers = study.phases.answers
        lanes = study.recording.lanes(key)
        first_end = np.where(answers.first_end >= 0, answers.first_end, answers.end)
        steps = everyone = Steps.constant(NO_USE)
        for end, value in ((answers.end, FURTHER), (first_end, FIRST)):
            steps = overlay(steps, lanes.at(key, answers.start), lanes.at(key, end), value)
            everyone = overlay(everyone, answers.start, end, value)
        return cls(lanes, steps, everyone)

    def at(self, key: Ints, time_ns: Ints) -> Ints:
        """Return what a moment is for; NOT for a key that has no answers."""
        place = self.lanes.at(key, time_ns)
        return np.where(place >= 0, self.steps.value_at(place), NO_USE)


@dataclass(frozen=True)
class GenerationNeeds:
    """Which requests generation needed, one entry per request.

    `inside` calls that make tokens, or `between` them; `first`: for the first token of an answer. `independent` are requests that another process
    sent meanwhile, one that makes calls of the library itself and generated nothing at that time. `step` is the step that came next.
    """

    inside: Bools
    between: Bools
    first: Bools
    independent: Bools
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
class _Moments:
    """Where in generation something lies that a thread did: as in GenerationNeeds, and what `use` the moment is of."""

    inside: Bools
    between: Bools
    first: Bools
    independent: Bools
    use: Ints
    process: Ints
    makes_calls: Bools


def _moments(study: Study, thread: Ints, when: Ints, chosen: Bools) -> _Moments:
    """Tell where in generation the chosen moments of threads lie."""
    calls, answers = study.phase_calls, study.phases.answers
    call = np.where(chosen, study.phases.call_at(thread, when), -1)
    inside = chosen & np.isin(pick(calls.row, call, -1), GENERATING)
    first = inside & (pick(calls.first.astype(np.int64), call, 0) == 1)
    process = process_of(study, thread)
    windows = Windows.of(study, answers.process)
    makes_calls = np.isin(process, calls.process[calls.row != RUN])
    use_of_any = windows.everyone.value_at(when)
    use = np.where(makes_calls, windows.at(process, when), use_of_any)
    between = chosen & ~inside & (use != NO_USE)
    independent = chosen & ~inside & ~between & makes_calls & (use_of_any != NO_USE)
    return _Moments(inside, between, first | (between & (use == FIRST)), independent, use, process, makes_calls)


def generation_needs(study: Study) -> GenerationNeeds:
    """Find what generation needed of the observed mounts."""
    requests, answers = study.requests, study.phases.answers
    when, chosen = requests.sent.copy(), requests.by_target & requests.expects_reply
    moments = _moments(study, requests.asker, when, chosen)
    inside, between, first, use = moments.inside, moments.between, moments.first, moments.use
    for request, is_first, since in _waited_in_calls(study):
        is_new = ~inside[request]
        when[request[is_new]], first[request[is_new]] = since[is_new], is_first[is_new]
        inside[request] = True
    between &= ~inside
    request, value, since = _waited_between(study)
    is_new = ~inside[request] & ~between[request]
    between[request[is_new]], use[request[is_new]], when[request[is_new]] = True, value[is_new], since[is_new]
    first |= between & (use == FIRST)
    return GenerationNeeds(
        inside=inside,
        between=between,
        first=first,
        independent=moments.independent & ~inside & ~between,
        step=np.where(inside | between, _step_after(study, moments.process, moments.makes_calls, when), -1),
        by_others=chosen & ~np.isin(requests.asker, answers.thread),
    )


@dataclass(frozen=True)
class UnobservedNeeds:
    """Which requests to mounts that were not observed generation made: as in GenerationNeeds, one entry per request of Study.unobserved_requests."""

    inside: Bools
    between: Bools
    first: Bools

    @property
    def all(self) -> Bools:
        return self.inside | self.between


def generation_unobserved(study: Study) -> UnobservedNeeds:
    """Find what generation asked of mounts that were not observed; what a process that works for itself asked counts, too."""
    unobserved_requests = study.unobserved_requests
    moments = _moments(
        study, unobserved_requests.asker, unobserved_requests.sent, np.ones(len(unobserved_requests), dtype=bool)
    )
    return UnobservedNeeds(moments.inside, moments.between | moments.independent, moments.first)


def _waited_in_calls(study: Study) -> list[tuple[Ints, Bools, Ints]]:
    """Return (request, whether for a first token, since when) of what the calls that make tokens waited for."""
    calls, segments = study.phase_calls, study.segments
    parts = []
    for path, call in ((study.critical_path, segments.call), (study.call_path, np.arange(len(calls)))):
        making = np.isin(pick(calls.row, call, -1), GENERATING)
        waits = first_waits(path, len(study.requests), making)
        parts.append((waits.request, calls.first[call[waits.of]], waits.start))
    return parts


def _waited_between(study: Study) -> tuple[Ints, Ints, Ints]:
    """Return (request, what for, since when) of what the threads that generate waited for between their calls."""
    path, value = gaps(study)
    waits = last_waits(path, len(study.requests))
    return waits.request, value[waits.of], waits.start


def gaps(study: Study) -> tuple[CriticalPath, Ints]:
    """Return the pieces of the time of answers in which their threads are in no call that makes tokens, and what each gap is for."""
    calls, answers = study.phase_calls, study.phases.answers
    windows = Windows.of(study, answers.thread)
    making = np.isin(calls.row, GENERATING) & (windows.lanes.rank(calls.thread) >= 0)
    lanes, thread = windows.lanes, calls.thread[making]
    steps = overlay(windows.steps, lanes.at(thread, calls.start[making]), lanes.at(thread, calls.end[making]), NO_USE)
    start = np.arange(len(lanes.keys), dtype=np.int64) * lanes.span_ns
    pieces = cut(steps, start, start + lanes.span_ns - 1)
    in_gap = pieces.value != NO_USE
    start_ns = lanes.time(pieces.start[in_gap])
    end_ns = start_ns + (pieces.end - pieces.start)[in_gap]
    path = study.threads.between(lanes.keys[pieces.which[in_gap]], start_ns, end_ns)
    return path, pieces.value[in_gap]


def _step_after(study: Study, process: Ints, makes_calls: Bools, when: Ints) -> Ints:
    """Return the first step of the process (of any, if it makes no calls itself) that ended after each time, -1 if there is none."""
    calls = study.phase_calls
    steps = np.flatnonzero(calls.token >= 0)
    if not len(steps):
        return np.full(len(when), -1, dtype=np.int64)
    lanes = study.recording.lanes(calls.process[steps])
    places = lanes.at(calls.process[steps], calls.end[steps])
    order = np.argsort(places, kind="stable")
    moment = lanes.at(process, when)
    next_of_process = np.searchsorted(places[order], moment, side="left").astype(np.int64)
    is_same_process = (moment >= 0) & (
        pick(places[order], next_of_process, -1) // lanes.span_ns == moment // lanes.span_ns
    )
    by_end = np.argsort(calls.end[steps], kind="stable")
    next_of_any = np.searchsorted(calls.end[steps][by_end], when, side="left").astype(np.int64)
    step = np.where(
        makes_calls,
        np.where(is_same_process, pick(steps[order], next_of_process, -1), -1),
        pick(steps[by_end], next_of_any, -1),
    )
    return pick(calls.token, step, -1)


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
    inside = class_times(study.call_path, group, 2)
    path, value = gaps(study)
    between = class_times(path, (value == FIRST).astype(np.int64), 2)
    blocked = list(BLOCKED_ON_CVMFS)
    return GenerationTimes(
        wall=np.stack([inside.sum(axis=1), between.sum(axis=1)]),
        blocked=np.stack([inside[:, blocked].sum(axis=1), between[:, blocked].sum(axis=1)]),
    )


def others_blocked_ns(study: Study, needs: GenerationNeeds, chosen: Bools) -> int:
    """Return in how much of the time requests of threads that generate nothing themselves were under way, of those `chosen`."""
    requests = study.requests
    by_others = np.flatnonzero(chosen & needs.by_others)
    since = study.recording.start_ns
    start, end = requests.sent[by_others] - since, requests.replied[by_others] - since
    total = covered(np.zeros(len(by_others), dtype=np.int64), np.maximum(start, 0), np.maximum(end, 0), 1)
    return int(total[0])
