"""The classes every nanosecond of a phase falls into, the groups a summary shows, and the parts of a fetch.

What the other rooms need to know of a class is here, and follows from `Class`: a class or group that is added works everywhere, or this
file does not load.
"""

from enum import IntEnum
from typing import Final, NamedTuple, TypedDict


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
    """Return the anchor of a term in the glossary: lower case, `-` for a dot and for a space, no apostrophe."""
    return term.lower().replace(".", "-").replace(" ", "-").replace("'", "")


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
GROUPS: Final = tuple(dict.fromkeys(member.group for member in Class))
GROUP_COLUMNS: Final = tuple(f"{group}_s" for group in GROUPS)
"""Fields of rows of the report that hold the seconds of each group."""
MEMBERS: Final = {group: tuple(int(member) for member in Class if member.group == group) for group in GROUPS}
"""Group -> the numbers of its classes."""


class GroupSeconds(TypedDict):
    """GROUP_COLUMNS of one row."""

    network_s: float
    cache_s: float
    compute_s: float
    other_s: float
    unattributed_s: float


if tuple(GroupSeconds.__annotations__) != GROUP_COLUMNS:
    raise TypeError(f"GroupSeconds has not the groups of Class: {', '.join(GROUP_COLUMNS)}")

BLOCKED_ON_CVMFS: Final = tuple(
    int(member) for member in Class if member.group in ("network", "cache") and member is not Class.CACHE_PAGE
)
"""Classes of a thread that waits for a FUSE request."""

_IS_WAITING: Final = {
    "network": True,
    "cache": True,
    "compute.cpu": False,
    "compute.wait": True,
    "other": True,
    "unattributed": False,
}
"""Class, or group for all of its classes -> whether a thread in it is not on a CPU in its own code."""
WAITING: Final = tuple(
    int(member) for member in Class if _IS_WAITING[member.label if member.label in _IS_WAITING else member.group]
)
"""Classes in which the thread of the critical path waits: it does not run its own code on a CPU."""


class FetchPart(NamedTuple):
    """A part of the life of a GET: the field of storage_schema.Fetch that holds it, its name in pictures, its class."""

    column: str
    title: str
    value: Class


FETCH_PARTS: Final = (
    FetchPart("queue_s", "queue", Class.NETWORK_QUEUE),
    FetchPart("connect_s", "connect", Class.NETWORK_CONNECT),
    FetchPart("request_s", "first byte", Class.NETWORK_REQUEST),
    FetchPart("transfer_s", "transfer", Class.NETWORK_TRANSFER),
    FetchPart("fill_s", "unpacking", Class.CACHE_FILL),
)
"""In the order in which they come, but that bytes are waited for and unpacked in turns. They add up to the life of the GET."""


class FetchSeconds(TypedDict):
    """The columns of FETCH_PARTS of one GET."""

    queue_s: float
    connect_s: float
    request_s: float
    transfer_s: float
    fill_s: float


if tuple(FetchSeconds.__annotations__) != tuple(part.column for part in FETCH_PARTS):
    raise TypeError(f"FetchSeconds has not the parts of FETCH_PARTS: {', '.join(part.column for part in FETCH_PARTS)}")

OWN_FETCH: Final = tuple(int(part.value) for part in FETCH_PARTS)
"""Classes of a worker whose own job is under way."""
ANY_FETCH: Final = (*OWN_FETCH, int(Class.NETWORK_SHARED))
"""Classes of a thread that waits for a fetch, its own or another's."""
