"""A mount without allow_other, which even root may not enter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import open_to_all, tiny_mount
from unprivileged import NOBODY

from cvtrace.probes.cvmfs.counters import counters
from cvtrace.probes.cvmfs.mounts import mount_points
from cvtrace.probes.cvmfs.survey import describe

pytestmark = pytest.mark.root


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Path]:
    open_to_all(tmp_path)
    with tiny_mount(tmp_path, fqrn="alone.test.org", uid=NOBODY, alone=True) as (mount, _):
        yield mount


def test_root_queries_a_private_mount_as_its_owner(private: Path) -> None:
    # GIVEN a mount that does not let root in
    with pytest.raises(PermissionError):
        private.stat()
    # WHEN it is described
    (point,) = [point for point in mount_points() if point.path == str(private)]
    mount = describe(point)
    # THEN it has said who it is, its daemon is found, and its counters can be read
    assert (mount.error, mount.answers, mount.fqrn) == (None, True, "alone.test.org")
    assert mount.daemon is not None
    assert counters(mount).values["cvmfs.n_fs_open"] == 0
    assert counters(mount).error is None
    # THEN this process is still root
    assert (os.geteuid(), os.getegid()) == (0, 0)
