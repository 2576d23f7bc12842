"""What a worker of the daemon does at any moment of a request: a step function over the lanes of the workers, painted window by window.

A worker handles one request at a time, so the inside of a request is a stretch of its worker's lane. While a worker waits for
the download thread, the lane shows what that thread does for the worker's own job.

The lanes are painted in this order, and what is painted later covers what was there before. Time goes to the right: a READ needs two
chunks; another request is fetching the first one already, and for the second one the worker hands over a job of its own.

                                   received                                   replied
 1  lookup     the whole lane      ==================================================
 2  read       cache files         .........==...............................====....  of READs; what others read is a catalog
 3  shared     another's job       ...======.........................................  Shared
 4  queue      its own job         ..............===.................................  JobTime.spans
    connect                        .................==...............................
    request                        ...................=====..........................
    fill                           ........................================..........  up to the commit
 5  queue      others' bytes       ............................===...................  JobTime.busy
 6  transfer   waits for bytes     ........................===....===................  JobTime.waits
 7  queue      thread's back-off   ..................................................  none here: the download thread sleeps, for all of its jobs
 8  queue      worker's back-off   ..................................................  none here: the worker itself sleeps
 9  any        as its leader       ...======.........................................  what the lane of the leader shows
10  transport  the reply           ..............................................====  FUSE_REPLY

    seen                           lllSSSSSSrrlllqqqccgggggtttfqqqtttffffffllrrrrxxxx

5 covers 4, as a thread that unpacks the bytes of another GET does not unpack those of this one; 6 covers 5, as a thread that waits
handles nothing. 9 comes after everything that the lane of a leader can show. It covers only waits (3) for a download that the
same thread of the target asked for; a wait for anybody else's download stays shared.
"""

from dataclasses import dataclass

import numpy as np

from cvtrace.analysis.attribution.daemon_time import JobTime, Shared, shared_waits
from cvtrace.analysis.attribution.layers import Layer, LayerSweep, Sweep, Window
from cvtrace.analysis.contract.classes import Class
from cvtrace.analysis.joins.client_functions import jobs_asleep
from cvtrace.analysis.joins.fetches import Jobs
from cvtrace.analysis.joins.objects import CacheOpens
from cvtrace.analysis.joins.requests import Requests
from cvtrace.analysis.trace.intervals import Ints, Lanes, Steps, cut, disjoint, narrow, overlay, pick
from cvtrace.analysis.trace.recording import Recording, Rows
from cvtrace.probes.events import Kind, Opcode


@dataclass(frozen=True)
class Followers:
    """Waits in which a worker shows what the worker `leader` does; those of one worker are disjoint."""

    worker: Ints
    leader: Ints
    start: Ints
    end: Ints


@dataclass(frozen=True)
class Workers:
    """What is painted on the lanes of the workers: `below`, then what the leaders of `followers` do, then `above`."""

    lanes: Lanes
    below: tuple[Layer, ...]
    followers: Followers
    above: Layer


class WorkersSweep:
    """Paints the workers window by window."""

    def __init__(self, workers: Workers) -> None:
        self.lanes = workers.lanes
        self._below = [LayerSweep(layer) for layer in workers.below]
        self._followers = workers.followers
        self._waits = Sweep(workers.followers.start, workers.followers.end)
        self._above = LayerSweep(workers.above)

    def steps(self, window: Window) -> Steps:
        """Return the class of every moment of every worker in the window; it means something inside requests only."""
        steps = Steps.constant(Class.CACHE_LOOKUP)
        for layer in self._below:
            steps = layer.paint(steps, self.lanes, window)
        steps = self._as_leader(steps, window)
        return self._above.paint(steps, self.lanes, window)

    def _as_leader(self, steps: Steps, window: Window) -> Steps:
        index = self._waits.until(window.end_ns, last=window.last)
        if not len(index):
            return steps
        waits, lanes = self._followers, self.lanes
        start = np.maximum(waits.start[index], window.start_ns)
        end = np.minimum(waits.end[index], window.end_ns)
        pieces = cut(steps, lanes.at(waits.leader[index], start), lanes.at(waits.leader[index], end))
        follower = lanes.rank(waits.worker[index][pieces.which])
        begin = lanes.at_rank(follower, lanes.time(pieces.start))
        return overlay(steps, begin, begin + (pieces.end - pieces.start), pieces.value)


def workers(recording: Recording, requests: Requests, opens: CacheOpens, jobs: Jobs, time: JobTime) -> Workers:
    """Collect what is painted, in the order above."""
    reads = recording.of(Kind.CACHE_READ)
    # A READ reads the object; what other requests read is the catalog.
    request = requests.of_worker(reads.tid, reads.start)
    reads = reads.where(pick(requests.opcode, request, int(Opcode.READ)) == int(Opcode.READ))
    shared = shared_waits(recording, requests, opens, jobs)
    layers = [
        _layer(reads, Class.CACHE_READ),
        Layer(shared.worker, shared.start, shared.end, int(Class.NETWORK_SHARED)),
    ]
    for spans in (time.spans, time.busy, time.waits):
        layers.append(Layer(narrow(pick(jobs.worker, spans.job, -1)), spans.start, spans.end, spans.value))
    job, start, end = jobs_asleep(recording, jobs)
    layers.append(Layer(pick(jobs.worker, job, -1), start, end, int(Class.NETWORK_QUEUE)))
    layers.append(_layer(recording.of(Kind.BACKOFF), Class.NETWORK_QUEUE))
    replies = _layer(recording.of(Kind.FUSE_REPLY), Class.CACHE_TRANSPORT)
    return Workers(requests.lanes, tuple(layers), _followers(requests, jobs, shared), replies)


def _layer(rows: Rows, value: Class) -> Layer:
    return Layer(rows.tid, rows.start, rows.end, int(value))


def _followers(requests: Requests, jobs: Jobs, waits: Shared) -> Followers:
    """Let a worker that waits for a download which the same thread asked for do what the worker of that download does.

    The kernel sends several READs of one readahead at once. Chance decides which of them downloads the chunk; the others wait for it.
    """
    same_asker, lanes = waits.job >= 0, requests.lanes
    job, worker = waits.job[same_asker], waits.worker[same_asker]
    start = np.maximum(waits.start[same_asker], pick(jobs.handed, job, 0))
    end = np.minimum(waits.end[same_asker], pick(jobs.filled, job, 0))
    index, begin, until = disjoint(lanes.at(worker, start), lanes.at(worker, end))
    start = lanes.time(begin)
    return Followers(worker[index], pick(jobs.worker, job[index], -1), start, start + (until - begin))
