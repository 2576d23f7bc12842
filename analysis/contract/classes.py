"""The classes every nanosecond of a phase falls into, and the groups a summary shows."""

from enum import IntEnum
from typing import Final


class Class(IntEnum):
    """Where time goes; docs and DESIGN hold the definitions, `label` the name a report prints."""

    NETWORK_CONNECT = 0
    NETWORK_REQUEST = 1
    NETWORK_TRANSFER = 2
    NETWORK_QUEUE = 3
    NETWORK_SHARED = 4
    CACHE_FILL = 5
    CACHE_READ = 6
    CACHE_LOOKUP = 7
    CACHE_TRANSPORT = 8
    CACHE_PAGE = 9
    COMPUTE_CPU = 10
    COMPUTE_WAIT = 11
    OTHER_IO = 12
    OTHER_IDLE = 13
    OTHER_FUSE = 14
    UNATTRIBUTED = 15

    @property
    def label(self) -> str:
        return self.name.lower().replace("_", ".", 1)

    @property
    def group(self) -> str:
        return self.name.lower().partition("_")[0]


LABELS: Final = tuple(member.label for member in Class)
GROUPS: Final = ("network", "cache", "compute", "other", "unattributed")
MEMBERS: Final = {group: tuple(int(member) for member in Class if member.group == group) for group in GROUPS}
"""Group -> the numbers of its classes."""

BLOCKED_ON_CVMFS: Final = tuple(
    int(member) for member in Class if member.group in ("network", "cache") and member is not Class.CACHE_PAGE
)
"""Classes of a thread that waits for a FUSE request."""
