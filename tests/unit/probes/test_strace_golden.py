"""Logs of real clients: counts of the parser equal those of the kernel, the server and the client.

tests/data/golden holds one log per run (t100: a file in chunks; tiny1: whole files; shared: shared cache; mount: from the
mounting on; evicted: hot page cache, empty client cache) in both forms of strings, and ground_truth.json: FUSE requests from
the kernel's tracepoints, GETs from the web server's access log, counters from `internal affairs`.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvtrace.probes.events import UNFINISHED, Events, Kind, Opcode
from cvtrace.probes.strace import Parsed, parse_daemon, parse_target

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
TRUTH: dict[str, Any] = json.loads((GOLDEN / "ground_truth.json").read_text())
RUNS = sorted(TRUTH)
FROM_ATTACH = [run for run in RUNS if "mount" not in run]
APPLICATIONS = sorted(path.name.removesuffix(".app.strace.gz") for path in GOLDEN.glob("*.app.strace.gz"))

OBJECT = re.compile(rb"\./[0-9a-f]{2}/[0-9a-f]{38}[A-Z]?")
ENOENT = -2


def lines_of(run: str, role: str) -> list[bytes]:
    return gzip.decompress((GOLDEN / f"{run}.{role}.strace.gz").read_bytes()).splitlines(keepends=True)


def offset_ns(run: str) -> int:
    return round(float(TRUTH[run].get("mono_to_real_offset_s", 0)) * 1e9)


@cache
def daemon(run: str) -> Parsed:
    return parse_daemon(lines_of(run, "daemon"), realtime_offset_ns=offset_ns(run))


@cache
def application(run: str) -> Parsed:
    return parse_target(lines_of(run, "app"), realtime_offset_ns=offset_ns(run))


def of(parsed: Parsed, kind: Kind) -> Events:
    selected: Events = parsed.events[parsed.events["kind"] == kind]
    return selected


def with_text(parsed: Parsed, kind: Kind) -> list[tuple[bytes, int]]:
    """Return (text, ret) of every event of a kind."""
    texts = {(row["ts"], row["tid"]): bytes(row["text"]) for row in parsed.texts[parsed.texts["kind"] == kind]}
    return [(texts[row["ts"], row["tid"]], int(row["ret"])) for row in of(parsed, kind)]


@pytest.mark.parametrize("run", RUNS)
def test_each_line_of_a_real_log_is_parsed(run: str) -> None:
    parsed = daemon(run)
    assert parsed.skipped == 0
    assert parsed.lines == len(lines_of(run, "daemon"))
    assert (np.diff(parsed.events["ts"].astype(np.int64)) >= 0).all()


@pytest.mark.parametrize("run", FROM_ATTACH)
def test_fuse_requests_are_those_of_the_kernel(run: str) -> None:
    # GIVEN the requests that the kernel's tracepoints saw WHEN the log is parsed THEN each opcode occurs as often
    requests = of(daemon(run), Kind.FUSE_DAEMON)
    counts = Counter(f"FUSE_{Opcode(int(c) >> 32).name}" for c in requests["c"])
    assert counts == TRUTH[run]["fuse_ops"]
    assert (requests["dur"] > 0).all()


def test_a_log_from_the_start_of_the_client_has_the_handshake() -> None:
    requests = of(daemon("tiny1-mount-hex.cold"), Kind.FUSE_DAEMON)
    counts = Counter(f"FUSE_{Opcode(int(c) >> 32).name}" for c in requests["c"])
    assert counts == TRUTH["tiny1-mount-hex.cold"]["fuse_ops"] | {"FUSE_INIT": 1, "FUSE_GETATTR": 1, "FUSE_STATFS": 1}


@pytest.mark.parametrize("run", RUNS)
def test_reads_and_their_bytes_are_those_of_client_and_kernel(run: str) -> None:
    parsed, truth = daemon(run), TRUTH[run]
    reads, replies = of(parsed, Kind.FUSE_READ), of(parsed, Kind.FUSE_REPLY)
    assert len(reads) == truth["counters"].get("cvmfs.n_fs_read", 0) == truth["fuse_read_total"]
    answers = replies[np.isin(replies["a"], reads["a"])]
    assert len(answers) == len(reads)
    payload = (answers["b"] & np.uint64(0xFFFFFFFF)).astype(np.int64) - 16
    assert (payload + 16 == answers["ret"]).all()
    if "fuse_read_bytes_total" in truth:
        assert payload.sum() == truth["fuse_read_bytes_total"]


@pytest.mark.parametrize("run", FROM_ATTACH)
def test_opens_and_lookups_are_those_of_the_client(run: str) -> None:
    parsed, counters = daemon(run), TRUTH[run]["counters"]
    requests = of(parsed, Kind.FUSE_DAEMON)
    assert (requests["c"] >> np.uint64(32) == Opcode.OPEN).sum() == counters["cvmfs.n_fs_open"]
    names = parsed.texts[parsed.texts["kind"] == Kind.FUSE_DAEMON]
    assert len(names) == counters.get("cvmfs.n_fs_lookup", 0)
    if len(names):
        assert {b"models", b"model.onnx", b"model.onnx.data", b"tokenizer.json"} <= set(names["text"].tolist())


@pytest.mark.parametrize("run", FROM_ATTACH)
def test_fetches_are_those_of_the_web_server(run: str) -> None:
    # GIVEN the access log of the web server WHEN the log is parsed THEN the same URLs were asked for in the same order
    sends = with_text(daemon(run), Kind.HTTP_SEND)
    assert [text.split()[1].decode() for text, _ in sends] == [fetch["url"] for fetch in TRUTH[run]["http"]]
    heads = with_text_where_any(daemon(run), Kind.HTTP_RECV)
    assert len(heads) == len(sends)
    assert all(head.startswith(b"HTTP/1.1 200 OK") for head in heads)


def with_text_where_any(parsed: Parsed, kind: Kind) -> list[bytes]:
    texts: list[bytes] = parsed.texts["text"][parsed.texts["kind"] == kind].tolist()
    return texts


@pytest.mark.parametrize("run", FROM_ATTACH)
def test_bytes_received_are_those_of_the_web_server(run: str) -> None:
    parsed, fetches = daemon(run), TRUTH[run]["http"]
    received = of(parsed, Kind.HTTP_RECV)["ret"].astype(np.int64).sum()
    # nginx's head is 247 bytes and the size twice: decimal in Content-Length, hexadecimal in ETag.
    heads = sum(247 + len(str(fetch["bytes"])) + len(f"{fetch['bytes']:x}") for fetch in fetches)
    assert received - heads == TRUTH[run]["http_body_bytes_total"]


@pytest.mark.parametrize("run", [run for run in FROM_ATTACH if "-hex" not in run])
def test_content_lengths_are_those_of_the_web_server(run: str) -> None:
    # (The hex logs print 128 bytes of each buffer: their heads end before Content-Length, and half a line is not kept.)
    heads = with_text_where_any(daemon(run), Kind.HTTP_RECV)
    lines = [line.partition(b": ") for head in heads for line in head.split(b"\r\n")[1:]]
    lengths = [int(value) for name, _, value in lines if name == b"Content-Length"]
    assert lengths == [fetch["bytes"] for fetch in TRUTH[run]["http"]]


def test_fetches_of_the_mounting_are_seen() -> None:
    sends = with_text(daemon("tiny1-mount-hex.cold"), Kind.HTTP_SEND)
    assert len(sends) == TRUTH["tiny1-mount-hex.cold"]["http_get_total_incl_mount"]
    assert sends[0][0].split()[1].endswith(b".cvmfspublished")


@pytest.mark.parametrize("run", RUNS)
def test_hits_and_misses_are_those_of_the_client(run: str) -> None:
    # The fetcher opens an object that it misses twice; a hit is one open that succeeds. (The certificate, looked up while
    # mounting, is opened once and not by the fetcher.)
    opens = [(text, ret) for text, ret in with_text(daemon(run), Kind.CACHE_OPEN) if OBJECT.fullmatch(text)]
    hits = sum(ret >= 0 for _, ret in opens)
    missed = Counter(text for text, ret in opens if ret == ENOENT)
    misses = sum(count == 2 for count in missed.values())
    counters = TRUTH[run]["counters"]
    assert misses == counters.get("fetch.n_downloads", 0)
    assert hits + misses == counters["fetch.n_invocations"]


@pytest.mark.parametrize("run", FROM_ATTACH)
def test_every_miss_is_handed_over_fetched_committed_and_inserted(run: str) -> None:
    parsed, fetches = daemon(run), TRUTH[run]["http"]
    handed, taken_over = of(parsed, Kind.HANDOVER), of(parsed, Kind.HANDOVER_TAKEN)
    assert handed["a"].tolist() == taken_over["a"].tolist()
    assert len(handed) == len(fetches)
    assert (of(parsed, Kind.HANDOVER_DONE)["a"] == 0).all()
    assert len(of(parsed, Kind.HANDOVER_DONE)) == len(of(parsed, Kind.HANDOVER_RESULT)) == len(fetches)
    committed = [b"/cvmfs/repo.test.org/data" + text[1:] for text, _ in with_text(parsed, Kind.CACHE_RENAME)]
    urls = [fetch["url"].encode().removesuffix(b"P") for fetch in fetches]
    assert sorted(text.removesuffix(b"P") for text in committed) == sorted(urls)
    inserted = with_text(parsed, Kind.CACHE_INSERT)
    assert len(inserted) == len(fetches)
    assert all(text.removeprefix(b"Part of ").startswith(b"/models/") for text, _ in inserted)


def test_requests_carry_what_joins_them_to_the_target() -> None:
    # GIVEN the logs of daemon and application of one run
    reads, requests = of(daemon("t100-hex.cold"), Kind.FUSE_READ), of(daemon("t100-hex.cold"), Kind.FUSE_DAEMON)
    threads = set(application("t100-hex.cold").events["tid"].tolist())
    # THEN requests name the asking thread (RELEASE: none), reads lie on pages, chunked files have a negative handle
    askers = {int(c) & 0xFFFFFFFF for c in requests["c"] if int(c) >> 32 != Opcode.RELEASE}
    assert askers <= threads
    assert (reads["b"] % np.uint64(4096) == 0).all()
    assert reads["c"].max() == 131072
    assert (reads["ret"] < 0).any()
    assert (reads["ret"] > 0).any()


def test_every_fetch_falls_into_its_time_on_the_web_server() -> None:
    # nginx writes the end of a request, in ms; clocks are joined by the offset of the run.
    sends = of(daemon("t100-hex.cold"), Kind.HTTP_SEND)
    begun = np.array([fetch["start_mono"] for fetch in TRUTH["t100-hex.cold"]["http"]])
    assert np.abs(sends["ts"] / 1e9 - begun).max() < 0.01


def test_waits_that_had_not_ended_are_flagged() -> None:
    kinds = daemon("t100-hex.cold").events["kind"].tolist()
    assert Kind.DAEMON_POLL | UNFINISHED in kinds
    assert Kind.DAEMON_FUTEX | UNFINISHED in kinds


def test_no_content_of_a_file_enters_the_texts() -> None:
    for run in RUNS:
        texts = daemon(run).texts
        assert set(texts["kind"].tolist()) <= {
            Kind.FUSE_DAEMON, Kind.CACHE_OPEN, Kind.CACHE_RENAME, Kind.CACHE_INSERT, Kind.HTTP_SEND, Kind.HTTP_RECV,
        }  # fmt: skip
        assert not any(b"bos_token_id" in text or b"Host:" in text for text in texts["text"].tolist())


@pytest.mark.parametrize("run", APPLICATIONS)
def test_opens_of_the_application_are_those_of_the_client(run: str) -> None:
    parsed = application(run)
    opened = [text for text, ret in with_text(parsed, Kind.SYS_OPEN) if text.startswith(b"/cvmfs/") and ret >= 0]
    assert len(opened) == TRUTH[run]["counters"]["cvmfs.n_fs_open"]
    assert parsed.skipped == 0


@pytest.mark.parametrize("run", APPLICATIONS)
def test_an_application_is_one_process_with_its_threads(run: str) -> None:
    parsed = application(run)
    assert len(set(parsed.events["tgid"].tolist())) == 1
    assert len(of(parsed, Kind.PROC_FORK)) + 1 == len(of(parsed, Kind.PROC_EXIT)) == 2
    assert with_text(parsed, Kind.PROC_EXEC) == [(b"/home/user/venv/bin/python", 0)]
    mapped = of(parsed, Kind.SYS_MMAP)
    assert (mapped["c"] > 0).all()
    assert (mapped["ret"] == 0).all()


def test_hex_and_escaped_strings_give_the_same_events() -> None:
    # GIVEN the same workload logged with default strings and with -xx THEN paths, requests and counts agree
    plain, hexed = daemon("tiny1.cold"), daemon("tiny1-hex.cold")
    for kind in (Kind.FUSE_DAEMON, Kind.HTTP_SEND, Kind.CACHE_INSERT):
        left, right = with_text_where_any(plain, kind), with_text_where_any(hexed, kind)
        assert left == right
    for kind in (Kind.FUSE_READ, Kind.FUSE_REPLY):
        for field in ("b", "c") if kind == Kind.FUSE_READ else ("b",):
            assert sorted(of(plain, kind)[field].tolist()) == sorted(of(hexed, kind)[field].tolist())
