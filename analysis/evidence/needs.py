"""What a part of a run needed of CVMFS: which requests, and the numbers of them that a report shows."""

from typing import TypedDict

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.quantities import pluralize
from cvtrace.analysis.joins.client_counters import BYTES, FETCHES, READS
from cvtrace.analysis.storage.causes import cause_counts
from cvtrace.analysis.trace.intervals import Bools, Ints


def needed_requests(study: Study, rows: tuple[int, ...]) -> Bools:
    """Tell which requests phases (rows) needed: those the target sent in them, and those it waited for in them.

    RELEASE and FORGET do not count: no thread waits for them.
    """
    needed: Bools = np.isin(study.request_phase, rows) & study.requests.expects_reply
    for path, row in ((study.critical_path, study.segments.row), (study.call_path, study.phase_calls.row)):
        of_rows = np.isin(row, rows)
        for part in path.parts():
            waited_for = part.request[of_rows[part.of]]
            needed[waited_for[waited_for >= 0]] = True
    return needed


class NeedCounts(TypedDict):
    """Numbers of a part of a run, named as in Part and Verdict; None for what was not observed."""

    fuse_requests: int | None
    fuse_reads: int | None
    fuse_read_bytes: int | None
    http_fetches: int | None
    http_bytes: int | None
    causes: dict[str, int]


def need_counts(
    study: Study, needed: Bools, unobserved: Bools, rows: tuple[int, ...], request_cause: Ints
) -> NeedCounts:
    """Count the `needed` requests, and those to CVMFS mounts that were not observed (`unobserved`, of Study.unobserved_requests).

    Where the probe sees no request, the client's counters of the phases `rows` tell.
    """
    causes = cause_counts(request_cause[needed])
    if not study.recording.sees_requests:
        counters = study.counter_deltas
        return NeedCounts(
            fuse_requests=None,
            fuse_reads=counters.total(READS, *rows),
            fuse_read_bytes=None,
            http_fetches=counters.total(FETCHES, *rows),
            http_bytes=counters.total(BYTES, *rows),
            causes=causes,
        )
    requests, gets = study.requests, study.gets
    of_needed = np.isin(gets.request, np.flatnonzero(needed))
    return NeedCounts(
        fuse_requests=int(needed.sum() + unobserved.sum()),
        fuse_reads=int((needed & requests.reads).sum() + (unobserved & study.unobserved_requests.reads).sum()),
        fuse_read_bytes=int(requests.read_bytes[needed].sum()),
        http_fetches=int(of_needed.sum()),
        http_bytes=int(gets.body_bytes[of_needed].sum()),
        causes=causes,
    )


def requests_by_mount(study: Study, chosen: Bools) -> list[tuple[str, str, str]]:
    """Return (number of requests in words, path, what it is) of each mount that was not observed and that got a chosen request."""
    unobserved_requests, rows = study.unobserved_requests, []
    for place, mount in enumerate(unobserved_requests.mounts):
        number = int((chosen & (unobserved_requests.mount == place)).sum())
        if number:
            kind = "a CVMFS mount" if mount.is_cvmfs else f"which is no CVMFS ({mount.type}, {mount.source})"
            rows.append((pluralize(number, "request"), mount.path, kind))
    return rows
