"""A bench folder on disk.

bench.json            what was run, and the summary, the cost of tracing and the laws
runs.parquet, .csv    one row per run, the same in both; replaced after every run, so that an interruption loses none
bench.html            the page
traces/               of the traced runs
output/               what each run printed
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cvtrace.analysis.bench.schema import (
    CLASS_COLUMNS,
    METRICS,
    SCHEMA,
    VERSION,
    Bench,
    BenchInfo,
    Cell,
    Coefficient,
    HeldOut,
    Law,
    Run,
    Statistic,
    SummaryRow,
    Sweep,
    TracingCost,
    Variant,
)
from cvtrace.analysis.bench.types import check_types
from cvtrace.tracer.errors import TraceDamaged
from cvtrace.tracer.safe_open import open_folder, open_regular, replacing

BENCH_JSON: Final = "bench.json"
RUNS_PARQUET: Final = "runs.parquet"
RUNS_CSV: Final = "runs.csv"
BENCH_HTML: Final = "bench.html"
TRACES: Final = "traces"
OUTPUT: Final = "output"
MOST_BYTES: Final = 256 << 20
FORMULA: Final = tuple("'=+-@＝＋－＠")
"""How a text begins that spreadsheets take for a formula."""


class NotABench(TraceDamaged):
    """The folder is not one of `cvtrace bench`, is of a newer cvtrace, or is damaged: one sentence."""


def is_bench(path: Path | str) -> bool:
    """Return whether there is a bench folder at a path."""
    return os.path.isfile(Path(path) / BENCH_JSON)  # noqa: PTH113 - false also where the folder may not be looked into


def read_bench(path: Path | str) -> Bench:
    """Return a bench folder, finished or not. Raises NotABench."""
    place = Path(path)
    try:
        folder = open_folder(place)
    except OSError as error:
        raise NotABench(f"cannot read {place}: {error.strerror or error}") from None
    try:
        meta = _meta(place, folder)
        runs = _runs(place, folder)
    finally:
        os.close(folder)
    try:
        bench = Bench(place, _info(meta), runs, *_results(meta))
        check_types(bench, Bench)
        return bench
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NotABench(
            f"{place / BENCH_JSON} is damaged ({type(error).__name__}: {error}): run the bench again"
        ) from None


def _meta(place: Path, folder: int) -> dict[str, Any]:
    try:
        with open_regular(folder, BENCH_JSON, MOST_BYTES) as stream:
            meta = json.load(stream)
    except FileNotFoundError:
        raise NotABench(f"{place} is not a folder of `cvtrace bench`: it has no {BENCH_JSON}") from None
    except OSError as error:
        raise NotABench(f"cannot read {place / BENCH_JSON}: {error.strerror or error}") from None
    except ValueError:
        raise NotABench(f"{place / BENCH_JSON} is damaged (it is not JSON): run the bench again") from None
    if not isinstance(meta, dict) or meta.get("schema") != SCHEMA:
        raise NotABench(f"{place / BENCH_JSON} is not of `cvtrace bench`")
    version = meta.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise NotABench(f"{place} was written by a newer cvtrace (version {version} of the format): update cvtrace")
    return meta


def _runs(place: Path, folder: int) -> tuple[Run, ...]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from cvtrace.tracer.parquet import IN_THIS_THREAD

    try:
        with open_regular(folder, RUNS_PARQUET, MOST_BYTES) as stream:
            table = pq.ParquetFile(pa.BufferReader(stream.read()), pre_buffer=False).read(**IN_THIS_THREAD)
    except FileNotFoundError:
        return ()  # interrupted before the first run had ended
    except (OSError, pa.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not a Parquet file"
        raise NotABench(f"cannot read {place / RUNS_PARQUET}: {reason}") from None
    try:
        runs = tuple(Run.of_row(row) for row in table.to_pylist())
        check_types(runs, tuple[Run, ...], "runs")
        return runs
    except (KeyError, TypeError) as error:
        raise NotABench(f"{place / RUNS_PARQUET} is damaged ({error}): run the bench again") from None


def _info(meta: dict[str, Any]) -> BenchInfo:
    known = {name: meta[name] for name in BenchInfo.__dataclass_fields__ if name in meta}
    sweep = known.get("sweep")
    known |= {
        "command": tuple(meta["command"]),
        "states": tuple(meta["states"]),
        "variants": tuple(Variant(each["name"], tuple(each["argv"])) for each in meta["variants"]),
        "sweep": None if sweep is None else Sweep(sweep["axis"], tuple(sweep["values"]), sweep.get("unit", "")),
        "cells": tuple(Cell(**{**each, "paths": tuple(each["paths"])}) for each in meta.get("cells", ())),
    }
    return BenchInfo(**known)


def _results(meta: dict[str, Any]) -> tuple[tuple[SummaryRow, ...], tuple[TracingCost, ...], tuple[Law, ...]]:
    summary = tuple(
        SummaryRow(**{**row, **{name: _statistic(row[name]) for name in METRICS}}) for row in meta.get("summary", ())
    )
    return summary, tuple(TracingCost(**row) for row in meta.get("cost", ())), tuple(map(_law, meta.get("laws", ())))


def _pair(values: Any) -> tuple[float, float]:
    low, high = values
    return float(low), float(high)


def _statistic(values: dict[str, Any] | None) -> Statistic | None:
    if values is None:
        return None
    ratio = values.get("ratio_interval")
    return Statistic(
        **{
            **values,
            "quartiles": _pair(values["quartiles"]),
            "interval": _pair(values["interval"]),
            "ratio_interval": None if ratio is None else _pair(ratio),
        }
    )


def _law(values: dict[str, Any]) -> Law:
    held_out = values.get("held_out")
    coefficients = tuple(
        Coefficient(**{**each, "interval": _pair(each["interval"])}) for each in values["coefficients"]
    )
    prediction = None if held_out is None else HeldOut(**{**held_out, "interval": _pair(held_out["interval"])})
    return Law(**{**values, "coefficients": coefficients, "held_out": prediction})


def write_json(folder: int, bench: Bench) -> None:
    """Write bench.json. Raises OSError."""
    text = json.dumps(_finite(bench.as_json()), indent=1, allow_nan=False)
    _write(folder, BENCH_JSON, text.encode() + b"\n")


def _finite(value: Any) -> Any:
    """Return JSON values without what JSON has no name for: not a number becomes null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def write_runs(folder: int, runs: Sequence[Run]) -> None:
    """Write runs.parquet and runs.csv. Raises OSError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [run.row() for run in runs]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=_arrow_schema()), sink)
    _write(folder, RUNS_PARQUET, sink.getvalue().to_pybytes())
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(_arrow_schema().names), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    _write(folder, RUNS_CSV, text.getvalue().encode())


def _cell(value: Any) -> Any:
    """Return a value as CSV has it: nothing for None, and no text that a spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.lstrip()[:1] in FORMULA else value


def _arrow_schema() -> Any:
    import pyarrow as pa

    texts = ("variant", "state", "reason", "started", "verdict", "host", "kernel", "client_version", "cvtrace_version")
    kinds = dict.fromkeys((*texts, "trace"), pa.string())
    kinds |= dict.fromkeys(("verified", "repeated", "traced"), pa.bool_())
    whole = ("round", "order", "exit_code", "tokens", "reads", "fetches", "bytes_read", "bytes_fetched")
    kinds |= dict.fromkeys(whole, pa.int64())
    names = [name for name in Run.__dataclass_fields__ if name not in ("classes", "trace")]
    return pa.schema([(name, kinds.get(name, pa.float64())) for name in (*names, *CLASS_COLUMNS, "trace")])


def _write(folder: int, name: str, data: bytes) -> None:
    with replacing(folder, name) as stream:
        stream.write(data)
