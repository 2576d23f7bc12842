"""The runtimes whose calls mark phases, a file for each: adding one is a declaration here and a test.

Written from these declarations (`make man`): the table of docs/probes.md, and what the hook wraps (../inject/_cvtrace_table.py).
"""
