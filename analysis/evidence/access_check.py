"""Traced fetches against the access log of the origin or of a proxy: joined by path, status, bytes and time."""

import re
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.evidence_schema import AccessCheck
from cvtrace.analysis.contract.quantities import pluralize
from cvtrace.analysis.evidence.access_log import AccessLog, path_of, read_access_log
from cvtrace.analysis.joins.fetches import Gets, is_proxied
from cvtrace.analysis.joins.phases import DECODE
from cvtrace.analysis.trace.intervals import Bools, Ints

REPOSITORY: Final = re.compile(r"^(.*?/)(?:data/[0-9a-f]{2}/|\.cvmfs)")
"""What precedes the objects of a repository in the path of a URL."""
SLACK_NS: Final = 2_000_000_000
"""By which the clocks of a log and of a trace may differ, unasked."""
NEAR_NS: Final = 50_000_000
"""By which the clocks of one machine, or of machines with NTP, differ. Lines so near go first: those of a run shortly before have the same paths."""
EDGE_NS: Final = 100_000_000
MOST_AHEAD_NS: Final = 60_000_000_000
ENOUGH: Final = 3
"""Fetches that tell how far the clocks are apart, if they agree on it."""
HEAD_BYTES: Final = 8192
EXAMPLES: Final = 5
LEFT_OUT: Final = "…"
"""What a path ends with that was left out or cut (probes/http.py)."""
ANY_STATUS: Final = 0


@dataclass(frozen=True)
class LogFindings:
    """The comparison, and what it says of the recording."""

    check: AccessCheck
    proof: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class _Traced:
    """Fetches that were traced, by time; real time, ns. Encrypted ones have no path.

    Those whose path was left out, or cut, are not among them (`without_path`): no line of a log can be told to be theirs.
    """

    path: list[str]
    status: Ints
    bytes: Ints
    sent: Ints
    done: Ints
    without_path: int


def access_check(study: Study, file: Path, own_clients: tuple[str, ...] = ()) -> LogFindings:
    """Compare; `own_clients` are the addresses that this client has in the log, if known. Raises LogUnreadable."""
    clock = study.recording.meta.get("clock") or {}
    offset_ns = clock.get("realtime_offset_ns")
    offset_ns = offset_ns if isinstance(offset_ns, int) and abs(offset_ns) < 2**62 else 0
    traced = _traced(study, offset_ns)
    log = read_access_log(file, _prefixes(study, traced.path))
    line, ahead_ns = _matched_lines(traced, log)
    is_matched = np.zeros(len(log), dtype=bool)
    is_matched[line[line >= 0]] = True
    begin, end = log.from_ns - ahead_ns - offset_ns, log.to_ns - ahead_ns - offset_ns
    during = (end >= study.recording.start_ns) & (begin <= study.recording.end_ns) & ~is_matched
    client_addresses = set(own_clients) or {log.client[number] for number in np.flatnonzero(is_matched).tolist()} - {""}
    behind_proxy = not log.of_proxy and _all_proxied(study.gets)
    is_this_client = np.array(
        [not client or not client_addresses or client in client_addresses for client in log.client], dtype=bool
    ) & (not behind_proxy)
    at_edge = (begin < study.recording.start_ns + EDGE_NS) | (end > study.recording.end_ns - EDGE_NS)
    decoding = _in_decode(study, begin, end)
    is_only_in_log: Bools = during & is_this_client & (~at_edge | decoding)
    matched: Bools = line >= 0
    check = AccessCheck(
        file=log.name,
        format=log.format,
        of_proxy=log.of_proxy,
        lines=log.lines,
        unreadable=log.unreadable,
        elsewhere=log.elsewhere,
        fetches=len(line) + traced.without_path,
        without_path=traced.without_path,
        matched=int(matched.sum()),
        traced_bytes=int(traced.bytes[matched].sum()),
        log_bytes=int(log.bytes[line[matched]].sum()),
        bytes_differ=int((~_fits(traced.bytes[matched], log.bytes[line[matched]], log.with_head)).sum()),
        only_in_trace=int((~matched).sum()),
        only_in_log=int(is_only_in_log.sum()),
        unknown_client=bool(is_only_in_log.any()) and not client_addresses,
        of_others=int((during & ~is_this_client).sum()),
        at_edges=int((during & is_this_client & at_edge & ~decoding).sum()),
        in_decode=int((is_only_in_log & decoding).sum()),
        clock_ahead_s=ahead_ns / 1e9,
        examples=tuple(dict.fromkeys(log.path[number] for number in np.flatnonzero(is_only_in_log).tolist()))[
            :EXAMPLES
        ],
        behind_proxy=behind_proxy,
        agree=_agree(matched, is_only_in_log, behind_proxy),
    )
    return LogFindings(check, *_proof_of(check))


def _agree(matched: Bools, only_in_log: Bools, behind_proxy: bool) -> bool | None:
    if only_in_log.any():
        return False
    if not len(matched) or (behind_proxy and not matched.all()):
        return None
    return bool(matched.all())


def _proof_of(check: AccessCheck) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what the comparison proves, and what it lacks for a proof: a fetch that was not traced is never a no."""
    if check.only_in_log:
        of_client = " of an unknown client" if check.unknown_client else " by this client"
        in_generation = f", {check.in_decode:,} perhaps in generation" if check.in_decode else ""
        return (), (
            f"the access log has {pluralize(check.only_in_log, 'fetch')}{of_client} that the trace lacks{in_generation}",
        )
    if check.agree:
        return (f"the access log has the same {pluralize(check.matched, 'fetch')}",), ()
    return (), ()


def _traced(study: Study, offset_ns: int) -> _Traced:
    gets = study.gets
    order = np.argsort(gets.sent, kind="stable")
    targets = [line.split(" ", 2)[1] if line.count(" ") else "" for line in gets.line]
    is_whole = np.array([not target.endswith(LEFT_OUT) for target in targets], dtype=bool)
    order = order[is_whole[order]]
    answered = np.maximum(gets.last, gets.sent)[order]
    return _Traced(
        path=[path_of(targets[place]) for place in order.tolist()],
        status=gets.status[order],
        bytes=gets.body_bytes[order],
        sent=gets.sent[order] + offset_ns,
        done=answered + offset_ns,
        without_path=int((~is_whole).sum()),
    )


def _prefixes(study: Study, paths: Iterable[str]) -> tuple[str, ...]:
    """Return how paths of the repositories begin on the servers: as traced, and as is the custom."""
    traced_prefixes = {match[1] for match in map(REPOSITORY.match, set(paths)) if match}
    usual_prefixes = {f"/cvmfs/{mount.fqrn}/" for mount in study.recording.mounts if mount.fqrn}
    return tuple(sorted((traced_prefixes | usual_prefixes) - {"/"})) or ("/",)


def _all_proxied(gets: Gets) -> bool:
    proxied = [is_proxied(line) for line in gets.line if line]
    return bool(proxied) and all(proxied)


def _in_decode(study: Study, begin: Ints, end_ns: Ints) -> Bools:
    """Tell which intervals touch a decode step (steps are sorted; those of several threads may overlap)."""
    calls = study.phase_calls
    is_decode = calls.row == DECODE
    start, end = calls.start[is_decode], np.maximum.accumulate(calls.end[is_decode])
    before = np.searchsorted(start, end_ns, side="right") - 1
    touches_decode: Bools = (
        (before >= 0) & (end[np.maximum(before, 0)] >= begin) if len(start) else np.zeros(len(begin), bool)
    )
    return touches_decode


def _fits(traced: Ints, logged: Ints, with_head: bool) -> Bools:
    fits: Bools = (logged >= traced) & (logged - traced <= (HEAD_BYTES if with_head else 0))
    return fits


def _matched_lines(traced: _Traced, log: AccessLog) -> tuple[Ints, int]:
    """Return the line of each fetch (-1: none), and by how many ns the log's clock is taken to be ahead."""
    line = _match(traced, log, 0)
    if 2 * int((line >= 0).sum()) >= len(line):
        return line, 0
    ahead_ns = _ahead(traced, log)
    shifted = _match(traced, log, ahead_ns) if ahead_ns else line
    return (shifted, ahead_ns) if (shifted >= 0).sum() > (line >= 0).sum() else (line, 0)


def _ahead(traced: _Traced, log: AccessLog) -> int:
    """Estimate how far the log's clock is ahead, from paths that both have once; 0 if they do not agree on it."""
    trace_place, log_place = _unique_places(traced.path), _unique_places(log.path)
    places = [(trace_place[path], log_place[path]) for path in trace_place.keys() & log_place.keys()]
    if len(places) < ENOUGH:
        return 0
    fetch, line = np.array(places, dtype=np.int64).T
    offset_ns = log.from_ns[line] - traced.sent[fetch]
    middle = int(np.median(offset_ns))
    agree = (np.abs(offset_ns - middle) <= SLACK_NS).mean() >= 0.9
    return middle if agree and abs(middle) <= MOST_AHEAD_NS else 0


def _unique_places(paths: Iterable[str]) -> dict[str, int]:
    """Return the place of each path that occurs once."""
    places: dict[str, int] = {}
    repeated: set[str] = set()
    for place, path in enumerate(paths):
        repeated.update((path,) if path in places else ())
        places[path] = place
    return {path: place for path, place in places.items() if path and path not in repeated}


def _match(traced: _Traced, log: AccessLog, ahead_ns: int) -> Ints:
    """Join, if the log's clock is ahead by so much: first what is near and agrees in bytes, then what agrees in bytes, then those without a path."""
    line_of_fetch = np.full(len(traced.path), -1, dtype=np.int64)
    free = set(range(len(log)))
    for exactly, slack_ns in ((True, NEAR_NS), (True, SLACK_NS), (False, SLACK_NS)):
        begin, latest = log.from_ns - ahead_ns - slack_ns, log.to_ns - ahead_ns + slack_ns
        lines_of_path: dict[str, deque[int]] = defaultdict(deque)
        for number in sorted(free):
            lines_of_path[log.path[number]].append(number)
            lines_of_path[""].append(number)
        for place in np.flatnonzero(line_of_fetch < 0).tolist():
            path, status = traced.path[place], int(traced.status[place])
            if not path and exactly:
                continue
            lines = lines_of_path.get(path, deque())
            while lines and (lines[0] not in free or latest[lines[0]] < traced.sent[place]):
                lines.popleft()
            for number in lines:
                if begin[number] > traced.done[place]:
                    break
                same = not path or ANY_STATUS in (status, int(log.status[number])) or status == log.status[number]
                size = slice(number, number + 1)
                if exactly and not _fits(traced.bytes[place : place + 1], log.bytes[size], log.with_head)[0]:
                    same = False
                if same and number in free:
                    line_of_fetch[place] = number
                    free.remove(number)
                    break
    return line_of_fetch
