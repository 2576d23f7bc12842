"""What functions of the client's library say of the time in it, where they were seen: back-off, and whose download a worker waits for.

All of it refines what system calls tell: where the library has no symbols there are no such events, and nothing changes.
"""

import numpy as np

from cvtrace.analysis.joins.fetches import Jobs
from cvtrace.analysis.trace.intervals import Bools, Ints, Steps, cut, overlay, pick
from cvtrace.analysis.trace.recording import EventIndex, Recording, Rows
from cvtrace.probes.events import Kind


def jobs_asleep(recording: Recording, jobs: Jobs) -> tuple[Ints, Ints, Ints]:
    """Return when each job waited as its download thread slept in back-off: (job, start, end).

    It is one thread for all: what it does not read for one it does not read for the others either.
    """
    slept = recording.of(Kind.BACKOFF)
    lanes = recording.lanes(slept.tid)
    asleep = overlay(Steps.constant(0), lanes.at(slept.tid, slept.start), lanes.at(slept.tid, slept.end), 1)
    job = np.flatnonzero(lanes.rank(jobs.downloader) >= 0)
    thread = jobs.downloader[job]
    pieces = cut(asleep, lanes.at(thread, jobs.taken[job]), lanes.at(thread, jobs.done[job]))
    chosen = pieces.value == 1
    start = lanes.time(pieces.start[chosen])
    return job[pieces.which[chosen]], start, start + (pieces.end - pieces.start)[chosen]


def confirm_shared(recording: Recording, missed: Rows, until: Ints) -> tuple[Bools, Ints]:
    """Hold waits for another's download, each from a miss `until` a time, against the client's own functions.

    Returns which of them may be ones, and until when. A worker that calls DownloadManager::Fetch downloads itself; one that
    leaves Fetcher::Fetch waits no longer.
    """
    fetches, downloads = recording.of(Kind.FETCH_CALL), recording.of(Kind.DOWNLOAD_CALL)
    by_worker = EventIndex(recording, fetches, fetches.tid)
    call = by_worker.asof_backward(missed.tid, missed.start)
    fetch_end = pick(by_worker.rows.end, call, -1)
    inside = fetch_end >= missed.end
    by_thread = EventIndex(recording, downloads, downloads.tid)
    download = pick(by_thread.rows.start, by_thread.asof_forward(missed.tid, missed.end), recording.end_ns + 1)
    shared: Bools = ~inside | (download > fetch_end)
    return shared, np.where(inside, np.minimum(until, fetch_end), until)
