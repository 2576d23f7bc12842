"""Tensors of an ONNX model, by walking over its protobuf: what is not needed, weights above all, is skipped.

Fields as onnx.proto numbers them. Initializers of subgraphs (branches, loops) and constants within nodes are not told.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from cvtrace.analysis.storage.headers.source import LONGEST_NAME, MOST_TENSORS, Source, Unreadable
from cvtrace.analysis.storage.headers.tensor import LARGEST, HeaderTensor, size_of

MODEL_GRAPH, GRAPH_INITIALIZER = 7, 5
DIMS, DATA_TYPE, NAME, RAW_DATA, EXTERNAL_DATA, DATA_LOCATION = 1, 2, 8, 9, 13, 14
TYPED_DATA: Final = (4, 5, 7, 10, 11)
"""float_data, int32_data, int64_data, double_data, uint64_data."""
EXTERNAL: Final = 1
MOST_DIMS: Final = 64
LONGEST_PATH: Final = 4096
TYPES: Final = {
    1: ("float32", 32),
    2: ("uint8", 8),
    3: ("int8", 8),
    4: ("uint16", 16),
    5: ("int16", 16),
    6: ("int32", 32),
    7: ("int64", 64),
    8: ("string", 0),
    9: ("bool", 8),
    10: ("float16", 16),
    11: ("float64", 64),
    12: ("uint32", 32),
    13: ("uint64", 64),
    14: ("complex64", 64),
    15: ("complex128", 128),
    16: ("bfloat16", 16),
    17: ("float8e4m3fn", 8),
    18: ("float8e4m3fnuz", 8),
    19: ("float8e5m2", 8),
    20: ("float8e5m2fnuz", 8),
    21: ("uint4", 4),
    22: ("int4", 4),
    23: ("float4e2m1", 4),
    24: ("float8e8m0", 8),
    25: ("uint2", 2),
    26: ("int2", 2),
}
"""TensorProto.DataType -> name, bits of an element."""


@dataclass(frozen=True)
class Span:
    """A field with a length: its bytes are [start, end) of the file."""

    start: int
    end: int


@dataclass
class _Tensor:
    name: str = ""
    kind: int = 0
    dims: list[int] = field(default_factory=list)
    inline: Span | None = None
    external: dict[str, str] = field(default_factory=dict)
    is_external: bool = False


def fields(source: Source, start: int, end: int) -> Iterator[tuple[int, int | Span]]:
    """Yield number and value of each field of a message: a Span where it has a length. Raises Unreadable."""
    position = start
    while position < end:
        tag, position = source.varint_at(position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = source.varint_at(position)
            yield number, value
        elif wire == 2:
            length, position = source.varint_at(position)
            if length > end - position:
                raise Unreadable("it is cut off, or no ONNX model")
            yield number, Span(position, position + length)
            position += length
        elif wire in (1, 5):
            position += 8 if wire == 1 else 4
        else:
            raise Unreadable("it is no ONNX model")


def tensors(source: Source, path: str) -> list[HeaderTensor]:
    """Return the initializers of the model at `path`, with external ones in the file they lie in. Raises Unreadable."""
    initializers: list[HeaderTensor] = []
    for number, graph in fields(source, 0, source.size):
        if number != MODEL_GRAPH or not isinstance(graph, Span):
            continue
        for inner, span in fields(source, graph.start, graph.end):
            if inner == GRAPH_INITIALIZER and isinstance(span, Span):
                tensor = _placed(_tensor(source, span), path)
                initializers += [tensor] if tensor is not None else []
                if len(initializers) > MOST_TENSORS:
                    raise Unreadable("it has more tensors than are looked at")
    return initializers


def _tensor(source: Source, span: Span) -> _Tensor:
    tensor = _Tensor()
    for number, value in fields(source, span.start, span.end):
        if isinstance(value, Span):
            if number == NAME:
                tensor.name = _text(source, value, LONGEST_NAME)
            elif number == DIMS:
                tensor.dims += _packed(source, value)
            elif number == RAW_DATA or (number in TYPED_DATA and tensor.inline is None):
                tensor.inline = value
            elif number == EXTERNAL_DATA and len(tensor.external) < MOST_DIMS:
                key, text = _entry(source, value)
                tensor.external[key] = text
        elif number == DIMS:
            tensor.dims.append(value)
        elif number == DATA_TYPE:
            tensor.kind = value
        elif number == DATA_LOCATION:
            tensor.is_external = value == EXTERNAL
        if len(tensor.dims) > MOST_DIMS:
            raise Unreadable("it is no ONNX model")
    return tensor


def _packed(source: Source, span: Span) -> list[int]:
    values: list[int] = []
    position = span.start
    while position < span.end and len(values) <= MOST_DIMS:
        value, position = source.varint_at(position)
        values.append(value)
    return values


def _entry(source: Source, span: Span) -> tuple[str, str]:
    parts = {1: "", 2: ""}
    for number, value in fields(source, span.start, span.end):
        if isinstance(value, Span) and number in parts:
            parts[number] = _text(source, value, LONGEST_PATH)
    return parts[1], parts[2]


def _text(source: Source, span: Span, longest: int) -> str:
    return source.bytes_at(span.start, min(span.end - span.start, longest)).decode("utf-8", "replace")


def _placed(tensor: _Tensor, path: str) -> HeaderTensor | None:
    """Return the tensor with its place; None where it has none (empty, or a file outside the model's folder)."""
    dtype, bits = TYPES.get(tensor.kind, (f"type {tensor.kind}", 0))
    shape = tuple(tensor.dims)
    if not tensor.is_external:
        span = tensor.inline
        if span is None or span.end == span.start:
            return None
        return HeaderTensor(tensor.name, dtype, shape, path, span.start, span.end - span.start)
    location = posixpath.normpath(tensor.external.get("location") or ".")
    if location.startswith(("/", "..")) or location == ".":
        return None
    offset = _number(tensor.external.get("offset"), 0)
    size = _number(tensor.external.get("length"), size_of(shape, bits))
    return HeaderTensor(tensor.name, dtype, shape, posixpath.join(posixpath.dirname(path), location), offset, size)


def _number(text: str | None, otherwise: int) -> int:
    if not text:
        return otherwise
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= LARGEST):
        raise Unreadable("it has an offset or a length that is none")
    return int(text)
