"""The same events from strace, for machines without BPF: command lines, parser, probe.

`parse_daemon` and `parse_target` turn logs into events; the probe is in probe.py.
"""

from cvtrace.probes.strace.translate import Parsed, parse_daemon, parse_target

__all__ = ["Parsed", "parse_daemon", "parse_target"]
