"""The columns of the tables on imports, runs of a session and folders; part of report.columns."""

from typing import Final

OF_RUN: Final = {
    "index": "index: of the run, from 0",
    "process": "index: that made the call (pid)",
    "start_s": "s: since the start of the target",
    "wall_s": "s: of the call",
    "network_s": "s: waiting for the network",
    "cache_s": "s: in the client, its cache on disk, and FUSE",
    "compute_s": "s: in the target's own code, or waiting for its own threads",
    "other_s": "s: blocked on anything but CVMFS, or asleep",
    "unattributed_s": "s: what no rule explains",
    "blocked_s": "s: of the call, blocked on CVMFS",
    "fuse_requests": "n: FUSE requests of the run",
    "fuse_reads": "n: READ requests among them",
    "fuse_read_bytes": "bytes: brought by READs",
    "http_fetches": "n: GETs that these requests caused",
    "http_bytes": "bytes: bodies of those GETs, as sent (compressed)",
}
COUNTS: Final = {
    "opens": "n: OPEN requests",
    "lookups": "n: requests for names and attributes",
    "reads": "n: READ requests",
    "read_bytes": "bytes: brought by READs",
    "http_fetches": "n: GETs",
    "http_bytes": "bytes: bodies of GETs, as sent (compressed)",
}
OF_IMPORT: Final = {
    "module": "text: its name",
    "process": "index: that imported it (pid)",
    "start_s": "s: since the start of the target",
    "wall_s": "s: of the import, with those nested in it",
    "self_s": "s: of the import itself",
    "blocked_s": "s: of wall_s, blocked on CVMFS",
    "self_blocked_s": "s: of self_s, blocked on CVMFS",
    **{name: f"{text}, with those of imports nested in it" for name, text in COUNTS.items()},
    **{f"self_{name}": f"{text} of the import itself" for name, text in COUNTS.items()},
    "imported_by": "text: module in whose import this one began; empty for what a script imports itself",
    "count": "n: tries",
    "failed": "n: tries that raised",
}
OF_PACKAGE: Final = {
    "package": "text: first part of the names of its modules",
    "modules": "n: imported",
    "processes": "n: that imported any",
    "wall_s": "s: of its imports, with all that they imported",
    "self_s": "s: of its own modules",
    "blocked_s": "s: of wall_s, blocked on CVMFS",
    "self_blocked_s": "s: of self_s, blocked on CVMFS",
    **{name: f"{text} of its own modules" for name, text in COUNTS.items()},
}
OF_FOLDER: Final = {
    "path": "text: of the folder; empty for requests about what was never seen by name",
    "requests": "n: FUSE requests about what lies right in it",
    **COUNTS,
    "blocked_s": "s: blocked on these requests",
    "files": "n: opened or read",
    "total_requests": "n: FUSE requests about all that lies below it",
    "total_http_fetches": "n: GETs that these caused",
    "total_http_bytes": "bytes: bodies of those GETs, as sent (compressed)",
    "total_blocked_s": "s: blocked on these requests",
}
