"""Waiting for a condition, for tests: with a deadline, and with the name of what was awaited in vain."""

from __future__ import annotations

import time
from collections.abc import Callable

DEADLINE_S = 60.0


def wait_until(condition: Callable[[], object], expectation: str, timeout_s: float = DEADLINE_S) -> None:
    """Wait until the condition holds; fail after a deadline."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"waited {timeout_s} s in vain: {expectation}"
        time.sleep(0.005)
