"""Logs of strace that are cut, damaged, or in disorder, and in pieces."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strace_lines import daemon, rows, target

from cvtrace.probes.strace import parse_daemon, parse_target
from cvtrace.probes.strace.daemon import DaemonTranslator
from cvtrace.probes.strace.decode import string_at, unescape

GOLDEN = Path(__file__).parents[2] / "data" / "golden"


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
