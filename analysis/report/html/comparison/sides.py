"""What the pictures of a comparison share: the two runs that are shown, and one numbering of phases and files for both."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from cvtrace.analysis.comparison.compare import Comparison
from cvtrace.analysis.comparison.differences import Differences, Times, differences, merged
from cvtrace.analysis.report.html.scene import SHOWN_NAME, Scene
from cvtrace.analysis.report.html.tokens import token_times
from cvtrace.analysis.report.names import shortened
from cvtrace.analysis.trace.intervals import Ints

LETTERS: Final = ("A", "B")
UNNAMED: Final = "a file that was not seen by name"
"""The kernel's numbers of such files are not the same in two runs."""
HASHED: Final = "files (their names are hashed)"


@dataclass(frozen=True)
class Sides:
    """A comparison, and the run of each side that the pictures show."""

    comparison: Comparison
    a: Scene
    b: Scene

    @property
    def both(self) -> tuple[Scene, Scene]:
        return self.a, self.b

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Phases of both: the library's come first, with the numbers they have in a report of one run."""
        return merged(self.a.study.phases.names, self.b.study.phases.names)

    @cached_property
    def phases(self) -> tuple[str, ...]:
        """The same as they are shown."""
        return tuple(shortened(name, SHOWN_NAME) for name in self.names)

    @cached_property
    def differences(self) -> Differences:
        """Frame by frame; parts are files, below their mount: the same file may be mounted elsewhere, or its tensors be unknown, in the other run."""
        return differences(*(_times(scene, self.hashed) for scene in self.both))

    @cached_property
    def hashed(self) -> bool:
        """Names of files are hashed in one run or the other, each with its own key: equal names cannot be told."""
        return any(bool(scene.study.recording.meta.get("redacted")) for scene in self.both)

    @cached_property
    def short_files(self) -> tuple[str, ...]:
        return tuple(shortened(name, SHOWN_NAME) for name in self.differences.parts)

    @cached_property
    def tokens(self) -> tuple[Ints, Ints]:
        """Nanoseconds of each token of A and of B, as far as there are any in one; -1 where the other has more."""
        return _together([scene.token_classes.sum(axis=1).astype(np.int64) for scene in self.both])

    @cached_property
    def tokens_with_prompt(self) -> tuple[Ints, Ints]:
        """The same, with its prefill in each first token."""
        return _together([token_times(scene).wall for scene in self.both])


def _together(walls: list[Ints]) -> tuple[Ints, Ints]:
    most = max(map(len, walls))
    a, b = (np.concatenate([wall, np.full(most - len(wall), -1, dtype=np.int64)]) for wall in walls)
    return a, b


def _times(scene: Scene, hashed: bool) -> Times:
    stacks_of_run = scene.stacks
    parts = tuple(
        HASHED if hashed else shown if path.startswith("/") else UNNAMED
        for path, shown in zip(scene.files.names, scene.file_names, strict=True)
    )
    return Times(
        stacks_of_run.phases, parts, stacks_of_run.phase, stacks_of_run.file, stacks_of_run.value, stacks_of_run.ns
    )
