"""From a trace to its report."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cvtrace.analysis.attribution.study import Study, study
from cvtrace.analysis.contract.quantities import pluralize
from cvtrace.analysis.contract.report_options import DEFAULT_OPTIONS, ReportOptions
from cvtrace.analysis.contract.report_schema import SCHEMA, MountInfo, Report, TraceInfo
from cvtrace.analysis.evidence.access_check import access_check
from cvtrace.analysis.evidence.complete import evidence
from cvtrace.analysis.evidence.kernel_counters import kernel_count
from cvtrace.analysis.evidence.reconcile import reconcile
from cvtrace.analysis.evidence.verdict import verdict
from cvtrace.analysis.findings import findings
from cvtrace.analysis.joins.phases import is_attached, life
from cvtrace.analysis.storage.cache_state import cache_state
from cvtrace.analysis.storage.failures import failure_rows
from cvtrace.analysis.storage.folders import folder_rows
from cvtrace.analysis.storage.headers import Headers
from cvtrace.analysis.storage.imports import imports
from cvtrace.analysis.storage.operators import COST, operator_layers, operators
from cvtrace.analysis.storage.processes import process_rows, signal_name
from cvtrace.analysis.storage.tables import Tables, tables
from cvtrace.analysis.storage.tensors import look_up
from cvtrace.analysis.summary.answer_rows import answer_rows
from cvtrace.analysis.summary.program_rows import import_rows, package_rows, run_rows
from cvtrace.analysis.summary.rows import fetch_rows, file_rows, phase_rows, token_rows
from cvtrace.analysis.summary.table_rows import cache_row, chunk_rows, fetching_row, layer_rows, tensor_rows
from cvtrace.analysis.whatif.whatif import what_if
from cvtrace.probes.credentials import UNKNOWABLE as NOT_HIDDEN
from cvtrace.tracer.redaction import UNKNOWABLE as NOT_HASHED
from cvtrace.tracer.store import Trace, TraceDamaged


def analyse(trace: Trace, headers: Headers | None = None, *, options: ReportOptions = DEFAULT_OPTIONS) -> Report:
    """Return the report on a trace, finished or cut off anywhere. Raises TraceDamaged if it makes no sense.

    With `headers`, the tensors of the model are looked up in the headers of its files; without, nothing but the trace is read.
    """
    return studied(trace, headers, options=options)[2]


def studied(
    trace: Trace, headers: Headers | None = None, *, options: ReportOptions = DEFAULT_OPTIONS
) -> tuple[Study, Tables, Report]:
    """Return the report on a trace with the tables behind it, for pictures. As `analyse` otherwise."""
    try:
        found = study(trace)
        known, lacking = look_up(found, headers)
        more = tables(found, known)
        draft = report(found, more, lacking, options=options)
        return found, more, replace(draft, findings=findings(found, more, draft))
    except OverflowError:
        raise TraceDamaged(f"{trace.path} is damaged: its times are too far apart to be of one recording") from None


def report(
    found: Study, more: Tables, lacking: Sequence[str] = (), *, options: ReportOptions = DEFAULT_OPTIONS
) -> Report:
    """Put the report together from the tables, without findings; `lacking` are sentences on what could not be looked up."""
    mounts = found.mounts
    if is_attached(found.recording) and not mounts:
        mounts = found.recording.mounts  # it asked nothing of any: any may be its own
    checks, absent = reconcile(found, mounts)
    kernel = kernel_count(found.recording, mounts, found.requests)
    logged = access_check(found, options.access_log, options.log_clients) if options.access_log else None
    proof = evidence(found, checks, absent, kernel, *([logged] if logged else []))
    profiled = operators(found.recording.path)
    imported = imports(found)
    return Report(
        schema=SCHEMA,
        trace=_trace(found, lacking),
        verdict=verdict(found, proof, more.cause),
        cache_state=cache_state(found),
        phases=phase_rows(found, proof, more),
        tokens=token_rows(found),
        files=file_rows(found),
        fetches=fetch_rows(found),
        checks=checks,
        notes=(*absent, *_overlaps(found), *([COST] if profiled else [])),
        operators=profiled,
        chunks=chunk_rows(found, more),
        fetching=fetching_row(found, more),
        client_cache=cache_row(found, more),
        tensors=tensor_rows(found, more),
        layers=layer_rows(found, more),
        operator_layers=operator_layers(found.recording.path),
        kernel_requests=kernel.mounts,
        access_log=logged.check if logged else None,
        what_if=what_if(found, more.cause, options.changes),
        runs=run_rows(found),
        imports=import_rows(found, imported),
        import_packages=package_rows(found, imported),
        folders=folder_rows(found),
        failures=failure_rows(found),
        processes=process_rows(found),
        answers=answer_rows(found, proof),
    )


def _trace(found: Study, lacking: Sequence[str]) -> TraceInfo:
    recording = found.recording
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
        events=len(recording.all),
        lost=sum(int(count) for count in (meta.get("lost") or {}).values()),
        missing=(*_said_missing(found), *_not_seen(found), *_encrypted(found), *lacking),
        mounts=tuple(
            MountInfo(mount.path, mount.fqrn, mount.daemon_pid, mount.client, mount.version, mount in found.mounts)
            for mount in recording.mounts
        ),
        damage=recording.damage,
        signal=_signal(target),
        redacted=meta.get("redacted") is True,
        privacy=(NOT_HASHED,) if meta.get("redacted") is True else (NOT_HIDDEN,),
        still_running=tuple(
            str(left.get("name")) for left in meta.get("still_running") or () if isinstance(left, dict)
        ),
    )


def _signal(target: dict[str, Any]) -> str | None:
    number = target.get("signal")
    return signal_name(number) if isinstance(number, int) else None


def _overlaps(found: Study) -> tuple[str, ...]:
    number = found.phase_calls.overlapping
    if not number:
        return ()
    return (
        f"phases overlap: {pluralize(number, 'call')} of the library began while another thread was in one. All tokens "
        "count, each with its own time; the rows of phases split the target's time, by the call that began first",
    )


def _said_missing(found: Study) -> list[str]:
    """Return what the recorder could not observe, without the troubles of mounts that the target never touched."""
    others = {mount.error for mount in found.recording.mounts if mount not in found.mounts}
    others -= {mount.error for mount in found.mounts}
    used = {mount.path for mount in found.mounts}
    unused = tuple(f"{mount.path} was mounted " for mount in found.recording.mounts if mount.path not in used)
    said = [str(each) for each in found.recording.meta.get("missing") or () if each not in others]
    return [each for each in said if not each.startswith(unused)]


def _encrypted(found: Study) -> tuple[str, ...]:
    number = int(found.gets.encrypted.sum())
    if not number:
        return ()
    return (
        f"{pluralize(number, 'fetch')} over HTTPS: URLs, statuses and headers are not seen, bytes are those on the wire, and "
        "of the first on each connection the first byte may be the server's session ticket",
    )


def _not_seen(found: Study) -> tuple[str, ...]:
    if found.waits.scheduler or found.recording.meta.get("probe") != "ebpf":  # the others say so themselves
        return ()
    return (
        "no scheduler events: time blocked is put together from requests and calls, not from what woke the threads",
    )
