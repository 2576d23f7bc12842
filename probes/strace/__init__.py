"""The same events from strace, for machines without BPF: command lines, parser, probe.

May be imported from here: `parse_daemon`, `parse_target` and `Parsed`. The probe is in probe.py.
"""

from cvtrace.probes.strace.translate import Parsed, parse_daemon, parse_target

__all__ = ["Parsed", "parse_daemon", "parse_target"]
