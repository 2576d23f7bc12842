"""The answer for targets that make no tokens: does inference hit CVMFS, does this program wait for CVMFS?"""

from typing import Final

import numpy as np

from cvtrace.analysis.attribution.path import class_times
from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import BLOCKED_ON_CVMFS
from cvtrace.analysis.contract.quantities import pluralize
from cvtrace.analysis.contract.verdict_schema import GENERATION, INCONCLUSIVE, INFERENCE, PROGRAM, Verdict
from cvtrace.analysis.evidence.counted_evidence import prefetch_doubts
from cvtrace.analysis.evidence.decision import decide
from cvtrace.analysis.evidence.needs import need_counts, needed_requests, requests_by_mount
from cvtrace.analysis.joins.phases import DECODE, PREFILL, RUN
from cvtrace.analysis.joins.requests import PASSTHROUGH
from cvtrace.analysis.trace.intervals import Bools, Ints
from cvtrace.analysis.trace.recording import Mount
from cvtrace.probes.events import Kind, Opcode
from cvtrace.probes.phases.functions import INDEX

REQUEST_COUNTERS: Final = ("cvmfs.n_fs_lookup", "cvmfs.n_fs_open", "cvmfs.n_fs_read")
RUN_ASYNC: Final = INDEX["OrtApi.RunAsync"]
ASYNCHRONOUS: Final = "the program called RunAsync, which computes in threads of onnxruntime after it has returned: what they needed is not told from the rest"
RUNNING: Final = "the recording ended while a session was running"


def question_of(study: Study) -> str:
    """Tell what is asked of the target: about generation if it made or began to make tokens, about inference if it ran sessions."""
    rows = study.phase_calls.row
    if np.isin(rows, (PREFILL, DECODE)).any():
        return GENERATION
    return INFERENCE if (rows == RUN).any() else PROGRAM


def seen_of_program(study: Study) -> tuple[list[str], list[str]]:
    """Return what proves that the requests of a program could be seen, and what is missing for that."""
    requests = study.requests
    passed_by = requests.is_(Opcode.OPEN) & ((requests.open_flags & PASSTHROUGH) != 0) & requests.by_target
    if passed_by.any():
        return [], [
            f"FUSE passthrough: reads of {int(passed_by.sum()):,} opened files never reach cvmfs2 and cannot be seen"
        ]
    answered = requests.seen_by_daemon & requests.by_target
    if answered.any():
        reads = int((answered & requests.is_(Opcode.READ)).sum())
        opens = int((answered & requests.is_(Opcode.OPEN)).sum())
        return [f"cvmfs2 served {pluralize(reads, 'read')} and {pluralize(opens, 'open')} of the program"], []
    tried = len(study.recording.of(Kind.SYS_OPEN))
    if tried and not study.calls.on_mount.any():
        return [f"the program opened {pluralize(tried, 'file')} or tried to, none of them on CVMFS"], []
    if tried or study.recording.has(Kind.PROC_EXEC, Kind.PROC_EXIT):
        return ["the program was observed"], []
    return [], [f"the {study.recording.probe} probe saw nothing of the program"]


def counted_of_program(study: Study) -> tuple[list[str], list[str]]:
    """Judge by the client's counters where no request can be seen: if none of them grew, the program asked for nothing."""
    mounts = study.recording.mounts
    if mounts and all(_is_quiet(mount) for mount in mounts):
        return ["the client counted no lookup, open or read while the program ran"], []
    return [], [
        f"the {study.recording.probe} probe sees no single request, so that it is not known which of the client's counts are this "
        "program's: `cvtrace run` as root (eBPF, or --probes strace) shows it"
    ]


def _is_quiet(mount: Mount) -> bool:
    """Return whether the client counted all that may be asked of it, and nothing was."""
    growth = [mount.counter_delta(name) for name in mount.counters_before if name.startswith("cvmfs.n_fs_")]
    return all(mount.counter_delta(name) == 0 for name in REQUEST_COUNTERS) and not any(growth)


def answer_program(
    study: Study, question: str, missing: tuple[str, ...], proof: tuple[str, ...], request_cause: Ints
) -> Verdict:
    """Answer for inference (the runs of sessions) or for the whole life of a program. The rule is decision.decide."""
    rows = (RUN,) if question == INFERENCE else tuple(range(len(study.phases.names)))
    if question == INFERENCE and (study.phase_calls.function == RUN_ASYNC).any():
        missing = (ASYNCHRONOUS, *missing)
    if question == INFERENCE and (study.phase_calls.cut & (study.phase_calls.row == RUN)).any():
        missing = (RUNNING, *missing)
    elif question != INFERENCE:
        missing = (*_still_running(study), *missing)
    needed, unobserved_requests = needed_requests(study, rows), study.unobserved_requests
    in_rows = np.isin(study.phases.row_at(unobserved_requests.asker, unobserved_requests.sent), rows)
    missing = (*missing, *_unobserved_requests(study, in_rows), *prefetch_doubts(study, rows))
    to_cvmfs = in_rows & unobserved_requests.to_cvmfs
    return Verdict(
        generation_hits_cvmfs=INCONCLUSIVE,
        question=question,
        answer=decide(
            requests=bool(needed.any()),
            counters=study.counter_deltas.moved(*rows),
            unobserved=bool(to_cvmfs.any()),
            missing=missing,
        ),
        tokens=0,
        **need_counts(study, needed, to_cvmfs, rows, request_cause),
        blocked_s=_blocked_ns(study, rows) / 1e9 if study.recording.sees_requests else None,
        tokens_affected=(),
        proof=proof,
        missing=missing,
    )


def _still_running(study: Study) -> tuple[str, ...]:
    """Say that processes of the target still run: the program has not ended with the recording."""
    count = len(study.recording.meta.get("still_running") or ())
    if not count:
        return ()
    subject = "a process that it started still runs" if count == 1 else f"{count} processes that it started still run"
    return (f"{subject}: what is needed from now on is not known (--follow-daemons records it)",)


def _unobserved_requests(study: Study, chosen: Bools) -> tuple[str, ...]:
    """Say what was asked of mounts that were not observed."""
    return tuple(
        f"it sent {number} to {path}, {kind}, that was not observed (--mount chooses the mounts)"
        for number, path, kind in requests_by_mount(study, chosen)
    )


def _blocked_ns(study: Study, rows: tuple[int, ...]) -> int:
    times = class_times(study.critical_path, study.segments.row, len(study.phases.names))
    return int(times[list(rows)][:, list(BLOCKED_ON_CVMFS)].sum())
