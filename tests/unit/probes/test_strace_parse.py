"""Single lines, one difficulty each; and logs that are damaged in every way."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cvtrace.probes.events import NO_OFFSET, TEXT_MAX, UNFINISHED, Kind
from cvtrace.probes.strace import Parsed, parse_daemon, parse_target
from cvtrace.probes.strace.daemon import DaemonTranslator
from cvtrace.probes.strace.decode import string_at, unescape
from cvtrace.probes.strace.target import TargetTranslator

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
U64 = 2**64


def daemon(*lines: str) -> Parsed:
    return parse_daemon([line.encode() for line in lines], realtime_offset_ns=0)


def target(*lines: str) -> Parsed:
    return parse_target([line.encode() for line in lines], realtime_offset_ns=0)


def rows(parsed: Parsed) -> list[tuple[str, int, int, int, int, int, int]]:
    """Return (kind, ts, dur, ret, a, b, c) per event."""
    kinds = parsed.events["kind"].tolist()
    names = [Kind(kind & ~UNFINISHED).name + "*" * bool(kind & UNFINISHED) for kind in kinds]
    fields = ("ts", "dur", "ret", "a", "b", "c")
    return [(name, *(int(row[f]) for f in fields)) for name, row in zip(names, parsed.events, strict=True)]  # type: ignore[misc]


def texts(parsed: Parsed) -> list[bytes]:
    texts: list[bytes] = parsed.texts["text"].tolist()
    return texts


def test_time_is_monotonic_and_exact() -> None:
    # GIVEN an offset WHEN a line is parsed THEN no bit of its microseconds is lost
    line = b"7 1795349994.480922 close(3</a>) = 0 <0.000031>"
    parsed = parse_target([line], realtime_offset_ns=1_795_346_918_918_679_001)
    assert rows(parsed) == [("SYS_CLOSE", 3_075_562_242_999, 31_000, 0, 3, 0, 0)]


def test_nanoseconds_are_read_where_strace_prints_them() -> None:
    assert rows(target("7 1.000000005 close(3) = 0 <0.000000007>"))[0][1:3] == (1_000_000_005, 7)


def test_a_call_in_two_halves_is_one_event_from_its_entry() -> None:
    parsed = target(
        "7 1.000000 read(3</a>,  <unfinished ...>",
        "8 1.100000 close(4</b>) = 0 <0.000001>",
        '7 1.500000 <... read resumed>"x", 4096) = 1 <0.499990>',
    )
    assert rows(parsed)[0] == ("SYS_READ", 10**9, 499_990_000, 1, 3, NO_OFFSET, 4096)


def test_a_child_in_a_pid_namespace_has_its_number_of_the_log() -> None:
    parsed = target(
        "7 1.000000 vfork() = 2 /* 9517 in strace's PID NS */ <0.000160>",
        "7 1.100000 clone(child_stack=NULL, flags=CLONE_VM|CLONE_THREAD) = 3 /* 9518 in strace's PID NS */ <0.000160>",
    )
    assert [row[0:1] + row[4:6] for row in rows(parsed)] == [("PROC_FORK", 9517, 9517), ("PROC_FORK", 7, 9518)]


def test_results_of_failed_calls_are_negative_errnos() -> None:
    parsed = target(
        '7 1.0 openat(AT_FDCWD</>, "/none", O_RDONLY|O_CLOEXEC) = -1 ENOENT (No such file or directory) <0.1>',
        "7 2.0 futex(0x10, FUTEX_WAIT_PRIVATE, 2, NULL) = -1 EAGAIN (Resource temporarily unavailable) <0.1>",
        "7 3.0 read(0</dev/pts/0<char 136:0>>, 0x7ffe, 1024) = ? ERESTARTSYS (To be restarted if SA_RESTART is set) <0.5>",
    )
    assert rows(parsed) == [
        ("SYS_OPEN", 10**9, 10**8, -2, U64 - 100, 0o2000000, 0),
        ("SYS_WAIT", 2 * 10**9, 10**8, -11, 202, 0x10, 128),
        ("SYS_READ", 3 * 10**9, 5 * 10**8, -512, 0, NO_OFFSET, 1024),
    ]


def test_each_form_of_open_is_parsed() -> None:
    parsed = target(
        '7 1.0 open("/a", O_WRONLY|O_CREAT|O_TRUNC, 0644) = 3</a> <0.1>',
        '7 2.0 openat(5</d>, "b", O_RDONLY) = 4</d/b> <0.1>',
        '7 3.0 openat2(AT_FDCWD, "c", {flags=O_RDONLY|O_CLOEXEC, resolve=RESOLVE_NO_XDEV}, 24) = 5</c> <0.1>',
        '7 4.0 creat("/d", 0644) = 6</d> <0.1>',
        r'7 5.0 openat(AT_FDCWD<\x2f>, "\x2f\x65", 0x8000) = 7<\x2f\x65> <0.1>',
    )
    assert [(row[3], row[4], row[5]) for row in rows(parsed)] == [
        (3, U64 - 100, 0o1101),
        (4, 5, 0),
        (5, U64 - 100, 0o2000000),
        (6, U64 - 100, 0o1101),
        (7, U64 - 100, 0x8000),
    ]
    assert texts(parsed) == [b"/a", b"b", b"c", b"/d", b"/e"]


def test_a_result_is_the_last_one_on_the_line() -> None:
    # GIVEN a file whose name and whose content look like results
    parsed = target(
        '7 1.0 openat(AT_FDCWD</>, "/a) = 5 <0.1>", O_RDONLY) = 3</a) = 5 <0.1>> <0.000200>',
        r'7 2.0 read(3</x>, "\") = 9 <0.5>\\", 100) = 12 <0.000300>',
    )
    assert [(row[2], row[3]) for row in rows(parsed)] == [(200_000, 3), (300_000, 12)]
    assert texts(parsed) == [b"/a) = 5 <0.1>"]


def test_reads_with_offsets_and_vectors_are_parsed() -> None:
    parsed = target(
        '7 1.0 pread64(3</a>, "x"..., 4096, 8192) = 4096 <0.1>',
        '7 2.0 readv(3</a>, [{iov_base="x", iov_len=10}, {iov_base="y", iov_len=20}], 2) = 30 <0.1>',
        '7 3.0 preadv(3</a>, [{iov_base="x", iov_len=10}], 1, 77) = 10 <0.1>',
        '7 4.0 preadv2(3</a>, [{iov_base="x", iov_len=10}], 1, 78, 0) = 10 <0.1>',
    )
    assert [row[3:] for row in rows(parsed)] == [
        (4096, 3, 8192, 4096),
        (30, 3, NO_OFFSET, 30),
        (10, 3, 77, 10),
        (10, 3, 78, 10),
    ]


def test_only_mappings_of_files_are_events() -> None:
    parsed = target(
        "7 1.0 mmap(NULL, 8192, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f22d38a7000 <0.1>",
        "7 2.0 mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, 3</m>, 0x1000) = 0x7f22d38a7000 <0.1>",
        "7 3.0 mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, 3</m>, 0) = -1 ENODEV (No such device) <0.1>",
    )
    mapped, placed, failed = rows(parsed)
    assert (mapped[0], *mapped[3:]) == ("SYS_MMAP", 0, 3, 4096, 8192)
    assert (placed[0], *placed[3:]) == ("SYS_MAPPED", 0, 0x7F22D38A7000, 3, 8192)
    assert (failed[0], *failed[3:]) == ("SYS_MMAP", -19, 3, 0, 8192)


def test_copied_descriptors_folders_and_links_are_parsed() -> None:
    parsed = target(
        "7 1.0 dup2(3</m>, 9</old>) = 9</m> <0.1>",
        "7 2.0 fcntl(9</m>, F_DUPFD_CLOEXEC, 3) = 10</m> <0.1>",
        "7 3.0 fcntl(9</m>, F_GETFD) = 0x1 (flags FD_CLOEXEC) <0.1>",
        "7 4.0 dup(77) = -1 EBADF (Bad file descriptor) <0.1>",
        "7 5.0 getdents64(3</m>, 0x55d0 /* 12 entries */, 32768) = 400 <0.1>",
        r'7 6.0 readlink("\x2f\x61", "\x62", 4096) = 1 <0.1>',
        "7 7.0 munmap(0x7f22d38a7000, 8192) = 0 <0.1>",
    )
    assert [(row[0], *row[3:]) for row in rows(parsed)] == [
        ("SYS_DUP", 9, 3, 0, 0),
        ("SYS_DUP", 10, 9, 0, 0),
        ("SYS_LIST", 400, 3, 0, 32768),
        ("SYS_LINK", 1, 2**64 - 100, 0, 0),
        ("SYS_UNMAP", 0, 0x7F22D38A7000, 0, 8192),
    ]
    assert [bytes(text["text"]) for text in parsed.texts] == [b"/a"]


def test_waits_say_which_call_and_its_numbers() -> None:
    parsed = target(
        "7 1.0 poll([{fd=3</a>, events=POLLIN}], 1, 5000) = 0 (Timeout) <5.0>",
        "7 2.0 wait4(123, [{WIFEXITED(s) && WEXITSTATUS(s) == 0}], 0, NULL) = 123 <0.1>",
        "7 3.0 clock_nanosleep(CLOCK_REALTIME, 0, {tv_sec=1, tv_nsec=0}, 0x7ffe) = 0 <1.0>",
        "7 4.0 epoll_wait(5<anon_inode:[eventpoll]>, [], 10, 100) = 0 <0.1>",
        "7 5.0 restart_syscall(<... resuming interrupted futex ...>) = 0 <0.1>",
        "7 6.0 futex(0x10, FUTEX_WAKE_PRIVATE, 1) = 1 <0.1>",
    )
    assert [row[4:6] for row in rows(parsed)] == [(7, 0), (61, 123), (230, 0), (232, 5), (219, 0)]


def test_new_processes_and_threads_are_events() -> None:
    # GIVEN a thread and a process, whose first lines come before clone has returned
    parsed = target(
        '7 1.0 execve("/bin/python", ["python"], 0x7ffd /* 3 vars */) = 0 <0.1>',
        "7 2.0 clone3({flags=CLONE_VM|CLONE_FILES|CLONE_THREAD, exit_signal=0} <unfinished ...>",
        "8 2.1 close(1) = 0 <0.1>",
        "7 2.2 <... clone3 resumed> => {parent_tid=[8]}, 88) = 8 <0.2>",
        "7 3.0 vfork( <unfinished ...>",
        "9 3.1 close(1) = 0 <0.1>",
        "7 3.2 <... vfork resumed>) = 9 <0.2>",
        '8 3.3 chdir("/tmp") = 0 <0.1>',
        "9 4.0 +++ exited with 3 +++",
        "7 5.0 --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=9} ---",
        "8 6.0 futex(0x10, FUTEX_WAIT_PRIVATE, 2, NULL <unfinished ...>",
        "7 7.0 exit_group(0)   = ?",
        "8 7.5 <... futex resumed> <unfinished ...>) = ?",
        "8 7.6 +++ exited with 0 +++",
        "7 8.0 +++ killed by SIGKILL (core dumped) +++",
    )
    # THEN tgids are right from the start, forks name both numbers, exits the code
    by_thread = {int(row["tid"]): int(row["tgid"]) for row in parsed.events}
    assert by_thread == {7: 7, 8: 7, 9: 9}
    forks = [row[3:6] for row in rows(parsed) if row[0] == "PROC_FORK"]
    assert forks == [(8, 7, 8), (9, 9, 9)]
    exits = [(int(row["tid"]), int(row["ret"])) for row in parsed.events if row["kind"] == Kind.PROC_EXIT]
    assert exits == [(9, 3), (8, 0), (7, 137)]
    assert ("SYS_WAIT*", 6 * 10**9, 15 * 10**8, 0, 202, 0x10, 128) in rows(parsed)
    assert texts(parsed) == [b"/bin/python", b"/tmp"]
    assert parsed.skipped == 0


def test_calls_that_had_not_returned_reach_to_the_end() -> None:
    parsed = target(
        "7 1.0 wait4(-1,  <unfinished ...>",
        "8 2.0 futex(0x20, FUTEX_WAIT_PRIVATE, 2, NULL <detached ...>",
        "9 4.0 close(1) = 0 <0.1>",
    )
    assert rows(parsed)[:2] == [
        ("SYS_WAIT*", 10**9, 3 * 10**9, 0, 61, U64 - 1, 0),
        ("SYS_WAIT*", 2 * 10**9, 2 * 10**9, 0, 202, 0x20, 128),
    ]


REQUEST = r'"0\0\0\0\16\0\0\0\26\0\0\0\0\0\0\0\22\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0GM\0\0\0\0\0\0\0\200\0\0\0\0\0\0"'
REPLY = r'{iov_base=" \0\0\0\0\0\0\0\26\0\0\0\0\0\0\0", iov_len=16}'
OPENED = r'{iov_base=">\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0", iov_len=16}'
FUSE = "3</dev/fuse<char 10:229>>"


def test_a_request_lasts_from_its_receipt_to_its_reply() -> None:
    # GIVEN an OPEN that one worker reads and another answers
    lines = [
        f"7 1.000000 read({FUSE},  <unfinished ...>",
        f"7 5.000000 <... read resumed>{REQUEST}, 1052672) = 48 <3.900000>",
        f"8 5.500000 writev({FUSE}, [{REPLY}, {OPENED}], 2) = 32 <0.100000>",
    ]
    parsed = parse_daemon([line.encode() for line in lines], realtime_offset_ns=0, tgids={7: 7, 8: 7})
    # THEN waiting for the request is not part of it, and the event is that of the worker that read it
    assert parsed.events["tid"].tolist() == [7, 8]
    assert rows(parsed) == [
        ("FUSE_DAEMON", 4_900_000_000, 700_000_000, 0, 22, 274, 14 << 32 | 0x4D47),
        ("FUSE_REPLY", 5_500_000_000, 100_000_000, 32, 22, 32 | 2 << 32, 0x3E),
    ]


def test_a_request_without_an_answer_is_flagged() -> None:
    parsed = daemon(f"7 5.0 read({FUSE}, {REQUEST}, 1052672) = 48 <1.0>", "7 9.0 close(5) = 0 <0.1>")
    assert rows(parsed)[0][:3] == ("FUSE_DAEMON*", 6_000_000_000, 3_000_000_000)


def test_requests_without_replies_are_events_and_unmatched_replies_are_not() -> None:
    # GIVEN a FORGET, a notification (unique 0) and the reply to a request from before the recording
    forget = r'"0\0\0\0\2\0\0\0\26\0\0\0\0\0\0\0\22\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0"'
    notice = r'{iov_base=" \0\0\0\3\0\0\0\0\0\0\0\0\0\0\0", iov_len=16}'
    parsed = daemon(
        f"7 1.0 read({FUSE}, {forget}, 1052672) = 48 <0.1>",
        f"7 2.0 writev({FUSE}, [{notice}, {OPENED}], 2) = 32 <0.1>",
        f"7 3.0 writev({FUSE}, [{REPLY}, {OPENED}], 2) = 32 <0.1>",
        f"7 4.0 read({FUSE}, 0x7ffe, 1052672) = -1 ENODEV (No such device) <0.1>",
    )
    assert rows(parsed) == [("FUSE_DAEMON", 1_100_000_000, 0, 0, 22, 274, 2 << 32)]
    assert parsed.skipped == 0


LOOKED_UP = r'"0\0\0\0\1\0\0\0\26\0\0\0\0\0\0\0\22\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0GM\0\0\0\0\0\0w.onnx\0\0"'
ASKER = 0x4D47


@pytest.mark.parametrize(
    ("answers", "expected"), [([True], 1), ([False], 0), ([None, True], 1), ([None, False], 0), ([None, None, True], 0)]
)
def test_a_looked_up_name_is_kept_if_its_thread_belongs_to_the_target(
    answers: list[bool | None], expected: int
) -> None:
    # GIVEN a daemon's log, and what is known of the asker when the log is read, and then
    replies = iter(answers)
    translator = DaemonTranslator(realtime_offset_ns=0, tgids=None)
    translator.is_target = lambda tid, ts: next(replies) if (tid, ts) == (ASKER, 10**9) else None
    translator.parser.feed([f"7 0.9 read({FUSE}, {LOOKED_UP}, 1052672) = 48 <0.1>".encode()])

    # WHEN the next lines are about to be read, and at the end
    translator.decide()
    translator.finish()

    # THEN the request is kept in any case
    events, texts = translator.columns.take()
    assert events["kind"].tolist() == [Kind.FUSE_DAEMON | UNFINISHED]
    assert texts["text"].tolist() == [b"w.onnx"] * expected


def test_numbers_of_threads_are_the_targets_only_while_it_has_them() -> None:
    # GIVEN a thread whose parent's strace knows no PID namespaces, and one that ended
    translator = TargetTranslator(realtime_offset_ns=0, tgids={7: 7})
    lines = ["7 1.0 clone(flags=CLONE_VM) = 2 <0.1>", "9 3.0 close(1) = 0 <0.1>", "9 4.0 +++ exited with 0 +++"]
    translator.parser.feed([line.encode() for line in lines])

    # THEN a number that clone returned says nothing, as it may be a stranger's, and nor does one after its end
    assert [translator.had(tid, 3 * 10**9) for tid in (7, 2, 9)] == [True, False, True]
    assert [translator.had(tid, 5 * 10**9) for tid in (7, 2, 9)] == [True, False, False]


def test_fetches_are_recorded_without_credentials_query_or_body() -> None:
    sock = "5<TCP:[127.0.0.1:1->127.0.0.1:2]>"
    get = r"GET http://user:secret@proxy/cvmfs/r/data/aa/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb?token=secret HTTP/1.1\r\nAuthorization: secret\r\n\r\n"
    head = r"HTTP/1.1 200 OK\r\nSet-Cookie: secret\r\nContent-Length: 4\r\nX-Cache: HIT\r\nAge: 7\r\nVia: squid\r\n\r\nsecret"
    parsed = daemon(
        f'7 1.0 connect({sock}, {{sa_family=AF_INET, sin_port=htons(8000), sin_addr=inet_addr("10.1.2.3")}}, 16)'
        " = -1 EINPROGRESS (Operation now in progress) <0.1>",
        f'7 2.0 sendto({sock}, "{get}", 99, MSG_NOSIGNAL, NULL, 0) = 99 <0.1>',
        f'7 3.0 recvfrom({sock}, "{head}"..., 16384, 0, NULL, NULL) = 300 <0.1>',
        f'7 4.0 recvfrom({sock}, "body", 16384, 0, NULL, NULL) = 4 <0.1>',
        f"7 5.0 recvfrom({sock}, 0x7f00, 16384, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable) <0.1>",
        '7 6.0 sendto(6<UNIX-STREAM:[1->2]>, "GET secret", 10, 0, NULL, 0) = 10 <0.1>',
    )
    assert [(row[0], *row[3:]) for row in rows(parsed)] == [
        ("HTTP_CONNECT", -115, 5, 2 | 8000 << 32, 0x0A010203),
        ("HTTP_SEND", 99, 5, 0, 99),
        ("HTTP_RECV", 300, 5, 0, 16384),
        ("HTTP_RECV", 4, 5, 0, 16384),
    ]
    assert b"secret" not in b"".join(texts(parsed))
    assert texts(parsed)[0] == b"GET http://proxy/cvmfs/r/data/aa/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb HTTP/1.1"
    assert b"Content-Length: 4" in texts(parsed)[1]


def test_an_incomplete_header_is_not_kept() -> None:
    head = r"HTTP/1.1 200 OK\r\nContent-Length: 48"
    parsed = daemon(f'7 3.0 recvfrom(5<TCP:[1]>, "{head}"..., 16384, 0, NULL, NULL) = 300 <0.1>')
    assert texts(parsed) == [b"HTTP/1.1 200 OK"]


def test_polls_and_futexes_that_wait_are_events() -> None:
    parsed = daemon(
        "7 1.0 poll([{fd=3<pipe:[1]>, events=POLLIN}], 1, 0) = 0 (Timeout) <0.1>",
        "7 2.0 poll([{fd=3<pipe:[1]>, events=POLLIN}, {fd=4, events=POLLIN}], 2, -1 <unfinished ...>",
        "7 3.0 <... poll resumed>) = 1 ([{fd=4, revents=POLLIN}]) <1.0>",
        "7 4.0 ppoll([{fd=3<pipe:[1]>, events=POLLIN}], 1, {tv_sec=1, tv_nsec=500000000}, NULL, 8) = 0 (Timeout) <1.5>",
        "7 6.0 futex(0x20, FUTEX_WAKE_PRIVATE, 1) = 1 <0.1>",
        "7 7.0 futex(0x20, FUTEX_WAIT_BITSET_PRIVATE|FUTEX_CLOCK_REALTIME, 0, NULL, FUTEX_BITSET_MATCH_ANY) = 0 <0.1>",
        "7 8.0 restart_syscall(<... resuming interrupted read ...>) = 1 <0.8>",
    )
    assert [(row[0], *row[3:6]) for row in rows(parsed)] == [
        ("DAEMON_POLL", 1, 2, U64 - 1),
        ("DAEMON_POLL", 0, 1, 1500),
        ("DAEMON_FUTEX", 0, 0x20, 0),
        ("DAEMON_POLL", 1, 0, U64 - 1),
    ]


def test_a_worker_that_waits_for_its_result_at_the_end_is_flagged() -> None:
    parsed = daemon(
        r'7 1.0 write(41<pipe:[1]>, "\230\22\0004w\177\0\0", 8) = 8 <0.1>',
        "7 2.0 read(59<pipe:[2]>,  <detached ...>",
        "8 3.0 read(14<pipe:[3]>,  <detached ...>",
    )
    assert [(row[0], row[4], row[5]) for row in rows(parsed)] == [
        ("HANDOVER", 0x7F7734001298, 41),
        ("HANDOVER_RESULT*", 0, 59),
    ]


def test_long_texts_are_cut_and_keep_their_length() -> None:
    parsed = target(f'7 1.0 openat(AT_FDCWD</>, "/{"x" * 1000}", O_RDONLY) = 3 <0.1>')
    assert parsed.texts["size"].tolist() == [1001]
    assert len(texts(parsed)[0]) == TEXT_MAX


def test_unparsable_lines_are_only_counted() -> None:
    parsed = target(
        "",
        "strace: Process 8 attached",
        "7 1.0 strace: [ Process PID=7 runs in 32 bit mode. ]",
        "garbage",
        "7 2.0 read(3</a>, ",
        "7 3.0 <... close resumed>) = 0 <0.1>",
        "7 4.0 close(x) = 0 <0.1>",
        "7 5.0 getpid() = 7 <0.1>",
        "99999999999999999999 5.0 close(3) = 0 <0.1>",
        "7 6.0 close(3) = 0 <0.1>",
    )
    assert [row[0] for row in rows(parsed)] == ["SYS_CLOSE"]
    assert (parsed.lines, parsed.skipped) == (10, 5)


def test_feeding_piece_by_piece_gives_the_same_as_at_once() -> None:
    # GIVEN a log WHEN it is fed in pieces THEN the events are those of the whole
    lines = gzip.decompress((GOLDEN / "tiny1-hex.cold.daemon.strace.gz").read_bytes()).splitlines()
    translator = DaemonTranslator(realtime_offset_ns=0, tgids=None)
    parts = []
    for start in range(0, len(lines), 17):
        translator.parser.feed(lines[start : start + 17])
        parts.append(translator.columns.take()[0])
    translator.finish()
    parts.append(translator.columns.take()[0])
    events = np.concatenate(parts)
    expected = parse_daemon(lines, realtime_offset_ns=0).events
    assert (events[np.argsort(events["ts"], kind="stable")] == expected).all()


@given(st.binary(max_size=40))
@example(b'"')
@example(b"\\")
def test_escaped_strings_are_unescaped(data: bytes) -> None:
    # GIVEN any bytes, escaped in both forms of strace THEN the same bytes come back
    octal = b"".join(
        bytes([b])
        if 32 <= b < 127 and b not in b'"\\'
        else b'\\"'
        if b == 34
        else b"\\\\"
        if b == 92
        else b"\\%03o" % b
        for b in data
    )
    hexed = b"".join(b"\\x%02x" % b for b in data)
    for escaped in (octal, hexed):
        assert string_at(b'3, "' + escaped + b'"..., 7') == (escaped, 5 + len(escaped))
        assert unescape(escaped) == data
        for limit in (1, 5, 16):
            assert unescape(escaped, limit) == data[:limit]


LOGS = ("tiny1.cold.daemon", "tiny1-hex.cold.daemon", "tiny1-hex.cold.app")


@pytest.mark.parametrize("name", LOGS)
def test_a_log_that_is_cut_anywhere_never_raises(name: str) -> None:
    # GIVEN logs that begin and end at any byte THEN at most the two cut lines, and halves of calls, are lost
    log = gzip.decompress((GOLDEN / f"{name}.strace.gz").read_bytes())
    chance = random.Random(name)
    for _ in range(300):
        begin = chance.randrange(len(log))
        piece = log[begin : begin + chance.randrange(20_000)]
        for parse in (parse_daemon, parse_target):
            parsed = parse(piece.splitlines(), realtime_offset_ns=0)
            assert parsed.lines == len(piece.splitlines())
            assert (parsed.events["dur"] < 10**12).all()


@pytest.mark.parametrize("name", LOGS)
def test_a_log_in_any_disorder_never_raises(name: str) -> None:
    # GIVEN lines shuffled, with bytes changed and lost
    log = gzip.decompress((GOLDEN / f"{name}.strace.gz").read_bytes())
    chance = random.Random(name)
    lines = log.splitlines()[:600]
    for _ in range(10):
        chance.shuffle(lines)
        damaged = []
        for line in lines:
            changed = bytearray(line)
            for _ in range(chance.randrange(4)):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
            at, length = chance.randrange(len(changed)), chance.randrange(10)
            del changed[at : at + (length if chance.random() < 0.3 else 0)]
            damaged.append(bytes(changed))
        for parse in (parse_daemon, parse_target):
            assert parse(damaged, realtime_offset_ns=0).lines == len(damaged)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(
        ["read", "writev", "openat", "poll", "mmap", "futex", "sendto", "recvfrom", "clone", "write", "wait4"]
    ),
    st.text(alphabet='0123456789abcx\\"[]{}<>=, |.-()/', max_size=80),
)
def test_any_arguments_never_raise(call: str, arguments: str) -> None:
    for line in (f"7 1.0 {call}({arguments}) = 1 <0.1>", f"7 1.0 {call}({arguments} <unfinished ...>"):
        daemon(line)
        target(line)


def test_after_a_suspension_the_time_is_that_of_the_other_probes() -> None:
    # GIVEN a log in whose middle the machine slept for an hour: the wall clock went on, the monotonic one did not
    translator = DaemonTranslator(realtime_offset_ns=0, tgids=None)
    translator.parser.feed([b"7 10.000000 close(3</a>) = 0 <0.000001>"])
    # WHEN the new offset is taken over
    translator.parser.set_offset(3600 * 10**9)
    translator.parser.feed([b"7 3611.000000 close(4</a>) = 0 <0.000001>"])
    # THEN a second is between the calls
    events, _ = translator.columns.take()
    assert np.diff(events["ts"].astype(np.int64)).tolist() == [10**9]
