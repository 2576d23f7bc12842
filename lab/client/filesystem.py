"""The FUSE operations."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import stat
import struct
import time
from collections.abc import Callable
from typing import Any, Final

from cvtrace.lab.client.bundles import Bundles
from cvtrace.lab.client.catalog import Catalogs, Entry
from cvtrace.lab.client.content import Object
from cvtrace.lab.client.counters import Counters
from cvtrace.lab.client.delays import DelayInjector
from cvtrace.lab.client.fetch import Fetcher
from cvtrace.lab.client.handles import ChunkedFile, ChunkedFiles
from cvtrace.lab.client.libfuse import LIBRARY, EntryReply, stat_structure, statvfs_structure
from cvtrace.lab.client.quota import Quota
from cvtrace.lab.client.syscalls import pread_into
from cvtrace.lab.client.xattrs import Xattrs

ROOT_NODEID: Final = 1
"""What the kernel calls the root; all other nodes are called by their inode numbers."""

KERNEL_CACHE_S: Final = 60.0
"""How long the kernel may keep entries and attributes."""

BLOCK_BYTES: Final = 512
_IO_BLOCK_BYTES: Final = 4096
_LARGEST_READ_BYTES: Final = 1 << 20
_DIRECTORY_ENTRY: Final = struct.Struct("<QQII")
"""struct fuse_dirent without the name: inode, offset of the next entry, length of the name, type."""


class Filesystem:
    """Answers the kernel's requests; every method named in `operations` takes the request first and answers it once."""

    def __init__(
        self,
        catalogs: Catalogs,
        fetcher: Fetcher,
        counters: Counters,
        quota: Quota,
        xattrs: Xattrs,
        injector: DelayInjector,
        bundles: Bundles | None = None,
    ) -> None:
        self._bundles = bundles
        self._catalogs = catalogs
        self._fetcher = fetcher
        self._counters = counters
        self._quota = quota
        self._xattrs = xattrs
        self._injector = injector
        root = catalogs.lookup("")
        assert root is not None
        self._inodes: dict[int, Entry] = {ROOT_NODEID: root}
        self._chunked = ChunkedFiles()
        self._directories: dict[int, bytes] = {}
        self._directory_numbers = itertools.count(2)
        self._buffers: list[ctypes.Array[ctypes.c_char]] = []

    def operations(self) -> dict[str, Callable[..., None]]:
        """Return the handlers by the names of libfuse's operations."""
        names = "lookup forget getattr readlink open read release opendir readdir releasedir statfs getxattr listxattr"
        return {name: getattr(self, name) for name in names.split()}

    def lookup(self, request: int, parent: int, name: bytes) -> None:
        self._counters.add("cvmfs.n_fs_lookup")
        path = f"{self._at(parent).path}/{os.fsdecode(name)}"
        entry = self._find(path)
        reply = EntryReply(entry_timeout=KERNEL_CACHE_S, attr_timeout=KERNEL_CACHE_S)
        if entry is None:
            self._counters.add("cvmfs.n_fs_lookup_negative")
        else:
            self._inodes[entry.inode] = entry
            reply.ino = entry.inode
            _fill_attributes(reply.attr, entry)
        LIBRARY.fuse_reply_entry(request, ctypes.byref(reply))

    def forget(self, request: int, inode: int, lookups: int) -> None:
        # Inodes follow from the catalog: nothing has to be remembered or forgotten per lookup.
        self._counters.add("cvmfs.n_fs_forget")
        LIBRARY.fuse_reply_none(request)

    def getattr(self, request: int, inode: int, info: object) -> None:
        self._counters.add("cvmfs.n_fs_stat")
        attributes = stat_structure()
        _fill_attributes(attributes, self._at(inode))
        LIBRARY.fuse_reply_attr(request, ctypes.byref(attributes), KERNEL_CACHE_S)

    def readlink(self, request: int, inode: int) -> None:
        self._counters.add("cvmfs.n_fs_readlink")
        LIBRARY.fuse_reply_readlink(request, os.fsencode(self._at(inode).symlink))

    def open(self, request: int, inode: int, info: Any) -> None:
        entry = self._at(inode)
        if info.contents.flags & os.O_ACCMODE != os.O_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        self._counters.add("cvmfs.n_fs_open")
        if self._bundles is not None and entry.bundle_trigger:
            self._bundles.triggered(entry)
        handle = self._with_io_errors(self._open_file, entry)
        self._counters.add("cvmfs.no_open_files")
        info.contents.fh = handle & 0xFFFFFFFFFFFFFFFF
        info.contents.keep_cache = 1
        if LIBRARY.fuse_reply_open(request, info) != 0:
            self._close_file(handle)  # the open was interrupted: no RELEASE will follow

    def read(self, request: int, inode: int, size: int, offset: int, info: Any) -> None:
        self._counters.add("cvmfs.n_fs_read")
        began_ns = time.monotonic_ns()
        self._injector.worker()
        size = min(size, _LARGEST_READ_BYTES)
        try:
            buffer = self._buffers.pop()
        except IndexError:
            buffer = ctypes.create_string_buffer(_LARGEST_READ_BYTES)
        try:
            address = ctypes.addressof(buffer)
            handle = _signed(info.contents.fh)
            if handle >= 0:
                count = pread_into(handle, address, size, offset)
            else:
                file = self._chunked[handle]
                count = self._with_io_errors(file.read, self._fetcher, address, size, offset)
            self._injector.handled("read", began_ns, f"{inode} {offset} {size}")
            LIBRARY.fuse_reply_buf(request, address, count)
        finally:
            self._buffers.append(buffer)

    def release(self, request: int, inode: int, info: Any) -> None:
        self._close_file(_signed(info.contents.fh))
        LIBRARY.fuse_reply_err(request, 0)

    def opendir(self, request: int, inode: int, info: Any) -> None:
        entry = self._at(inode)
        self._counters.add("cvmfs.n_fs_dir_open")
        self._counters.add("catalog_mgr.n_listing")
        listing = self._with_io_errors(self._catalogs.listing, entry.path)
        parent = self._find(entry.path.rpartition("/")[0]) or entry
        handle = next(self._directory_numbers)
        self._directories[handle] = _directory(entry, parent, listing)
        self._counters.add("cvmfs.no_open_dirs")
        info.contents.fh = handle
        LIBRARY.fuse_reply_open(request, info)

    def readdir(self, request: int, inode: int, size: int, offset: int, info: Any) -> None:
        piece = self._directories[info.contents.fh][offset : offset + size]
        LIBRARY.fuse_reply_buf(request, piece, len(piece))

    def releasedir(self, request: int, inode: int, info: Any) -> None:
        del self._directories[info.contents.fh]
        self._counters.add("cvmfs.no_open_dirs", -1)
        LIBRARY.fuse_reply_err(request, 0)

    def statfs(self, request: int, inode: int) -> None:
        self._counters.add("cvmfs.n_fs_statfs")
        reply = statvfs_structure()
        reply.f_bsize = reply.f_frsize = 1
        reply.f_blocks = self._quota.limit_bytes
        reply.f_bfree = reply.f_bavail = max(0, self._quota.limit_bytes - self._quota.used_bytes)
        reply.f_namemax = 255
        LIBRARY.fuse_reply_statfs(request, ctypes.byref(reply))

    def getxattr(self, request: int, inode: int, name: bytes, size: int) -> None:
        value = self._xattrs.get(self._at(inode), os.fsdecode(name))
        if value is None:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        _reply_sized(request, value, size)

    def listxattr(self, request: int, inode: int, size: int) -> None:
        _reply_sized(request, self._xattrs.names(self._at(inode)), size)

    def _at(self, inode: int) -> Entry:
        try:
            return self._inodes[inode]
        except KeyError:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE)) from None

    def _find(self, path: str) -> Entry | None:
        self._counters.add("catalog_mgr.n_lookup_path")
        self._injector.lookup()
        entry: Entry | None = self._with_io_errors(self._catalogs.lookup, path)
        if entry is None:
            self._counters.add("catalog_mgr.n_lookup_path_negative")
        return entry

    def _open_file(self, entry: Entry) -> int:
        if entry.chunked:
            return self._chunked.add(ChunkedFile(entry, self._catalogs.chunks(entry)))
        if entry.hash is None:
            raise OSError(errno.EIO, f"{entry.path} has no content hash")
        obj = Object(entry.hash, entry.path, size_bytes=entry.size_bytes, compressed=entry.compressed)
        return self._fetcher.fetch(obj)

    def _close_file(self, handle: int) -> None:
        if handle >= 0:
            self._fetcher.close(handle)
        else:
            self._chunked.close(handle, self._fetcher)
        self._counters.add("cvmfs.no_open_files", -1)

    def _with_io_errors(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Do what may need the network or the disk; any failure is EIO to the caller, but for want of descriptors or of room in the cache."""
        try:
            return work(*arguments)
        except OSError as error:
            self._counters.add("cvmfs.n_io_error")
            passed_on = (errno.EMFILE, errno.ENOSPC) if work == self._open_file else (errno.EMFILE,)
            number = next((each for each in passed_on if each == error.errno), errno.EIO)
            raise OSError(number, os.strerror(number)) from error


def _signed(handle: int) -> int:
    return handle - (1 << 64) if handle >> 63 else handle


def _fill_attributes(attributes: Any, entry: Entry) -> None:
    attributes.st_ino = entry.inode
    attributes.st_mode = entry.mode
    attributes.st_nlink = entry.links
    attributes.st_uid = entry.uid
    attributes.st_gid = entry.gid
    attributes.st_size = entry.size_bytes
    attributes.st_blksize = _IO_BLOCK_BYTES
    attributes.st_blocks = 1 + entry.size_bytes // BLOCK_BYTES
    for field in (attributes.st_atimespec, attributes.st_mtimespec, attributes.st_ctimespec):
        field.tv_sec = entry.mtime_s
        field.tv_nsec = entry.mtime_ns


def _directory(entry: Entry, parent: Entry, listing: list[Entry]) -> bytes:
    data = bytearray()
    for name, child in [(".", entry), ("..", parent), *((child.name, child) for child in listing)]:
        encoded = os.fsencode(name)
        padding = -(_DIRECTORY_ENTRY.size + len(encoded)) % 8
        following = len(data) + _DIRECTORY_ENTRY.size + len(encoded) + padding
        data += _DIRECTORY_ENTRY.pack(child.inode, following, len(encoded), stat.S_IFMT(child.mode) >> 12)
        data += encoded + bytes(padding)
    return bytes(data)


def _reply_sized(request: int, value: bytes, size: int) -> None:
    """Answer as xattr calls are: with the length when nothing was offered, ERANGE when too little."""
    if size == 0:
        LIBRARY.fuse_reply_xattr(request, len(value))
    elif len(value) > size:
        raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))
    else:
        LIBRARY.fuse_reply_buf(request, value, len(value))
