"""Pure functions from a trace to tables, numbers and pictures: no privileges, no live system.

The rooms, in the order in which data flows; each imports from those above it only (a contract of import-linter):

    contract/      what a report is: dataclasses, classes of time, columns, numbers in words
    bench/         the runs that `cvtrace bench` made: their folder, statistics, laws
    trace/         a trace as columns, arithmetic on intervals
    joins/         what happened: requests, paths, objects, fetches, phases, faults, mounts, counters
    attribution/   where the time went: the critical path
    storage/       which bytes, and why: chunks, tensors, causes, residency, state of the caches
    evidence/      how sure: counts of others, what is missing, the verdict
    findings/      what is worth fixing, with advice
    whatif/        the critical path replayed with something changed
    summary/       the report put together
    comparison/    two runs or sets; checks/ conditions for CI
    fleet/         many traces, in processes of this machine or on a Dask cluster
    report/        one file per output

What passes from room to room, in this order; `summary.assemble.full_analysis` is where all of it is made:

    Trace        events and texts as the tracer wrote them
    Recording    the same by kind, with who is target and who is daemon (trace/)
    Study        events joined to requests, files, fetches and phases, and the critical path (joins/, attribution/)
    Tables       cause of each request, chunks, tensors, state of the caches (storage/)
    Evidence     what proves the recording complete, and what is missing (evidence/)
    Report       rows and answers, as JSON has them (contract/, summary/)

Of the other packages, `cvtrace.probes.events`, `cvtrace.probes.phases` and `cvtrace.tracer.store` may be imported.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cvtrace.analysis.contract.report_schema import Report
    from cvtrace.analysis.summary.assemble import analyse

__all__ = ["Report", "analyse"]


def __getattr__(name: str) -> Any:
    """Import what is asked for; many commands need a part of the contract and not pandas, pyarrow and all rooms (0.3 s)."""
    if name == "analyse":
        from cvtrace.analysis.summary.assemble import analyse

        return analyse
    if name == "Report":
        from cvtrace.analysis.contract.report_schema import Report

        return Report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
