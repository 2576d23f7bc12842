"""Traced fetches compared with access logs: each format, lines of other clients, and the effect of a disagreement on the verdict."""

import json
import os
import random
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import generation
from scene import START, Fetch, Scene, get_line

from cvtrace.analysis import Report, analyse
from cvtrace.analysis.contract.report_options import ReportOptions
from cvtrace.analysis.evidence.access_log import LogUnreadable, read_access_log
from cvtrace.analysis.report.sentences import access_log
from cvtrace.probes.events import Opcode
from cvtrace.probes.http import without_names

NOON_NS = 1_790_000_000 * 10**9
"""Real time at which the recording starts."""
MS = 1000
SIZE = 1000
SECONDS = 10
"""Of the recording."""


def path(number: int) -> str:
    return get_line(number).split()[1]


def loaded(fetches: int = 4) -> Scene:
    """Return a run of ten seconds: fetches in the load, then three tokens that need nothing, after eight seconds."""
    scene = Scene(end=SECONDS * 1000 * MS)
    scene.call("OgaCreateModel", 100 * MS, 5000 * MS)
    scene.opened(110 * MS, 111 * MS, 5)
    for number in range(fetches):
        at = (1000 + 500 * number) * MS
        scene.request(Opcode.READ, at, at + 90 * MS, at + 91 * MS, sent=at - 1)
        scene.fetch(Fetch(at + 20, at + 30, at + 10 * MS, at + 20 * MS, at + 21 * MS, number=number))
    for number in range(3):
        scene.call("OgaGenerator_GenerateNextToken", (8000 + 20 * number) * MS, (8015 + 20 * number) * MS)
    clock = {"start_ns": START, "end_ns": START + SECONDS * 10**9, "realtime_offset_ns": NOON_NS - START}
    scene.meta = {"clock": clock}
    return scene


def at_ms(number: int) -> float:
    """Return when a fetch of `loaded` was sent."""
    return 1000 + 500 * number + 0.03


def lab(number: int, ms: float, size: int = SIZE, *, method: str = "GET") -> str:
    start = NOON_NS // 10**6 + int(ms)
    line = {"start_ns": 1, "start_ms": start, "end_ms": start + 12, "port": 4, "method": method, "path": path(number)}
    return json.dumps({**line, "status": 200, "first_byte_ns": 1, "end_ns": 2, "body_bytes": size})


def combined(number: int, ms: float, client: str = "10.0.0.7", size: int = SIZE, zone: int = 2) -> str:
    moment = datetime.fromtimestamp((NOON_NS // 10**6 + ms) // 1000, timezone(timedelta(hours=zone)))
    return (
        f'{client} - - [{moment:%d/%b/%Y:%H:%M:%S %z}] "GET {path(number)} HTTP/1.1" 200 {size} "-" "cvmfs Fuse 2.12.0"'
    )


def squid(number: int, ms: float, client: str = "10.0.0.7", size: int = SIZE) -> str:
    end_ms = NOON_NS // 10**6 + int(ms) + 12
    url = f"http://stratum1.example.org{path(number)}"
    route = "HIER_DIRECT/192.0.2.1 application/octet-stream"
    return f"{end_ms // 1000}.{end_ms % 1000:03d}     12 {client} TCP_MISS/200 {size + 390} GET {url} - {route}"


def compared(scene: Scene, lines: list[str], folder: Path, *clients: str) -> Report:
    file = folder / "access.log"
    file.write_text("".join(f"{line}\n" for line in lines))
    return analyse(scene.trace(), options=ReportOptions(file, clients))


@pytest.mark.parametrize(("line", "name"), [(lab, "cvtrace lab"), (combined, "common or combined"), (squid, "Squid")])
def test_each_fetch_is_matched_in_each_log_format(line: object, name: str, tmp_path: Path) -> None:
    assert callable(line)
    report = compared(loaded(), [line(number, at_ms(number)) for number in range(4)], tmp_path)

    check = report.access_log
    assert check is not None
    assert (check.format, check.fetches, check.matched, check.bytes_differ) == (name, 4, 4, 0)
    assert (check.only_in_trace, check.only_in_log, check.of_others, check.unreadable) == (0, 0, 0, 0)
    assert check.agree is True
    assert check.log_bytes == 4 * SIZE if name != "Squid" else check.log_bytes > check.traced_bytes == 4 * SIZE
    assert "the access log has the same 4 fetches" in report.verdict.proof
    assert report.verdict.generation_hits_cvmfs == "no"


@pytest.mark.parametrize("line", [lab, combined, squid])
def test_a_fetch_during_generation_that_was_not_traced_is_never_a_no(line: object, tmp_path: Path) -> None:
    assert callable(line)
    lines = [line(number, at_ms(number)) for number in range(4)]

    report = compared(loaded(), [*lines, line(99, 8020)], tmp_path)

    assert report.access_log is not None
    assert (report.access_log.only_in_log, report.access_log.in_decode, report.access_log.agree) == (1, 1, False)
    assert report.access_log.examples == (path(99),)
    assert report.verdict.generation_hits_cvmfs == "inconclusive"
    qualifier = " of an unknown client" if line is lab else " by this client"
    reason = f"the access log has 1 fetch{qualifier} that the trace lacks, 1 perhaps in generation"
    assert reason in report.verdict.missing


def test_other_clients_are_distinguished_by_their_address(tmp_path: Path) -> None:
    lines = [combined(number, at_ms(number)) for number in range(4)]
    lines += [combined(99, 8020, client="10.0.0.8"), combined(2, at_ms(2), client="10.0.0.8", size=77)]

    report = compared(loaded(), lines, tmp_path)

    assert report.access_log is not None
    assert (report.access_log.matched, report.access_log.of_others, report.access_log.only_in_log) == (4, 2, 0)
    assert report.verdict.generation_hits_cvmfs == "no"


def test_without_a_traced_fetch_lines_cannot_be_assigned_to_clients(tmp_path: Path) -> None:
    lines = [combined(number, 3000, client="10.0.0.8") for number in range(4)]

    unknown = compared(generation(loaded(0)), lines, tmp_path)
    observed = compared(generation(loaded(0)), lines, tmp_path, "10.0.0.7")

    assert unknown.access_log is not None
    assert unknown.access_log.unknown_client
    assert unknown.verdict.generation_hits_cvmfs == "inconclusive"
    assert observed.access_log is not None
    assert (observed.access_log.of_others, observed.access_log.only_in_log, observed.access_log.agree) == (4, 0, None)


def test_a_fetch_missing_in_the_log_is_reported(tmp_path: Path) -> None:
    report = compared(loaded(), [lab(number, at_ms(number)) for number in range(3)], tmp_path)

    assert report.access_log is not None
    assert (report.access_log.matched, report.access_log.only_in_trace, report.access_log.agree) == (3, 1, False)


def test_fetches_whose_path_is_left_out_are_counted_and_not_compared(tmp_path: Path) -> None:
    # GIVEN four fetches, one of which was of external data, whose path is a name and not in the trace
    scene = loaded()
    name = path(3).encode()
    assert sum(name in text[-1] for text in scene.texts) == 1
    scene.texts = [(*item, without_names(text.replace(name, b"/ann/thesis"))) for *item, text in scene.texts]

    # WHEN they are compared with the log of the objects' server
    report = compared(scene, [lab(number, at_ms(number)) for number in range(3)], tmp_path)

    # THEN the three others agree
    check = report.access_log
    assert check is not None
    assert (check.fetches, check.without_path, check.matched, check.only_in_trace, check.only_in_log) == (4, 1, 3, 0, 0)
    assert check.agree is True
    assert "1 without a path not compared" in " ".join(access_log(report))


def test_fetches_before_and_after_the_recording_do_not_count(tmp_path: Path) -> None:
    lines = [lab(number, at_ms(number)) for number in range(4)]
    far = [lab(50, -5000), lab(51, 1000 * SECONDS + 5000)]

    report = compared(loaded(), [*lines, *far, lab(52, -1)], tmp_path)

    assert report.access_log is not None
    assert (report.access_log.only_in_log, report.access_log.at_edges, report.access_log.agree) == (0, 1, True)


def test_fetches_of_a_run_shortly_before_are_not_taken_for_those_of_this_one(tmp_path: Path) -> None:
    # GIVEN the same two objects, fetched by another run 1.8 s earlier: before this recording
    lines = [lab(number, at_ms(number) - 1800) for number in range(2)] + [
        lab(number, at_ms(number)) for number in range(2)
    ]

    report = compared(loaded(2), lines, tmp_path)

    assert report.access_log is not None
    assert (report.access_log.matched, report.access_log.only_in_log, report.access_log.agree) == (2, 0, True)


def test_a_different_size_is_reported(tmp_path: Path) -> None:
    lines = [lab(number, at_ms(number), SIZE + 5 * (number == 2)) for number in range(4)]

    report = compared(loaded(), lines, tmp_path)

    assert report.access_log is not None
    assert (report.access_log.matched, report.access_log.bytes_differ) == (4, 1)


def test_a_clock_that_is_ahead_is_detected(tmp_path: Path) -> None:
    lines = [squid(number, at_ms(number) + 31_400) for number in range(4)]

    report = compared(loaded(), lines, tmp_path)

    assert report.access_log is not None
    assert report.access_log.matched == 4
    assert report.access_log.clock_ahead_s == pytest.approx(31.4, abs=0.01)


def test_fetches_served_by_a_proxy_are_not_expected_in_the_servers_log(tmp_path: Path) -> None:
    # GIVEN GETs that name the whole URL, as one sends them to a proxy
    scene = loaded()
    asks = [text.replace(b"GET /", b"GET http://stratum1.example.org/") for *_, text in scene.texts]
    scene.texts = [(*text[:3], len(raw), raw) for text, raw in zip(scene.texts, asks, strict=True)]

    report = compared(scene, [combined(1, at_ms(1), "10.0.0.1"), combined(99, 8020, "10.0.0.1")], tmp_path)

    check = report.access_log
    assert check is not None
    assert (check.behind_proxy, check.matched, check.only_in_trace, check.of_others) == (True, 1, 3, 1)
    assert check.agree is None
    assert report.verdict.generation_hits_cvmfs == "no"


def test_lines_of_other_repositories_and_methods_are_counted_separately(tmp_path: Path) -> None:
    lines = [lab(number, at_ms(number)) for number in range(4)]
    other_repository = lab(9, 8020).replace("repo.test.org", "other.test.org")

    report = compared(loaded(), [other_repository, lab(9, 8020, method="HEAD"), *lines, "", "# a comment"], tmp_path)

    assert report.access_log is not None
    assert (report.access_log.elsewhere, report.access_log.only_in_log, report.access_log.agree) == (3, 0, True)


@pytest.mark.parametrize(
    "line",
    [
        '1.2.3.4 - - [22/Nov/2026:18:02:28 +0000] "GET /cvmfs/a/x HTTP/1.1" 200 5',
        'www.example.org:80 1.2.3.4 - john doe [22/Nov/2026:19:02:28 +0100] "GET /cvmfs/a/x?y HTTP/1.1" 200 5 "-" "-"',
        '1.2.3.4 - - [22/Nov/2026:14:32:28 -0330] "GET http://a.org/cvmfs/a/x HTTP/1.0" 200 5',
    ],
)
def test_variants_of_the_common_format(line: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(line + "\n")

    entries = read_access_log(tmp_path / "log", ("/cvmfs/a/",))

    assert (entries.path, entries.client, entries.bytes.tolist()) == (("/cvmfs/a/x",), ("1.2.3.4",), [5])
    assert entries.from_ns.tolist() == [1795370548 * 10**9]


def test_garbage_between_the_lines_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "log"
    good = lab(1, 5).encode() + b"\n"
    bad = [
        b"\x00\xff\xfe" * 99,
        b"x" * 3_000_000,
        b'{"path": ' * 20_000,
        b'{"path": 1}',
        b"- - [",
        combined(1, 0).encode(),
    ]
    file.write_bytes(b"\n".join(bad[:2]) + b"\n" + good + b"\n".join(bad[2:]) + b"\n" + good)

    entries = read_access_log(file, ("/cvmfs/",))

    assert (len(entries), entries.unreadable + entries.elsewhere, entries.lines) == (2, len(bad), len(bad) + 2)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"hello\nworld\n", b"\x00" * 100_000, b"{" * 200_000])
def test_a_file_that_is_no_log_is_refused_in_one_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(content)

    with pytest.raises(LogUnreadable, match="no line of an access log"):
        read_access_log(tmp_path / "log", ("/",))


def test_a_fifo_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")

    with pytest.raises(LogUnreadable, match="not a file"):
        read_access_log(tmp_path / "log", ("/",))


@settings(max_examples=200, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([lab, combined, squid]))
def test_a_damaged_line_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, source: random.Random, line: object
) -> None:
    assert callable(line)
    file = tmp_path_factory.getbasetemp() / "damaged.log"
    raw = bytearray(line(1, 5).encode())
    for _ in range(source.randrange(1, 8)):
        raw[source.randrange(len(raw))] = source.randrange(256)
    file.write_bytes(line(2, 7).encode() + b"\n" + bytes(raw) + b"\n")

    entries = read_access_log(file, ("/cvmfs/",))

    assert len(entries) >= 1


@pytest.mark.parametrize("line", ["99999999999.999 0", "0000000000.000 999999999999", "1790000000.000 -999999999999"])
def test_times_that_no_clock_shows_never_crash(line: str, tmp_path: Path) -> None:
    bad = f"{line} 10.0.0.7 TCP_MISS/200 999999999999999 GET http://a.org{path(1)} - HIER_NONE/- -"

    report = compared(loaded(), [*(squid(number, at_ms(number)) for number in range(4)), bad], tmp_path)

    assert report.access_log is not None
    assert report.access_log.matched == 4


def test_a_long_log_is_read_in_linear_time(tmp_path: Path) -> None:
    # GIVEN the same path a hundred thousand times, which would tempt a join to look at all of them for each fetch
    lines = [lab(1, 100 * number / 1000) for number in range(100_000)]

    began_s = time.process_time()
    report = compared(loaded(), lines, tmp_path)

    assert report.access_log is not None
    assert report.access_log.lines == 100_000
    assert time.process_time() - began_s < 20
