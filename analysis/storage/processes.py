"""The processes of the target: which program each ran, how it ended, and what its main thread's time went to."""

import signal
from dataclasses import dataclass

import numpy as np

from cvtrace.analysis.attribution.path import class_times, group_seconds
from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import LABELS
from cvtrace.analysis.contract.report_schema import Process
from cvtrace.analysis.joins.phases import life
from cvtrace.analysis.trace.intervals import Bools, Ints, add_by_group, distinct, match, pick
from cvtrace.analysis.trace.recording import Recording, Rows
from cvtrace.probes.events import Kind

SIGKILL = int(signal.SIGKILL)


@dataclass(frozen=True)
class Ends:
    """How processes ended, sorted by `pid`: `exit_code` and `signal` -1 where they are not known, `time` of a fatal signal in ns or -1.

    `tid` is the thread that the signal came to (-1: not seen), `address` what it touched (SIGBUS, SIGSEGV), else 0.
    """

    pid: Ints
    exit_code: Ints
    signal: Ints
    time: Ints
    tid: Ints
    address: Ints


def signal_name(number: int) -> str:
    """Return SIGBUS for 7."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def pids(recording: Recording) -> Ints:
    """Return the processes of the target, sorted. eBPF tells a new thread as a fork: only what did something of its own is a process."""
    active = np.intersect1d(recording.threads.tgid, recording.target_tgids)
    return np.union1d(active, [recording.target_pid]) if recording.target_pid else active


def ends(recording: Recording) -> Ends:
    """Find out how each process ended: its parent was told, a signal came that ends it, or the recorder waited for it."""
    pid = pids(recording)
    code, number = np.full(len(pid), -1, dtype=np.int64), np.full(len(pid), -1, dtype=np.int64)
    reaped = recording.of(Kind.PROC_REAPED)
    place = match(pid, reaped.a)
    status = reaped.b[place >= 0] & 0xFFFF
    killed = status & 0x7F
    code[place[place >= 0]] = np.where(killed == 0, status >> 8, -1)
    number[place[place >= 0]] = np.where(killed != 0, killed, -1)
    exits = recording.of(Kind.PROC_EXIT)
    leader = exits.where((exits.tid == exits.tgid) & (exits.ret > 0))
    place = match(pid, leader.tgid)
    number[place[place >= 0]] = np.where(leader.ret > 128, leader.ret - 128, -1)[place >= 0]
    code[place[place >= 0]] = np.where(leader.ret > 128, -1, leader.ret)[place >= 0]
    fatal = _fatal(recording, exits)
    process, first = np.unique(fatal.tgid, return_index=True)  # the first one ended it
    place = match(process, pid)
    at = first[np.maximum(place, 0)] if len(first) else place
    known = place >= 0
    number = np.where(known & (number < 0), pick(fatal.ret, at, -1), number)
    _by_recorder(recording, pid, code, number)
    code = np.where(number > 0, -1, code)
    time = np.where(known, pick(fatal.start, at, -1), -1)
    last = exits.where(exits.tid == exits.tgid)  # where signals are not seen, it ended by it
    ended = pick(last.start, match(last.tgid, pid), -1)
    return Ends(
        pid=pid,
        exit_code=code,
        signal=number,
        time=np.where((time < 0) & (number > 0), ended, time),
        tid=np.where(known, pick(fatal.tid, at, -1), -1),
        address=np.where(known, pick(fatal.a, at, 0), 0),
    )


def _by_recorder(recording: Recording, pid: Ints, code: Ints, number: Ints) -> None:
    """Put in what the recorder learned of the target itself, which it waited for."""
    target = recording.meta.get("target") or {}
    exit_code, killed_by = target.get("exit_code"), target.get("signal")
    is_target = pid == recording.target_pid
    if isinstance(exit_code, int):
        code[is_target], number[is_target] = exit_code, killed_by if isinstance(killed_by, int) else -1


def _fatal(recording: Recording, exits: Rows) -> Rows:
    """Return the signals that ended processes. SIGKILL also comes to the other threads of one that ends by itself."""
    signals = recording.of(Kind.PROC_SIGNAL)
    kills = signals.ret == SIGKILL
    processes = distinct(signals.tgid)
    lowest = np.full(len(processes), np.iinfo(np.int64).max, dtype=np.int64)
    place = match(processes, signals.tgid)
    np.minimum.at(lowest, place[kills], signals.start[kills])
    of_exit = match(processes, exits.tgid)
    late = (of_exit >= 0) & (exits.start >= pick(lowest, of_exit, np.iinfo(np.int64).max) - 1_000_000)
    threads = np.bincount(of_exit[late], minlength=len(processes))
    struck = np.bincount(place[kills], minlength=len(processes))
    all_threads: Bools = struck >= np.maximum(threads, 1)
    return signals.where(~kills | all_threads[place] if len(place) else kills)


def process_rows(study: Study) -> tuple[Process, ...]:
    """Return the processes of the target, in the order in which they began. Times are those of the main thread of each."""
    recording = study.recording
    process_ends = ends(recording)
    begin, end = _lives(recording, process_ends.pid)
    count, start_ns = len(process_ends.pid), life(recording)[0]
    path = study.threads.between(process_ends.pid, begin, np.maximum(end, begin))
    times = class_times(path, np.arange(count), count)
    tids, tgids = recording.target_threads
    process_of = np.where(
        study.requests.by_target, match(process_ends.pid, pick(tgids, match(tids, study.requests.asker), -1)), -1
    )
    get = pick(process_of, study.gets.request, -1)
    counts = [
        add_by_group(group, amount, count)
        for group, amount in (
            (process_of, np.ones(len(process_of), dtype=np.int64)),
            (process_of, study.requests.reads),
            (process_of, study.requests.read_bytes),
            (process_of, study.requests.failed),
            (get, np.ones(len(get), dtype=np.int64)),
            (get, study.gets.body_bytes),
        )
    ]
    threads = add_by_group(match(process_ends.pid, tgids), np.ones(len(tgids), dtype=np.int64), count)
    commands, parents = _commands(recording), _parents(recording)
    sees_requests = study.recording.sees_requests
    rows = []
    for number in np.argsort(begin, kind="stable").tolist():
        pid, spent = int(process_ends.pid[number]), times[number]
        parent = parents.get(pid)
        requests, reads, read_bytes, failed, fetches, fetched = (
            int(each[number]) if sees_requests else None for each in counts
        )
        rows.append(
            Process(
                pid=pid,
                parent=parent,
                command=_command(pid, commands, parents),
                start_s=int(begin[number] - start_ns) / 1e9,
                wall_s=int(max(end[number] - begin[number], 0)) / 1e9,
                exit_code=_known(process_ends.exit_code[number]),
                signal=signal_name(int(process_ends.signal[number])) if process_ends.signal[number] > 0 else None,
                classes={name: int(each) / 1e9 for name, each in zip(LABELS, spent, strict=True)},
                **group_seconds(spent),
                threads=int(threads[number]),
                fuse_requests=requests,
                fuse_reads=reads,
                fuse_read_bytes=read_bytes,
                failed_requests=failed,
                http_fetches=fetches,
                http_bytes=fetched,
            )
        )
    return tuple(rows)


def _known(number: int) -> int | None:
    return int(number) if number >= 0 else None


def _lives(recording: Recording, pid: Ints) -> tuple[Ints, Ints]:
    """Return when each process was made, and when its main thread ended; the edges of the recording where that is not known."""
    start_ns, end_ns = life(recording)
    forks, exits = recording.of(Kind.PROC_FORK), recording.of(Kind.PROC_EXIT)
    leaders = exits.where(exits.tid == exits.tgid)
    born, died = match(forks.b[::-1], pid), match(leaders.tgid, pid)
    begin = np.where(born >= 0, pick(forks.start[::-1], born, start_ns), start_ns)
    begin = np.where(pid == recording.target_pid, start_ns, begin)
    end = np.where(died >= 0, pick(leaders.start, died, recording.end_ns), recording.end_ns)
    return begin, np.where(pid == recording.target_pid, end_ns, end)


def _commands(recording: Recording) -> dict[int, str]:
    execs = recording.of(Kind.PROC_EXEC)
    return dict(zip(execs.tgid.tolist(), recording.text(execs), strict=True))  # the last one counts


def _parents(recording: Recording) -> dict[int, int]:
    forks = recording.of(Kind.PROC_FORK)
    return dict(zip(forks.a.tolist(), forks.tgid.tolist(), strict=True))


def _command(pid: int, commands: dict[int, str], parents: dict[int, int]) -> str:
    """Return the program of a process: the one it executed, else its parent's."""
    visited = set()
    while pid not in commands and pid in parents and pid not in visited:
        visited.add(pid)
        pid = parents[pid]
    return commands.get(pid, "")
