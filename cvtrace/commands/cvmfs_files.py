"""The files on CVMFS that a verb is given, and the mounts that hold them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cvtrace.probes.cvmfs.mounts import Mount
    from cvtrace.probes.residency.survey import File
    from cvtrace.tracer.user import User


def switch_to(caller: User) -> Callable[[], None]:
    """Return a function that gives a child process the rights of the user who called, and no others."""
    from cvtrace.tracer.user import switch_user

    return partial(switch_user, caller) if caller.is_other else _keep_rights


def _keep_rights() -> None:
    """Keep the rights of this process: it is the user's own."""


def find_files(paths: Sequence[str], caller: User) -> tuple[list[File], tuple[Mount, ...]]:
    """Return the files that the paths name, folders with all below them, and the mounts that hold these files.

    Raises UsageError for a path that is not there, NotLookedAt for one that is not on a CVMFS mount, or on one that does not answer.
    """
    from cvtrace.probes.cvmfs.mounts import mount_points
    from cvtrace.probes.cvmfs.processes import clients
    from cvtrace.probes.cvmfs.survey import survey
    from cvtrace.probes.residency.survey import NotLookedAt, files_of

    known = clients()
    points = mount_points(known)
    try:
        files = files_of(paths, points, switch_to(caller))
    except FileNotFoundError as failure:
        raise click.UsageError(failure.strerror or str(failure)) from None
    used = {file.device for file in files}
    mounts = survey([point for point in points if point.device in used], known).mounts
    for mount in mounts:
        if not mount.answers:
            raise NotLookedAt(mount.error or f"{mount.path} does not answer")
    return files, mounts
