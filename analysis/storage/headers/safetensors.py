"""Tensors of a safetensors file: 8 bytes with the length of a JSON header, the header, the data."""

from __future__ import annotations

import json
from typing import Any, Final

from cvtrace.analysis.storage.headers.source import LONGEST_NAME, MOST_TENSORS, Source, Unreadable
from cvtrace.analysis.storage.headers.tensor import LARGEST, HeaderTensor

LENGTH_BYTES: Final = 8
METADATA: Final = "__metadata__"
MOST_DIMS: Final = 64
NAMES: Final = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


def tensors(source: Source, path: str) -> list[HeaderTensor]:
    """Return the tensors of the file. Raises Unreadable."""
    length = source.number_at(0, LENGTH_BYTES)
    text = source.bytes_at(LENGTH_BYTES, length)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise Unreadable("its header is not JSON") from None
    if not isinstance(header, dict) or len(header) > MOST_TENSORS:
        raise Unreadable("its header is not one of safetensors")
    start = LENGTH_BYTES + length
    return [_tensor(name, entry, path, start) for name, entry in header.items() if name != METADATA]


def _tensor(name: str, entry: Any, path: str, start: int) -> HeaderTensor:
    if not isinstance(entry, dict):
        raise Unreadable("its header is not one of safetensors")
    dtype, offsets = entry.get("dtype"), entry.get("data_offsets")
    shape = _numbers(entry.get("shape"), MOST_DIMS)
    if not isinstance(dtype, str) or len(bounds := _numbers(offsets, 2)) != 2 or bounds[0] > bounds[1]:
        raise Unreadable("its header is not one of safetensors")
    kind = NAMES.get(dtype, _sound(dtype).lower())
    return HeaderTensor(_sound(name), kind, shape, path, start + bounds[0], bounds[1] - bounds[0])


def _sound(text: str) -> str:
    """Return a text that can be written: JSON may hold halves of characters."""
    return text[:LONGEST_NAME].encode("utf-8", "replace").decode()


def _numbers(values: Any, most: int) -> tuple[int, ...]:
    if not isinstance(values, list) or len(values) > most:
        raise Unreadable("its header is not one of safetensors")
    if any(type(each) is not int or not 0 <= each <= LARGEST for each in values):
        raise Unreadable("its header is not one of safetensors")
    return tuple(values)
