"""Perfetto's trace processor reads the Perfetto trace, and queries return what the report contains."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from hostile import NAMES, hostile_run
from playwright.sync_api import Browser
from trace_processor import TraceProcessor, trace_processor

from benchmarks.big_trace import big_trace
from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.report import perfetto
from cvtrace.analysis.report.names import printable
from cvtrace.analysis.summary.assemble import full_analysis
from cvtrace.tracer.store import Trace

TROUBLES = "select name, value from stats where severity in ('error', 'data_loss') and value > 0"
CONNECTED = """
  select one.name as begins, other.name as ends, extract_arg(other.arg_set_id, 'debug.token') as token
  from flow join slice one on one.id = flow.slice_out join slice other on other.id = flow.slice_in
"""


def load(processor: TraceProcessor, trace: Trace) -> tuple[Study, Report]:
    study, more, report = full_analysis(trace)
    stream = io.BytesIO()
    perfetto.write(study, more, report, stream)
    processor.load(stream.getvalue())
    return study, report


@pytest.fixture
def processor(browser: Browser) -> Iterator[TraceProcessor]:
    with trace_processor(browser) as started:
        yield started


def test_the_trace_processor_reads_phases_threads_flows_and_counters(processor: TraceProcessor) -> None:
    study, report = load(processor, big_trace(3000, tokens=40, files=4))

    assert processor.query(TROUBLES) == []
    assert processor.query("select count(*) as wrong from slice where dur < 0")[0]["wrong"] == 0
    phases = processor.query(
        "select s.name, sum(s.dur) as ns from slice s join track t on s.track_id = t.id where t.name = 'Phases' group by 1"
    )
    assert {row["name"]: row["ns"] / 1e9 for row in phases} == pytest.approx(
        {row.name: row.wall_s for row in report.phases}
    )
    classes = processor.query(
        "select s.name, sum(s.dur) as ns from thread_track t join slice s on s.track_id = t.id join thread using (utid) "
        "where tid = 100 group by 1"
    )
    assert sum(row["ns"] for row in classes) > 0.9 * sum(row.wall_s for row in report.phases) * 1e9
    counters = {
        row["name"]: row["most"]
        for row in processor.query(
            "select t.name, max(value) as most from counter c join counter_track t on c.track_id = t.id group by 1"
        )
    }
    assert counters["READ bytes in flight"] == 131_072
    assert counters["HTTP bytes in flight"] == 1_000_000
    assert counters["Page cache: bytes seen there"] > 0
    requests = processor.query(
        "select count(*) as n from slice s join track t on s.track_id = t.id where t.name = 'FUSE requests'"
    )
    assert requests[0]["n"] == len(study.requests)


def test_flows_lead_from_token_to_request_to_fetch_in_the_trace_processor(processor: TraceProcessor) -> None:
    study, _ = load(processor, big_trace(3000, tokens=40, files=4))

    arrows = processor.query(CONNECTED)

    from_tokens = [row for row in arrows if row["begins"].startswith("token ")]
    to_fetches = [row for row in arrows if row["ends"] == "GET"]
    assert len(from_tokens) == (study.request_token >= 0).sum() > 0
    assert all(row["begins"] == f"token {row['token']}" and row["ends"] == "READ" for row in from_tokens)
    assert len(to_fetches) == study.gets_of_target.sum() > 0
    assert {row["begins"] for row in to_fetches} == {"READ"}
    assert len(arrows) == len(from_tokens) + len(to_fetches)


def test_hostile_names_are_text_in_the_trace_processor(processor: TraceProcessor) -> None:
    load(processor, hostile_run().trace())

    assert processor.query(TROUBLES) == []
    paths = processor.query("select distinct extract_arg(arg_set_id, 'debug.file') as file from slice")
    files = {row["file"] for row in paths if row["file"]}
    for name in NAMES:
        expected = printable(name.encode("utf-8", "replace").decode())
        assert any(file.endswith(f"/{expected}") for file in files), expected
