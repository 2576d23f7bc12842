"""Does generating tokens hit CVMFS: yes, no or inconclusive, with the proof."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from cvtrace.analysis.attribution import class_times
from cvtrace.analysis.causes import counted_causes
from cvtrace.analysis.classes import BLOCKED_ON_CVMFS
from cvtrace.analysis.counted import BYTES, FETCHES, OPENS, READS
from cvtrace.analysis.counted_evidence import counted_evidence, may_pass
from cvtrace.analysis.intervals import Ints
from cvtrace.analysis.model import Check
from cvtrace.analysis.phases import DECODE, LOAD, PREFILL, RUN, is_attached
from cvtrace.analysis.report.quantities import counted
from cvtrace.analysis.requests import PASSTHROUGH
from cvtrace.analysis.study import Study
from cvtrace.analysis.verdict_model import GENERATION, INCONCLUSIVE, INFERENCE, NO, PROGRAM, YES, Verdict
from cvtrace.probes.events import Kind, Opcode

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
    if study.counted.total(DECODE, OPENS) is not None:
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
    if bool((study.phase_calls.cut & (study.phase_calls.row == DECODE)).any()):
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
    """Answer for generation; `cause` is that of each request (causes.request_causes)."""
    tokens = study.phase_calls.tokens
    chosen = needed(study, DECODE)
    times = class_times(study.call_path, study.phase_calls.token[study.call_path.of], max(tokens, 1))
    blocked = times[:, list(BLOCKED_ON_CVMFS)].sum(axis=1)
    get = study.get_row == DECODE
    get |= np.isin(study.gets.request, chosen)
    counters = study.counted
    missing = found.missing if tokens else (_no_tokens(study), *found.missing)
    spin_ns = int(study.call_overlaps.spin[study.phase_calls.token[study.call_path.of] >= 0].sum())
    if spin_ns and not len(chosen):
        missing = (*missing, SPINNING)
    answer = _answer(tokens, len(chosen) or counters.moved(DECODE), missing)
    seen = study.recording.sees_requests
    return Verdict(
        generation_hits_cvmfs=answer,
        question=question_of(study),
        answer=answer,
        tokens=tokens,
        steps=tokens,
        fuse_requests=len(chosen) if seen else None,
        fuse_reads=int(study.requests.is_(Opcode.READ)[chosen].sum()) if seen else counters.total(DECODE, READS),
        fuse_read_bytes=int(study.requests.read_bytes[chosen].sum()) if seen else None,
        http_fetches=int(get.sum()) if seen else counters.total(DECODE, FETCHES),
        http_bytes=int(study.gets.body_bytes[get].sum()) if seen else counters.total(DECODE, BYTES),
        blocked_s=int(blocked.sum()) / 1e9 if seen else None,
        tokens_affected=tuple(_affected(study, chosen).tolist()),
        causes=counted_causes(cause[chosen]),
        proof=found.proof,
        missing=missing,
        spin_overlap_s=spin_ns / 1e9 if study.waits.scheduler else None,
    )


def _answer(tokens: int, requests: int, missing: tuple[str, ...]) -> str:
    if not tokens:
        return INCONCLUSIVE
    if requests:
        return YES
    return INCONCLUSIVE if missing else NO


def _affected(study: Study, chosen: Ints) -> Ints:
    """Return the tokens that sent one of the chosen requests, or waited for one."""
    path = study.call_path
    waiting = (path.request >= 0) & np.isin(path.request, chosen)
    touched = np.concatenate([study.request_token[chosen], study.phase_calls.token[path.of[waiting]]])
    return np.unique(touched[touched >= 0])


def _no_tokens(study: Study) -> str:
    if not len(study.phase_calls):
        return "no token generation was seen: the target made no call of the GenAI library that could be marked"
    called = sorted({study.phases.names[row] for row in np.unique(study.phase_calls.row).tolist()})
    return f"no token generation was seen: the target made calls for {', '.join(called)} only"
