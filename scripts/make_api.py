#!/usr/bin/env python3
"""Write docs/api.md from the docstrings of the Python API: `make man`."""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import cvtrace
from cvtrace.analysis.contract import bench_columns
from cvtrace.analysis.contract.columns import TABLES
from cvtrace.analysis.contract.frame_columns import FRAMES, PER_EVENT
from cvtrace.api import comparison
from cvtrace.api.frames import DTYPES, NUMBERED, dtype_of

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "api.md"
PROMPT: Final = ">>> "
ORDER: Final = (
    "open",
    "Trace",
    "Report",
    "compare",
    "Comparison",
    "bench",
    "read_bench",
    "Bench",
    "fleet",
    "Fleet",
    "TraceError",
    "BenchError",
    "FleetError",
    "phase",
    "token",
)
"""Names of the API, in the order in which they are of use."""
INTRODUCTION: Final = """# Python API

`make man` writes this page from the docstrings. The tests run its examples, in this order, on traces in the folders `cold` and
`hot`, and experiments in `bench-a` and `bench-b`.

```python
>>> import cvtrace
```

All names are typed (`py.typed`). Names, columns and types of columns are stable: they are added, never renamed. `import cvtrace` imports neither pandas nor
the analysis; these are imported when a name that needs them is used. The notebook `examples/traces-in-pandas.ipynb` begins with the traces of `make demo`.

## Types and units

The type of a column depends on its unit alone, not on the run.

| unit | meaning | type |
|---|---|---|
"""
UNITS: Final = {
    "s": "seconds; `start_s` and the like count from the start of the target",
    "x": "a ratio",
    "ns": "whole nanoseconds, of tables of many nodes; times of day count from 1970",
    "bytes": "bytes",
    "n": "a number of things",
    "index": "the number of a thing: a process, a thread, a row, a token",
    "text": "text",
    "yes/no": "true or false",
}
REPORT: Final = """What `report()` returns: a frozen dataclass with the fields of the [JSON](exports.md), each row of a table of which is a frozen dataclass too.
`as_dict()` returns plain dicts and lists."""
COLUMNS_OF: Final = {
    "Fleet": {},
    "Comparison": {"changes": comparison.CHANGES, "words": comparison.WORDS},
    "Bench": {
        "runs": bench_columns.RUNS,
        "summary": bench_columns.SUMMARY,
        "cost": bench_columns.COST,
        "laws": bench_columns.LAWS,
    },
}
"""Tables that are not of a trace: class -> name -> columns."""


def page() -> str:
    """Return docs/api.md."""
    out = [INTRODUCTION.rstrip("\n")]
    out += [f"| {unit} | {meaning} | `{DTYPES[unit]}` |" for unit, meaning in UNITS.items()]
    names = ", ".join(f"`{name}`" for name in PER_EVENT)
    out += [
        "",
        f"Text in {names} has the type `{NUMBERED}`: there may be a row for each event. What was not observed is NaN in a `float64`, and `pd.NA` in other types.",
        "",
    ]
    for name in ORDER:
        out += _section(name, getattr(cvtrace, name))
    return "\n".join(out).rstrip() + "\n"


def _section(name: str, item: Any) -> Iterator[str]:
    yield from (f"## cvtrace.{name}", "")
    if not inspect.isclass(item):
        yield from (f"`cvtrace.{name}{_signature(item)}`", "")
    yield from (REPORT if item is cvtrace.Report else _docstring(item), "")
    if inspect.isclass(item) and item.__module__.startswith("cvtrace.api."):
        yield from _members(item)


def _members(item: type) -> Iterator[str]:
    """Yield what a class has: its tables and other properties, then its methods with their examples."""
    own = COLUMNS_OF.get(item.__name__, {name: columns for name, columns in FRAMES.items() if name not in TABLES})
    members = {name: value for name, value in vars(item).items() if not name.startswith("_")}
    properties = {name: value.fget for name, value in members.items() if isinstance(value, property)}
    if properties:
        yield from ("| property | type | |", "|---|---|---|")
        for name, function in properties.items():
            kind = inspect.signature(function).return_annotation
            elsewhere = "fleet.md" if item.__name__ == "Fleet" else "exports.md"
            place = f"#{_anchor(item, name)}" if name in own else f"{elsewhere}#{name}"
            columns = f" ([columns]({place}))" if kind == "pd.DataFrame" else ""
            yield f"| `{name}` | `{_plain(kind)}` | {_docstring(function).partition(chr(10))[0]}{columns} |"
        yield ""
    for name, function in properties.items():
        examples = _examples(function)
        if examples:
            yield from (f"The {name}:", "", examples, "")
    for name, value in members.items():
        if inspect.isfunction(value):
            yield from (f"### {item.__name__}.{name}", "", f"`{name}{_signature(value)}`", "", _docstring(value), "")
    for name, columns in own.items():
        yield from (
            f"### Columns of {item.__name__}.{name}",
            "",
            "| column | type | unit | meaning |",
            "|---|---|---|---|",
        )
        for column, (unit, meaning) in columns.items():
            yield f"| `{column}` | `{dtype_of(name, unit)}` | {unit} | {meaning} |"
        yield ""


def _anchor(item: type, name: str) -> str:
    """Return where the columns of a table are on the page."""
    return f"columns-of-{item.__name__}{name}".lower()


def _signature(function: Any) -> str:
    signature = inspect.signature(function)
    parameters = [value for name, value in signature.parameters.items() if name != "self"]
    return _plain(str(signature.replace(parameters=parameters))).replace("'", "")


def _plain(annotation: str) -> str:
    """Return an annotation in terms of public types."""
    return annotation.replace("PathLike", "str | Path")


def _docstring(item: Any) -> str:
    """Return a docstring as Markdown: each paragraph that begins with a prompt is a block of code."""
    text = inspect.getdoc(item)
    if not text:
        raise ValueError(f"{item} has no docstring")
    parts = text.split("\n\n")
    return "\n\n".join(
        f"```python\n{textwrap.dedent(part)}\n```" if part.lstrip().startswith(PROMPT) else part for part in parts
    )


def _examples(function: Any) -> str:
    """Return the blocks of code of a docstring."""
    return "\n\n".join(part for part in _docstring(function).split("\n\n") if part.startswith("```"))


def write() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write()
    print(PAGE.relative_to(ROOT), file=sys.stderr)
