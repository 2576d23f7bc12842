"""What a finding may look at."""

from dataclasses import dataclass
from typing import Final, Protocol

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.report_schema import Finding, Phase, Report
from cvtrace.analysis.joins.phases import life
from cvtrace.analysis.storage.tables import Tables

HIGH, MEDIUM, LOW = "high", "medium", "low"
SEVERITIES: Final = (HIGH, MEDIUM, LOW)


@dataclass(frozen=True)
class Scene:
    """A run: its study, its tables, and the report on it without findings."""

    study: Study
    tables: Tables
    report: Report

    @property
    def duration_s(self) -> float:
        return self.report.trace.duration_s

    @property
    def start_ns(self) -> int:
        return life(self.study.recording)[0]

    @property
    def sees_requests(self) -> bool:
        """Whether single requests were observed."""
        return self.study.recording.sees_requests

    def is_share(self, spent_s: float, share: float) -> bool:
        """Return whether a time is at least such a share of the run."""
        return self.duration_s > 0 and spent_s >= share * self.duration_s

    def phase(self, name: str) -> Phase | None:
        return next((row for row in self.report.phases if row.name == name), None)


class Rule(Protocol):
    """Returns a finding, or None where the trace gives no evidence of it."""

    def __call__(self, scene: Scene, /) -> Finding | None: ...
