"""Names and places of tensors that a trace keeps (`run --keep-names`): no weights, and nothing of the model but its headers.

The file comes with a trace, which may come from anywhere: it is read within limits, and each value is checked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cvtrace.analysis.storage.headers.source import LONGEST_NAME, MOST_TENSORS
from cvtrace.analysis.storage.headers.tensor import LARGEST, HeaderTensor
from cvtrace.tracer.folder import TENSORS
from cvtrace.tracer.safe_open import open_folder, open_regular
from cvtrace.tracer.store import Trace

SCHEMA: Final = "cvtrace-tensors/1"
MOST_BYTES: Final = 64 << 20
LONGEST_PATH: Final = 4096
MOST_DIMENSIONS: Final = 64


class BadTensorsFile(Exception):
    """The file is not what it should be; the message says why."""


def as_bytes(tensors: Sequence[HeaderTensor]) -> bytes:
    """Return the content of the file for these tensors."""
    rows = [[each.name, each.dtype, list(each.shape), each.path, each.offset, each.size] for each in tensors]
    return json.dumps({"schema": SCHEMA, "tensors": rows}, separators=(",", ":")).encode("ascii")


def has_tensors(trace: Trace) -> bool:
    """Return whether a trace keeps tensors."""
    return os.path.lexists(trace.path / TENSORS)


def tensors_in_trace(trace: Trace, paths: Sequence[str]) -> tuple[list[HeaderTensor], list[str]]:
    """Return the tensors that a trace keeps of these files, and a sentence if what it keeps cannot be used."""
    try:
        tensors = parsed(_content(trace.path))
    except (OSError, BadTensorsFile) as reason:
        why = getattr(reason, "strerror", None) or reason
        return [], [f"the tensors of the model ({TENSORS} of the trace cannot be used: {why})"]
    names = set(paths)
    return [each for each in tensors if each.path in names], []


def _content(path: Path) -> bytes:
    folder = open_folder(path)
    try:
        with open_regular(folder, TENSORS, MOST_BYTES) as file:
            return file.read(MOST_BYTES)
    finally:
        os.close(folder)


def parsed(content: bytes) -> list[HeaderTensor]:
    """Return the tensors that a file tells of. Raises BadTensorsFile."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise BadTensorsFile("it is not JSON") from None
    if (
        not isinstance(document, dict)
        or document.get("schema") != SCHEMA
        or not isinstance(document.get("tensors"), list)
    ):
        raise BadTensorsFile(f"it is not {SCHEMA}")
    if len(document["tensors"]) > MOST_TENSORS:
        raise BadTensorsFile("it has more tensors than are looked at")
    return [_tensor(row) for row in document["tensors"]]


def _tensor(row: Any) -> HeaderTensor:
    if not isinstance(row, list) or len(row) != 6:
        raise BadTensorsFile("a tensor of it has not six values")
    name, dtype, shape, path, offset, size = row
    if not (_is_text(name, LONGEST_NAME) and _is_text(dtype, LONGEST_NAME) and _is_text(path, LONGEST_PATH)):
        raise BadTensorsFile("a name in it is none")
    if not isinstance(shape, list) or len(shape) > MOST_DIMENSIONS or not all(map(_is_size, (*shape, offset, size))):
        raise BadTensorsFile("a number in it is none")
    return HeaderTensor(name, dtype, tuple(shape), path, offset, size)


def _is_text(value: Any, most: int) -> bool:
    return isinstance(value, str) and len(value) <= most


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST
