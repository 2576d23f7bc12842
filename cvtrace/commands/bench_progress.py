"""How far a bench is: a bar with the state that is measured and the time left, on a terminal only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cvtrace.commands.console import is_drawn_on, say
from cvtrace.probes.visible import printable

if TYPE_CHECKING:
    from rich.progress import Progress

    from cvtrace.experiment.settings import Slot


class BenchProgress:
    """Takes what the runner does; draws if there is a terminal, and says sentences above the bar."""

    def __init__(self, bar: Progress | None) -> None:
        self._bar = bar
        self._left: list[Slot] = []
        self._took: dict[tuple[str, bool], list[float]] = {}
        self._task = None if bar is None else bar.add_task("starting", total=None, left="")

    def begin(self, slots: list[Slot]) -> None:
        """Take the runs that are left."""
        self._left = list(slots)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=len(slots), completed=0)

    def step(self, what: str) -> None:
        """Take what is done at the moment."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=printable(what), refresh=True)

    def done(self, slot: Slot, seconds: float) -> None:
        """Take what a run took, with its preparation."""
        self._took.setdefault((slot.state, slot.traced), []).append(seconds)
        self._left.remove(slot)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=1, left=self.time_left(), refresh=True)

    def time_left(self) -> str:
        """Return the time that the runs that are left take, if each takes what those of its state took, else what all took."""
        means = {key: sum(values) / len(values) for key, values in self._took.items()}
        if not means:
            return ""
        mean = sum(means.values()) / len(means)
        left = round(sum(means.get((slot.state, slot.traced), mean) for slot in self._left))
        return f"{left // 60}:{left % 60:02d} left"

    def pause(self) -> contextlib.AbstractContextManager[None]:
        """Remove the bar while a question is shown."""
        return _paused(self._bar)

    def say(self, sentence: str) -> None:
        """Say a sentence; the bar stays below it."""
        with _paused(self._bar):
            say(sentence)


@contextlib.contextmanager
def _paused(bar: Progress | None) -> Iterator[None]:
    if bar is None or not bar.live.is_started:
        yield
        return
    bar.stop()
    try:
        yield
    finally:
        bar.start()


@contextlib.contextmanager
def shown() -> Iterator[BenchProgress]:
    """Yield the progress of a bench; the bar is gone at the end."""
    if not is_drawn_on():
        yield BenchProgress(None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("cvtrace: {task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}"),
    )
    # Drawn by this thread alone: the script is started by a fork, which must not meet another thread in the middle of something.
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        yield BenchProgress(bar)
