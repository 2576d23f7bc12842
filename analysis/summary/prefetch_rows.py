"""What was prefetched, and whether it was of use."""

import numpy as np

from cvtrace.analysis.attribution.path import add_by_request
from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import Class
from cvtrace.analysis.contract.storage_schema import Prefetching
from cvtrace.analysis.trace.intervals import Bools, Ints, add_by_group, pick


def prefetching_row(study: Study) -> Prefetching | None:
    """Return what was prefetched; None where nothing was."""
    prefetched, gets = study.prefetches, study.gets
    if not prefetched.any:
        return None
    of_bundle = pick(prefetched.bundle.astype(np.int64), gets.job, 0) == 1
    content = np.where(prefetched.get & ~of_bundle, study.get_object, -1)
    count = len(prefetched.used)
    got = add_by_group(content, np.ones(len(gets), dtype=np.int64), count) > 0
    size = add_by_group(content, gets.body_bytes, count)
    used, unused = got & prefetched.used, got & ~prefetched.needed
    waited_ns = _waited_ns(study, got & prefetched.awaited)
    fetching_ns = add_by_group(content, _fetching_ns(study), count)[used].sum()
    return Prefetching(
        fetches=int(prefetched.get.sum()),
        bytes=int(gets.body_bytes[prefetched.get].sum()),
        objects=int(got.sum()),
        used_objects=int(used.sum()),
        used_bytes=int(size[used].sum()),
        unused_objects=int(unused.sum()),
        unused_bytes=int(size[unused].sum()),
        saves_at_most_s=max(int(fetching_ns) - waited_ns, 0) / 1e9,
        waited_s=waited_ns / 1e9,
        bundles=int(prefetched.bundle.sum()),
    )


def _fetching_ns(study: Study) -> Ints:
    """Return how long each GET took by itself: without the time in which it waited for others."""
    parts = study.job_time.parts_ns()
    return parts["request_s"] + parts["transfer_s"] + parts["fill_s"]


def _waited_ns(study: Study, awaited: Bools) -> int:
    """Return how long the critical path waited for downloads of these objects by others."""
    use, of_row = study.use, np.ones(len(study.segments), dtype=bool)
    requests = np.unique(use.use_request[awaited[use.use_object]])
    waited = add_by_request(study.critical_path, len(study.requests), (int(Class.NETWORK_SHARED),), of_row)
    return int(waited[requests].sum())
