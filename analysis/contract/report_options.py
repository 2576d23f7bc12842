"""Options of a report: its assumptions for predictions, and an access log to compare with."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class Changes:
    """Changes that the predictions assume: the round trip to the server, how many chunks are fetched at once, the size of the model."""

    rtt_s: float = 0.020
    parallel: int = 8
    scale: float = 4.0


@dataclass(frozen=True)
class ReportOptions:
    """An access log to compare with, the addresses this client has in it (if known), and what if."""

    access_log: Path | None = None
    log_clients: tuple[str, ...] = ()
    changes: Changes = field(default_factory=Changes)
    show_what_if: bool = False


DEFAULT_OPTIONS: Final = ReportOptions()
