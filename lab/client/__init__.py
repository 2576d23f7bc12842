"""An independent client for the CVMFS repository format, whose system calls look like those of cvmfs2.

What lives here, from the wire to the mount: `repository` (manifest, whitelist, certificate), `catalog` (the SQLite catalogs),
`job`, `download` (one thread, libcurl), `descriptors`, `cache` and `quota` (content-addressed files, LRU), `fetch` (hit, miss, waiting for a running fetch),
`bundles` (prefetching), `releases` (which release is played),
`filesystem` (the FUSE operations, on the binding in `libfuse`), `counters`, `xattrs` and `talk` (what it says about itself),
`daemon` and `mounting` (its process). Import from here, nothing else: a mount is `start(configure(…))`, and ends
by `unmount`.
"""

from cvtrace.lab.client.mounting import Mounted, configure, start, unmount
from cvtrace.lab.client.releases import DEFAULT as DEFAULT_RELEASE
from cvtrace.lab.client.releases import RELEASES

__all__ = ["DEFAULT_RELEASE", "RELEASES", "Mounted", "configure", "start", "unmount"]
