"""The analysis from a trace to its report. `full_analysis` lists all steps, in the order of the rooms."""

from dataclasses import replace
from typing import NamedTuple

from cvtrace.analysis.attribution.study import Study, sensible_times, study_of
from cvtrace.analysis.contract.report_options import DEFAULT_OPTIONS, ReportOptions
from cvtrace.analysis.contract.report_schema import SCHEMA, Report
from cvtrace.analysis.evidence.complete import collect_evidence
from cvtrace.analysis.evidence.verdict import verdict
from cvtrace.analysis.findings import findings
from cvtrace.analysis.storage.cache_state import cache_state
from cvtrace.analysis.storage.failures import failure_rows
from cvtrace.analysis.storage.folders import folder_rows
from cvtrace.analysis.storage.headers import Headers
from cvtrace.analysis.storage.imports import imports
from cvtrace.analysis.storage.operators import COST, operator_layers, operators
from cvtrace.analysis.storage.processes import process_rows
from cvtrace.analysis.storage.tables import Tables, storage_tables
from cvtrace.analysis.summary.answer_rows import answer_rows
from cvtrace.analysis.summary.line_rows import line_rows
from cvtrace.analysis.summary.prefetch_rows import prefetching_row
from cvtrace.analysis.summary.program_rows import import_rows, package_rows, run_rows
from cvtrace.analysis.summary.rows import fetch_rows, file_rows, phase_rows, token_rows
from cvtrace.analysis.summary.table_rows import cache_row, chunk_rows, fetching_row, layer_rows, tensor_rows
from cvtrace.analysis.summary.trace_info import overlapping_phases, trace_info
from cvtrace.analysis.whatif.whatif import what_if
from cvtrace.tracer.allocator import give_back
from cvtrace.tracer.store import Trace


class Analysis(NamedTuple):
    """A report and the tables behind it: what happened and where the time went, and which bytes were needed and why."""

    study: Study
    tables: Tables
    report: Report


def analyse(trace: Trace, headers: Headers | None = None, *, options: ReportOptions = DEFAULT_OPTIONS) -> Report:
    """Return the report on a trace, finished or cut off anywhere. Raises TraceDamaged if it makes no sense.

    With `headers`, the tensors of the model are looked up in the headers of its files; without, nothing but the trace is read.
    """
    return full_analysis(trace, headers, options=options).report


def full_analysis(
    trace: Trace, headers: Headers | None = None, *, options: ReportOptions = DEFAULT_OPTIONS
) -> Analysis:
    """Return the report on a trace with the tables behind it, for outputs that draw them. As `analyse` otherwise."""
    with sensible_times(trace):
        study = study_of(trace)  # joins/ and attribution/: what happened, where the time went
        give_back(len(study.recording))
        tables = storage_tables(study, headers)  # storage/: which bytes, and why
        give_back(len(study.recording))
        return Analysis(study, tables, report_of(study, tables, options))


def report_of(study: Study, tables: Tables, options: ReportOptions = DEFAULT_OPTIONS) -> Report:
    """Return the report on a run whose tables are there."""
    evidence = collect_evidence(study, options)  # evidence/: how sure
    answer = verdict(study, evidence, tables.cause)  # evidence/: yes, no or inconclusive
    imported, profile = imports(study), operators(study.recording.path)
    code_lines, sampling = line_rows(study)
    report = Report(
        schema=SCHEMA,
        trace=trace_info(study, tables),
        verdict=answer,
        cache_state=cache_state(study),
        phases=phase_rows(study, evidence, tables),
        tokens=token_rows(study),
        answers=answer_rows(study, evidence),
        files=file_rows(study),
        folders=folder_rows(study),
        fetches=fetch_rows(study),
        fetching=fetching_row(study, tables),
        chunks=chunk_rows(study, tables),
        client_cache=cache_row(study, tables),
        tensors=tensor_rows(study, tables),
        layers=layer_rows(study, tables),
        operators=profile,
        operator_layers=operator_layers(study.recording.path),
        runs=run_rows(study),
        imports=import_rows(study, imported),
        import_packages=package_rows(study, imported),
        processes=process_rows(study),
        prefetching=prefetching_row(study),
        failures=failure_rows(study),
        lines=code_lines,
        stacks=sampling,
        checks=evidence.checks,
        kernel_requests=evidence.kernel_requests,
        access_log=evidence.access_log,
        notes=(*evidence.unchecked, *overlapping_phases(study), *([COST] if profile else [])),
        what_if=what_if(study, tables.chunks, tables.cause, options.changes),  # whatif/: the critical path replayed
    )
    return replace(report, findings=findings(study, tables, report))
