"""The embedded CVMFS, all in one: models, repository, origin and mount, kept in one state folder. Import from here.

`lifecycle` brings it up and down, `state` is what it remembers between calls, `models` builds and publishes, `origin` and
`clients` run the processes, `caches` makes them cold or warm, `temporary` is a stack of its own for a test.
"""

from cvtrace.lab.stack.caches import drop_mount_cache, drop_page_cache, forget_pages, remount, warm, wipe_client_cache
from cvtrace.lab.stack.lifecycle import Status, down, status, up
from cvtrace.lab.stack.state import FQRN, Options, Stack, default_state
from cvtrace.lab.stack.temporary import temporary

__all__ = [
    "FQRN",
    "Options",
    "Stack",
    "Status",
    "default_state",
    "down",
    "drop_mount_cache",
    "drop_page_cache",
    "forget_pages",
    "remount",
    "status",
    "temporary",
    "up",
    "warm",
    "wipe_client_cache",
]
