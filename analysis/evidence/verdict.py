"""Does generating tokens hit CVMFS: yes, no or inconclusive, with the proof. The rule itself is in decision.py."""

from dataclasses import dataclass, replace
from typing import Final, TypedDict

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.quantities import pluralize
from cvtrace.analysis.contract.verdict_schema import GENERATION, INFERENCE, Part, UnobservedMount, Verdict
from cvtrace.analysis.evidence.complete import Evidence
from cvtrace.analysis.evidence.counted_evidence import prefetch_doubts
from cvtrace.analysis.evidence.decision import decide
from cvtrace.analysis.evidence.generation import (
    GenerationNeeds,
    GenerationTimes,
    UnobservedNeeds,
    generation_needs,
    generation_times,
    generation_unobserved,
    others_blocked_ns,
    process_of,
)
from cvtrace.analysis.evidence.needs import need_counts, needed_requests, requests_by_mount
from cvtrace.analysis.evidence.program_verdict import answer_program, question_of
from cvtrace.analysis.joins.phases import BETWEEN, DECODE, GENERATING, PREFILL
from cvtrace.analysis.storage.model_files import model_files, model_from
from cvtrace.analysis.trace.intervals import Bools, Ints, distinct

GENERATION_ROWS: Final = (PREFILL, DECODE, BETWEEN)
SHOWN_PIDS: Final = 4
SPINNING: Final = "while tokens were generated, another thread was blocked on an earlier request: generation may have waited for it by spinning"


def answer_of_phase(study: Study, row: int, evidence: Evidence) -> str:
    """Answer whether a phase needed CVMFS. See decision.decide."""
    unobserved_requests = study.unobserved_requests
    in_phase = study.phases.row_at(unobserved_requests.asker, unobserved_requests.sent) == row
    spun = study.overlaps.spin[study.segments.row == row]
    return decide(
        requests=bool(needed_requests(study, (row,)).any()),
        counters=study.counter_deltas.moved(row),
        unobserved=bool((unobserved_requests.to_cvmfs & in_phase).any()),
        missing=bool(evidence.missing or spun.any() or in_phase.any() or prefetch_doubts(study, (row,))),
    )


def verdict(study: Study, evidence: Evidence, request_cause: Ints) -> Verdict:
    """Answer the question of the target; `request_cause` is that of each request (causes.request_causes)."""
    question, unobserved, files = question_of(study), generation_unobserved(study), model_files(study)
    if question != GENERATION:
        answer = answer_program(study, question, evidence.missing, evidence.proof, request_cause)
        source = model_from(study, files) if question == INFERENCE else None
        mounts = _unobserved_mounts(study, unobserved)
        return replace(answer, model_from=source, model_files=files, unobserved_mounts=mounts)
    calls, needs = study.phase_calls, generation_needs(study)
    spin_ns = int(study.call_overlaps.spin[np.isin(calls.row, GENERATING)].sum())
    missing = (
        *_without_tokens(study),
        *evidence.missing,
        *_independent_processes(study, needs),
        *_unobserved_requests(study, unobserved),
        *((SPINNING,) if spin_ns and not needs.all.any() else ()),
    )
    parts = _Parts(study, request_cause, missing)
    times = generation_times(study)
    generation = parts.part(needs.all, unobserved.all, int(times.wall.sum()), int(times.blocked.sum()), GENERATION_ROWS)
    return Verdict(
        generation_hits_cvmfs=generation.hits_cvmfs,
        question=question,
        answer=generation.hits_cvmfs,
        tokens=calls.call_tokens.total,
        steps=calls.steps,
        failed_steps=int((calls.failed & (calls.row == DECODE)).sum()),
        fuse_requests=generation.fuse_requests,
        fuse_reads=generation.fuse_reads,
        fuse_read_bytes=generation.fuse_read_bytes,
        http_fetches=generation.http_fetches,
        http_bytes=generation.http_bytes,
        blocked_s=generation.blocked_s,
        tokens_affected=tuple(distinct(needs.step[needs.step >= 0]).tolist()),
        causes=generation.causes,
        proof=evidence.proof,
        missing=missing,
        spin_overlap_s=spin_ns / 1e9 if study.waits.scheduler else None,
        model_from=model_from(study, files),
        model_files=files,
        unobserved_mounts=_unobserved_mounts(study, unobserved),
        **_parts_of_generation(parts, needs, unobserved, times),
    )


class _GenerationParts(TypedDict, total=False):
    """The parts of generation."""

    first_token: Part
    further_tokens: Part
    inside_calls: Part | None
    between_calls: Part | None


def _parts_of_generation(
    parts: "_Parts", needs: GenerationNeeds, unobserved: UnobservedNeeds, times: GenerationTimes
) -> _GenerationParts:
    """Cut generation by what it was for, and by where it happened."""
    study = parts.study

    def part(chosen: Bools, to_unobserved: Bools, wall: Ints, blocked: Ints, rows: tuple[int, ...]) -> Part:
        beside_ns = others_blocked_ns(study, needs, chosen)
        return parts.part(chosen, to_unobserved, int(wall.sum()), int(blocked.sum()), rows, beside_ns)

    is_seen = study.recording.sees_requests
    needed, wall, blocked = needs.all, times.wall, times.blocked
    return _GenerationParts(
        first_token=part(
            needed & needs.first, unobserved.all & unobserved.first, wall[:, 1], blocked[:, 1], (PREFILL,)
        ),
        further_tokens=part(
            needed & ~needs.first, unobserved.all & ~unobserved.first, wall[:, 0], blocked[:, 0], (DECODE, BETWEEN)
        ),
        inside_calls=part(needs.inside, unobserved.inside, wall[0], blocked[0], (PREFILL, DECODE)) if is_seen else None,
        between_calls=part(needs.between, unobserved.between, wall[1], blocked[1], (BETWEEN,)) if is_seen else None,
    )


@dataclass(frozen=True)
class _Parts:
    """Makes a part of the verdict from the requests that belong to it."""

    study: Study
    request_cause: Ints
    missing: tuple[str, ...]

    def part(
        self,
        needed: Bools,
        unobserved: Bools,
        wall_ns: int,
        blocked_ns: int,
        rows: tuple[int, ...],
        others_ns: int = 0,
    ) -> Part:
        """Return answer and numbers of the `needed` requests, and of those to mounts that were not observed (`unobserved`)."""
        study = self.study
        to_cvmfs = unobserved & study.unobserved_requests.to_cvmfs
        is_seen = study.recording.sees_requests
        return Part(
            hits_cvmfs=decide(
                requests=bool(needed.any()),
                counters=study.counter_deltas.moved(*rows),
                unobserved=bool(to_cvmfs.any()),
                missing=(*self.missing, *prefetch_doubts(study, rows)),
            ),
            wall_s=wall_ns / 1e9,
            blocked_s=blocked_ns / 1e9 if is_seen else None,
            **need_counts(study, needed, to_cvmfs, rows, self.request_cause),
            others_blocked_s=others_ns / 1e9 if is_seen else None,
        )


def _without_tokens(study: Study) -> tuple[str, ...]:
    """Say that no token was made, if so."""
    calls = study.phase_calls
    if calls.steps:
        return ()
    failed_calls = int((calls.failed & (calls.row == DECODE)).sum())
    if failed_calls:
        return (f"no token was made: {pluralize(failed_calls, 'call')} that should have made one returned an error",)
    return (_no_tokens(study),)


def _unobserved_requests(study: Study, unobserved: UnobservedNeeds) -> tuple[str, ...]:
    """Say that generation asked something of a mount that was not observed."""
    return tuple(
        f"generation sent {number} to {path}, {kind}, that was not observed: what they needed is not known"
        for number, path, kind in requests_by_mount(study, unobserved.all)
    )


def _unobserved_mounts(study: Study, unobserved: UnobservedNeeds) -> tuple[UnobservedMount, ...]:
    """Return the mounts that were not observed and that the target asked something of."""
    unobserved_requests, rows = study.unobserved_requests, []
    for place, mount in enumerate(unobserved_requests.mounts):
        to_mount = unobserved_requests.mount == place
        if to_mount.any():
            generating = to_mount & unobserved.all
            rows.append(
                UnobservedMount(
                    path=mount.path,
                    type=mount.type,
                    source=mount.source,
                    is_cvmfs=mount.is_cvmfs,
                    requests=int(to_mount.sum()),
                    reads=int((to_mount & unobserved_requests.reads).sum()),
                    generation_requests=int(generating.sum()),
                    generation_reads=int((generating & unobserved_requests.reads).sum()),
                )
            )
    return tuple(rows)


def _independent_processes(study: Study, needs: GenerationNeeds) -> tuple[str, ...]:
    """Say that another process asked for something while tokens were made, one that works for itself."""
    number = int(needs.independent.sum())
    if not number:
        return ()
    pids = np.unique(process_of(study, study.requests.asker[needs.independent])).tolist()
    pids_shown = ", ".join(f"{pid}" for pid in pids[:SHOWN_PIDS])
    return (
        f"while tokens were made, other processes of the target (pid {pids_shown}), which load or generate for themselves, sent "
        f"{pluralize(number, 'request')}: whether generation waited for any is not known",
    )


def _no_tokens(study: Study) -> str:
    if not len(study.phase_calls):
        return "no token generation was seen: the target made no call of the GenAI library that could be marked"
    called = sorted({study.phases.names[row] for row in np.unique(study.phase_calls.row).tolist()})
    return f"no token generation was seen: the target made calls for {', '.join(called)} only"
