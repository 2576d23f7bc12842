"""The columns of the tables of a bench folder: see columns.py for units. runs.parquet and runs.csv have those of RUNS."""

from typing import Final

from cvtrace.analysis.contract.classes import LABELS
from cvtrace.analysis.contract.columns import Column

_CELL: Final = {
    "variant": Column("text", "name of the variant"),
    "sweep_value": Column("x", "value of the sweep, in its unit; empty without a sweep"),
    "state": Column("text", "state of the caches: cold, warm-disk, warm-memory, hot or local"),
}
RUNS: Final = {
    **_CELL,
    "round": Column("n", "round of the experiment, from 0"),
    "order": Column("n", "position in the order of all runs, from 0"),
    "verified": Column("yes/no", "whether the caches were in this state; statistics use only such runs"),
    "reason": Column("text", "why the run is not verified"),
    "repeated": Column("yes/no", "whether the run repeats one that was not verified"),
    "traced": Column("yes/no", "whether the run was traced"),
    "exit_code": Column("n", "exit code of the script"),
    "started": Column("text", "start of the run, ISO 8601"),
    "load_s": Column("s", "time in calls that load a model"),
    "first_token_s": Column("s", "time from the begin of the prefill to the end of the first token"),
    "tokens": Column("n", "tokens made"),
    "tokens_per_s": Column("x", "tokens after the first, for each second"),
    "total_s": Column("s", "time from the start to the end of the process"),
    "reads": Column("n", "READ requests that the client answered"),
    "fetches": Column("n", "downloads of the client"),
    "bytes_read": Column("bytes", "bytes that READs returned"),
    "bytes_fetched": Column("bytes", "bytes downloaded, as transferred (compressed)"),
    "verdict": Column("text", "answer of a traced run: yes, no or inconclusive"),
    "host": Column("text", "machine"),
    "kernel": Column("text", "release of the kernel"),
    "client_version": Column("text", "version of the CVMFS client"),
    "cvtrace_version": Column("text", "version of cvtrace"),
    **{
        f"{label}_s": Column("s", f"time of the load in class {label}, of a traced run; see docs/classes.md")
        for label in LABELS
    },
    "trace": Column("text", "path of the trace in the folder, of a traced run"),
}
SUMMARY: Final = {
    **_CELL,
    "figure": Column("text", "load_s, first_token_s, tokens_per_s or total_s; the columns that follow are in its unit"),
    "n": Column("n", "runs that count"),
    "left_out": Column("n", "runs that were not verified or failed"),
    "median": Column("x", "median of the runs that count"),
    "q25": Column("x", "first quartile"),
    "q75": Column("x", "third quartile"),
    "low": Column("x", "lower end of the 95 % confidence interval of the median"),
    "high": Column("x", "upper end of that interval"),
    "ratio_to_local": Column("x", "median divided by the median of the state local"),
    "ratio_low": Column("x", "lower end of the 95 % confidence interval of that ratio"),
    "ratio_high": Column("x", "upper end of that interval"),
}
COST: Final = {
    **_CELL,
    "traced": Column("n", "traced runs"),
    "untraced": Column("n", "untraced runs"),
    "load_ratio": Column("x", "median load of traced runs divided by that of untraced runs"),
    "total_ratio": Column("x", "median total time of traced runs divided by that of untraced runs"),
}
LAWS: Final = {
    "state": Column("text", "state of the caches"),
    "variant": Column("text", "name of the variant; empty for a law over variants"),
    "formula": Column("text", "formula of the law"),
    "coefficient": Column("text", "name of a term; empty for a law that could not be fitted"),
    "value": Column("x", "value of the coefficient, in its unit"),
    "low": Column("x", "lower end of its 95 % confidence interval"),
    "high": Column("x", "upper end of that interval"),
    "unit": Column("text", "unit of value, low and high"),
    "n": Column("n", "runs that the law was fitted to"),
    "residual_s": Column("s", "median absolute difference of law and measurement"),
    "held_out": Column("x", "value of the sweep that was left out of the fit; empty for none"),
    "predicted_s": Column("s", "load that the law predicts for that value"),
    "measured_s": Column("s", "load that was measured for that value"),
    "error": Column("x", "(predicted - measured) / measured"),
    "note": Column("text", "what could not be fitted, and why"),
}
