"""The columns of the tables on imports, runs of a session and folders; part of report.columns."""

from typing import Final

OF_RUN: Final = {
    "index": "index: number of the run, from 0",
    "process": "index: process that made the call (pid)",
    "start_s": "s: begin, since the start of the target",
    "wall_s": "s: duration of the call",
    "network_s": "s: time that it waited for the network",
    "cache_s": "s: time that it waited for the client, the client's cache on disk, and FUSE",
    "compute_s": "s: time in the target's own code, or waiting for its own threads",
    "other_s": "s: time blocked on files and sockets that are not on CVMFS, or asleep",
    "unattributed_s": "s: time that no rule explains",
    "blocked_s": "s: time of the call that was blocked on CVMFS",
    "fuse_requests": "n: FUSE requests of the run",
    "fuse_reads": "n: READ requests among them",
    "fuse_read_bytes": "bytes: bytes that these READs returned",
    "http_fetches": "n: GETs that these requests caused",
    "http_bytes": "bytes: size of their bodies, as transferred (compressed)",
}
COUNTS: Final = {
    "opens": "n: OPEN requests",
    "lookups": "n: requests for names and attributes",
    "reads": "n: READ requests",
    "read_bytes": "bytes: bytes that READs returned",
    "http_fetches": "n: GETs",
    "http_bytes": "bytes: size of the bodies of GETs, as transferred (compressed)",
}
OF_IMPORT: Final = {
    "module": "text: name of the module",
    "process": "index: process that imported it (pid)",
    "start_s": "s: begin, since the start of the target",
    "wall_s": "s: duration of the import, including nested imports",
    "self_s": "s: duration of the import without nested imports",
    "blocked_s": "s: part of wall_s that was blocked on CVMFS",
    "self_blocked_s": "s: part of self_s that was blocked on CVMFS",
    **{name: f"{text}, including nested imports" for name, text in COUNTS.items()},
    **{f"self_{name}": f"{text}, without nested imports" for name, text in COUNTS.items()},
    "imported_by": "text: module that imported it; empty if the script imported it",
    "count": "n: number of imports, including failed ones",
    "failed": "n: imports that raised an exception",
}
OF_PACKAGE: Final = {
    "package": "text: first part of the names of its modules",
    "modules": "n: imported modules",
    "processes": "n: processes that imported one of them",
    "wall_s": "s: duration of its imports, including nested imports",
    "self_s": "s: duration of the imports of its own modules",
    "blocked_s": "s: part of wall_s that was blocked on CVMFS",
    "self_blocked_s": "s: part of self_s that was blocked on CVMFS",
    **{name: f"{text}, for its own modules" for name, text in COUNTS.items()},
}
OF_FOLDER: Final = {
    "path": "text: path of the folder; empty for requests whose file name was not observed",
    "requests": "n: FUSE requests for its own entries",
    **COUNTS,
    "blocked_s": "s: time blocked on these requests",
    "files": "n: files that were opened or read",
    "total_requests": "n: FUSE requests for everything below it",
    "total_http_fetches": "n: GETs that these requests caused",
    "total_http_bytes": "bytes: size of their bodies, as transferred (compressed)",
    "total_blocked_s": "s: time blocked on these requests",
}
