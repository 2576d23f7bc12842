"""Does generating tokens hit CVMFS: yes, no or inconclusive, with the proof."""

from dataclasses import dataclass, replace
from typing import Final, TypedDict

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.quantities import pluralize
from cvtrace.analysis.contract.verdict_schema import (
    GENERATION,
    INCONCLUSIVE,
    INFERENCE,
    NO,
    YES,
    Part,
    UnobservedMount,
    Verdict,
)
from cvtrace.analysis.evidence.complete import Evidence
from cvtrace.analysis.evidence.generation import (
    Away,
    Needs,
    Times,
    generation_away,
    generation_needs,
    generation_times,
    others_blocked_ns,
    process_of,
)
from cvtrace.analysis.evidence.program_verdict import answer_program, question_of
from cvtrace.analysis.joins.client_counters import BYTES, FETCHES, READS
from cvtrace.analysis.joins.phases import BETWEEN, DECODE, GENERATING, PREFILL
from cvtrace.analysis.storage.causes import counted_causes
from cvtrace.analysis.storage.model_files import model_files, model_from
from cvtrace.analysis.trace.intervals import Bools, Ints, distinct

GENERATION_ROWS: Final = (PREFILL, DECODE, BETWEEN)
SHOWN_PIDS: Final = 4
SPINNING: Final = (
    "while tokens were generated, another thread was blocked on a request sent before: generation may have spun for it"
)


def needed(study: Study, row: int) -> Ints:
    """Return the requests of a phase (indices): those the target sent in it, and those it waited for in it.

    A RELEASE or FORGET is nobody's need.
    """
    found = (study.request_phase == row) & study.requests.expects_reply
    for path, of_row in ((study.critical_path, study.segments.row), (study.call_path, study.phase_calls.row)):
        waited = path.request[of_row[path.of] == row]
        found[waited[waited >= 0]] = True
    return np.flatnonzero(found)


def hits_cvmfs(study: Study, row: int, evidence: Evidence) -> str:
    """Answer for one phase."""
    away, away_row = study.elsewhere, study.phases.row_at(study.elsewhere.asker, study.elsewhere.sent)
    if len(needed(study, row)) or study.counter_deltas.moved(row) or (away.to_cvmfs & (away_row == row)).any():
        return YES
    spinning = study.overlaps.spin[study.segments.row[study.critical_path.of] == row].any()
    return INCONCLUSIVE if evidence.missing or spinning or (away_row == row).any() else NO


def verdict(study: Study, found: Evidence, cause: Ints) -> Verdict:
    """Answer the question of the target; `cause` is that of each request (causes.request_causes)."""
    calls, question, away, files = study.phase_calls, question_of(study), generation_away(study), model_files(study)
    if question != GENERATION:
        answered = answer_program(study, question, found.missing, found.proof, cause)
        source = model_from(study, files) if question == INFERENCE else None
        others = _unobserved_mounts(study, away)
        return replace(answered, model_from=source, model_files=files, unobserved_mounts=others)
    needs, times = generation_needs(study), generation_times(study)
    parts = _Parts(study, cause)
    chosen, left_out = np.flatnonzero(needs.all), away.all & study.elsewhere.to_cvmfs
    moved = study.counter_deltas.moved(*GENERATION_ROWS)
    missing = (*_unmade(study), *found.missing, *_apart(study, needs), *_unobserved(study, away))
    spin_ns = int(study.call_overlaps.spin[np.isin(calls.row, GENERATING)[study.call_path.of]].sum())
    if spin_ns and not len(chosen):
        missing = (*missing, SPINNING)
    answer = YES if len(chosen) or moved or left_out.any() else INCONCLUSIVE if missing else NO
    whole = parts.part(needs.all, left_out, int(times.wall.sum()), int(times.blocked.sum()), answer, GENERATION_ROWS)
    return Verdict(
        generation_hits_cvmfs=answer,
        question=question,
        answer=answer,
        tokens=calls.made.total,
        steps=calls.steps,
        failed_steps=int((calls.failed & (calls.row == DECODE)).sum()),
        fuse_requests=whole.fuse_requests,
        fuse_reads=whole.fuse_reads,
        fuse_read_bytes=whole.fuse_read_bytes,
        http_fetches=whole.http_fetches,
        http_bytes=whole.http_bytes,
        blocked_s=whole.blocked_s,
        tokens_affected=tuple(distinct(needs.step[needs.step >= 0]).tolist()),
        causes=whole.causes,
        proof=found.proof,
        missing=missing,
        spin_overlap_s=spin_ns / 1e9 if study.waits.scheduler else None,
        model_from=model_from(study, files),
        model_files=files,
        unobserved_mounts=_unobserved_mounts(study, away),
        **_parts(study, parts, needs, away, times, missing),
    )


class _Cuts(TypedDict, total=False):
    """The parts of generation."""

    first_token: Part
    further_tokens: Part
    inside_calls: Part | None
    between_calls: Part | None


def _parts(study: Study, parts: "_Parts", needs: Needs, away: Away, times: Times, missing: tuple[str, ...]) -> _Cuts:
    """Cut generation by what it was for, and by where it happened."""

    def part(chosen: Bools, others: Bools, wall: Ints, blocked: Ints, rows: tuple[int, ...]) -> Part:
        others = others & study.elsewhere.to_cvmfs
        hits = bool(chosen.any() or others.any()) or study.counter_deltas.moved(*rows)
        answer = YES if hits else INCONCLUSIVE if missing else NO
        beside = others_blocked_ns(study, needs, chosen)
        return parts.part(chosen, others, int(wall.sum()), int(blocked.sum()), answer, rows, beside)

    seen = study.recording.sees_requests
    wall, blocked = times.wall, times.blocked
    return _Cuts(
        first_token=part(needs.all & needs.first, away.all & away.first, wall[:, 1], blocked[:, 1], (PREFILL,)),
        further_tokens=part(
            needs.all & ~needs.first, away.all & ~away.first, wall[:, 0], blocked[:, 0], (DECODE, BETWEEN)
        ),
        inside_calls=part(needs.inside, away.inside, wall[0], blocked[0], (PREFILL, DECODE)) if seen else None,
        between_calls=part(needs.between, away.between, wall[1], blocked[1], (BETWEEN,)) if seen else None,
    )


@dataclass(frozen=True)
class _Parts:
    """Makes a part of the verdict from the requests that belong to it."""

    study: Study
    cause: Ints

    def part(
        self,
        mine: Bools,
        away: Bools,
        wall_ns: int,
        blocked_ns: int,
        answer: str,
        rows: tuple[int, ...],
        others_ns: int = 0,
    ) -> Part:
        """Return the numbers of the requests of `mine`, and of those to other mounts that are `away`.

        Where no request is seen, the counters of these `rows` tell.
        """
        study, chosen = self.study, np.flatnonzero(mine)
        requests, counters = study.requests, study.counter_deltas
        seen = study.recording.sees_requests
        get = np.isin(study.gets.request, chosen)
        return Part(
            hits_cvmfs=answer,
            wall_s=wall_ns / 1e9,
            blocked_s=blocked_ns / 1e9 if seen else None,
            fuse_requests=len(chosen) + int(away.sum()) if seen else None,
            fuse_reads=int(requests.reads[chosen].sum()) + int((away & study.elsewhere.reads).sum())
            if seen
            else counters.total(READS, *rows),
            fuse_read_bytes=int(requests.read_bytes[chosen].sum()) if seen else None,
            http_fetches=int(get.sum()) if seen else counters.total(FETCHES, *rows),
            http_bytes=int(study.gets.body_bytes[get].sum()) if seen else counters.total(BYTES, *rows),
            causes=counted_causes(self.cause[chosen]),
            others_blocked_s=others_ns / 1e9 if seen else None,
        )


def _unmade(study: Study) -> tuple[str, ...]:
    """Say that no token was made, if so."""
    calls = study.phase_calls
    if calls.steps:
        return ()
    failed = int((calls.failed & (calls.row == DECODE)).sum())
    if failed:
        return (f"no token was made: {pluralize(failed, 'call')} that should have made one returned an error",)
    return (_no_tokens(study),)


def _unobserved(study: Study, away: Away) -> tuple[str, ...]:
    """Say that generation asked something of a mount that was not observed."""
    found = study.elsewhere
    said = []
    for place, mount in enumerate(found.mounts):
        number = int((away.all & (found.mount == place)).sum())
        if number:
            left_out = "a CVMFS mount" if mount.is_cvmfs else f"which is no CVMFS ({mount.type}, {mount.source})"
            said.append(
                f"generation sent {pluralize(number, 'request')} to {mount.path}, {left_out}, that was not observed: what they "
                "needed is not known"
            )
    return tuple(said)


def _unobserved_mounts(study: Study, away: Away) -> tuple[UnobservedMount, ...]:
    """Return the mounts that were not observed and that the target asked something of."""
    found, rows = study.elsewhere, []
    for place, mount in enumerate(found.mounts):
        mine = found.mount == place
        if mine.any():
            generating = mine & away.all
            rows.append(
                UnobservedMount(
                    path=mount.path,
                    type=mount.type,
                    source=mount.source,
                    is_cvmfs=mount.is_cvmfs,
                    requests=int(mine.sum()),
                    reads=int((mine & found.reads).sum()),
                    generation_requests=int(generating.sum()),
                    generation_reads=int((generating & found.reads).sum()),
                )
            )
    return tuple(rows)


def _apart(study: Study, needs: Needs) -> tuple[str, ...]:
    """Say that another process asked for something while tokens were made, one that works for itself."""
    number = int(needs.apart.sum())
    if not number:
        return ()
    pids = np.unique(process_of(study, study.requests.asker[needs.apart])).tolist()
    who = ", ".join(f"{pid}" for pid in pids[:SHOWN_PIDS])
    return (
        f"while tokens were made, other processes of the target (pid {who}), which load or generate for themselves, sent "
        f"{pluralize(number, 'request')}: whether generation waited for any is not known",
    )


def _no_tokens(study: Study) -> str:
    if not len(study.phase_calls):
        return "no token generation was seen: the target made no call of the GenAI library that could be marked"
    called = sorted({study.phases.names[row] for row in np.unique(study.phase_calls.row).tolist()})
    return f"no token generation was seen: the target made calls for {', '.join(called)} only"
