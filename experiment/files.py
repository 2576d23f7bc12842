"""The files on CVMFS that a script is given, and the clients that serve them."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from cvtrace.analysis.contract.quantities import pluralize
from cvtrace.experiment.errors import WrongExperiment
from cvtrace.probes.cvmfs.daemon import LAB
from cvtrace.probes.cvmfs.deadline import NoAnswer, within
from cvtrace.probes.cvmfs.mounts import Mount, MountPoint, awaken, mount_points
from cvtrace.probes.cvmfs.processes import clients
from cvtrace.probes.cvmfs.survey import survey
from cvtrace.probes.residency.survey import ANSWER_S, File, NotLookedAt, files_of
from cvtrace.tracer.user import User, switch_user

MOST_COMPANIONS: Final = 1000
PATIENCE_S: Final = 15.0
"""How long mounts, clients and their sockets may take to answer: an experiment can wait, and a machine under test may be busy."""


@dataclass(frozen=True)
class Place:
    """Where a variant's files are: paths as the script names them, the files below them, and their mounts."""

    paths: tuple[str, ...]
    files: tuple[File, ...]
    mounts: tuple[Mount, ...]

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def objects(self) -> int | None:
        """How many objects a cold client fetches for the files; None if a client does not list them."""
        listed = [file.objects for file in self.files if file.size]
        return (
            None if any(each is None for each in listed) else len({part.hash for each in listed for part in each or ()})
        )

    @property
    def on_lab(self) -> bool:
        """Whether all of it is served by the lab's own client, which is there to be emptied."""
        return all(mount.daemon is not None and mount.daemon.client == LAB for mount in self.mounts)

    def hashes_of(self, mount: Mount) -> list[str]:
        """Return the objects of the files on one mount."""
        return [each.hash for file in self.files if file.device == mount.device for each in file.objects or ()]

    def __str__(self) -> str:
        return f"{pluralize(len(self.files), 'file')} on {', '.join(mount.path for mount in self.mounts)}"


def rights_of(user: User) -> Callable[[], None]:
    """Return what gives a child process the rights of a user, and no others."""
    return partial(switch_user, user) if user.is_other else lambda: None


def look(arguments: Sequence[str], models: Sequence[str], directory: Path, user: User) -> Place:
    """Return the files that arguments name, or `models`. Raises WrongExperiment, NotLookedAt."""
    awaken([*arguments, *models])
    known = clients(PATIENCE_S)
    points = mount_points(known)
    switch = rights_of(user)
    for model in models:
        if not _paths([model], points, directory, switch):
            raise WrongExperiment(f"there is no {model} on a CVMFS mount: `cvtrace doctor` lists the mounts")
    paths = _paths([*models, *arguments], points, directory, switch)
    if not paths:
        mounted = ", ".join(point.path for point in points) or "none"
        raise WrongExperiment(
            f"no argument names a path on CVMFS (mounted: {mounted}): if the script has the path inside, name it with --model PATH"
        )
    try:
        files = files_of(paths, points, switch)
    except FileNotFoundError as failure:
        raise WrongExperiment(failure.strerror or str(failure)) from None
    used = {file.device for file in files}
    mounts = survey([point for point in points if point.device in used], known, PATIENCE_S).mounts
    for mount in mounts:
        if not mount.answers:
            raise NotLookedAt(mount.error or f"{mount.path} does not answer")
    if not any(file.size for file in files):
        raise WrongExperiment(
            f"{paths[0]} has no file with contents: name the files that the script uses with --model PATH"
        )
    return Place(tuple(paths), tuple(files), mounts)


def _paths(
    words: Sequence[str], points: Sequence[MountPoint], directory: Path, switch: Callable[[], None]
) -> list[str]:
    candidates = [path for word in words for path in _candidates(word, points, directory)]
    devices = [point.device for point in points]
    if not candidates:
        return []
    try:
        paths: list[str] = within(ANSWER_S, partial(_on_mounts, candidates, devices, switch))
    except (NoAnswer, OSError) as failure:
        raise NotLookedAt(
            f"{candidates[0]} does not answer ({failure}): look at the mount with `cvtrace doctor`"
        ) from None
    return _outermost(paths)


def _candidates(word: str, points: Sequence[MountPoint], directory: Path) -> list[str]:
    """Return what in a word may be a path on a mount: all of it, or what follows where a mount's path begins (`--model=/cvmfs/…`)."""
    inside = [
        word[match.start() :]
        for point in points
        for match in re.finditer(rf"(?<![\w./-]){re.escape(point.path)}(?=/|$)", word)
    ]
    whole = [] if word.startswith("-") or "\0" in word or len(word) > 4096 else [os.path.normpath(directory / word)]
    return [*inside, *whole]


def _on_mounts(candidates: Sequence[str], devices: Sequence[int], switch: Callable[[], None]) -> list[str]:
    """In the child. A file comes with those beside it whose names begin with its name: model.onnx with model.onnx.data."""
    switch()
    paths: dict[str, None] = {}
    for each in candidates:
        path = Path(each)
        try:
            if path.stat().st_dev not in devices:
                continue
            beside = [] if path.is_dir() else sorted(path.parent.glob(f"{glob.escape(path.name)}*"))[:MOST_COMPANIONS]
            paths |= dict.fromkeys([each, *(str(other) for other in beside if other.is_file())])
        except OSError:
            continue
    return list(paths)


def _outermost(paths: Sequence[str]) -> list[str]:
    """Leave out paths that lie below another one."""
    return [path for path in paths if not any(path.startswith(f"{other.rstrip('/')}/") for other in paths)]
