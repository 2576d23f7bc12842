"""What can be counted without privileges: the numbers that COUNTER events carry.

The client's counters were checked in its source (cvmfs 2.12: cvmfs.cc, fetch.cc, magic_xattr.cc). No attribute counts
reads: a read of a chunk that lies in the client's cache moves `hitrate` at most, and a second read of the same chunk nothing.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Count:
    """A number that is read from outside."""

    name: str
    """As the client calls it; `process.` for those of the kernel."""
    meaning: str
    attribute: str | None = None
    """Extended attribute of the mount that shows it, readable by anybody unless the client is told otherwise."""
    scale: float = 1.0
    """The event holds the attribute times this."""


COUNTS: Final = (
    Count("nopen", "OPEN requests, without those that were refused", "user.nopen"),
    Count(
        "ndownload",
        "objects that were not in the client's cache, catalogs included; not external data",
        "user.ndownload",
    ),
    Count("rx", "KiB received, headers not included, added when a transfer ends, rounded down", "user.rx"),
    Count("hitrate", "share of object requests found in the cache, in 1/1000 %", "user.hitrate", 1000.0),
    Count("nioerr", "requests answered with an I/O error", "user.nioerr"),
    Count("cvmfs.n_fs_open", "OPEN requests, without those that were refused"),
    Count("cvmfs.n_fs_read", "READ requests"),
    Count("cvmfs.n_fs_lookup", "LOOKUP requests"),
    Count("cvmfs.n_fs_stat", "GETATTR requests"),
    Count("cvmfs.n_fs_readlink", "READLINK requests"),
    Count("cvmfs.n_fs_dir_open", "OPENDIR requests"),
    Count("fetch.n_invocations", "objects asked for: opens of unchunked files, first reads of chunks, catalogs"),
    Count("fetch.n_downloads", "objects that were not in the client's cache, catalogs included"),
    Count("download.n_requests", "GET requests, catalogs and manifest included"),
    Count("download.sz_transferred_bytes", "bytes received, headers not included, added when a transfer ends"),
    Count("download-external.n_requests", "GET requests for external data"),
    Count("process.cpu_ns", "CPU time of the process, user and system"),
    Count("process.major_faults", "page faults that had to wait for a read, of whatever file system"),
    Count("process.minor_faults", "page faults that did not"),
    Count("process.rss_bytes", "resident memory"),
    Count("process.read_bytes", "bytes returned by read calls, from files, pipes and terminals alike (Linux)"),
    Count("process.held_files", "files of the mount that the process has open or mapped, or its folder (Linux)"),
)
"""Append only: traces store the index."""

INDEX: Final = {count.name: index for index, count in enumerate(COUNTS)}
