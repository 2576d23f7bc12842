"""What goes first where something failed: how the target ended, and what of CVMFS it did not get. One sentence each."""

import signal
from collections import Counter
from typing import Final

from cvtrace.analysis.contract.quantities import pluralize, script, seconds, size
from cvtrace.analysis.contract.report_schema import Failure, Process, Report
from cvtrace.analysis.report.lines import fitted
from cvtrace.analysis.report.names import printable
from cvtrace.analysis.storage.failures import GONE

SHOWN: Final = 3
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
            _sentence(f"{name} ended with exit code {trace.exit_code}{_as_if(trace.exit_code)} at {when}", cause)
        )
    else:
        cause = None
    if cause is not None:
        failures.remove(cause)
    for row in _dead(report)[:SHOWN]:
        last = next((each for each in failures if each.pid == row.pid and each.signal), None)
        if last is not None:
            failures.remove(last)
        at = seconds(row.start_s + row.wall_s)
        lines.append(_sentence(f"Its process {row.pid} ({_program(row)}) was killed by {row.signal} at {at}", last))
    whose = "" if trace.exit_code else f"; {name} went on"
    lines += [f"{_told(each, first=True)}{whose}." for each in failures[:SHOWN]]
    rest = sum(each.count for each in failures[SHOWN:])
    return [*lines, *([f"{pluralize(rest, 'more request')} failed."] if rest else [])]


def _as_if(code: int) -> str:
    """Return which signal a shell, or an older trace, means by an exit code."""
    try:
        return f" (128 + {signal.Signals(code - 128).name})"
    except ValueError:
        return ""


def _sentence(what: str, cause: Failure | None) -> str:
    return f"{what}: {_told(cause)}." if cause is not None else f"{what}."


def _cause(report: Report, signal: str | None) -> Failure | None:
    """Return the failure that ended the target: that of its signal, else the last one of the process that ended so."""
    own = [each for each in report.failures if each.signal is not None]
    if signal is not None or own:
        return next((each for each in own if signal in (None, each.signal)), None)
    return max(report.failures, key=lambda each: each.start_s, default=None)


def _dead(report: Report) -> list[Process]:
    """Return the processes that a signal ended, without the target itself: its end is told first."""
    others = [row for row in report.processes if row.parent is not None or row.pid != report.processes[0].pid]
    return [row for row in others if row.signal not in (None, "SIGTERM", "SIGPIPE")]


def _program(row: Process) -> str:
    return printable(row.command).rpartition("/")[2] or "unknown"


def _told(failure: Failure, *, first: bool = False) -> str:
    """Return `reading model.onnx.data at 81.3 MB failed (503 from 10.0.0.7, 4 tries)`."""
    name = printable(failure.path).rpartition("/")[2] or printable(failure.path) or "a file"
    what = DOING.get(failure.what, "a request for {}").format(name)
    what = what[:1].upper() + what[1:] if first else what
    where = f" at {size(failure.offset_bytes)}" if failure.offset_bytes is not None else ""
    times = f" {pluralize(failure.count, 'time')}" if failure.count > 1 else ""
    why = reason(failure)
    return f"{what}{where} failed{times}{f' ({why})' if why else ''}"


def reason(failure: Failure) -> str:
    """Return why, as far as it was seen: what became of the client's tries, else its own words, else the error."""
    if failure.outcomes:
        counts = Counter(failure.outcomes)
        words = ", ".join(
            f"{word} ×{times}" if times > 1 and len(counts) > 1 else word for word, times in counts.items()
        )
        came = "from" if any(not word.startswith(UNREACHED) for word in counts) else "by"
        whom = f" {came} {'the proxy ' if failure.proxied else ''}{failure.server}" if failure.server else ""
        tries = "1 try" if failure.tries == 1 else f"{failure.tries} tries"
        return f"{words}{whom}, {tries}"
    if failure.error in GONE:
        return f"{failure.error}: the client was gone"
    said = [failure.error, failure.client_said]
    return ": ".join(each for each in said if each)
