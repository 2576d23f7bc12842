"""`cvtrace run` that records the calls of the library and nothing else: `python -m cvtrace.calls_alone run …`, as bench calls it."""

from __future__ import annotations

from cvtrace.cli import main
from cvtrace.probes import ladder
from cvtrace.probes.ebpf.calls_probe import CallsProbe
from cvtrace.probes.probe import Probe


def _calls(settings: ladder.Settings) -> Probe:
    return CallsProbe(settings.buffer_bytes)


if __name__ == "__main__":
    ladder.RUNGS["ebpf"] = _calls
    main()
