"""What an experiment is, and the order of its runs: random within each round, and the same for the same seed."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cvtrace.analysis.bench.schema import Sweep, Variant


@dataclass(frozen=True)
class Experiment:
    """What is to be measured, and how often."""

    variants: tuple[Variant, ...]
    """Each with the whole command line; `{model}` in it stands for the model of the lab."""
    states: tuple[str, ...]
    repeats: int = 5
    seed: int = 0
    trace_all: bool = False
    """Whether all runs are traced but for one in each cell, instead of one traced run in each cell."""
    sweep: Sweep | None = None
    held_out: float | None = None
    lab: dict[str, str] = field(default_factory=dict)
    """Options of a lab that is brought up for the experiment; empty for mounts that are there."""
    models: tuple[str, ...] = ()
    """Paths on CVMFS that the script uses, besides those in its arguments."""
    python: str | None = None
    copy_to: Path | None = None
    """Where the local copy goes; None: into the folder of the experiment."""
    directory: Path = field(default_factory=Path.cwd)
    """Where the script is started."""
    timeout_s: float | None = None
    """How long a run may take, until it is ended and left out."""

    @property
    def on_lab(self) -> bool:
        """Whether a lab is brought up for the experiment."""
        return bool(self.lab) or self.sweep is not None

    @property
    def values(self) -> tuple[float | None, ...]:
        """The values of the sweep, or None alone."""
        return self.sweep.values if self.sweep else (None,)

    @property
    def identity(self) -> str:
        """What two commands have in common if the second continues the folder of the first: all but the number of repeats and the seed."""
        return json.dumps(
            {
                "variants": [[each.name, each.argv] for each in self.variants],
                "states": self.states,
                "trace_all": self.trace_all,
                "sweep": [self.sweep.axis, self.sweep.values] if self.sweep else None,
                "lab": self.lab,
                "models": self.models,
                "python": self.python,
                "directory": str(self.directory),
            }
        )


@dataclass(frozen=True)
class Slot:
    """A run that is to be made."""

    variant: str
    sweep_value: float | None
    state: str
    round: int
    traced: bool

    @property
    def cell(self) -> tuple[str, float | None, str]:
        return self.variant, self.sweep_value, self.state


def round_of(experiment: Experiment, number: int) -> list[Slot]:
    """Return the runs of a round in random order. The first round has, for each cell, one run more, of the other kind: traced or not."""
    kinds = (False, True) if number == 0 else (experiment.trace_all,)
    slots = [
        Slot(variant.name, value, state, number, traced)
        for variant in experiment.variants
        for value in experiment.values
        for state in experiment.states
        for traced in kinds
    ]
    random.Random(f"{experiment.seed}:{number}").shuffle(slots)
    return slots


def slots_of(experiment: Experiment) -> Iterator[Slot]:
    """Yield all runs, round after round."""
    for number in range(experiment.repeats):
        yield from round_of(experiment, number)
