"""What tests look at of the rows of phases."""

from scene import Scene

from cvtrace.analysis import Report, analyse
from cvtrace.analysis.contract.report_schema import Phase

US = 1e-6


def phase(report: Report, name: str) -> Phase:
    return next(row for row in report.phases if row.name == name)


def classes_us(row: Phase) -> dict[str, float]:
    """Return the classes of a phase that took any time, in µs."""
    return {name: round(spent / US, 3) for name, spent in row.classes.items() if spent}


def load(scene: Scene, to: float = 800.0) -> Phase:
    """Return the load of a scene whose OgaCreateModel lasts from 100 µs to `to`."""
    scene.call("OgaCreateModel", 100, to)
    return phase(analyse(scene.trace()), "load")


def rows_us(report: Report) -> dict[str, tuple[int, int]]:
    """Return count and wall µs of each phase."""
    return {row.name: (row.count, round(row.wall_s * 1e6)) for row in report.phases}
