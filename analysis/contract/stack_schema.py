"""Rows of the report on sampled stacks (`--stacks`). Part of the contract: see report_schema."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CodeLine:
    """A line of code: of each stack the innermost one that is not of the language's runtime.

    Times are those of the thread on the critical path while this was its line: waiting in all, and `blocked_s` of it for CVMFS. `line` is None
    where it is not known; `library` is that of compiled code, None for Python. `classes` has the time waited by class.
    """

    file: str
    line: int | None
    function: str
    library: str | None
    waited_s: float
    blocked_s: float
    classes: dict[str, float]


@dataclass(frozen=True)
class StackSampling:
    """How stacks were sampled. Of the time that the critical path waited, `unsampled_s` fell on waits in which there was no sample."""

    by: tuple[str, ...]
    samples: int
    stacks: int
    waited_s: float
    unsampled_s: float
    blocked_s: float
    unsampled_blocked_s: float
    missing: tuple[str, ...]
