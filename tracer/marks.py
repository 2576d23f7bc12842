"""Phase marks that the target writes itself: `cvtrace.phase`, and what the import hook wraps."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cvtrace.probes.events import Events
from cvtrace.probes.phases.hook import CounterSource, environment, parse_marks, written
from cvtrace.probes.phases.own import OwnFunction
from cvtrace.probes.probe import CannotObserve
from cvtrace.tracer.folder import PROFILE_PREFIX
from cvtrace.tracer.numbers import Numbers, raw_records, without_doubles
from cvtrace.tracer.store import TraceWriter
from cvtrace.tracer.target import Command
from cvtrace.tracer.user import User, acting_as


@dataclass(frozen=True)
class Marks:
    """The file of marks of a target."""

    path: Path
    environ: dict[str, str]
    """Of the target, so that its interpreters write marks."""
    user: User

    def write_to(self, writer: TraceWriter, numbers: Numbers, calls: Sequence[Events]) -> Events:
        """Add the marks to the trace, without those of `calls`, which the probe has seen, and return them."""
        with acting_as(self.user):  # what the target points to, it must be able to read itself
            data = written(self.path)
        raw = without_doubles(numbers.translate(raw_records(data)), calls)
        events, texts = parse_marks(raw.tobytes(), time.monotonic_ns())
        writer.write(events, texts)
        return events


@contextlib.contextmanager
def phase_marks(
    command: Command,
    counters: tuple[CounterSource, ...],
    *,
    genai: bool,
    profiled: bool,
    own: tuple[OwnFunction, ...] = (),
) -> Iterator[Marks]:
    """Give the target a folder of its user's for its marks, and for onnxruntime's profiles if it is `profiled`; remove it at the end.

    With `genai` the hook wraps the calls of GenAI, too, and with `counters` it reads the counters of those mounts. `own` are functions of the user's
    own. Raises CannotObserve.
    """
    try:
        with acting_as(command.user):
            folder = Path(tempfile.mkdtemp(prefix="cvtrace-marks-"))
    except OSError as error:
        raise CannotObserve(
            f"{command.user.name} cannot create a folder in {tempfile.gettempdir()} ({error.strerror}), where the target's marks go: "
            "set TMPDIR to one that can be written to"
        ) from error
    marks = folder / "marks"
    profile = str(folder / PROFILE_PREFIX) if profiled else ""
    try:
        environ = environment(marks, command.environ, counters, genai=genai, profile=profile, own=own)
        yield Marks(marks, environ, command.user)
    finally:
        with acting_as(command.user):
            shutil.rmtree(folder, ignore_errors=True)
