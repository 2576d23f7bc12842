"""The columns of the tables of a bench folder: see columns.py for units. runs.parquet and runs.csv have those of RUNS."""

from typing import Final

from cvtrace.analysis.contract.classes import LABELS
from cvtrace.analysis.contract.columns import Column

_CELL: Final = {
    "variant": Column("text", "name of the variant"),
    "sweep_value": Column("x", "value of the sweep, in its unit; empty without a sweep"),
    "state": Column("text", "of the caches: cold, warm-disk, warm-memory, hot or local"),
}
RUNS: Final = {
    **_CELL,
    "round": Column("n", "round of the experiment, from 0"),
    "order": Column("n", "place among all runs, from 0"),
    "verified": Column("yes/no", "whether the caches were in this state; if not, no statistic uses the run"),
    "reason": Column("text", "why it was not verified"),
    "repeated": Column("yes/no", "whether it repeats a run that was not verified"),
    "traced": Column("yes/no", "whether it was traced"),
    "exit_code": Column("n", "of the script"),
    "started": Column("text", "when, ISO 8601"),
    "load_s": Column("s", "in calls that load a model"),
    "first_token_s": Column("s", "from the begin of the prefill to the end of the first token"),
    "tokens": Column("n", "tokens made"),
    "tokens_per_s": Column("x", "tokens after the first, for each second"),
    "total_s": Column("s", "life of the process"),
    "reads": Column("n", "READ requests that the client got"),
    "fetches": Column("n", "downloads of the client"),
    "bytes_read": Column("bytes", "brought by READs"),
    "bytes_fetched": Column("bytes", "downloaded, as sent (compressed)"),
    "verdict": Column("text", "of a traced run: yes, no or inconclusive"),
    "host": Column("text", "machine"),
    "kernel": Column("text", "its kernel"),
    "client_version": Column("text", "of the CVMFS client"),
    "cvtrace_version": Column("text", "of cvtrace"),
    **{f"{label}_s": Column("s", f"of a traced run: {label} in the load; see docs/classes.md") for label in LABELS},
    "trace": Column("text", "of a traced run: the trace, below the folder"),
}
SUMMARY: Final = {
    **_CELL,
    "figure": Column("text", "load_s, first_token_s, tokens_per_s or total_s; the columns that follow are in its unit"),
    "n": Column("n", "runs"),
    "left_out": Column("n", "runs that were not verified or failed"),
    "median": Column("x", "of the runs"),
    "q25": Column("x", "first quartile"),
    "q75": Column("x", "third quartile"),
    "low": Column("x", "the median is at least this, with 95 % confidence"),
    "high": Column("x", "and at most this"),
    "ratio_to_local": Column("x", "median divided by that of the state local"),
    "ratio_low": Column("x", "the ratio is at least this, with 95 % confidence"),
    "ratio_high": Column("x", "and at most this"),
}
COST: Final = {
    **_CELL,
    "traced": Column("n", "traced runs"),
    "untraced": Column("n", "untraced runs"),
    "load_ratio": Column("x", "load of traced runs divided by that of untraced ones, medians"),
    "total_ratio": Column("x", "the same of the whole run"),
}
LAWS: Final = {
    "state": Column("text", "of the caches"),
    "variant": Column("text", "name of the variant; empty for a law over variants"),
    "formula": Column("text", "the law"),
    "coefficient": Column("text", "name of a term; empty for a law that could not be fitted"),
    "value": Column("x", "of the coefficient, in its unit"),
    "low": Column("x", "it is at least this, with 95 % confidence"),
    "high": Column("x", "and at most this"),
    "unit": Column("text", "of value, low and high"),
    "n": Column("n", "runs that the law was fitted to"),
    "residual_s": Column("s", "median of the absolute difference of law and measurement"),
    "held_out": Column("x", "value of the sweep that was left out of the fit; empty for none"),
    "predicted_s": Column("s", "what the law predicts there"),
    "measured_s": Column("s", "what was measured there"),
    "error": Column("x", "(predicted - measured) / measured"),
    "note": Column("text", "what could not be fitted, and why"),
}
