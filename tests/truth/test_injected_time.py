"""Time injected at the origin is reported in its class. The truth is the origin's log."""

from __future__ import annotations

import pytest

from cvtrace.analysis.contract.report_schema import Phase, Report

pytestmark = pytest.mark.root


def phase(report: Report, name: str) -> Phase:
    return next(phase for phase in report.phases if phase.name == name)


def served_before_first_byte_s(bench, report: Report, since: int) -> tuple[float, float]:
    """Return what the origin took before the first byte of the load's fetches, in all and on purpose."""
    urls = {fetch.url for fetch in report.fetches if fetch.phase == "load"}
    entries = [entry for entry in bench.log()[since:] if entry.path in urls]
    assert len(entries) == phase(report, "load").http_fetches
    first_byte_ns = sum((entry.first_byte_ns or 0) - entry.start_ns for entry in entries)
    return first_byte_ns / 1e9, sum(entry.delay_ns for entry in entries) / 1e9


def test_delay_before_the_first_byte_raises_network_request(bench) -> None:
    # GIVEN a cold load
    bench.cold()
    since = len(bench.log())
    plain = bench.run()
    plain_served_s, _ = served_before_first_byte_s(bench, plain, since)

    # WHEN every GET waits 50 ms for its first byte
    bench.cold()
    since = len(bench.log())
    bench.inject({"first_byte_delay_s": 0.05})
    try:
        slow = bench.run()
    finally:
        bench.inject()
    slow_served_s, injected_s = served_before_first_byte_s(bench, slow, since)

    # THEN that time, and no other, is in network.request
    assert injected_s >= phase(slow, "load").http_fetches * 0.05
    raised_s = phase(slow, "load").classes["network.request"] - phase(plain, "load").classes["network.request"]
    assert raised_s == pytest.approx(slow_served_s - plain_served_s, rel=0.05)
    assert raised_s == pytest.approx(injected_s, rel=0.05)


def test_classes_add_up_to_the_wall_time(bench) -> None:
    bench.cold()

    report = bench.run()

    for phase in report.phases:
        assert sum(phase.classes.values()) == pytest.approx(phase.wall_s, rel=1e-3, abs=1e-6)
        if phase.wall_s > 0.05:
            assert phase.unattributed_s <= 0.02 * phase.wall_s, phase
