"""How wide, how deep and how large a vocabulary makes a model of a given size."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from cvtrace.lab.errors import LabError

BLOCK: Final = 32
"""Weights per int4 block; each block has one float32 scale."""

LARGEST_VOCABULARY: Final = 200_000
SMALLEST_VOCABULARY: Final = 640
WEIGHTS_PER_LAYER: Final = 10.5
"""In units of hidden²: query, key and value 1.5, output 1, feed-forward 3 x 8/3."""
EMBEDDING_SHARE: Final = 0.25
"""A quarter of the bytes is the embedding table, the part that decode reads from the mapping."""


@dataclass(frozen=True)
class Shape:
    """The dimensions of a decoder; all of them counts."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    """Width of one head."""
    inner: int
    """Width of the feed-forward part."""
    vocabulary: int
    context: int
    bits: int
    """Bits per weight of the matrices: 4 in blocks with a scale each, or 32."""

    @property
    def qkv(self) -> int:
        """Width of query, key and value together, for they come from one matrix."""
        return (self.heads + 2 * self.kv_heads) * self.head


def matrix_bytes(rows: int, columns: int, bits: int) -> int:
    """Return the size of a matrix in the file: int4 with one float32 scale per block, or float32."""
    if bits == 32:
        return 4 * rows * columns
    return rows * columns // 2 + rows * columns // BLOCK * 4


def _layer_bytes(shape: Shape) -> int:
    matrices = (
        (shape.qkv, shape.hidden),
        (shape.hidden, shape.heads * shape.head),
        (shape.inner, shape.hidden),
        (shape.inner, shape.hidden),
        (shape.hidden, shape.inner),
    )
    return sum(matrix_bytes(*matrix, shape.bits) for matrix in matrices) + 2 * 4 * shape.hidden


def _with_hidden(hidden: int, layers: int, size_bytes: int, bits: int) -> Shape:
    """Return the shape of this width whose vocabulary fills `size_bytes`."""
    head = 64 if hidden >= 512 else 32
    shape = Shape(
        hidden=hidden,
        layers=layers,
        heads=hidden // head,
        kv_heads=hidden // head // 4,
        head=head,
        inner=(hidden * 8 // 3 + 63) // 64 * 64,
        vocabulary=0,
        context=4096 if hidden >= 512 else 1024,
        bits=bits,
    )
    left_bytes = size_bytes - layers * _layer_bytes(shape) - shape.context * head * 4
    row_bytes = 4 * hidden + matrix_bytes(1, hidden, bits)
    return replace(shape, vocabulary=min(LARGEST_VOCABULARY, left_bytes // row_bytes))


def fit(size_bytes: int, bits: int = 4) -> Shape:
    """Return the shape whose weights take about `size_bytes`; raises LabError when that is too small."""
    weight_bytes = matrix_bytes(1, 1024, bits) / 1024
    layers = max(2, min(32, round(3 * (size_bytes / 1e6 / (weight_bytes / 0.625)) ** (1 / 3))))
    vocabulary_share = EMBEDDING_SHARE * (1 + weight_bytes / 4)
    ideal_hidden = math.sqrt((1 - vocabulary_share) * size_bytes / (layers * WEIGHTS_PER_LAYER * weight_bytes))
    step = 256 if ideal_hidden >= 512 else 128
    widest = max(128, round(ideal_hidden / step) * step)
    while _with_hidden(widest, layers, size_bytes, bits).vocabulary == LARGEST_VOCABULARY:
        widest += step
    for tried in (layers, 2):
        for hidden in range(widest, 127, -128):
            shape = _with_hidden(hidden, tried, size_bytes, bits)
            if shape.vocabulary >= SMALLEST_VOCABULARY:
                return shape
    raise LabError(f"a model of {size_bytes} bytes is too small: ask for {'1MB' if bits == 4 else '4MB'} or more")
