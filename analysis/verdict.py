"""Does generating tokens hit CVMFS: yes, no or inconclusive, with the proof."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypedDict

import numpy as np

from cvtrace.analysis.causes import counted_causes
from cvtrace.analysis.counted import BYTES, FETCHES, OPENS, READS
from cvtrace.analysis.counted_evidence import counted_evidence, may_pass
from cvtrace.analysis.generation import (
    Needs,
    Times,
    generation_needs,
    generation_times,
    others_blocked_ns,
    process_of,
)
from cvtrace.analysis.intervals import Bools, Ints, distinct
from cvtrace.analysis.model import Check
from cvtrace.analysis.phases import BETWEEN, DECODE, GENERATING, LOAD, PREFILL, RUN, is_attached
from cvtrace.analysis.report.quantities import counted
from cvtrace.analysis.requests import PASSTHROUGH
from cvtrace.analysis.study import Study
from cvtrace.analysis.verdict_model import GENERATION, INCONCLUSIVE, INFERENCE, NO, PROGRAM, YES, Part, Verdict
from cvtrace.probes.events import Kind, Opcode

GENERATION_ROWS: Final = (PREFILL, DECODE, BETWEEN)
SHOWN_PIDS: Final = 4
SPINNING: Final = (
    "while tokens were generated, another thread was blocked on a request sent before: generation may have spun for it"
)


@dataclass(frozen=True)
class Evidence:
    """What speaks for a complete recording, and what is missing for one."""

    proof: tuple[str, ...]
    missing: tuple[str, ...]


class SaysOfIt(Protocol):
    """What somebody else's count says of the recording."""

    @property
    def proof(self) -> tuple[str, ...]: ...
    @property
    def missing(self) -> tuple[str, ...]: ...


def needed(study: Study, row: int) -> Ints:
    """Return the requests of a phase (indices): those the target sent in it, and those it waited for in it.

    A RELEASE or FORGET is nobody's need.
    """
    found = (study.request_row == row) & study.requests.asked
    for path, of_row in ((study.path, study.segments.row), (study.call_path, study.phase_calls.row)):
        waited = path.request[of_row[path.of] == row]
        found[waited[waited >= 0]] = True
    return np.flatnonzero(found)


def hits_cvmfs(study: Study, row: int, evidence: Evidence) -> str:
    """Answer for one phase."""
    if len(needed(study, row)) or study.counted.moved(row):
        return YES
    spinning = study.overlaps.spin[study.segments.row[study.path.of] == row].any()
    return INCONCLUSIVE if evidence.missing or spinning else NO


def evidence(study: Study, checks: tuple[Check, ...], absent: tuple[str, ...], *more: SaysOfIt) -> Evidence:
    """Judge how complete the recording is; `more` is what others count."""
    proof: list[str] = []
    missing: list[str] = []
    agreed = bool(checks) and all(check.agree for check in checks) and not absent
    parts: Sequence[Callable[[Study], tuple[list[str], list[str]]]] = (_blind,)
    if study.recording.sees_requests:
        parts = (_whole, _since_attached) if agreed and is_attached(study.recording) else (_whole, _daemon, _mapping)
    for part in parts:
        said, lacking = part(study)
        proof += said
        missing += lacking
    differing = [check for check in checks if check.agree is False]
    missing += [
        f"traced and client differ in {check.name}: {check.traced:,} and {check.client:,}" for check in differing
    ]
    missing += absent
    if agreed:
        proof.append("its own counters agree")
    for other in more:
        proof += other.proof
        missing += other.missing
    return Evidence(tuple(proof), tuple(missing))


def _blind(study: Study) -> tuple[list[str], list[str]]:
    """Requests cannot be observed at all; the client's counters may have been."""
    _, missing = _whole(study)
    if study.counted.total(OPENS, *GENERATION_ROWS) is not None:
        proof, lacking = counted_evidence(study)
        return proof, [*lacking, *missing]
    return [], [
        f"the {study.recording.probe} probe sees no single request, so nobody knows which phase or token the client's "
        "counts belong to: `cvtrace run` as root (eBPF, or --probes strace) shows it",
        *missing,
    ]


def _whole(study: Study) -> tuple[list[str], list[str]]:
    """Nothing lost, nothing cut off."""
    meta = study.recording.meta
    lost = {name: int(count) for name, count in (meta.get("lost") or {}).items() if int(count)}
    missing = [f"{counted(count, 'event')} of {name} lost" for name, count in lost.items()]
    if study.recording.damage:
        missing.append(study.recording.damage)
    if bool((study.phase_calls.cut & np.isin(study.phase_calls.row, GENERATING)).any()):
        missing.append("the recording ended while a token was being generated")
    return ([] if missing else ["nothing lost"]), missing


def _daemon(study: Study) -> tuple[list[str], list[str]]:
    """The daemon was seen answering in the load."""
    if not study.recording.mounts:
        return [], []
    answered = study.requests.seen_by_daemon & (study.request_row == LOAD)
    if not answered.any():
        anyone = bool((study.requests.seen_by_daemon & study.requests.by_target).any())
        where = "in the load" if anyone else "at all"
        return [], [f"cvmfs2 was not seen answering the target {where}: the model may not come from CVMFS"]
    reads = int((answered & study.requests.is_(Opcode.READ)).sum())
    opens = int((answered & study.requests.is_(Opcode.OPEN)).sum())
    return [f"cvmfs2 served {counted(reads, 'read')} and {counted(opens, 'open')} in the load"], []


def _since_attached(study: Study) -> tuple[list[str], list[str]]:
    """The target ran already, its load was not seen: what the client counted meanwhile is all that anybody asked of it."""
    served = study.requests.seen_by_daemon & study.requests.is_(Opcode.READ)
    proof = [f"the target ran already: meanwhile cvmfs2 served {counted(int(served.sum()), 'read')}, whoever asked"]
    passing = [mount for mount in study.recording.mounts if may_pass(mount.version)]
    if passing:
        return proof, [
            f"cvmfs2 {passing[0].version} may let reads of files that were open already pass it by (FUSE passthrough)"
        ]
    return proof, []


def _mapping(study: Study) -> tuple[list[str], list[str]]:
    """Page faults on the weights could be observed, and reads do not pass the daemon by."""
    missing = []
    passing = study.requests.is_(Opcode.OPEN) & ((study.requests.open_flags & PASSTHROUGH) != 0)
    if passing.any():
        missing.append(
            f"FUSE passthrough: reads of {int(passing.sum()):,} opened files never reach cvmfs2 and cannot be seen"
        )
    if not study.recording.sees_pages:
        missing.append(f"the {study.recording.probe} probe cannot observe page faults on mapped weights")
        return [], missing
    if not study.recording.has(Kind.FUSE_SEND, Kind.FAULT):
        missing.append("neither FUSE requests in the kernel nor page faults were seen: mapped weights are not observed")
        return [], missing
    mapped = int((study.calls.on_mount & (study.calls.rows.kind == Kind.SYS_MMAP)).sum())
    return ([f"weights observed in {counted(mapped, 'mapping')}"] if mapped else ["page faults observed"]), missing


def question_of(study: Study) -> str:
    """Tell what is asked of the target: about generation if it made or began to make tokens, about inference if it ran sessions."""
    rows = study.phase_calls.row
    if np.isin(rows, (PREFILL, DECODE)).any():
        return GENERATION
    return INFERENCE if (rows == RUN).any() else PROGRAM


def verdict(study: Study, found: Evidence, cause: Ints) -> Verdict:
    """Answer the question of the target; `cause` is that of each request (causes.request_causes)."""
    calls = study.phase_calls
    needs, times, parts = generation_needs(study), generation_times(study), _Parts(study, cause)
    chosen = np.flatnonzero(needs.all)
    moved = study.counted.moved(*GENERATION_ROWS)
    missing = (*_unmade(study), *found.missing, *_apart(study, needs))
    spin_ns = int(study.call_overlaps.spin[np.isin(calls.row, GENERATING)[study.call_path.of]].sum())
    if spin_ns and not len(chosen):
        missing = (*missing, SPINNING)
    answer = YES if len(chosen) or moved else INCONCLUSIVE if missing else NO
    whole = parts.part(needs.all, int(times.wall.sum()), int(times.blocked.sum()), answer, GENERATION_ROWS)
    question = question_of(study)
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
        **(_parts(study, parts, needs, times, missing) if question == GENERATION else {}),
    )


class _Cuts(TypedDict, total=False):
    """The parts of generation."""

    first_token: Part
    further_tokens: Part
    inside_calls: Part | None
    between_calls: Part | None


def _parts(study: Study, parts: "_Parts", needs: Needs, times: Times, missing: tuple[str, ...]) -> _Cuts:
    """Cut generation by what it was for, and by where it happened."""

    def part(chosen: Bools, wall: Ints, blocked: Ints, rows: tuple[int, ...]) -> Part:
        hits = bool(chosen.any()) or study.counted.moved(*rows)
        answer = YES if hits else INCONCLUSIVE if missing else NO
        others = others_blocked_ns(study, needs, chosen)
        return parts.part(chosen, int(wall.sum()), int(blocked.sum()), answer, rows, others)

    seen = study.recording.sees_requests
    wall, blocked = times.wall, times.blocked
    return _Cuts(
        first_token=part(needs.all & needs.first, wall[:, 1], blocked[:, 1], (PREFILL,)),
        further_tokens=part(needs.all & ~needs.first, wall[:, 0], blocked[:, 0], (DECODE, BETWEEN)),
        inside_calls=part(needs.inside, wall[0], blocked[0], (PREFILL, DECODE)) if seen else None,
        between_calls=part(needs.between, wall[1], blocked[1], (BETWEEN,)) if seen else None,
    )


@dataclass(frozen=True)
class _Parts:
    """Makes a part of the verdict from the requests that belong to it."""

    study: Study
    cause: Ints

    def part(
        self, mine: Bools, wall_ns: int, blocked_ns: int, answer: str, rows: tuple[int, ...], others_ns: int = 0
    ) -> Part:
        """Return the numbers of the requests of `mine`, of the counters of these `rows` where no request is seen."""
        study, chosen = self.study, np.flatnonzero(mine)
        requests, counters = study.requests, study.counted
        seen = study.recording.sees_requests
        get = np.isin(study.gets.request, chosen)
        return Part(
            hits_cvmfs=answer,
            wall_s=wall_ns / 1e9,
            blocked_s=blocked_ns / 1e9 if seen else None,
            fuse_requests=len(chosen) if seen else None,
            fuse_reads=int(requests.is_(Opcode.READ)[chosen].sum()) if seen else counters.total(READS, *rows),
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
        return (f"no token was made: {counted(failed, 'call')} that should have made one returned an error",)
    return (_no_tokens(study),)


def _apart(study: Study, needs: Needs) -> tuple[str, ...]:
    """Say that another process asked for something while tokens were made, one that works for itself."""
    number = int(needs.apart.sum())
    if not number:
        return ()
    pids = np.unique(process_of(study, study.requests.asker[needs.apart])).tolist()
    who = ", ".join(f"{pid}" for pid in pids[:SHOWN_PIDS])
    return (
        f"while tokens were made, other processes of the target (pid {who}), which load or generate for themselves, sent "
        f"{counted(number, 'request')}: whether generation waited for any is not known",
    )


def _no_tokens(study: Study) -> str:
    if not len(study.phase_calls):
        return "no token generation was seen: the target made no call of the GenAI library that could be marked"
    called = sorted({study.phases.names[row] for row in np.unique(study.phase_calls.row).tolist()})
    return f"no token generation was seen: the target made calls for {', '.join(called)} only"
