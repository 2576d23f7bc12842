"""Findings on the target itself: what it does besides reading its model."""

import re
from typing import Final

import numpy as np

from cvtrace.analysis.contract.quantities import pluralize, seconds
from cvtrace.analysis.contract.report_schema import Finding
from cvtrace.analysis.findings.scene import LOW, MEDIUM, Scene
from cvtrace.analysis.joins.library_calls import calls_missed
from cvtrace.analysis.joins.requests import PATHS
from cvtrace.analysis.storage.chunks import blocked_ns
from cvtrace.analysis.trace.intervals import pick
from cvtrace.analysis.trace.target_limits import limits_in_words
from cvtrace.probes.events import Kind

MANY: Final = 100
PATHS_SHARE: Final = 0.1
STARVED_SHARE: Final = 0.1
OTHER_SHARE: Final = 0.1
IMPORT_SHARE: Final = 0.5
TOKENIZER_SHARE: Final = 0.3
SLOWEST: Final = 3
"""Packages that are named."""
LONG_S: Final = 1.0
"""Below this, a phase of preparation is nobody's trouble."""
NOT_THERE: Final = -2
WRITING: Final = 3
"""O_ACCMODE: anything but O_RDONLY."""
TELEMETRY: Final = re.compile(r"/Microsoft/DeveloperTools/\.onnxruntime/[^/]+\.db")
"""Database of the telemetry in the wheels of onnxruntime and onnxruntime-genai."""


def path_checks(scene: Scene) -> Finding | None:
    """Looking for names took a good part of the run."""
    requests = scene.study.requests
    is_path_check = requests.by_target & np.isin(requests.opcode, PATHS)
    waited_s = int(blocked_ns(scene.study)[is_path_check].sum()) / 1e9
    if int(is_path_check.sum()) < MANY or not scene.is_share(waited_s, PATHS_SHARE):
        return None
    absent = int((is_path_check & (requests.error == NOT_THERE)).sum())
    missing_names = f"{absent:,} of them for names that do not exist" if absent else "all names exist"
    return Finding(
        id="path_checks",
        severity=MEDIUM,
        title="looking for files takes long",
        evidence=f"{pluralize(int(is_path_check.sum()), 'path check')} took {seconds(waited_s)} of {seconds(scene.duration_s)}; {missing_names}",
        advice="shorten the search paths (sys.path, LD_LIBRARY_PATH), pack the environment into few files, or raise CVMFS_KCACHE_TIMEOUT",
        saves_s=waited_s,
    )


def limits_of_target(scene: Scene) -> str:
    """Return the limits of the target's cgroup as the end of a sentence, "" if none are known."""
    limits = limits_in_words(scene.study.recording.meta)
    return f"; {limits}" if limits else ""


def cpu_starved(scene: Scene) -> Finding | None:
    """The thread that carries the run was ready, and had no CPU."""
    study = scene.study
    waits = study.waits
    if not waits.scheduler:
        return None
    carries = pick(study.segments.thread, study.segments.at(waits.woken), -1) == waits.tid
    ready_s = int((waits.end - waits.woken)[carries].sum()) / 1e9
    ready_s = min(ready_s, sum(row.classes["compute.wait"] for row in scene.report.phases))
    if not scene.is_share(ready_s, STARVED_SHARE):
        return None
    advice = "put fewer jobs on the node"
    if len(study.phase_calls):  # calls of GenAI, or runs of a session of onnxruntime
        advice += ", or give the run fewer threads (intra_op_num_threads) than it has CPUs"
    return Finding(
        id="cpu_starved",
        severity=MEDIUM,
        title="the run had too few CPUs",
        evidence=f"the thread that carries it was ready to run, without a CPU, for {seconds(ready_s)} of {seconds(scene.duration_s)}"
        + limits_of_target(scene),
        advice=advice,
        saves_s=ready_s,
    )


def other_io(scene: Scene) -> Finding | None:
    """Files and sockets that are not of CVMFS took a good part of the run."""
    waited_s = sum(row.classes["other.io"] for row in scene.report.phases)
    if not scene.sees_requests or not scene.is_share(waited_s, OTHER_SHARE):
        return None
    worst = max(scene.report.phases, key=lambda row: row.classes["other.io"])
    return Finding(
        id="other_io",
        severity=LOW,
        title="the run waits for files or sockets that are not on CVMFS",
        evidence=f"it waited {seconds(waited_s)} of its {seconds(scene.duration_s)} for them (other.io), most in {worst.name} "
        f"({seconds(worst.classes['other.io'])})",
        advice="check where the program and its libraries are and what it writes: a home folder can be slow, and a local disk cold",
        saves_s=waited_s,
    )


def import_dominates(scene: Scene) -> Finding | None:
    """Most of the run was spent before the model was touched.

    Where calls of the library were missed, what looks like imports may be the load of the model: then nothing is said.
    """
    if calls_missed(scene.study.recording):
        return None
    slowest = sorted(scene.report.import_packages, key=lambda row: -row.self_s)[:SLOWEST]
    names = ", ".join(f"{row.package} {seconds(row.self_s)}" for row in slowest)
    detail = f"; the slowest packages are {names}" if names else "; look at `python -X importtime`"
    return _dominates(scene, "import", IMPORT_SHARE, f"import fewer modules, or from a local disk{detail}")


def tokenizer_dominates(scene: Scene) -> Finding | None:
    """Much of the run was spent in the tokenizer."""
    return _dominates(
        scene, "tokenizer", TOKENIZER_SHARE, "make the tokenizer once, and keep it; a fast (compiled) one if there is"
    )


def _dominates(scene: Scene, name: str, share: float, advice: str) -> Finding | None:
    row = scene.phase(name)
    if row is None or row.wall_s < LONG_S or not scene.is_share(row.wall_s, share):
        return None
    return Finding(
        id=f"{name}_dominates",
        severity=LOW,
        title=f"{name} takes {'most' if share >= 0.5 else 'much'} of the time",
        evidence=f"{name} took {seconds(row.wall_s)} of {seconds(scene.duration_s)}, and waited {seconds(row.network_s + row.cache_s)} "
        "of that for CVMFS",
        advice=advice,
    )


def telemetry(scene: Scene) -> Finding | None:
    """The library writes telemetry."""
    opens = scene.study.recording.of(Kind.SYS_OPEN)
    opens = opens.where((opens.ret >= 0) & ((opens.b & WRITING) != 0))
    databases = sorted({match[0] for path in scene.study.recording.text(opens) if (match := TELEMETRY.search(path))})
    if not databases:
        return None
    return Finding(
        id="telemetry",
        severity=LOW,
        title="onnxruntime writes telemetry",
        evidence=f"the run opened {', '.join(path.rpartition('/')[2] for path in databases)} to write",
        advice="set ORT_DISABLE_TELEMETRY=1, especially if home folders are on a network file system",
    )
