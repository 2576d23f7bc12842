"""How to record, and what comes of it: the same for `run` and `attach`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cvtrace.probes.ladder import Settings
from cvtrace.tracer.user import User

if TYPE_CHECKING:
    from cvtrace.tracer.parquet import Progress
    from cvtrace.tracer.watch import Watch

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """How to record."""

    directory: Path | None
    """Folder of the trace; None for `./cvtrace-<script>-<time>`."""
    force: bool
    probes: str
    """One of probes.ladder.CHOICES."""
    mounts: tuple[str, ...]
    """Paths on the mounts to observe; none for every CVMFS mount."""
    owner: User
    """Whose the trace is."""
    say: Say
    """Takes a sentence for the user."""
    progress: Progress | None = None
    """Takes how far the finishing of the trace is."""
    settings: Settings = field(default_factory=Settings)
    """For the probe."""
    redact: bool = False
    """Whether to hash the paths in the trace."""
    watch: Watch | None = None
    """Shows what is drained, on the terminal."""
    note: Say | None = None
    """Takes what is said on a terminal only; None where there is none."""
    for_s: float | None = None
    """How long to record; None for as long as the target runs."""
    max_bytes: int | None = None
    """How much room events take on disk while recording, at most: of more, the oldest go."""
    stacks: bool = False
    """Whether to sample the stacks of the target's threads."""
    ort_profile: bool = False
    """Whether onnxruntime is to write its own profile; of a target that is started."""
    follow_daemons: bool = False
    """Whether to record on when a target that was started has ended and processes that it started have not."""


@dataclass(frozen=True)
class RecordingResult:
    """A finished recording."""

    path: Path
    exit_code: int
    """The target's own, 128+n for signal n; 0 for one that was attached to."""
    error: str | None
    """One sentence if the trace could not be written in full."""
