"""What the report says of the recording itself: target, mounts, and what was not seen."""

from typing import Any

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.quantities import pluralize
from cvtrace.analysis.contract.report_schema import MountInfo, TraceInfo
from cvtrace.analysis.evidence.unmarked import unmarked_modules
from cvtrace.analysis.joins.phases import life
from cvtrace.analysis.storage.processes import signal_name
from cvtrace.analysis.storage.tables import Tables
from cvtrace.analysis.trace.meta import dropped_part
from cvtrace.probes.credentials import UNKNOWABLE as NOT_HIDDEN
from cvtrace.tracer.redaction import UNKNOWABLE as NOT_HASHED


def trace_info(study: Study, tables: Tables) -> TraceInfo:
    """Return what is known of the recording."""
    recording = study.recording
    meta = recording.meta
    target = meta.get("target") or {}
    start_ns, end_ns = life(recording)
    return TraceInfo(
        path=str(recording.path),
        target=tuple(str(word) for word in target.get("argv") or ()),
        exit_code=target.get("exit_code"),
        host=str(meta.get("host") or ""),
        started=str(meta.get("started") or ""),
        duration_s=(end_ns - start_ns) / 1e9,
        probes=str(meta.get("probe") or ""),
        events=len(recording),
        lost=sum(int(count) for count in (meta.get("lost") or {}).values()),
        missing=(
            *_dropped(study),
            *_not_recorded(study),
            *_no_scheduler(study),
            *_encrypted(study),
            *tables.unread_headers,
        ),
        mounts=tuple(
            MountInfo(mount.path, mount.fqrn, mount.daemon_pid, mount.client, mount.version, mount in study.mounts)
            for mount in recording.mounts
        ),
        damage=recording.damage,
        signal=_signal(target),
        redacted=meta.get("redacted") is True,
        privacy=(NOT_HASHED,) if meta.get("redacted") is True else (NOT_HIDDEN,),
        still_running=tuple(
            str(process.get("name")) for process in meta.get("still_running") or () if isinstance(process, dict)
        ),
    )


def overlapping_phases(study: Study) -> tuple[str, ...]:
    """Return a note on calls of the library that overlap, if there are any."""
    number = study.phase_calls.overlapping
    if not number:
        return ()
    return (
        f"phases overlap: {pluralize(number, 'call')} of the library began while another thread was in one. All tokens "
        "count, each with its own time; the rows of phases split the target's time, by the call that began first",
    )


def _signal(target: dict[str, Any]) -> str | None:
    number = target.get("signal")
    return signal_name(number) if isinstance(number, int) else None


def _not_recorded(study: Study) -> list[str]:
    """Return what the recorder could not observe, without the troubles of mounts that the target never touched."""
    unused_errors = {mount.error for mount in study.recording.mounts if mount not in study.mounts}
    unused_errors -= {mount.error for mount in study.mounts}
    used_paths = {mount.path for mount in study.mounts}
    unused = tuple(f"{mount.path} was mounted " for mount in study.recording.mounts if mount.path not in used_paths)
    sentences = unmarked_modules(study.recording)
    sentences += [str(each) for each in study.recording.meta.get("missing") or () if each not in unused_errors]
    return [each for each in sentences if not each.startswith(unused)]


def _dropped(study: Study) -> tuple[str, ...]:
    dropped = dropped_part(study.recording.meta)
    return (f"{dropped}; files that were opened in it may have no name but their inode",) if dropped else ()


def _encrypted(study: Study) -> tuple[str, ...]:
    number = int(study.gets.encrypted.sum())
    if not number:
        return ()
    return (
        f"{pluralize(number, 'fetch')} over HTTPS: URLs, statuses and headers are not seen, bytes are those on the wire, and "
        "of the first on each connection the first byte may be the server's session ticket",
    )


def _no_scheduler(study: Study) -> tuple[str, ...]:
    if study.waits.scheduler or not study.recording.sees_scheduler:  # such a probe says so itself
        return ()
    return (
        "no scheduler events: time blocked is put together from requests and calls, not from what woke the threads",
    )
