"""The files of the repository that these tests mount: whole, chunked and empty ones."""

from __future__ import annotations

import random

NOISE = random.Random(11)
WEIGHTS = NOISE.randbytes(5_000_000)
FILES = {
    "models/config.json": b'{"a": 1}\n' * 1000,
    "models/empty": b"",
    "models/tokenizer.bin": NOISE.randbytes(70_001),
    "models/weights.data": WEIGHTS,
}
CHUNKS = 5
"""Of the weights."""
