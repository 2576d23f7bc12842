"""pyarrow, loaded without the thread that its jemalloc keeps: it would hold root's capabilities to the recorder's end."""

from __future__ import annotations

import os
from typing import Final

_SETTING: Final = "JE_ARROW_MALLOC_CONF"

_before = os.environ.get(_SETTING)
os.environ[_SETTING] = "background_thread:false"  # read when the library is loaded, and not for the target to see
try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
finally:
    if _before is None:
        del os.environ[_SETTING]
    else:
        os.environ[_SETTING] = _before

__all__ = ["pa", "pc", "pq", "release_unused"]


def release_unused() -> None:
    """Give memory back to the system that pyarrow keeps for later: after reading a trace that is some 200 MB."""
    pa.default_memory_pool().release_unused()
