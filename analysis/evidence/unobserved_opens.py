"""Files that the target opened, or was given, on FUSE mounts that were not observed, where no request to those can be seen.

eBPF records what is sent to every FUSE mount (joins/unobserved_requests.py). strace and the portable rung do not: there the names of files must tell.
"""

from typing import Any, Final

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.quantities import pluralize
from cvtrace.probes.events import Kind
from cvtrace.probes.visible import printable

NEVER_FUSE: Final = ("/proc/", "/sys/", "/dev/")
"""Below a root that is a FUSE mount itself (fuse-overlayfs), these are other file systems."""


def unobserved_opens(study: Study) -> tuple[str, ...]:
    """Say which mounts that were not observed the target opened files on, or has in its arguments or as its folder."""
    recording, calls = study.recording, study.calls
    if recording.sees_sends:
        return ()
    unobserved_mounts = [each for each in recording.meta.get("other_mounts") or () if isinstance(each, dict)]
    observed = [(mount.path, -1) for mount in recording.mounts if mount.path]
    points = observed + [(path, place) for place, each in enumerate(unobserved_mounts) for path in _paths(each)]
    points.sort(key=lambda point: -len(point[0]))
    opened = np.flatnonzero((calls.rows.kind == Kind.SYS_OPEN) & (calls.rows.ret >= 0)).tolist()
    opens = [0] * len(unobserved_mounts)
    for path in (calls.opened.get(call, "") for call in opened):
        place = _mount_of(path, points)
        if place >= 0:
            opens[place] += 1
    target = recording.meta.get("target") or {}
    words = [str(word) for word in (*(target.get("argv") or ()), target.get("cwd") or "")]
    mounts_of_words = {_mount_of(word, points) for word in words}
    sentences = []
    for place, each in enumerate(unobserved_mounts):
        if opens[place] or place in mounts_of_words:
            did = f"opened {pluralize(opens[place], 'file')}" if opens[place] else "was given a path"
            sentences.append(
                f"the target {did} on {printable(_paths(each)[0])}, a FUSE mount that was not observed: what it needed of that is not "
                "known (--mount chooses the mounts; eBPF sees requests to all)"
            )
    return tuple(sentences)


def _paths(mount: dict[str, Any]) -> list[str]:
    """Return where a mount is seen, without those that are no absolute path."""
    paths = mount.get("paths")
    candidates = [str(path) for path in (paths if isinstance(paths, list) else [])] or [str(mount.get("path") or "")]
    return [path for path in candidates if path.startswith("/")]


def _mount_of(path: str, points: list[tuple[str, int]]) -> int:
    """Return the number of the mount that a path lies on: of the longest of `points` (sorted that way) above it, -1 if of no other."""
    for point, place in points:
        if f"{path}/".startswith(f"{point.rstrip('/')}/"):
            return -1 if point == "/" and path.startswith(NEVER_FUSE) else place
    return -1
