"""The summary, the JSON contract, and the commands that print and check them."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from scene import TARGET, WORKER, Fetch, Scene

from cvtrace.analysis import analyse
from cvtrace.analysis.expectations import BadExpression, check, parse
from cvtrace.analysis.report import json as json_report
from cvtrace.analysis.report import text
from cvtrace.analysis.report.quantities import counted, seconds, size
from cvtrace.cli import main
from cvtrace.probes.events import Kind, Opcode
from cvtrace.tracer.store import TraceWriter

# The contract of `report --format json`: fields may be added, none renamed or removed.
KEYS: dict[str, set[str]] = {
    "": {"schema", "trace", "verdict", "cache_state", "phases", "tokens", "files", "fetches", "checks"},
    "trace": {"path", "target", "exit_code", "host", "started", "duration_s", "probes", "events", "lost", "missing", "mounts"},
    "verdict": {
        "generation_hits_cvmfs", "tokens", "fuse_reads", "fuse_read_bytes", "http_fetches", "http_bytes", "blocked_s",
        "tokens_affected", "causes", "proof", "missing",
    },
    "phases": {
        "name", "start_s", "wall_s", "count", "network_s", "cache_s", "compute_s", "other_s", "unattributed_s", "classes",
        "fuse_requests", "fuse_reads", "fuse_read_bytes", "cache_hits", "cache_misses", "http_fetches", "http_bytes",
        "faults", "page_cache_bytes",
    },
    "tokens": {"index", "start_s", "wall_s", "network_s", "cache_s", "compute_s", "other_s", "fuse_reads"},
    "files": {
        "path", "opens", "reads", "read_bytes", "fetched_bytes", "amplification", "cache_hits", "cache_misses", "blocked_s",
    },
    "fetches": {
        "url", "path", "status", "start_s", "queue_s", "connect_s", "request_s", "transfer_s", "fill_s", "bytes", "proxy",
    },
    "checks": {"name", "traced", "client", "agree"},
}  # fmt: skip


def cold_run() -> Scene:
    """Return a run whose load fetches 1 MB for one read, and whose second of three tokens reads one page range."""
    scene = Scene(end=900_000)
    scene.add(Kind.PROC_EXEC, 0, tid=TARGET, text="/usr/bin/python3")
    scene.call("OgaCreateModel", 100_000, 500_000)
    scene.opened(110_000, 110_100, 5)
    scene.request(Opcode.OPEN, 110_020, 110_050, 110_060, sent=110_010)
    scene.add(Kind.SYS_MMAP, 111_000, 111_002, tid=TARGET, a=5, c=1 << 20)
    scene.off(200_000, 400_000, 400_100, by=WORKER, state=2)
    scene.request(Opcode.READ, 200_100, 399_990, 400_010, sent=199_999)
    scene.fetch(Fetch(200_200, 200_300, 250_000, 380_000, 390_000, polls=((260_000, 340_000),), size=1_000_000))
    scene.call("OgaGenerator_AppendTokens", 510_000, 600_000)
    for number in range(3):
        scene.call("OgaGenerator_GenerateNextToken", 610_000 + 20_000 * number, 628_000 + 20_000 * number)
    scene.off(631_000, 633_000, 633_000, by=WORKER, state=2)
    scene.request(Opcode.READ, 631_100, 632_900, 633_100, sent=630_999, offset=1 << 20)
    return scene


def stored(folder: Path, scene: Scene) -> Path:
    """Write a scene as a trace."""
    events, texts = scene.arrays()
    writer = TraceWriter(folder / "trace", scene.trace().meta)
    writer.write(events, texts)
    writer.finish()
    return folder / "trace"


def test_json_has_every_key_of_the_contract() -> None:
    found = json.loads(json_report.render(analyse(cold_run().trace())))

    assert found["schema"] == "cvtrace-report/1"
    for name, keys in KEYS.items():
        part: Any = found if not name else found[name]
        rows = part if isinstance(part, list) else [part]
        assert rows, name
        for row in rows:
            assert keys <= set(row), name
    assert set(found["trace"]["mounts"][0]) >= {"path", "fqrn", "daemon_pid", "client", "version"}
    assert found["fetches"][0]["url"].startswith("/cvmfs/repo.test.org/data/00/")
    assert found["fetches"][0]["path"] == "/cvmfs/repo.test.org/models/tiny/model.onnx.data"
    assert found["fetches"][0]["bytes"] == 1_000_000
    assert found["files"][0]["reads"] == 2


def test_the_summary_is_stable_in_a_pipe() -> None:
    summary = text.render(analyse(cold_run().trace()))

    assert max(len(line) for line in summary.splitlines()) <= 80
    assert "\x1b" not in summary
    assert (
        summary
        == """\
phi3-qa.py · CVMFS: repo.test.org (cvmfs2 2.12.0, pid 200) · probes: ebpf · 34
events, 0 lost

Does generation hit CVMFS?  YES
  3 tokens: 1 read, 0 fetches, 2.00 ms blocked on /cvmfs.
  1 token affected (1): 131 kB read, 0 fetched. Why: first touch of a page ×1.
  Proof: nothing lost; cvmfs2 served 1 read and 1 open in the load; weights
  observed in 1 mapping; its own counters agree.

phase        wall network   cache compute other reads page/disk/net fetched
import     100 ms     0 s     0 s  100 ms   0 s     0             –       0
load       400 ms  130 ms 70.4 ms  200 ms   0 s     1     0/0/100 % 1.00 MB
prefill   90.0 ms     0 s     0 s 90.0 ms   0 s     0             –       0
decode ×3 54.0 ms     0 s 2.00 ms 52.0 ms   0 s     1     0/100/0 %       0
script     256 ms     0 s     0 s  256 ms   0 s     0             –       0

Time of load: compute.cpu 200 ms, network.transfer 80.0 ms, cache.fill 60.0 ms.
Time of decode: compute.cpu 52.0 ms, cache.lookup 1.80 ms, cache.transport 200
µs.
Per token: median 18.0 ms, p99 18.0 ms, 55.6 tokens/s.
Unattributed: 0 s (0.0 %).
Cache state: cold.  1 fetch one after the other, 1.00 MB; 3.8x of the 262 kB
read.
Agreement with cvmfs2: reads 2 = 2, opens 1 = 1, downloads 1 = 1, bytes
1,000,000 = 1,000,000.
Full report: cvtrace report trace --format json
"""
    )


def test_colours_only_where_they_are_wanted() -> None:
    assert "\x1b[1;31m" in text.render(analyse(cold_run().trace()), 120, color=True)


def test_lost_events_and_what_is_missing_are_shown() -> None:
    trace = cold_run().trace(lost={"ring": 12}, missing=["no FUSE tracepoints: queue time is hidden"])

    summary = text.render(analyse(trace))

    assert "12 lost" in summary
    assert "Not observed: no FUSE tracepoints." in summary


@pytest.mark.parametrize(
    "value, shown",
    [(0, "0 s"), (2e-6, "2.00 µs"), (0.0123, "12.3 ms"), (0.9999, "1.00 s"), (1.934, "1.93 s"), (3600, "3,600 s")],
)
def test_times_are_readable(value: float, shown: str) -> None:
    assert seconds(value) == shown


def test_sizes_and_counts_are_readable() -> None:
    assert [size(each) for each in (0, 512, 999_950, 181_203_112)] == ["0", "512 B", "1.00 MB", "181 MB"]
    assert [counted(1, "fetch"), counted(1986, "read"), counted(2, "fetch")] == ["1 fetch", "1,986 reads", "2 fetches"]


@pytest.mark.parametrize(
    "expression, met",
    [
        ("verdict == yes", True),
        ("verdict != no", True),
        ("decode.fuse_reads == 0", False),
        ("decode.fuse_reads <= 1", True),
        ("load.wall_s < 2", True),
        ("load.network.transfer > 0.07", True),
        ("total.http_bytes == 1,000,000", True),
        ("cache_state == cold", True),
        ("agreement == yes", True),
        ("trace.lost == 0", True),
        ("verdict.tokens_affected == 1", True),
        ("decode.p99_s < 1", True),
        ("load.hits_cvmfs == 'yes'", True),
        ("teardown.wall_s < 1", False),  # there is none: nothing is known of it
    ],
)
def test_expectations_are_held_against_the_report(expression: str, met: bool) -> None:
    outcome = check(analyse(cold_run().trace()), [parse(expression)])[0]
    assert outcome.met is met


@pytest.mark.parametrize(
    "expression, complaint",
    [
        ("decode.reads == 0", "unknown name"),
        ("load.wall_s", "cannot read"),
        ("load.wall_s < fast", "not a number"),
        ("verdict < yes", "one of yes, no, inconclusive"),
        ("verdict == maybe", "one of yes, no, inconclusive"),
        ("__import__('os').system('true') == 0", "cannot read"),
    ],
)
def test_bad_expressions_say_what_is_known(expression: str, complaint: str) -> None:
    with pytest.raises(BadExpression, match=complaint):
        parse(expression)


def test_check_prints_what_failed_with_its_value(tmp_path: Path) -> None:
    trace = stored(tmp_path, cold_run())

    result = CliRunner().invoke(main, ["check", str(trace), "decode.fuse_reads == 0", "load.wall_s < 2"])

    assert result.exit_code == 1
    assert result.output == "failed: decode.fuse_reads == 0  (decode.fuse_reads is 1)\n"
    assert CliRunner().invoke(main, ["check", str(trace), "verdict == yes"]).exit_code == 0


def test_check_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["check", str(stored(tmp_path, cold_run())), "decode.reads == 0"])

    assert result.exit_code == 2
    assert "fuse_reads" in result.output


def test_report_writes_text_and_json(tmp_path: Path) -> None:
    trace, out = stored(tmp_path, cold_run()), tmp_path / "report.json"

    assert CliRunner().invoke(main, ["report", str(trace)]).output.startswith("phi3-qa.py")
    assert CliRunner().invoke(main, ["report", str(trace), "--format", "json", "-o", str(out)]).exit_code == 0
    assert json.loads(out.read_text())["verdict"]["generation_hits_cvmfs"] == "yes"


@pytest.mark.parametrize(
    "arguments, code, said",
    [
        (["--format", "html"], 2, "not yet in this version: text, json"),
        (["--format", "nonsense"], 2, "nonsense"),
        (["-o", "/nowhere/report.txt"], 2, "cannot write /nowhere/report.txt"),
    ],
)
def test_report_refuses_in_one_sentence(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    result = CliRunner().invoke(main, ["report", str(stored(tmp_path, cold_run())), *arguments])

    assert result.exit_code == code
    assert said in result.output


def test_a_folder_that_is_no_trace_is_exit_4(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert (result.exit_code, result.output.count("\n")) == (4, 1)
