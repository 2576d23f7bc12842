"""The same events from strace, for machines without BPF: command lines, parser, probe.

May be imported from here: `parse_daemon`, `parse_target`, `Parsed` (translate.py) and `StraceProbe` (probe.py).
"""
