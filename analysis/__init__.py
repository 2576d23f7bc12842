"""Pure functions from a trace to tables, numbers and pictures: no privileges, no live system.

May import `cvtrace.probes.events`, `cvtrace.probes.phases` and `cvtrace.tracer.store`.
"""
