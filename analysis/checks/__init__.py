"""Conditions that a report is tested against, for CI.

    expectations   `decode.fuse_reads == 0`, parsed and never evaluated as code

In: a Report. Out: which conditions fail. May import `contract`.
"""
