"""Folded stacks: one line for each stack, `phase;thread;file;class nanoseconds`, as flamegraph.pl, inferno and speedscope read them.

A semicolon in a name is written `\\x3b`, as it would end the frame; what cannot be seen is written out, as in every output.
"""

from cvtrace.analysis.report.names import printable
from cvtrace.analysis.storage.lines import Summed


def render(stacks: Summed, choice: str) -> str:
    """Return the lines of the stacks on a CPU, of those waiting, or of both."""
    return "".join(
        f"{';'.join(_frame(name) for name in stacks.frames(row))} {int(stacks.ns[row])}\n"
        for row in stacks.rows(choice).tolist()
    )


def _frame(name: str) -> str:
    return printable(name).replace(";", "\\x3b")
