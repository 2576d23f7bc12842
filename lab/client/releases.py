"""Which release of the client the lab's client plays, as far as programs and tracers can observe the difference.

From the release notes and the sources of cvmfs 2.13 and 2.14; 2.12 was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cvtrace


@dataclass(frozen=True)
class Release:
    """What a release does that others do not do."""

    name: str
    counts_references: bool = False
    """Opening an object that is open already makes no open(2): `FdRefcountMgr`, the default from 2.13 on."""
    prefetches_bundles: bool = False
    """Opening a trigger has the files of its bundle fetched (`CVMFS_PREFETCH_FILEBUNDLES=yes`), from 2.14 on."""
    speaks_of_triggers: bool = False
    """It has the attribute `user.bundle_trigger`."""

    @property
    def version(self) -> str:
        """What `user.version` says: the lab's own version, and behind it the release where one was chosen."""
        own = f"cvtrace-lab {cvtrace.__version__}"
        return own if self.name == DEFAULT else f"{own} {self.name}.0"


DEFAULT: Final = "2.12"
RELEASES: Final = {
    release.name: release
    for release in (
        Release(DEFAULT),
        Release("2.13", counts_references=True),
        Release("2.14", counts_references=True, prefetches_bundles=True, speaks_of_triggers=True),
    )
}
