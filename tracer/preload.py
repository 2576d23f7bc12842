"""Loads what the recorder needs at its end while the probe starts, so that none of it is loaded beside the target."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Iterator
from typing import Final

NEEDED_LATER: Final = ("numpy.ma", "cvtrace.tracer.parquet")
"""What finishes a trace; pyarrow takes 0.1 s of a CPU, and tens of megabytes from a disk that is not cached."""


@contextlib.contextmanager
def preloading() -> Iterator[None]:
    """Import NEEDED_LATER in a second thread, which has ended when the block is left.

    The probe's programs are compiled meanwhile, mostly outside of Python. A module that cannot be imported is left to the
    place that needs it, which says so.
    """
    loader = threading.Thread(target=_load, daemon=True)
    loader.start()
    try:
        yield
    finally:
        loader.join()


def _load() -> None:
    for module in NEEDED_LATER:
        with contextlib.suppress(Exception):
            importlib.import_module(module)
