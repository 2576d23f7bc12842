#!/usr/bin/env python3
"""Write from the declared runtimes (probes/phases/runtimes) their table in docs/probes.md, and what the hook wraps: `make man`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cvtrace.probes.phases.hook import INJECT
from cvtrace.probes.phases.runtimes.declaration import PHASES, Runtime
from cvtrace.probes.phases.runtimes.table import RUNTIMES

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "probes.md"
TABLE: Final = INJECT / "_cvtrace_table.py"
BEGIN: Final = "<!-- made from the declarations: runtimes -->\n"
END: Final = "<!-- end of runtimes -->\n"
ABOVE: Final = '''"""What the hook wraps of each module, and the numbers of the functions; `make man` writes this file from probes/phases/runtimes."""

# fmt: off
'''
MOST_NAMED: Final = 4
"""Functions of one phase that the table names."""


def _phases(runtime: Runtime) -> str:
    parts = []
    for phase in PHASES:
        names = [f"`{function.symbol}`" for function in runtime.functions if function.phase == phase]
        if names:
            more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
            parts.append(f"{phase}: {', '.join(names[:MOST_NAMED])}{more}")
    return "; ".join(parts) or "any name"


def documentation() -> str:
    """Return the table of runtimes."""
    lines = [
        "| runtime | phases and their functions | tokens | seen by uprobes (ebpf) | seen by the hook (strace, portable; Python) | tested with |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {runtime.name} | {_phases(runtime)} | {runtime.tokens} | {runtime.symbols} | {runtime.hook} | {runtime.tested} |"
        for runtime in RUNTIMES
    ]
    return "\n".join(lines) + "\n"


def page() -> str:
    """Return docs/probes.md with the table as it is to be."""
    above, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, below = rest.partition(END)
    return f"{above}{BEGIN}{documentation()}{END}{below}"


def table() -> str:
    """Return the module from which the hook takes what it wraps."""
    functions = {function.symbol: function for runtime in RUNTIMES for function in runtime.functions}
    modules = [(module, methods) for runtime in RUNTIMES for module, methods in runtime.methods]
    often = sorted(function.index for function in functions.values() if function.phase in ("decode", "run"))
    lines = ["FUNCTIONS = {"]
    lines += [f'    "{symbol}": {function.index},' for symbol, function in sorted(functions.items())]
    lines += ["}", "", f"OFTEN = ({', '.join(map(str, often))})"]
    lines += ['"""Functions that are called again and again."""', "", "METHODS = {"]
    for module, methods in modules:
        lines.append(f'    "{module}": (')
        for each in methods:
            row = ", ".join(f'"{field}"' for field in (each.owner, each.name, each.function, each.destroyed, each.how))
            lines.append(f"        ({row}),")
        lines.append("    ),")
    lines += [
        "}",
        '"""Of each module: class, function of it, what its call marks, what its end marks, and which wrapper is needed."""',
    ]
    return ABOVE + "\n".join(lines) + "\n"


def main() -> None:
    """Write both."""
    PAGE.write_text(page(), encoding="utf-8")
    TABLE.write_text(table(), encoding="utf-8")


if __name__ == "__main__":
    main()
