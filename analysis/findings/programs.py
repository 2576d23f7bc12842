"""Findings on how a program uses files: imports that wait, files of which little is used, many small files."""

from typing import Final

from cvtrace.analysis.contract.quantities import pluralize, seconds, size
from cvtrace.analysis.contract.report_schema import Finding
from cvtrace.analysis.contract.storage_schema import File
from cvtrace.analysis.findings.scene import LOW, MEDIUM, Scene
from cvtrace.analysis.joins.library_calls import calls_missed

IMPORTS_SHARE: Final = 0.1
TOP: Final = 3
USED_SHARE: Final = 0.25
"""Share of what was read of a file below which little of it was used."""
WASTED_BYTES: Final = 1 << 22
"""What was read and not used, from which on it is worth telling."""
WASTED_S_SHARE: Final = 0.1
MANY_FILES: Final = 100
SMALL_BYTES: Final = 1 << 16
SMALL_SHARE: Final = 0.1
OF_IMPORTS: Final = 0.8
"""If imports open so many of the small files, the finding on imports tells enough."""


def imports_wait(scene: Scene) -> Finding | None:
    """Imports of Python modules waited for a good part of the run; nothing is said where a load may be among them."""
    rows = [row for row in scene.report.import_packages if row.self_blocked_s]
    waited_s = sum(row.self_blocked_s or 0.0 for row in rows)
    if not rows or not scene.is_share(waited_s, IMPORTS_SHARE) or calls_missed(scene.study.recording):
        return None
    worst = ", ".join(f"{row.package} {seconds(row.self_blocked_s or 0.0)}" for row in rows[:TOP])
    opens, fetches = sum(row.opens or 0 for row in rows), sum(row.http_fetches or 0 for row in rows)
    fetched = (
        f" and {pluralize(fetches, 'fetch')} of {size(sum(row.http_bytes or 0 for row in rows))}" if fetches else ""
    )
    return Finding(
        id="imports_wait",
        severity=MEDIUM,
        title="imports of Python modules wait for CVMFS",
        evidence=f"imports waited {seconds(waited_s)} of {seconds(scene.duration_s)}, with {pluralize(opens, 'open')}{fetched}; "
        f"the packages with the longest waits of their own: {worst}",
        advice="import less, keep the client's cache warm, or put the Python environment into one file or on a local disk",
        saves_s=waited_s,
    )


def read_amplification(scene: Scene) -> Finding | None:
    """Much more of a file was read than was used."""
    rows = [row for row in scene.report.files if _wasted(row) >= WASTED_BYTES and _used_share(row) <= USED_SHARE]
    if not rows:
        return None
    worst = max(rows, key=_wasted)
    used_bytes, read_bytes = worst.used_bytes or 0, worst.read_bytes
    waited_s = sum(row.blocked_s * (1 - _used_share(row)) for row in rows)
    fetched = f", and {size(worst.fetched_bytes)} fetched for that" if worst.fetched_bytes else ""
    further_files = len(rows) - 1
    further = (
        f"; there {'is' if further_files == 1 else 'are'} {further_files:,} more such file{'s' if further_files > 1 else ''}"
        if further_files
        else ""
    )
    return Finding(
        id="read_amplification",
        severity=MEDIUM if scene.is_share(waited_s, WASTED_S_SHARE) else LOW,
        title="much more is read than used",
        evidence=f"{size(read_bytes)} of {worst.path} were read{fetched}; the pages show that at least {size(used_bytes)} were used "
        f"(access is {worst.access}){further}",
        advice="read only what is needed (pread, or MADV_RANDOM on a mapping), or store together what is used together",
        saves_s=waited_s or None,
    )


def _wasted(row: File) -> int:
    return 0 if row.used_bytes is None else row.read_bytes - row.used_bytes


def _used_share(row: File) -> float:
    return 1.0 if row.used_bytes is None or not row.read_bytes else min(row.used_bytes / row.read_bytes, 1.0)


def small_files(scene: Scene) -> Finding | None:
    """Very many small files were opened, and waited for."""
    rows = [row for row in scene.report.files if row.opens and row.read_bytes <= SMALL_BYTES * max(row.opens, 1)]
    waited_s, opens = sum(row.blocked_s for row in rows), sum(row.opens for row in rows)
    if len(rows) < MANY_FILES or not scene.is_share(waited_s, SMALL_SHARE):
        return None
    if sum(row.opens or 0 for row in scene.report.import_packages) >= OF_IMPORTS * opens:
        return None
    folder = next((row for row in scene.report.folders if row.path and row.files), None)
    where = f", most in {folder.path}" if folder else ""
    return Finding(
        id="small_files",
        severity=MEDIUM,
        title="the run waits for many small files",
        evidence=f"{pluralize(len(rows), 'small file')} took {seconds(waited_s)} of {seconds(scene.duration_s)}, "
        f"{size(sum(row.read_bytes for row in rows) // len(rows))} each on average{where}",
        advice="pack them into few files (an archive or image), or read them ahead with several readers",
        saves_s=waited_s,
    )
