"""Single lines of the log of a daemon: its requests, its fetches, its waits."""

from __future__ import annotations

import pytest
from strace_lines import U64, daemon, rows, texts

from cvtrace.probes.events import UNFINISHED, Kind
from cvtrace.probes.strace import parse_daemon
from cvtrace.probes.strace.daemon import DaemonTranslator
from cvtrace.probes.strace.target import TargetTranslator

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


def daemon_with_a_lookup(answers: list[bool | None]) -> DaemonTranslator:
    """Return a translator that has read one LOOKUP, at 1 s, with what is known of its thread then, and at the end."""
    replies = iter(answers)
    translator = DaemonTranslator(realtime_offset_ns=0, tgids=None)
    translator.is_target = lambda tid, ts: next(replies) if (tid, ts) == (ASKER, 10**9) else None
    translator.parser.feed([f"7 0.9 read({FUSE}, {LOOKED_UP}, 1052672) = 48 <0.1>".encode()])
    return translator


@pytest.mark.parametrize(
    ("answers", "expected"), [([True], 1), ([False], 0), ([None, True], 1), ([None, False], 0), ([None, None], 0)]
)
def test_a_looked_up_name_is_kept_if_its_thread_belongs_to_the_target(
    answers: list[bool | None], expected: int
) -> None:
    # GIVEN a daemon's log / WHEN it ends
    translator = daemon_with_a_lookup(answers)
    translator.finish()

    # THEN the request is kept in any case
    events, texts = translator.columns.take()
    assert events["kind"].tolist() == [Kind.FUSE_DAEMON | UNFINISHED]
    assert texts["text"].tolist() == [b"w.onnx"] * expected


@pytest.mark.parametrize(
    ("thread", "ended_s", "expected"), [(ASKER, 5, 1), (ASKER, 0.5, 0), (ASKER, 70, 0), (ASKER + 1, 5, 0)]
)
def test_a_name_is_kept_until_the_targets_log_reports_the_end_of_its_thread(
    thread: int, ended_s: float, expected: int
) -> None:
    # GIVEN a thread that has ended, and a target's strace that does not run for a while
    translator = daemon_with_a_lookup([None, None])
    for _ in range(10):
        translator.decide({})

    # WHEN it runs again, and its log says which thread ended when
    translator.decide({thread: int(ended_s * 1e9)})

    # THEN the name is kept if that thread lived when it looked the name up, and not if its number had gone round
    _, texts = translator.columns.take()
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
