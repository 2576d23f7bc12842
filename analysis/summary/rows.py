"""The rows of the report's tables: phases, tokens, files, fetches."""

import re
from typing import Final, cast

import numpy as np

from cvtrace.analysis.attribution.path import class_times, group_seconds
from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import LABELS, FetchSeconds
from cvtrace.analysis.contract.report_schema import Phase, Token
from cvtrace.analysis.contract.storage_schema import Fetch, File
from cvtrace.analysis.evidence.client_calls import client_numbers
from cvtrace.analysis.evidence.complete import Evidence
from cvtrace.analysis.evidence.verdict import answer_of_phase
from cvtrace.analysis.joins.bytes_used import file_of, used_in_windows
from cvtrace.analysis.joins.client_counters import BYTES, FETCHES, READS
from cvtrace.analysis.joins.fetches import is_proxied
from cvtrace.analysis.joins.phases import DECODE, life
from cvtrace.analysis.storage.access import access
from cvtrace.analysis.storage.chunks import blocked_ns, requested_bytes_of_files
from cvtrace.analysis.storage.file_map import Axis, union
from cvtrace.analysis.storage.tables import Tables
from cvtrace.analysis.trace.intervals import Ints, add_by_group, covered, empty, numbered, pick
from cvtrace.analysis.trace.keys import PAGE, address_text, file_key
from cvtrace.probes.events import Kind, Opcode

PAGES: Final[tuple[str, ...]] = ("faults", "page_cache_bytes")
"""Counts of pages that need no request."""
QUERY: Final = re.compile(r"^[A-Z]+ (\S*)")


def phase_rows(study: Study, evidence: Evidence, tables: Tables) -> tuple[Phase, ...]:
    """Return the phases that occurred, in the order of phases.NAMES, then those that the script named."""
    segments, count = study.segments, len(study.phases.names)
    wall = add_by_group(segments.row, segments.end - segments.start, count)
    times = class_times(study.critical_path, segments.row, count)
    start_ns, _ = life(study.recording)
    has_calls = np.bincount(study.phase_calls.row, minlength=count)
    parts = add_by_group(segments.row, np.ones(len(segments), dtype=np.int64), count)
    users = study.phases.users
    spans = users.spans
    begins = tuple((each.start, each.row) for each in (segments, study.phase_calls, users))
    numbers, of_client = _phase_numbers(study), list(client_numbers(study))
    waited_ns, sequential = tables.fetch_waits.waited, tables.fetch_waits.sequential
    is_seen = study.recording.sees_requests
    spin, starved = (_bound(study, part) for part in (study.overlaps.spin, study.overlaps.starved))
    rows = []
    for row in np.flatnonzero(parts + has_calls + users.counts).tolist():
        first = min(start[of == row].min() for start, of in begins if (of == row).any())
        rows.append(
            Phase(
                name=study.phases.names[row],
                start_s=int(first - start_ns) / 1e9,
                wall_s=int(wall[row]) / 1e9,
                count=study.phase_calls.steps
                if row == DECODE
                else int(has_calls[row] or users.counts[row] or parts[row]),
                span_s=max(int(spans[row]), int(wall[row])) / 1e9,
                **group_seconds(times[row]),
                classes={name: int(spent) / 1e9 for name, spent in zip(LABELS, times[row], strict=True)},
                **{name: _observed(column, row) for name, column in numbers.items()},
                hits_cvmfs=answer_of_phase(study, row, evidence),
                **of_client[row],
                cache_state=tables.states[row],
                fetch_wait_s=int(waited_ns[row]) / 1e9 if is_seen else None,
                sequential_fetch_s=int(sequential[row]) / 1e9 if is_seen else None,
                spin_overlap_s=None if spin is None else int(spin[row]) / 1e9,
                daemon_starved_s=None if starved is None else int(starved[row]) / 1e9,
            )
        )
    return tuple(rows)


def _bound(study: Study, part: Ints) -> Ints | None:
    """Add up nanoseconds of the segments by phase; None without the scheduler's events."""
    if not study.waits.scheduler:
        return None
    return add_by_group(study.segments.row, part, len(study.phases.names))


def _observed(column: Ints | None, row: int) -> int | None:
    return None if column is None else int(column[row])


def _phase_numbers(study: Study) -> dict[str, Ints | None]:
    """Return the counts of Phase, each with one entry per phase; None for what the probe cannot observe."""
    count, requests, use = len(study.phases.names), study.requests, study.use
    row, read = study.request_phase, requests.reads
    get_phase = study.get_phase
    faults = study.recording.of(Kind.FAULT)
    network = np.minimum(add_by_group(row, _from_network(study), count), add_by_group(row, requests.read_bytes, count))
    read_bytes = add_by_group(row, requests.read_bytes, count)
    unobserved_requests = study.unobserved_requests
    unobserved_row = study.phases.row_at(unobserved_requests.asker, unobserved_requests.sent)
    cvmfs_row = np.where(unobserved_requests.to_cvmfs, unobserved_row, -1)
    numbers: dict[str, Ints | None] = {
        "fuse_requests": add_by_group(row, np.ones(len(row), dtype=np.int64), count)
        + add_by_group(cvmfs_row, cvmfs_row >= 0, count),
        "fuse_reads": add_by_group(row, read, count) + add_by_group(cvmfs_row, unobserved_requests.reads, count),
        "unobserved_requests": add_by_group(unobserved_row, unobserved_row >= 0, count),
        "fuse_read_bytes": read_bytes,
        "cache_hits": add_by_group(row, use.hits, count),
        "cache_misses": add_by_group(row, use.misses, count),
        "http_fetches": add_by_group(get_phase, np.ones(len(get_phase), dtype=np.int64), count),
        "http_bytes": add_by_group(get_phase, study.gets.body_bytes, count),
        "faults": add_by_group(
            study.phases.row_at(faults.tid, faults.start), np.ones(len(faults), dtype=np.int64), count
        ),
        "page_cache_bytes": _page_cache_bytes(study),
        "disk_bytes": read_bytes - network,
        "network_bytes": network,
    }
    unobserved = () if study.recording.sees_pages else PAGES
    if study.recording.sees_requests:
        return {**numbers, **dict.fromkeys(unobserved)}
    return {**dict.fromkeys(numbers), **_of_client(study)}


def _of_client(study: Study) -> dict[str, Ints | None]:
    """Return the counts that the client's own counters tell of every phase that occurred."""
    names = {"fuse_reads": READS, "http_fetches": FETCHES, "http_bytes": BYTES}
    rows = range(len(study.phases.names))
    totals = {name: [study.counter_deltas.total(each, row) for row in rows] for name, each in names.items()}
    is_read = {name: any(number is not None for number in numbers) for name, numbers in totals.items()}
    return {
        name: np.array([number or 0 for number in numbers], dtype=np.int64) if is_read[name] else None
        for name, numbers in totals.items()
    }


def _from_network(study: Study) -> Ints:
    """Return for each READ how many of its bytes were read from objects that were fetched in the same phase."""
    requests, use = study.requests, study.use
    row = study.request_phase
    fetched_in = pick(row, pick(study.jobs.request, use.read_job, -1), -2)
    fresh = (use.read_request >= 0) & (fetched_in == pick(row, use.read_request, -1))
    fresh_bytes = add_by_group(use.read_request, np.where(fresh, use.read_bytes, 0), len(requests))
    cache_reads = add_by_group(use.read_request, np.ones(len(use.read_request), dtype=np.int64), len(requests))
    is_miss = (use.misses + use.shared) > 0
    return np.where(
        cache_reads > 0, np.minimum(fresh_bytes, requests.read_bytes), np.where(is_miss, requests.read_bytes, 0)
    )


def _page_cache_bytes(study: Study) -> Ints:
    """Return per phase the bytes of pages that the target touched and no READ of that phase brought.

    Both kinds of event tell the range asked for: of a fault-around, some pages may not have been there.
    """
    count, requests = len(study.phases.names), study.requests
    row, page_file, first, last = _touched(study)
    read = np.flatnonzero(requests.is_(Opcode.READ) & (study.request_phase >= 0) & (requests.offset >= 0))
    first_read = requests.offset[read] // PAGE
    end_read = -(-(requests.offset[read] + requests.read_bytes[read]) // PAGE)
    files, file = numbered(np.concatenate([page_file, file_of(requests)[read]]))
    group = np.concatenate([row, study.request_phase[read]]) * len(files) + file
    groups = count * max(len(files), 1)
    touched_or_read = covered(group, np.concatenate([first, first_read]), np.concatenate([last, end_read]), groups)
    only_read = covered(group[len(row) :], first_read, end_read, groups)
    return np.asarray((touched_or_read - only_read).reshape(count, -1).sum(axis=1) * PAGE, dtype=np.int64)


def _touched(study: Study) -> tuple[Ints, Ints, Ints, Ints]:
    """Return the pages that the target touched in each phase, each once: phase (row), file, first page and the one behind the last."""
    parts = [(empty(), empty(), empty(), empty())]
    for pages in used_in_windows(study.recording):
        row = np.where(pages.kind == Kind.FAULT, -1, study.phases.row_at(pages.tid, pages.when))
        for phase in np.unique(row[row >= 0]).tolist():
            chosen = row == phase
            file, first, last = pages.file[chosen], pages.start[chosen] // PAGE, pages.end[chosen] // PAGE
            file, first, last = union(Axis.of(file, last), file, first, last)
            parts.append((np.full(len(file), phase, dtype=np.int64), file, first, last))
    row, file, first, last = (np.concatenate(column) for column in zip(*parts, strict=True))
    return row, file, first, last


def token_rows(study: Study) -> tuple[Token, ...]:
    """Return one row for each call of GenerateNextToken."""
    calls = study.phase_calls
    count = calls.steps
    if not count:
        return ()
    times = class_times(study.call_path, calls.token, count)
    start_ns, _ = life(study.recording)
    reads = add_by_group(study.request_token, study.requests.reads, count)
    of_token = np.flatnonzero(calls.token >= 0)
    start, wall = calls.start[of_token] - start_ns, (calls.end - calls.start)[of_token]
    return tuple(
        Token(
            number,
            int(start[number]) / 1e9,
            int(wall[number]) / 1e9,
            **group_seconds(times[number]),
            fuse_reads=int(reads[number]) if study.recording.sees_requests else None,
        )
        for number in range(count)
    )


def file_rows(study: Study) -> tuple[File, ...]:
    """Return the files that the target opened or read, those it was blocked on longest first."""
    requests, use = study.requests, study.use
    chosen = np.flatnonzero(requests.by_target & np.isin(requests.opcode, (Opcode.OPEN, Opcode.READ)))
    key = file_key(requests.connection, requests.nodeid)
    files, first = np.unique(key[chosen], return_index=True)
    count = len(files)
    place = np.full(len(requests), -1, dtype=np.int64)
    place[chosen] = np.searchsorted(files, key[chosen])
    blocked = add_by_group(place, blocked_ns(study), count)
    names = study.file_paths.of(requests.connection[chosen[first]], requests.nodeid[chosen[first]])
    opens, reads = requests.is_(Opcode.OPEN), requests.reads
    read_bytes = add_by_group(place, requests.read_bytes, count)
    fetched = add_by_group(pick(place, study.gets.request, -1), study.gets.body_bytes, count)
    columns = (
        add_by_group(place, opens, count),
        add_by_group(place, reads, count),
        read_bytes,
        fetched,
        add_by_group(place, use.hits, count),
        add_by_group(place, use.misses, count),
        blocked,
        requested_bytes_of_files(study, files),
    )
    pages, file_access = study.recording.sees_pages, access(study, files)
    rows = [
        File(
            path=name,
            opens=opened,
            reads=times,
            read_bytes=size,
            fetched_bytes=fetched_size,
            amplification=round(fetched_size / size, 3) if fetched_size and size else None,
            cache_hits=hits,
            cache_misses=misses,
            blocked_s=blocked_ns / 1e9,
            asked_bytes=asked_size if pages else None,
            access=pattern,
            used_bytes=used if pages and used >= 0 else None,
        )
        for name, opened, times, size, fetched_size, hits, misses, blocked_ns, asked_size, used, pattern in zip(
            names, *(column.tolist() for column in columns), file_access.used.tolist(), file_access.pattern, strict=True
        )
    ]
    return tuple(sorted(rows, key=lambda row: (-row.blocked_s, -row.read_bytes, row.path)))


def fetch_rows(study: Study) -> tuple[Fetch, ...]:
    """Return one row for each GET, in the order they were sent."""
    gets, jobs = study.gets, study.jobs
    if not len(gets):
        return ()
    start_ns, _ = life(study.recording)
    parts, begin = study.job_time.parts_ns(), study.job_time.begin
    request = np.where(study.prefetches.get, pick(_users(study), study.get_object, -1), gets.request)
    node = pick(study.requests.nodeid, request, -1)
    names = study.file_paths.of(pick(study.requests.connection, request, -1), node)
    row, by_target, prefetched = study.get_phase.tolist(), study.gets_of_target.tolist(), study.prefetches.get.tolist()
    rows = []
    for number in np.argsort(gets.sent, kind="stable").tolist():
        line, job, address = gets.line[number], int(gets.job[number]), int(gets.address[number])
        inserted = jobs.inserted[job] if job >= 0 else ""
        has_name = node[number] >= 0 and not names[number].startswith("inode ")
        target = QUERY.match(line)
        rows.append(
            Fetch(
                url=target[1] if target else "",
                path=names[number] if has_name else inserted,
                status=int(gets.status[number]),
                start_s=(int(begin[number]) - start_ns) / 1e9,
                **_fetch_seconds(parts, number),
                bytes=int(gets.body_bytes[number]),
                proxy=address_text(address) if is_proxied(line) and address >= 0 else None,
                phase=study.phases.names[row[number]] if row[number] >= 0 else None,
                by_target=bool(by_target[number]),
                encrypted=bool(gets.encrypted[number]),
                prefetch=bool(prefetched[number]),
            )
        )
    return tuple(rows)


def _users(study: Study) -> Ints:
    """Return for each object a request of the target that used it, -1 for none: it names the file of an object that was prefetched."""
    use, by_target = study.use, np.append(study.requests.by_target, False)
    users = np.full(len(study.opens.names) + 1, -1, dtype=np.int64)
    rows = np.flatnonzero(by_target[use.use_request])[::-1]
    users[use.use_object[rows]] = use.use_request[rows]
    return users


def _fetch_seconds(parts: dict[str, Ints], get: int) -> FetchSeconds:
    return cast("FetchSeconds", {name: int(column[get]) / 1e9 for name, column in parts.items()})
