"""The counters of the client, under the client's names."""

from __future__ import annotations

import threading
from typing import Final

DESCRIPTIONS: Final = {
    "cache.n_certificate_hits": "Certificates found in the cache",
    "cache.n_certificate_misses": "Certificates that were downloaded",
    "catalog_mgr.n_listing": "Directory listings",
    "catalog_mgr.n_lookup_path": "Path lookups in a catalog",
    "catalog_mgr.n_lookup_path_negative": "Path lookups that found nothing",
    "catalog_revision": "Revision of the root catalog",
    "cvmfs.n_fs_dir_open": "OPENDIR requests",
    "cvmfs.n_fs_forget": "Forgotten inodes",
    "cvmfs.n_fs_lookup": "LOOKUP requests",
    "cvmfs.n_fs_lookup_negative": "LOOKUP requests that found nothing",
    "cvmfs.n_fs_open": "OPEN requests",
    "cvmfs.n_fs_read": "READ requests",
    "cvmfs.n_fs_readlink": "READLINK requests",
    "cvmfs.n_fs_stat": "GETATTR requests",
    "cvmfs.n_fs_statfs": "STATFS requests",
    "cvmfs.n_io_error": "Requests answered with an I/O error",
    "cvmfs.no_open_dirs": "Directories that are open now",
    "cvmfs.no_open_files": "Files that are open now",
    "download.n_requests": "Tries of downloads",
    "download.n_retries": "Downloads tried again",
    "download.sz_transfer_time": "Time with at least one transfer running (milliseconds)",
    "download.sz_transferred_bytes": "Bytes of received bodies",
    "fetch.n_downloads": "Objects that were downloaded (files, chunks, catalogs)",
    "fetch.n_invocations": "Objects that were asked for (files, chunks, catalogs)",
}


class Counters:
    """Named integers that many threads may raise at once without losing one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values = dict.fromkeys(DESCRIPTIONS, 0)

    def add(self, name: str, amount: int = 1) -> None:
        """Raise (or lower) the counter `name`."""
        with self._lock:
            self._values[name] += amount

    def set(self, name: str, value: int) -> None:
        """Give the counter `name` a value."""
        with self._lock:
            self._values[name] = value

    def snapshot(self) -> dict[str, int]:
        """Return all counters as of one moment."""
        with self._lock:
            return dict(self._values)

    def __getitem__(self, name: str) -> int:
        return self._values[name]

    def table(self) -> str:
        """Return the counters as the lines `name|value|description`, sorted, as `cvmfs_talk internal affairs` prints them."""
        values = self.snapshot()
        return "".join(f"{name}|{values[name]}|{DESCRIPTIONS[name]}\n" for name in sorted(values))
