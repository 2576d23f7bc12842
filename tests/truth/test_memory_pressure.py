"""Weights that are used from the mapping and do not fit into memory make generation read; the report names the cause."""

from __future__ import annotations

import pytest

from cvtrace.lab.errors import LabError
from cvtrace.lab.memory import limited

pytestmark = pytest.mark.root


def test_evicted_pages_are_read_again_by_generation(bench) -> None:
    # GIVEN a model whose weights stay mapped, on a warm client, and less memory than it needs
    bench.warm()
    argv = bench.argv(bench.stack.mapped_model, tokens=8)
    plain = bench.run(argv=argv)
    bench.warm()

    # WHEN
    try:
        with limited(argv, 75_000_000) as limited_argv:
            report = bench.run(argv=limited_argv)
    except LabError as reason:
        pytest.skip(str(reason))

    # THEN
    verdict = report.verdict
    assert verdict.generation_hits_cvmfs == "yes"
    assert verdict.causes.get("evicted_page", 0) > 0, verdict
    # Prefill touches nearly all weights once, with whatever memory: the tokens after it tell.
    assert verdict.further_tokens.fuse_reads > 10 * max(1, plain.verdict.further_tokens.fuse_reads)
    assert verdict.blocked_s > 0
    assert all(check.agree for check in report.checks), report.checks
