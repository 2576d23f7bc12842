"""The extended attributes through which the client speaks of itself and of its files."""

from __future__ import annotations

import os
import resource
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cvtrace.lab.client.catalog import Catalogs, Chunk, Entry
from cvtrace.lab.client.counters import Counters
from cvtrace.lab.client.download import Downloader
from cvtrace.lab.client.quota import Quota
from cvtrace.lab.client.releases import Release
from cvtrace.lab.client.repository import Manifest

PAGE_CHARS: Final = 40_000
"""Long values come in pages: `name` and `name~0` give the first, `name~?` the number of pages."""


def chunk_list_pages(chunks: list[Chunk]) -> list[str]:
    """Return the chunk list as text, cut into pages; each begins with the column names."""
    header = "hash,offset,size\n"
    pages, page = [], header
    for chunk in chunks:
        page += f"{chunk.hash},{chunk.offset},{chunk.size_bytes}\n"
        if len(page) > PAGE_CHARS:
            pages.append(page)
            page = header
    if len(page) > len(header):
        pages.append(page)
    return pages


class Xattrs:
    """Values of `user.*` attributes, by path and name."""

    def __init__(
        self,
        manifest: Manifest,
        catalogs: Catalogs,
        counters: Counters,
        downloader: Downloader,
        quota: Quota,
        public_keys: str,
        release: Release,
    ) -> None:
        self._manifest = manifest
        self._catalogs = catalogs
        self._counters = counters
        self._downloader = downloader
        self._quota = quota
        self._public_keys = public_keys
        self._release = release
        self._started_s = time.time()
        self._of_mount: dict[str, Callable[[], object]] = {
            "user.expires": lambda: max(0, round((self._started_s + manifest.ttl_s - time.time()) / 60)),
            "user.fqrn": lambda: manifest.fqrn,
            "user.hitrate": self._hit_rate,
            "user.host": lambda: downloader.base_url,
            "user.host_list": lambda: downloader.base_url,
            "user.inode_max": lambda: catalogs.last_inode,
            "user.maxfd": lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            "user.ncleanup24": lambda: quota.cleanups,
            "user.nclg": lambda: catalogs.loaded,
            "user.ndiropen": lambda: counters["cvmfs.n_fs_dir_open"],
            "user.ndownload": lambda: counters["fetch.n_downloads"],
            "user.nioerr": lambda: counters["cvmfs.n_io_error"],
            "user.nopen": lambda: counters["cvmfs.n_fs_open"],
            "user.pid": os.getpid,
            "user.proxy": lambda: downloader.proxy,
            "user.proxy_list": lambda: downloader.proxy + "\n",
            "user.pubkeys": self._read_public_keys,
            "user.repo_counters": self._repository_counters,
            "user.revision": lambda: manifest.revision,
            "user.root_hash": lambda: manifest.root_hash,
            "user.rx": lambda: counters["download.sz_transferred_bytes"] // 1024,
            "user.speed": self._speed,
            "user.timeout": lambda: downloader.timeout_s,
            "user.timeout_direct": lambda: downloader.timeout_s,
            "user.uptime": lambda: int(time.time() - self._started_s) // 60,
            "user.usedfd": lambda: counters["cvmfs.no_open_files"],
            "user.useddirp": lambda: counters["cvmfs.no_open_dirs"],
            "user.version": lambda: release.version,
        }

    def names(self, entry: Entry) -> bytes:
        """Return the names of a path, each ended by a zero byte; as the client's default, only the root lists them."""
        names = sorted(self._of_mount) if not entry.path else []
        return "".join(f"{name}\0" for name in names).encode()

    def get(self, entry: Entry, name: str) -> bytes | None:
        """Return a value, or None when the path has no such attribute or the value no such page."""
        name, separator, page = name.partition("~")
        pages = self._pages(entry, name)
        if not pages:
            return None
        if page == "?":
            return f"num_pages, {len(pages)}".encode()
        number = int(page) if page.isdecimal() else 0
        if (separator and not page.isdecimal()) or number >= len(pages):
            return None
        return pages[number].encode()

    def _pages(self, entry: Entry, name: str) -> list[str]:
        of_mount = self._of_mount.get(name)
        if of_mount is not None:
            return [str(of_mount())]
        if stat.S_ISLNK(entry.mode):
            return [entry.symlink] if name in ("user.rawlink", "xfsroot.rawlink") else []
        return self._of_file(entry, name) if entry.is_regular else []

    def _of_file(self, entry: Entry, name: str) -> list[str]:
        if name == "user.hash":
            return [str(entry.hash)] if entry.hash else []
        if name == "user.compression":
            return ["zlib" if entry.compressed else "none"]
        if name == "user.bundle_trigger" and self._release.speaks_of_triggers:
            return [str(int(entry.bundle_trigger))]
        if name == "user.external_file":
            return ["0"]
        if name in ("user.chunks", "user.chunk_list"):
            chunks = self._chunks(entry)
            return [str(len(chunks))] if name == "user.chunks" else chunk_list_pages(chunks)
        return []

    def _chunks(self, entry: Entry) -> list[Chunk]:
        if entry.chunked:
            return self._catalogs.chunks(entry)
        return [Chunk(0, entry.size_bytes, entry.hash)] if entry.hash else []

    def _hit_rate(self) -> str:
        values = self._counters.snapshot()
        invocations = values["fetch.n_invocations"]
        if invocations == 0:
            return "n/a"
        return f"{100 * (1 - values['fetch.n_downloads'] / invocations):.3f}"

    def _speed(self) -> object:
        values = self._counters.snapshot()
        time_ms = values["download.sz_transfer_time"]
        return 1000 * (values["download.sz_transferred_bytes"] // 1024) // time_ms if time_ms else "n/a"

    def _repository_counters(self) -> str:
        return "".join(f"{name},{value}\n" for name, value in sorted(self._catalogs.counters().items()))

    def _read_public_keys(self) -> str:
        return "".join(Path(path).read_text() for path in self._public_keys.split(":"))
