"""The tensors of a model and what fills them.

Matrices are random: int4 blocks with a float32 scale each, as `MatMulNBits` takes them, or float32. The output matrix
is not: its row for each word is the embedding of the word before it, so that greedy decoding walks through all words
in far leaps, touches an embedding row per token that it has not touched before, and never comes to an end-of-text
token. The layers between are too weak to disturb this walk, and are computed in full like those of any model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cvtrace.lab.model.shape import BLOCK, Shape
from cvtrace.lab.model.tokenizer import BYTES, words

Chunks = Iterator[NDArray[np.generic]]

CHUNK_BYTES: Final = 8 << 20
_EMBEDDING_ROWS: Final = 512
"""Rows drawn from one seed, so that any range of rows can be drawn again without the rest."""

CODE_RMS: Final = math.sqrt((16**2 - 1) / 12 + 0.25)
"""Root mean square of a random code from -8 to 7."""
_UNIFORM: Final = np.float32(math.sqrt(12))
"""What makes the root mean square of a uniform distribution of width 1 around 0 equal to 1."""

LAYERS_GAIN: Final = 0.3
"""What all layers together add to an embedding, as a ratio of their root mean squares."""


@dataclass(frozen=True)
class Tensor:
    """One initializer: how it is called, how large it is, and the bytes, chunk by chunk, in order."""

    name: str
    dtype: np.dtype[np.generic]
    dims: tuple[int, ...]
    chunks: Callable[[], Chunks]

    @property
    def size_bytes(self) -> int:
        return math.prod(self.dims) * self.dtype.itemsize


def _generator(*seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(list(seed)))


def _split(count: int, itemsize: int) -> Iterator[int]:
    step = CHUNK_BYTES // itemsize
    for start in range(0, count, step):
        yield min(step, count - start)


def _uint8(name: str, dims: tuple[int, ...], chunks: Callable[[], Chunks]) -> Tensor:
    return Tensor(name, np.dtype(np.uint8), dims, chunks)


def _float32(name: str, dims: tuple[int, ...], chunks: Callable[[], Chunks]) -> Tensor:
    return Tensor(name, np.dtype(np.float32), dims, chunks)


def _uniform(generator: np.random.Generator, count: int, rms: float) -> NDArray[np.float32]:
    return (generator.random(count, np.float32) - np.float32(0.5)) * (_UNIFORM * np.float32(rms))


def matrix(name: str, rows: int, columns: int, bits: int, gain: float, seed: tuple[int, int]) -> list[Tensor]:
    """Return the tensors of a random matrix of zero mean that takes `columns` inputs to `rows` outputs.

    Inputs with a root mean square of 1 give outputs with one of `gain`. int4: codes (rows, blocks, 16 bytes) and
    scales (rows x blocks) of both signs, for the mean of the codes is not 0. float32: (columns, rows).
    """
    blocks = columns // BLOCK
    rms = gain / math.sqrt(columns)

    def floats(count: int, rms: float, stream: int) -> Chunks:
        generator = _generator(*seed, stream)
        for part in _split(count, 4):
            yield _uniform(generator, part, rms)

    def codes() -> Chunks:
        generator = _generator(*seed, 0)
        for part in _split(rows * columns // 2, 1):
            yield np.frombuffer(generator.bytes(part), np.uint8)

    if bits == 32:
        return [_float32(f"{name}.weight", (columns, rows), lambda: floats(rows * columns, rms, 0))]
    return [
        _uint8(f"{name}.qweight", (rows, blocks, BLOCK // 2), codes),
        _float32(f"{name}.scales", (rows * blocks,), lambda: floats(rows * blocks, rms / CODE_RMS, 1)),
    ]


def embedding_rows(shape: Shape, seed: int, start: int, stop: int) -> NDArray[np.float32]:
    """Return rows `start` to `stop` of the embedding table, float32 (rows, hidden), root mean square 1."""
    first = start // _EMBEDDING_ROWS
    pieces = [
        _generator(seed, 1, number).random((_EMBEDDING_ROWS, shape.hidden), np.float32)
        for number in range(first, -(-stop // _EMBEDDING_ROWS))
    ]
    rows = np.concatenate(pieces)[start - first * _EMBEDDING_ROWS : stop - first * _EMBEDDING_ROWS]
    return (rows - np.float32(0.5)) * _UNIFORM


def _embedding(shape: Shape, seed: int) -> Tensor:
    step = max(1, CHUNK_BYTES // (4 * shape.hidden) // _EMBEDDING_ROWS) * _EMBEDDING_ROWS

    def chunks() -> Chunks:
        for start in range(0, shape.vocabulary, step):
            yield embedding_rows(shape, seed, start, min(start + step, shape.vocabulary))

    return _float32("model.embed_tokens.weight", (shape.vocabulary, shape.hidden), chunks)


def stride(count: int) -> int:
    """Return how far the walk leaps among `count` words: near the golden section, and coprime to visit all."""
    step = max(1, round(count * 0.618))
    while math.gcd(step, count) != 1:
        step += 1
    return step


def _pack(rows: NDArray[np.float32], gain: float) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Quantise (n, hidden) to codes (n, hidden / 2), even columns in the low half, and scales (n, blocks)."""
    blocked = rows.reshape(len(rows), -1, BLOCK)
    scales = np.abs(blocked).max(axis=2) / np.float32(7)
    codes = (np.rint(blocked / scales[:, :, None]) + 8).astype(np.uint8).reshape(len(rows), -1)
    return codes[:, 0::2] | (codes[:, 1::2] << 4), scales * np.float32(gain)


def _successions(shape: Shape, seed: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (token, rows): from that token on, the embeddings of the words that come before."""
    count = words(shape.vocabulary)
    leap = stride(count)
    step = max(1, CHUNK_BYTES // (4 * shape.hidden))
    for start, stop, token in ((count - leap, count, BYTES), (0, count - leap, BYTES + leap)):
        for low in range(start, stop, step):
            rows = embedding_rows(shape, seed, BYTES + low, BYTES + min(low + step, stop))
            yield token + low - start, rows


def _head(shape: Shape, seed: int) -> list[Tensor]:
    """Return the output matrix; bytes and special tokens have rows that give 0 and never win."""
    gain = 20 / shape.hidden  # the winner's logit is about 20, as in trained models
    blocks = shape.hidden // BLOCK
    silent = np.full((1, shape.hidden // 2), 0x88, np.uint8), np.full((1, blocks), 0.01, np.float32)

    def packed() -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
        yield from [silent] * BYTES
        for _, rows in _successions(shape, seed):
            yield _pack(rows, gain)
        yield from [silent] * (shape.vocabulary - BYTES - words(shape.vocabulary))

    def floats() -> Chunks:
        weight = np.zeros((shape.hidden, shape.vocabulary), np.float32)
        for token, rows in _successions(shape, seed):
            weight[:, token : token + len(rows)] = rows.T * np.float32(gain)
        yield weight

    if shape.bits == 32:
        return [_float32("lm_head.weight", (shape.hidden, shape.vocabulary), floats)]
    return [
        _uint8(
            "lm_head.qweight",
            (shape.vocabulary, blocks, BLOCK // 2),
            lambda: (codes for codes, _ in packed()),
        ),
        _float32("lm_head.scales", (shape.vocabulary * blocks,), lambda: (scales for _, scales in packed())),
    ]


def _ones(name: str, hidden: int) -> Tensor:
    return _float32(name, (hidden,), lambda: iter([np.ones(hidden, np.float32)]))


def _rotary(shape: Shape) -> list[Tensor]:
    """Return cosine and sine of position x frequency, (context, head / 2): RoFormer, eq. 34, base 10,000."""
    frequencies = 10_000.0 ** (-np.arange(0, shape.head, 2) / shape.head)
    angles = np.outer(np.arange(shape.context), frequencies)
    dims = (shape.context, shape.head // 2)
    return [
        _float32("cos_cache", dims, lambda: iter([np.cos(angles).astype(np.float32)])),
        _float32("sin_cache", dims, lambda: iter([np.sin(angles).astype(np.float32)])),
    ]


def tensors(shape: Shape, seed: int) -> list[Tensor]:
    """Return every initializer of the model in the order in which it lies in the file."""
    weak = LAYERS_GAIN / math.sqrt(2 * shape.layers)
    listed = [_embedding(shape, seed), *_rotary(shape)]
    for layer in range(shape.layers):
        name = f"model.layers.{layer}"
        matrices = (
            ("attn.qkv_proj", shape.qkv, shape.hidden, 1.0),
            ("attn.o_proj", shape.hidden, shape.heads * shape.head, weak),
            ("mlp.gate_proj", shape.inner, shape.hidden, 1.0),
            ("mlp.up_proj", shape.inner, shape.hidden, 1.0),
            ("mlp.down_proj", shape.hidden, shape.inner, weak),
        )
        listed.append(_ones(f"{name}.input_layernorm.weight", shape.hidden))
        listed.append(_ones(f"{name}.post_attention_layernorm.weight", shape.hidden))
        for number, (part, rows, columns, gain) in enumerate(matrices):
            listed += matrix(f"{name}.{part}", rows, columns, shape.bits, gain, (seed, 16 + layer * 16 + number))
    return [*listed, _ones("model.norm.weight", shape.hidden), *_head(shape, seed)]
