"""Every table of a run as CSV or Parquet, in a folder or a zip file; docs/exports.md tells of the columns.

Parquet files carry unit and meaning of each column in its metadata.
"""

import json
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import LABELS, WAITING
from cvtrace.analysis.contract.columns import TABLES, WHAT_IF_TABLES, Column
from cvtrace.analysis.contract.frame_columns import FRAMES, VERDICT_COUNTS, VERDICT_PARTS
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.contract.whatif_schema import Prediction
from cvtrace.analysis.joins.phases import life
from cvtrace.analysis.report.names import printable
from cvtrace.analysis.storage.causes import CAUSES
from cvtrace.analysis.storage.stacks import files, stacks
from cvtrace.analysis.storage.tables import Tables
from cvtrace.analysis.trace.intervals import Ints, pick
from cvtrace.probes.events import Opcode
from cvtrace.tracer.safe_open import open_below_or_linked, open_folder, replacing

FORMATS: Final = ("csv", "parquet")
TYPES: Final = {
    "s": pa.float64(),
    "x": pa.float64(),
    "bytes": pa.int64(),
    "n": pa.int64(),
    "index": pa.int64(),
    "text": pa.string(),
    "yes/no": pa.bool_(),
}
FORMULA: Final = r"(^|;)([\s\p{Z}]*['=+\-@\t\r＝＋－＠])"
"""How a text begins that spreadsheets take for a formula, and behind a semicolon, where those of many countries part cells.
An apostrophe is in it so that what was added can be taken away again."""
Opener = Callable[[str], Any]
"""Opens a new file of the export for writing bytes, by name."""


def write(study: Study, details: Tables, report: Report, form: str, opener: Opener, *, what_if: bool = False) -> None:
    """Write every table that has a row, each as `<name>.csv` or `<name>.parquet`; predictions if asked `what_if`."""
    for name, table in tables(study, details, report):
        if table.num_rows and (what_if or name not in WHAT_IF_TABLES):
            with opener(f"{name}.{form}") as stream:
                (_csv if form == "csv" else pa_parquet.write_table)(table, stream)


@contextmanager
def folder(path: Path, form: str) -> Iterator[Opener]:
    """Write into a folder, made if it is not there; tables of an earlier export in it are removed, other files stay.

    Raises OSError. Whatever is linked in the place of a table or of the folder, nothing outside of it is written.
    """
    parent = open_folder(path.parent if path.name else path)
    inside = -1
    try:
        if path.name not in ("", ".."):
            with suppress(FileExistsError):
                os.mkdir(path.name, dir_fd=parent)
        inside = open_below_or_linked(parent, path.name or ".")
        for name in TABLES:
            with suppress(FileNotFoundError):
                os.unlink(f"{name}.{form}", dir_fd=inside)
        yield lambda name: replacing(inside, name)
    finally:
        os.close(parent)
        if inside >= 0:
            os.close(inside)


@contextmanager
def zipped(stream: BinaryIO) -> Iterator[Opener]:
    """Write into a zip file."""
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        yield lambda name: archive.open(name, "w", force_zip64=True)


def tables(study: Study, details: Tables, report: Report) -> Iterator[tuple[str, pa.Table]]:
    """Return name and columns of each table, one after the other."""
    for name in TABLES:
        yield name, table(name, study, details, lambda: report)


def table(name: str, study: Study, details: Tables, report: Callable[[], Report]) -> pa.Table:
    """Return one table by its name (of FRAMES); `report` is called for those that are made from a report."""
    columns = FRAMES[name]
    if name in _OF_STUDY:
        return _table(_OF_STUDY[name](study, details), columns)
    if name in _OF_REPORT:
        return _table(_OF_REPORT[name](report()), columns)
    return _table(_of_rows(_rows(report(), name), columns), columns)


def _table(values: dict[str, Any], columns: dict[str, Column]) -> pa.Table:
    if list(values) != list(columns):
        raise ValueError(f"columns {list(values)} are not those that are documented: {list(columns)}")
    arrays, fields = [], []
    for name, (unit, meaning) in columns.items():
        column = values[name]
        array = column if isinstance(column, pa.Array) else pa.array(column, type=TYPES[unit])
        arrays.append(array)
        fields.append(pa.field(name, array.type, metadata={"unit": unit, "meaning": meaning}))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _csv(table: pa.Table, stream: BinaryIO) -> None:
    columns = [_as_text(column) for column in table.columns]
    pa_csv.write_csv(pa.table(columns, names=table.column_names), stream)


def _as_text(column: Any) -> Any:
    """Return a column as CSV has it: text that a spreadsheet would take for a formula begins with an apostrophe."""
    if pa.types.is_dictionary(column.type):  # each name once
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        words = _harmless(column.dictionary)
        return pa.DictionaryArray.from_arrays(column.indices, words).cast(pa.string())
    return _harmless(column) if pa.types.is_string(column.type) else column


def _harmless(words: Any) -> Any:
    return pc.replace_substring_regex(words, pattern=FORMULA, replacement=r"\1'\2")


def _of_rows(rows: Sequence[Any], columns: dict[str, Column]) -> dict[str, Any]:
    """Return the columns of rows of the report; names in them as text."""
    return {name: [_cell(getattr(row, name)) for row in rows] for name in columns}


def _rows(report: Report, name: str) -> Sequence[Any]:
    """Return the rows of a table of the report; what the report has once is a table of one row."""
    rows = getattr(report, name)
    return rows if isinstance(rows, tuple) else () if rows is None else (rows,)


def _cell(value: Any) -> Any:
    if isinstance(value, tuple):
        return json.dumps([_cell(each) for each in value], ensure_ascii=False)
    return printable(value) if isinstance(value, str) else value


def _run(report: Report) -> dict[str, Any]:
    trace, verdict = report.trace, report.verdict
    row: dict[str, Any] = {
        "trace": trace.path,
        "target": json.dumps(trace.target, ensure_ascii=False),
        "cache_state": report.cache_state,
        "tokens_affected": json.dumps(verdict.tokens_affected),
    }
    for name in TABLES["run"]:
        if name not in row:
            row[name] = getattr(verdict, name) if hasattr(verdict, name) else getattr(trace, name)
    return {name: [_cell(row[name])] for name in TABLES["run"]}


def _classes(report: Report) -> dict[str, Any]:
    rows = [(printable(row.name), name, spent) for row in report.phases for name, spent in row.classes.items()]
    return dict(zip(TABLES["classes"], map(list, zip(*rows, strict=True)), strict=True)) if rows else _none("classes")


def _predictions(report: Report) -> tuple[Prediction, ...]:
    return report.what_if.predictions if report.what_if else ()


def _predicted_phases(report: Report) -> dict[str, Any]:
    rows = [
        (printable(prediction.name), printable(row.name), row.measured_s, row.predicted_s)
        for prediction in _predictions(report)
        for row in prediction.phases
    ]
    name = "predicted_phases"
    return dict(zip(TABLES[name], map(list, zip(*rows, strict=True)), strict=True)) if rows else _none(name)


def _none(name: str) -> dict[str, Any]:
    return {column: [] for column in TABLES[name]}


def _requests(study: Study, details: Tables) -> dict[str, Any]:
    requests, use, file_table = study.requests, study.use, files(study)
    start_ns, _ = life(study.recording)
    names = [member.name for member in Opcode]
    codes = np.array([int(member) for member in Opcode], dtype=np.int64)
    order = np.argsort(codes)
    place = np.minimum(np.searchsorted(codes[order], requests.opcode), len(codes) - 1)
    unknown_codes = np.unique(requests.opcode[codes[order][place] != requests.opcode])
    number = np.where(
        codes[order][place] == requests.opcode,
        order[place],
        len(names) + np.searchsorted(unknown_codes, requests.opcode),
    )
    return {
        "connection": requests.connection,
        "unique": requests.unique,
        "opcode": _words([*names, *(f"opcode {each}" for each in unknown_codes.tolist())], number),
        "path": _words(file_table.names, file_table.of_request),
        "inode": requests.nodeid,
        "offset": _known(requests.offset),
        "read_bytes": requests.read_bytes,
        "asker": requests.asker,
        "worker": requests.worker,
        "by_target": requests.by_target,
        "phase": _words(study.phases.names, study.request_phase),
        "token": _known(study.request_token),
        **{
            name: (getattr(requests, name.removesuffix("_s")) - start_ns) / 1e9
            for name in ("sent_s", "received_s", "replied_s")
        },
        "error": requests.error,
        "cache_hits": use.hits,
        "cache_misses": use.misses,
        "cache_shared": use.shared,
        "fetch": _known(first_fetches(study)),
        "cause": _words(CAUSES, details.cause),
        "tensor": _words(_tensor_names(details), _main(study, details)),
    }


def _main(study: Study, details: Tables) -> Ints:
    """Return the row of `tensors` that each request counts for, -1 for none and for the bytes of no tensor."""
    is_tensor = np.array([each is not None for each in (*details.tensors.header, None)], dtype=bool)
    main = details.tensors.main if len(details.tensors.main) else np.full(len(study.requests), -1, dtype=np.int64)
    return np.where(is_tensor[main], main, -1)


def first_fetches(study: Study) -> Ints:
    """Return for each request the row in the table of fetches of the first GET it caused, -1 for none."""
    first_get = np.full(len(study.requests), -1, dtype=np.int64)
    request = study.gets.request[np.argsort(study.gets.sent, kind="stable")]
    caused = np.flatnonzero(request >= 0)[::-1]
    first_get[request[caused]] = caused
    return first_get


def _known(number: Ints) -> pa.Array:
    """Return numbers, empty where below 0."""
    return pa.array(number, type=pa.int64(), mask=number < 0)


def _words(names: Sequence[str], number: Ints) -> pa.Array:
    """Return names by number, empty where below 0, each name kept once."""
    words = pa.array([printable(name) for name in names], type=pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(number.astype(np.int32), mask=number < 0), words)


def _stacks(study: Study, details: Tables) -> dict[str, Any]:
    stack_table = stacks(study, details.tensors)
    return {
        "phase": _words(stack_table.phases, stack_table.phase),
        "thread": stack_table.thread,
        "file": _words(stack_table.files, stack_table.file),
        "tensor": _words(stack_table.tensors, stack_table.tensor),
        "class": _words(LABELS, stack_table.value),
        "time_s": stack_table.ns / 1e9,
        "pieces": stack_table.pieces,
    }


def _reads(study: Study, details: Tables) -> dict[str, Any]:
    """Return the READs of the target: rows of `requests`, with their places there."""
    row = np.flatnonzero(study.requests.reads & study.requests.by_target)
    columns = _requests(study, details)
    return {"request": row} | {name: _taken(columns[name], row) for name in FRAMES["reads"] if name != "request"}


def _taken(column: Any, row: Ints) -> Any:
    return column.take(pa.array(row)) if isinstance(column, pa.Array) else column[row]


def _waits(study: Study, details: Tables) -> dict[str, Any]:
    """Return the pieces of the critical path in which it waited, in the order of time."""
    path, segments = study.critical_path, study.segments
    piece = np.flatnonzero(np.isin(path.value, WAITING) & (path.length > 0))
    piece = piece[np.argsort(path.start[piece], kind="stable")]
    of, request = path.of[piece], path.request[piece]
    file_table = files(study)
    return {
        "start_s": (path.start[piece] - life(study.recording)[0]) / 1e9,
        "wall_s": path.length[piece] / 1e9,
        "class": _words(LABELS, path.value[piece]),
        "phase": _words(study.phases.names, segments.row[of]),
        "thread": segments.thread[of],
        "path": _words(file_table.names, pick(file_table.of_request, request, -1)),
        "tensor": _words(_tensor_names(details), pick(_main(study, details), request, -1)),
        "token": _known(pick(study.request_token, request, -1)),
        "request": _known(request),
    }


def _tensor_names(details: Tables) -> list[str]:
    return [each.name if each else "" for each in details.tensors.header]


def _verdict(report: Report) -> dict[str, Any]:
    """Return the answer, then the parts of generation that have one of their own."""
    verdict = report.verdict
    whole: dict[str, Any] = {
        "part": verdict.question,
        "answer": verdict.answer,
        "tokens": verdict.tokens,
        "wall_s": None,
        "causes": verdict.causes,
    }
    rows = [whole | {name: getattr(verdict, name) for name in VERDICT_COUNTS}]
    for name in VERDICT_PARTS:
        part = getattr(verdict, name)
        if part is not None:
            own = {"part": name, "answer": part.hits_cvmfs, "tokens": None, "wall_s": part.wall_s}
            rows.append(own | {each: getattr(part, each) for each in (*VERDICT_COUNTS, "causes")})
    for row in rows:
        row["causes"] = json.dumps(row["causes"])
    return {name: [row[name] for row in rows] for name in FRAMES["verdict"]}


_OF_STUDY: Final[dict[str, Callable[[Study, Tables], dict[str, Any]]]] = {
    "requests": _requests,
    "reads": _reads,
    "stacks": _stacks,
    "waits": _waits,
}
"""Tables that need no report."""
_OF_REPORT: Final[dict[str, Callable[[Report], dict[str, Any]]]] = {
    "run": _run,
    "verdict": _verdict,
    "classes": _classes,
    "mounts": lambda report: _of_rows(report.trace.mounts, TABLES["mounts"]),
    "predictions": lambda report: _of_rows(_predictions(report), TABLES["predictions"]),
    "predicted_phases": _predicted_phases,
}
"""Tables that are not simply the rows of the report's field of the same name."""
