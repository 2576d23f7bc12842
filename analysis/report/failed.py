"""What goes first where something failed: how the target ended, and what of CVMFS it did not get. One sentence each."""

import signal
from collections import Counter
from typing import Final

from cvtrace.analysis.contract.quantities import pluralize, script, seconds, size
from cvtrace.analysis.contract.report_schema import Failure, Process, Report
from cvtrace.analysis.report.lines import fitted
from cvtrace.analysis.report.names import printable
from cvtrace.analysis.storage.failures import CACHE_NOT_WRITTEN, GONE

MOST_SHOWN: Final = 3
NAME: Final = 30
"""Cells of the script's name."""
DOING: Final = {
    "read": "reading {}",
    "open": "opening {}",
    "look up": "looking up {}",
    "list": "listing {}",
    "stat": "looking at {}",
    "map": "mapping {}",
    "read link": "reading the link {}",
}
UNREACHED: Final = ("connection ", "no connection", "host ", "network ")
"""How the words begin for what no server did."""


def sentences(report: Report) -> list[str]:
    """Return how the target ended if it failed, then which processes of it did, then what could not be read; nothing if all went well."""
    trace = report.trace
    name, when = fitted(script(trace.target), NAME), seconds(trace.duration_s)
    failures = list(report.failures)
    lines = []
    if trace.signal:
        cause = _cause(report, trace.signal)
        lines.append(_sentence(f"{name} was killed by {trace.signal} at {when}", cause))
    elif trace.exit_code:
        cause = _cause(report, None)
        lines.append(
            _sentence(f"{name} ended with exit code {trace.exit_code}{_signal_meant(trace.exit_code)} at {when}", cause)
        )
    else:
        cause = None
    if cause is not None:
        failures.remove(cause)
    for row in _dead(report)[:MOST_SHOWN]:
        fatal = next((each for each in failures if each.pid == row.pid and each.signal), None)
        if fatal is not None:
            failures.remove(fatal)
        end = seconds(row.start_s + row.wall_s)
        lines.append(_sentence(f"Its process {row.pid} ({_program(row)}) was killed by {row.signal} at {end}", fatal))
    suffix = "" if trace.exit_code else f"; {name} went on"
    lines += [f"{_failure_in_words(each, first=True)}{suffix}." for each in failures[:MOST_SHOWN]]
    further = sum(each.count for each in failures[MOST_SHOWN:])
    return [*lines, *([f"{pluralize(further, 'more request')} failed."] if further else [])]


def _signal_meant(code: int) -> str:
    """Return which signal a shell, or an older trace, means by an exit code."""
    try:
        return f" (128 + {signal.Signals(code - 128).name})"
    except ValueError:
        return ""


def _sentence(subject: str, cause: Failure | None) -> str:
    return f"{subject}: {_failure_in_words(cause)}." if cause is not None else f"{subject}."


def _cause(report: Report, signal: str | None) -> Failure | None:
    """Return the failure that ended the target: that of its signal, else the last one of the process that ended so."""
    with_signal = [each for each in report.failures if each.signal is not None]
    if signal is not None or with_signal:
        return next((each for each in with_signal if signal in (None, each.signal)), None)
    return max(report.failures, key=lambda each: each.start_s, default=None)


def _dead(report: Report) -> list[Process]:
    """Return the processes that a signal ended, without the target itself: its end is told first."""
    children = [row for row in report.processes if row.parent is not None or row.pid != report.processes[0].pid]
    return [row for row in children if row.signal not in (None, "SIGTERM", "SIGPIPE")]


def _program(row: Process) -> str:
    return printable(row.command).rpartition("/")[2] or "unknown"


def _failure_in_words(failure: Failure, *, first: bool = False) -> str:
    """Return `reading model.onnx.data at 81.3 MB failed (503 from 10.0.0.7, 4 tries)`."""
    name = printable(failure.path).rpartition("/")[2] or printable(failure.path) or "a file"
    action = DOING.get(failure.what, "a request for {}").format(name)
    action = action[:1].upper() + action[1:] if first else action
    where = f" at {size(failure.offset_bytes)}" if failure.offset_bytes is not None else ""
    times = f" {pluralize(failure.count, 'time')}" if failure.count > 1 else ""
    cause = reason(failure)
    return f"{action}{where} failed{times}{f' ({cause})' if cause else ''}"


def reason(failure: Failure) -> str:
    """Return why, as far as it was seen: what became of the client's tries, else its own words, else the error."""
    tries = "1 try" if failure.tries == 1 else f"{failure.tries} tries"
    if failure.client_said == CACHE_NOT_WRITTEN:
        return ", ".join(filter(None, (CACHE_NOT_WRITTEN, failure.outcomes[-1] if failure.outcomes else "")))
    if failure.outcomes:
        counts = Counter(failure.outcomes)
        words = ", ".join(
            f"{word} ×{times}" if times > 1 and len(counts) > 1 else word for word, times in counts.items()
        )
        preposition = "from" if any(not word.startswith(UNREACHED) for word in counts) else "by"
        by_server = (
            f" {preposition} {'the proxy ' if failure.proxied else ''}{failure.server}" if failure.server else ""
        )
        return f"{words}{by_server}, {tries}"
    if failure.error in GONE:
        return f"{failure.error}: the client was gone"
    texts = [failure.error, failure.client_said]
    return ": ".join(each for each in texts if each)
