"""Pure functions from a trace to tables, numbers and pictures: no privileges, no live system.

The rooms, in the order in which data flows; each imports from those above it only (a contract of import-linter):

    contract/      what a report is: dataclasses, classes of time, columns, numbers in words
    trace/         a trace as columns, arithmetic on intervals
    joins/         what happened: requests, paths, objects, fetches, phases, faults, mounts, counters
    attribution/   where the time went: the critical path
    storage/       which bytes, and why: chunks, tensors, causes, residency, state of the caches
    evidence/      how sure: counts of others, what is missing, the verdict
    findings/      what is worth fixing, with advice
    whatif/        the critical path replayed with something changed
    summary/       the report put together
    comparison/    two runs or sets; checks/ conditions for CI
    report/        one file per output

Of the other packages, `cvtrace.probes.events`, `cvtrace.probes.phases` and `cvtrace.tracer.store` may be imported.
"""

from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.summary.assemble import analyse

__all__ = ["Report", "analyse"]
