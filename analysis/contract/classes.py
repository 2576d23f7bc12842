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

    @property
    def short(self) -> str:
        """Return the name below the one of its group: `fill (unpacking)`."""
        name = self.label.partition(".")[2] or self.label
        return f"{name} (unpacking)" if self is Class.CACHE_FILL else name

    @property
    def meaning(self) -> str:
        """Return one sentence for a reader of a report."""
        return MEANINGS[self]

    @property
    def anchor(self) -> str:
        """Return the anchor of the class in docs/glossary.md, and in the glossary of a page."""
        return anchor(self.label)


def anchor(term: str) -> str:
    """Return the anchor of a term in the glossary: lower case, `-` for a dot and for a space."""
    return term.lower().replace(".", "-").replace(" ", "-")


MEANINGS: Final = {
    Class.NETWORK_CONNECT: "The client opens a connection to the server or proxy: name lookup, TCP, TLS.",
    Class.NETWORK_REQUEST: "The GET is sent and its first byte is awaited: the server, the proxy and the round trip.",
    Class.NETWORK_TRANSFER: "The first byte is here, and the client waits for more bytes of the body.",
    Class.NETWORK_QUEUE: "The client's download thread is busy with another object, or pauses after a failed try.",
    Class.NETWORK_SHARED: "The object is already being downloaded for another request, and this one waits for that download.",
    Class.CACHE_FILL: "Unpacking: the client inflates, verifies and stores what it downloaded. CPU and disk, not network.",
    Class.CACHE_READ: "The client reads the object from its cache on disk.",
    Class.CACHE_LOOKUP: "The client's other work on a request: catalogs, names and attributes.",
    Class.CACHE_TRANSPORT: "FUSE itself: the kernel's queue, waking the client, copying the reply, waking the program.",
    Class.CACHE_PAGE: "The program uses /cvmfs pages that are already in memory: copies and minor page faults.",
    Class.COMPUTE_CPU: "The program runs its own code on a CPU.",
    Class.COMPUTE_WAIT: "The program could run and has no CPU, or waits for its own threads that compute.",
    Class.OTHER_IO: "The program waits for files and sockets that are not on CVMFS.",
    Class.OTHER_IDLE: "The program sleeps, or waits for input or for a child process.",
    Class.OTHER_FUSE: "The program waits for a FUSE mount that was not observed.",
    Class.UNATTRIBUTED: "No rule explains this time. It is never added to another class.",
}
"""What each class means, in the words of docs/classes.md: the one place for the short explanation."""


LABELS: Final = tuple(member.label for member in Class)
GROUPS: Final = ("network", "cache", "compute", "other", "unattributed")
MEMBERS: Final = {group: tuple(int(member) for member in Class if member.group == group) for group in GROUPS}
"""Group -> the numbers of its classes."""

BLOCKED_ON_CVMFS: Final = tuple(
    int(member) for member in Class if member.group in ("network", "cache") and member is not Class.CACHE_PAGE
)
"""Classes of a thread that waits for a FUSE request."""
