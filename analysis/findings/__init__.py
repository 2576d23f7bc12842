"""What is worth knowing or changing in a run, in plain words, each with its evidence in the trace and what to do about it.

    scene         what a finding may look at
    client, client_cache, network, target, programs, recording   the findings, a function each

A finding is a function from a `Scene` to a Finding, or to None where the trace gives no evidence. A share of the run is one of the
time that was recorded; thresholds stand beside the finding they are of. May be imported from here: `findings`.
"""

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.report_schema import Finding, Report
from cvtrace.analysis.findings import client, client_cache, network, programs, recording, target
from cvtrace.analysis.findings.scene import SEVERITIES, Rule, Scene
from cvtrace.analysis.storage.tables import Tables

RULES: tuple[Rule, ...] = (
    recording.events_lost,
    recording.cut_off,
    recording.counters_disagree,
    client.client_gone,
    client.client_stopped,
    client.client_silent,
    client.client_reloaded,
    client_cache.object_above_half_of_quota,
    client_cache.cache_not_written,
    client_cache.quota_too_small,
    client_cache.streaming_cache,
    client_cache.mapped_weights_evicted,
    network.server_errors,
    network.back_off,
    network.proxy_missing,
    network.slow_first_byte,
    client_cache.cold_cache,
    network.sequential_fetches,
    client_cache.unchunked_file,
    client_cache.over_fetch,
    programs.read_amplification,
    programs.imports_wait,
    programs.small_files,
    target.path_checks,
    target.cpu_starved,
    client_cache.catalogs_reloaded,
    target.other_io,
    target.import_dominates,
    target.tokenizer_dominates,
    target.telemetry,
)
"""In the order in which they are told, within a severity."""


def findings(study: Study, tables: Tables, report: Report) -> tuple[Finding, ...]:
    """Return the findings on a run, the severest first."""
    scene = Scene(study, tables, report)
    findings_of_run = [finding for rule in RULES if (finding := rule(scene)) is not None]
    return tuple(sorted(findings_of_run, key=lambda finding: SEVERITIES.index(finding.severity)))
