"""What speaks for a complete recording, and what is missing for one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.evidence_schema import AccessCheck, Check, Numbering
from cvtrace.analysis.contract.quantities import pluralize, size
from cvtrace.analysis.contract.report_options import DEFAULT_OPTIONS, ReportOptions
from cvtrace.analysis.contract.verdict_schema import PROGRAM, ModelFile
from cvtrace.analysis.evidence.access_check import access_check
from cvtrace.analysis.evidence.counted_evidence import ROWS, counted_evidence
from cvtrace.analysis.evidence.kernel_counters import kernel_count
from cvtrace.analysis.evidence.program_verdict import counted_of_program, question_of, seen_of_program
from cvtrace.analysis.evidence.reconcile import reconcile
from cvtrace.analysis.evidence.unobserved_opens import unobserved_opens
from cvtrace.analysis.joins.client_counters import OPENS
from cvtrace.analysis.joins.mounts import held_mounts
from cvtrace.analysis.joins.phases import GENERATING, LOAD, is_attached
from cvtrace.analysis.joins.requests import PASSTHROUGH
from cvtrace.analysis.storage.model_files import ELSEWHERE, model_files, model_from
from cvtrace.analysis.trace.meta import dropped_part
from cvtrace.probes.cvmfs.releases import may_pass
from cvtrace.probes.events import Kind, Opcode

Judge = Callable[[Study], tuple[list[str], list[str]]]
"""Returns what proves that a recording is complete, and what is missing for that."""


@dataclass(frozen=True)
class Evidence:
    """What speaks for a complete recording (`proof`) and what is missing for one, and the counts of others it was compared with."""

    proof: tuple[str, ...]
    missing: tuple[str, ...]
    checks: tuple[Check, ...]
    unchecked: tuple[str, ...]
    """Why counts of the client could not be compared."""
    kernel_requests: tuple[Numbering, ...]
    access_log: AccessCheck | None


def collect_evidence(study: Study, options: ReportOptions = DEFAULT_OPTIONS) -> Evidence:
    """Compare the recording with what client, kernel and access log counted, and judge how complete it is."""
    mounts = study.mounts
    if is_attached(study.recording) and not mounts:
        mounts = study.recording.mounts  # it asked nothing of any: any may be its own
    checks, unchecked = reconcile(study, mounts)
    kernel = kernel_count(study.recording, mounts, study.requests)
    log = access_check(study, options.access_log, options.log_clients) if options.access_log else None
    agreed = bool(checks) and all(check.agree for check in checks) and not unchecked
    proof: list[str] = []
    missing: list[str] = []
    for judge in _judges(study, agreed):
        proven, gaps = judge(study)
        proof += proven
        missing += gaps
    missing += unobserved_opens(study)
    missing += [
        f"traced and client differ in {check.name}: {check.traced:,} and {check.client:,}"
        for check in checks
        if check.agree is False
    ]
    missing += unchecked
    proof += ["the client's own counters agree"] if agreed else []
    proof += [*kernel.proof, *(log.proof if log else ())]
    missing += [*kernel.missing, *(log.missing if log else ())]
    return Evidence(tuple(proof), tuple(missing), checks, unchecked, kernel.mounts, log.check if log else None)


def _judges(study: Study, agreed: bool) -> Sequence[Judge]:
    """Return what judges a recording of this kind; `agreed`: the client counted the same."""
    is_program = question_of(study) == PROGRAM
    if not study.recording.sees_requests:
        return (_losses, counted_of_program) if is_program else (_unseen_requests,)
    if agreed and is_attached(study.recording):
        return (_losses, _since_attached)
    return (_losses, seen_of_program) if is_program else (_losses, _model_source, _mapped_weights)


def _unseen_requests(study: Study) -> tuple[list[str], list[str]]:
    """Requests cannot be observed at all; the client's counters may have been."""
    _, missing = _losses(study)
    if study.counter_deltas.total(OPENS, *ROWS) is not None:
        proof, gaps = counted_evidence(study)
        return proof, [*gaps, *missing]
    held_mounts_of_target = held_mounts(study.recording)
    if held_mounts_of_target is not None and not len(held_mounts_of_target) and study.recording.mounts:
        return [], [
            "the target was not seen to have a file of a CVMFS mount open or mapped: the clients' counts may belong to other "
            "processes: `cvtrace run` as root (eBPF, or --probes strace) shows the target's own",
            *missing,
        ]
    return [], [
        f"the {study.recording.probe} probe sees no single request, so it is not known which phase or token the client's "
        "counts belong to: `cvtrace run` as root (eBPF, or --probes strace) shows it",
        *missing,
    ]


def _losses(study: Study) -> tuple[list[str], list[str]]:
    """Nothing lost, nothing cut off."""
    meta = study.recording.meta
    lost_events = {name: int(count) for name, count in (meta.get("lost") or {}).items() if int(count)}
    missing = [f"{pluralize(count, 'event')} of {name} lost" for name, count in lost_events.items()]
    dropped = dropped_part(meta)
    if dropped:
        missing.append(dropped)
    if study.recording.damage:
        missing.append(study.recording.damage)
    if bool((study.phase_calls.cut & np.isin(study.phase_calls.row, GENERATING)).any()):
        missing.append("the recording ended while a token was being generated")
    return ([] if missing else ["no event was lost"]), missing


def _model_source(study: Study) -> tuple[list[str], list[str]]:
    """The model's files were seen being opened: on CVMFS, with the daemon answering, or somewhere else."""
    if not study.recording.mounts:
        return [], []
    answered = study.requests.seen_by_daemon & (study.request_phase == LOAD)
    if answered.any():
        reads = int((answered & study.requests.is_(Opcode.READ)).sum())
        opens = int((answered & study.requests.is_(Opcode.OPEN)).sum())
        return [f"cvmfs2 served {pluralize(reads, 'read')} and {pluralize(opens, 'open')} in the load"], []
    files = model_files(study)
    if model_from(study, files) == ELSEWHERE:
        return [_model_not_on_cvmfs(files)], []
    unobserved_requests = study.unobserved_requests
    left_out = unobserved_requests.mount[
        unobserved_requests.to_cvmfs
        & (study.phases.row_at(unobserved_requests.asker, unobserved_requests.sent) == LOAD)
    ]
    if len(left_out):
        names = ", ".join(unobserved_requests.mounts[mount].path for mount in np.unique(left_out).tolist())
        return [], [f"the model was loaded from {names}, which was not observed (--mount chooses the mounts)"]
    by_target = study.requests.seen_by_daemon & study.requests.by_target
    if not by_target.any():
        return [], ["cvmfs2 was not seen answering the target at all: the model may not come from CVMFS"]
    reads = int((by_target & study.requests.is_(Opcode.READ)).sum())
    return [], [
        f"cvmfs2 was not seen answering the target in the load, but {pluralize(reads, 'read')} of it outside of the load: "
        "which of them were for the model is not known"
    ]


def _model_not_on_cvmfs(files: tuple[ModelFile, ...]) -> str:
    mapped, read = sum(file.mapped_bytes for file in files), sum(file.read_bytes for file in files)
    amounts = [f"{size(amount)} {verb}" for amount, verb in ((mapped, "mapped"), (read, "read")) if amount]
    return f"the model was opened from {files[0].path}, which is not on CVMFS ({pluralize(len(files), 'file')}, {', '.join(amounts)})"


def _since_attached(study: Study) -> tuple[list[str], list[str]]:
    """The target ran already, its load was not seen: what the client counted meanwhile is all that anybody asked of it."""
    served = study.requests.seen_by_daemon & study.requests.is_(Opcode.READ)
    proof = [
        f"the target ran already: meanwhile cvmfs2 served {pluralize(int(served.sum()), 'read')} for all processes"
    ]
    may_bypass = [mount for mount in study.recording.mounts if may_pass(mount.version, study.recording.kernel)]
    if may_bypass:
        return proof, [
            f"cvmfs2 {may_bypass[0].version} may let reads of files that were open already pass it by (FUSE passthrough)"
        ]
    return proof, []


def _mapped_weights(study: Study) -> tuple[list[str], list[str]]:
    """Page faults on the weights could be observed, and reads do not pass the daemon by."""
    missing = []
    bypasses = study.requests.is_(Opcode.OPEN) & ((study.requests.open_flags & PASSTHROUGH) != 0)
    if bypasses.any():
        missing.append(
            f"FUSE passthrough: reads of {int(bypasses.sum()):,} opened files never reach cvmfs2 and cannot be seen"
        )
    if model_from(study, model_files(study)) == ELSEWHERE and study.recording.sees_sends:
        return ["page faults on weights that are not on CVMFS need nothing of it"], missing
    if not study.recording.sees_pages:
        missing.append(f"the {study.recording.probe} probe cannot observe page faults on mapped weights")
        return [], missing
    if not study.recording.has(Kind.FUSE_SEND, Kind.FAULT):
        missing.append("neither FUSE requests in the kernel nor page faults were seen: mapped weights are not observed")
        return [], missing
    mapped = int((study.calls.on_mount & (study.calls.rows.kind == Kind.SYS_MMAP)).sum())
    return (
        [f"the weights were observed in {pluralize(mapped, 'mapping')}"] if mapped else ["page faults were observed"]
    ), missing
