"""What is told of a tensor: its name, type and shape, and where its bytes lie."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

LAYER: Final = re.compile(r"(?:^|[./_])(?:layers?|blocks?|blk|h)[./_](\d{1,6})(?=[./_]|$)", re.IGNORECASE)
"""As exporters name them: `model.layers.17.attn`, `/model/layers.17/mlp`, `model_layers_17_…`, `blk.17.attn_q`, `transformer.h.17.`."""
LARGEST: Final = 1 << 60


@dataclass(frozen=True)
class HeaderTensor:
    """A tensor at bytes [offset, offset + size) of the file at `path`; `shape` as numpy has it, outermost first."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: str
    offset: int
    size: int


def layer_of(name: str) -> int | None:
    """Return the layer that a name tells of, None for none (embeddings, head, graph inputs)."""
    matched = LAYER.search(name)
    return int(matched[1]) if matched else None


def size_of(shape: tuple[int, ...], bits: int) -> int:
    """Return the bytes of a tensor with so many bits for each element, at most LARGEST."""
    return min(-(-math.prod(min(each, LARGEST) for each in shape) * bits // 8), LARGEST)
