"""What a Perfetto trace tells: phases, tokens, threads and FUSE requests of the target; the client's threads, cache and fetches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import FETCH_PARTS, LABELS, Class
from cvtrace.analysis.contract.quantities import script
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.report.perfetto.code import code_slices
from cvtrace.analysis.report.perfetto.lanes import by_lane
from cvtrace.analysis.report.perfetto.slices import Interned, Slices, begin, finish
from cvtrace.analysis.report.perfetto.tracks import Tracks
from cvtrace.analysis.storage.causes import CAUSES
from cvtrace.analysis.storage.stacks import Files, files
from cvtrace.analysis.storage.tables import Tables
from cvtrace.analysis.trace.intervals import Bools, Ints, pick
from cvtrace.probes.events import Kind, Opcode


@dataclass
class Content:
    """The tracks of a run, and what is on them; all strings go through `interned`."""

    study: Study
    tables: Tables
    report: Report
    interned: Interned
    tracks: Tracks = field(default_factory=Tracks)

    def __post_init__(self) -> None:
        self.target = self.tracks.process(self.study.recording.target_pid, script(self.report.trace.target))
        self._phase_lane = self.tracks.lanes(self.target, "Phases", 1)[0]
        self._token_order, lane = by_lane(self._tokens.start, self._tokens.end)
        self._token_lanes = np.array(self._lanes(self.target, "Tokens", lane), dtype=np.int64)[lane]

    def slices(self) -> Iterator[Slices]:
        """Return everything but the tokens."""
        yield self._phases()
        by_target = self.study.requests.by_target
        yield self._requests(np.flatnonzero(by_target), self.target, "FUSE requests")
        yield self._threads()
        yield from code_slices(self.study, self.interned, self.tracks, self.target)
        for pid in self._daemons.tolist():
            daemon = self.tracks.process(pid, self._client(pid))
            yield self._requests(
                np.flatnonzero(~by_target & (self.study.requests.daemon == pid)), daemon, "FUSE requests of others"
            )
            yield self._cache(pid, daemon)
            yield self._fetches(pid, daemon)
            yield self._workers(pid)

    def tokens(self) -> Trace:
        """Return the tokens; from each, arrows lead to all requests that were sent for it."""
        trace = Trace()
        calls, (request, ids) = self._tokens, self._flows
        token = pick(self.study.request_token, request, -1)
        order = np.argsort(token, kind="stable")
        token, ids = token[order], ids[order]
        for track, place in zip(self._token_lanes.tolist(), self._token_order.tolist(), strict=True):
            number = int(calls.number[place])
            first, last = np.searchsorted(token, [number, number + 1])
            name = self.interned.names[f"token {number}"]
            event = begin(trace.packet.add(), int(calls.start[place]), track, name)
            event.flow_ids.extend(ids[first:last].tolist())
            finish(trace.packet.add(), int(calls.end[place]), track)
        return trace

    # What all of them share.

    @cached_property
    def _tokens(self) -> "_Tokens":
        calls = self.study.phase_calls
        chosen = np.flatnonzero(calls.token >= 0)
        return _Tokens(calls.start[chosen], calls.end[chosen], calls.token[chosen])

    @cached_property
    def _files(self) -> Files:
        return files(self.study)

    @cached_property
    def _file_texts(self) -> Ints:
        return self.interned.texts.all(self._files.names)

    @cached_property
    def _phase_texts(self) -> Ints:
        return self.interned.texts.all(self.study.phases.names)

    @cached_property
    def _flows(self) -> tuple[Ints, Ints]:
        """Arrows as (request, id), sorted by request: one for each GET it caused, else one if it was sent for a token."""
        request_count, caused = len(self.study.requests), self.study.gets.request
        without_get = np.flatnonzero(self.study.request_token >= 0)
        without_get = without_get[~np.isin(without_get, caused)]
        gets = np.flatnonzero(caused >= 0)
        request = np.concatenate([without_get, caused[gets]])
        ids = np.concatenate([1 + without_get, 1 + request_count + gets])
        order = np.argsort(request, kind="stable")
        return request[order], ids[order]

    @cached_property
    def _daemons(self) -> Ints:
        study = self.study
        pids = np.concatenate([study.requests.daemon, study.gets.daemon, study.jobs.daemon])
        return np.unique(pids[pids > 0])

    def _client(self, pid: int) -> str:
        mount = next((each for each in self.study.recording.mounts if each.daemon_pid == pid), None)
        return f"{mount.client} {mount.fqrn or mount.path}" if mount else "cvmfs2"

    def _lanes(self, parent: int, name: str, lane: Ints) -> list[int]:
        return self.tracks.lanes(parent, name, int(lane.max(initial=-1)) + 1)

    def _key(self, name: str) -> int:
        return self.interned.keys[name]

    def _names(self, words: Sequence[str], number: Ints) -> Ints:
        return pick(self.interned.names.all(words), number, 0)

    def _texts(self, request: Ints) -> dict[int, Ints]:
        """Return file and phase of requests (-1: none)."""
        file, phase = pick(self._files.of_request, request, -1), pick(self.study.request_phase, request, -1)
        return {
            self._key("file"): pick(self._file_texts, file, 0),
            self._key("phase"): pick(self._phase_texts, phase, 0),
        }

    def _opcodes(self, opcode: Ints) -> Ints:
        names = {int(member): member.name for member in Opcode}
        codes, code_of_request = np.unique(opcode, return_inverse=True)
        return self._names([names.get(code, f"request {code}") for code in codes.tolist()], code_of_request.ravel())

    def _tensor_texts(self, request: Ints) -> Ints:
        """Return the name of the tensor that each request counts for, 0 for none."""
        parts = self.tables.tensors
        texts = [self.interned.texts[each.name] if each and each.name else 0 for each in parts.header]
        return pick(np.array(texts, dtype=np.int64), pick(parts.main, request, -1), 0)

    # One kind of track each.

    def _phases(self) -> Slices:
        segments = self.study.segments
        return Slices(
            segments.start,
            segments.end,
            np.full(len(segments), self._phase_lane),
            self._names(self.study.phases.names, segments.row),
            {self._key("token"): pick(self.study.phase_calls.token, segments.call, -1)},
        )

    def _threads(self) -> Slices:
        """Return what every thread of the target did, by class; what it waited for is an argument."""
        tids, tgids = self.study.recording.target_threads
        first, last = self.study.recording.threads.lives(tids)
        active = np.flatnonzero(last > first)
        track = np.array([self._thread(int(tgids[each]), int(tids[each])) for each in active], dtype=np.int64)
        pieces = self.study.threads.between(tids[active], first[active], last[active])
        file = pick(self._files.of_request, pieces.request, -1)
        is_continued = (
            (pieces.of[1:] == pieces.of[:-1]) & (pieces.value[1:] == pieces.value[:-1]) & (file[1:] == file[:-1])
        )
        begins = np.flatnonzero(np.append(True, ~is_continued)[: len(pieces.of)])
        ends = np.append(begins[1:], len(pieces.of))[: len(begins)] - 1
        return Slices(
            pieces.start[begins],
            pieces.end[ends],
            track[pieces.of[begins]],
            self._names(LABELS, pieces.value[begins]),
            texts={self._key("file"): pick(self._file_texts, file[begins], 0)},
        )

    def _thread(self, pid: int, tid: int) -> int:
        self.tracks.process(pid, "")
        return self.tracks.thread(pid, tid, "")

    def _requests(self, chosen: Ints, parent: int, name: str) -> Slices:
        study, use = self.study, self.study.use
        requests = study.requests
        order, lane = by_lane(requests.sent[chosen], requests.replied[chosen])
        request = chosen[order]
        tracks = np.array(self._lanes(parent, name, lane), dtype=np.int64)
        origin = np.select(
            [use.misses[request] > 0, use.shared[request] > 0, use.hits[request] > 0], [1, 2, 3], default=0
        )
        words = np.append(0, self.interned.texts.all(["network", "another fetch", "client's cache"]))
        is_read = requests.is_(Opcode.READ)[request]
        return Slices(
            requests.sent[request],
            requests.replied[request],
            tracks[lane],
            self._opcodes(requests.opcode[request]),
            {
                self._key("offset"): np.where(is_read, requests.offset[request], -1),
                self._key("bytes"): np.where(is_read, requests.read_bytes[request], -1),
                self._key("thread"): requests.asker[request],
                self._key("token"): study.request_token[request],
                self._key("unique"): requests.unique[request],
                self._key("queued_ns"): requests.received[request] - requests.sent[request],
            },
            {
                **self._texts(request),
                self._key("from"): words[origin],
                self._key("cause"): pick(self.interned.texts.all(CAUSES), self.tables.cause[request], 0),
                self._key("tensor"): self._tensor_texts(request),
            },
            flows=_of_slices(request, *self._flows),
        )

    def _workers(self, pid: int) -> Slices:
        """Return the client's threads, each with the requests it answered; a reply that was not seen ends with the next request."""
        requests = self.study.requests
        answered = np.flatnonzero((requests.daemon == pid) & (requests.worker >= 0))
        answered = answered[np.lexsort((requests.received[answered], requests.worker[answered]))]
        tids, number = np.unique(requests.worker[answered], return_inverse=True)
        received = requests.received[answered]
        is_same_worker = np.append(number[1:] == number[:-1], False)[: len(answered)]
        following = np.where(is_same_worker, np.append(received[1:], 0)[: len(answered)], np.iinfo(np.int64).max)
        tracks = np.array([self.tracks.thread(pid, tid, "worker") for tid in tids.tolist()], dtype=np.int64)
        return Slices(
            received,
            np.minimum(np.maximum(requests.replied[answered], received), following),
            pick(tracks, number.ravel(), 0),
            self._opcodes(requests.opcode[answered]),
        )

    def _cache(self, pid: int, parent: int) -> Slices:
        """Return opens of objects (hit, miss), reads of them, and clean-ups."""
        study, opens = self.study, self.study.opens
        objects = opens.rows.where((opens.is_miss | opens.is_hit) & (opens.rows.tgid == pid))
        hit = objects.ret >= 0
        cache_calls = study.recording.of(Kind.CACHE_READ, Kind.CLEANUP)
        cache_calls = cache_calls.where(cache_calls.tgid == pid)
        start, end = np.concatenate([objects.start, cache_calls.start]), np.concatenate([objects.end, cache_calls.end])
        tid = np.concatenate([objects.tid, cache_calls.tid])
        is_read = cache_calls.kind == Kind.CACHE_READ
        size = np.concatenate([np.full(len(objects), -1), np.where(is_read, cache_calls.ret, -1)])
        name = np.concatenate([np.where(hit, 0, 1), np.where(is_read, 2, 3)])
        order, lane = by_lane(start, end)
        request = study.requests.of_worker(tid[order], start[order])
        return Slices(
            start[order],
            end[order],
            np.array(self._lanes(parent, "Cache", lane), dtype=np.int64)[lane],
            self._names(["hit", "miss", "read", "clean-up"], name[order]),
            {self._key("bytes"): size[order]},
            {self._key("file"): self._texts(request)[self._key("file")]},
        )

    def _fetches(self, pid: int, parent: int) -> Slices:
        study, time = self.study, self.study.job_time
        gets = study.gets
        of_daemon = np.flatnonzero(gets.daemon == pid)
        order, lane = by_lane(time.begin[of_daemon], time.filled[of_daemon])
        get = of_daemon[order]
        request = gets.request[get]
        names = {part.value: part.column.removesuffix("_s") for part in FETCH_PARTS}
        names[Class.CACHE_FILL] = "transfer and fill"
        received_wait, _ = time.received_ns()
        urls = self.interned.texts.all([gets.line[each].split(" ")[1] if gets.line[each] else "" for each in get])
        has_url = np.array([bool(gets.line[each]) for each in get], dtype=bool)
        caused = np.flatnonzero(request >= 0)
        return Slices(
            time.begin[get],
            time.filled[get],
            np.array(self._lanes(parent, "HTTP", lane), dtype=np.int64)[lane],
            np.full(len(get), self.interned.names["GET"]),
            {
                self._key("bytes"): gets.body_bytes[get],
                self._key("status"): np.where(gets.status[get] > 0, gets.status[get], -1),
                self._key("token"): pick(study.request_token, request, -1),
                self._key("waited_for_bytes_ns"): received_wait[get].astype(np.int64),
            },
            {**self._texts(request), self._key("url"): np.where(has_url, urls, 0)},
            tuple((self.interned.names[names[value]], start[get], end[get]) for start, end, value in time.borders()),
            flows=(caused, 1 + len(study.requests) + get[caused]),
        )


@dataclass(frozen=True)
class _Tokens:
    start: Ints
    end: Ints
    number: Ints


def _of_slices(chosen: Ints, request: Ints, ids: Ints) -> tuple[Ints, Ints]:
    """Return the arrows of the chosen requests as (place among them, id), sorted by place."""
    place = np.full(int(max(chosen.max(initial=-1), request.max(initial=-1))) + 1, -1, dtype=np.int64)
    place[chosen] = np.arange(len(chosen))
    place_of_arrow = place[request]
    is_chosen: Bools = place_of_arrow >= 0
    order = np.argsort(place_of_arrow[is_chosen], kind="stable")
    return place_of_arrow[is_chosen][order], ids[is_chosen][order]
