"""The low-level interface of libfuse 3, through the library and the structures of mfusepy.

mfusepy's own class sits on libfuse's high-level interface, which works with paths: it cannot tell LOOKUP from GETATTR nor choose inode
numbers, and the client that is imitated does both. So the session is made here, from the same library and the same structures, whose
layouts mfusepy keeps for each version of libfuse.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from cvtrace.lab.errors import LabError

os.environ.setdefault("FUSE_LIBRARY_NAME", "fuse3")  # mfusepy would prefer libfuse 2 where both are installed
try:
    import mfusepy
except OSError as missing:
    raise LabError("the lab's client needs libfuse 3: apt install fuse3, or dnf install fuse3") from missing

_VOID_P = ctypes.c_void_p
_INODE = ctypes.c_uint64
_FILE_INFO = ctypes.POINTER(mfusepy.fuse_file_info)

_SIGNATURES: Final[dict[str, tuple[Any, ...]]] = {
    "lookup": (_INODE, ctypes.c_char_p),
    "forget": (_INODE, ctypes.c_uint64),
    "getattr": (_INODE, _VOID_P),
    "readlink": (_INODE,),
    "open": (_INODE, _FILE_INFO),
    "read": (_INODE, ctypes.c_size_t, ctypes.c_int64, _FILE_INFO),
    "release": (_INODE, _FILE_INFO),
    "opendir": (_INODE, _FILE_INFO),
    "readdir": (_INODE, ctypes.c_size_t, ctypes.c_int64, _FILE_INFO),
    "releasedir": (_INODE, _FILE_INFO),
    "statfs": (_INODE,),
    "getxattr": (_INODE, ctypes.c_char_p, ctypes.c_size_t),
    "listxattr": (_INODE, ctypes.c_size_t),
}
"""Arguments after the request, of the operations that are used."""

# fmt: off
_ORDER: Final = (
    "init", "destroy", "lookup", "forget", "getattr", "setattr", "readlink", "mknod", "mkdir", "unlink",
    "rmdir", "symlink", "rename", "link", "open", "read", "write", "flush", "release", "fsync",
    "opendir", "readdir", "releasedir", "fsyncdir", "statfs", "setxattr", "getxattr", "listxattr",
    "removexattr", "access", "create", "getlk", "setlk", "bmap", "ioctl", "poll", "write_buf",
    "retrieve_reply", "forget_multi", "flock", "fallocate", "readdirplus", "copy_file_range", "lseek",
)
# fmt: on
"""The members of struct fuse_lowlevel_ops."""


class _Operations(ctypes.Structure):
    _fields_ = [(name, _VOID_P) for name in _ORDER]


class _Arguments(ctypes.Structure):
    _fields_ = [("argc", ctypes.c_int), ("argv", ctypes.POINTER(ctypes.c_char_p)), ("allocated", ctypes.c_int)]


class _OldLoopConfig(ctypes.Structure):
    """struct fuse_loop_config before libfuse 3.12."""

    _fields_ = [("clone_fd", ctypes.c_int), ("max_idle_threads", ctypes.c_uint)]


class _Version(ctypes.Structure):
    """struct libfuse_version, since libfuse 3.17."""

    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("hotfix", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
    ]


class EntryReply(ctypes.Structure):
    """struct fuse_entry_param: the answer to a LOOKUP."""

    _fields_ = [
        ("ino", _INODE),
        ("generation", ctypes.c_uint64),
        ("attr", mfusepy.c_stat),
        ("attr_timeout", ctypes.c_double),
        ("entry_timeout", ctypes.c_double),
    ]


def _library() -> ctypes.CDLL:
    if mfusepy.fuse_version_major != 3:
        raise LabError("the lab's client needs libfuse 3: apt install fuse3, or dnf install fuse3")
    library = ctypes.CDLL(mfusepy._libfuse._name)
    library.fuse_reply_err.argtypes = (_VOID_P, ctypes.c_int)
    library.fuse_reply_none.argtypes = (_VOID_P,)
    library.fuse_reply_entry.argtypes = (_VOID_P, ctypes.POINTER(EntryReply))
    library.fuse_reply_attr.argtypes = (_VOID_P, ctypes.POINTER(mfusepy.c_stat), ctypes.c_double)
    library.fuse_reply_readlink.argtypes = (_VOID_P, ctypes.c_char_p)
    library.fuse_reply_open.argtypes = (_VOID_P, _FILE_INFO)
    library.fuse_reply_buf.argtypes = (_VOID_P, _VOID_P, ctypes.c_size_t)
    library.fuse_reply_statfs.argtypes = (_VOID_P, ctypes.POINTER(mfusepy.c_statvfs))
    library.fuse_reply_xattr.argtypes = (_VOID_P, ctypes.c_size_t)
    library.fuse_session_mount.argtypes = (_VOID_P, ctypes.c_char_p)
    library.fuse_session_loop_mt.argtypes = (_VOID_P, _VOID_P)
    for name in ("unmount", "destroy", "exit"):
        getattr(library, f"fuse_session_{name}").argtypes = (_VOID_P,)
    library.fuse_set_signal_handlers.argtypes = (_VOID_P,)
    return library


LIBRARY: Final = _library()

stat_structure: Final = mfusepy.c_stat
statvfs_structure: Final = mfusepy.c_statvfs


def _new_session(arguments: _Arguments, operations: _Operations) -> int | None:
    size = ctypes.sizeof(operations)
    if hasattr(LIBRARY, "fuse_session_new"):
        make = LIBRARY.fuse_session_new
        make.argtypes = (_VOID_P, _VOID_P, ctypes.c_size_t, _VOID_P)
        parameters: tuple[Any, ...] = (ctypes.byref(arguments), ctypes.byref(operations), size, None)
    else:  # 3.17 made it a wrapper in the header that passes the version
        make = LIBRARY._fuse_session_new
        make.argtypes = (_VOID_P, _VOID_P, ctypes.c_size_t, _VOID_P, _VOID_P)
        version = _Version(3, 12, 0, 0)
        parameters = (ctypes.byref(arguments), ctypes.byref(operations), size, ctypes.byref(version), None)
    make.restype = _VOID_P
    session: int | None = make(*parameters)
    return session


_of_thread: Final = threading.local()


def _keep_thread_state() -> None:
    """Keep Python's state of a libfuse thread between requests.

    It would be made and freed for each one otherwise, at the cost of three system calls that no other client makes.
    """
    if not hasattr(_of_thread, "state_taken"):
        ctypes.pythonapi.PyGILState_Ensure()
        _of_thread.state_taken = True


def _guarded(handler: Callable[..., None]) -> Callable[..., None]:
    """Answer a request with the error that its handler raised before answering."""

    def answer(request: int, *arguments: Any) -> None:
        _keep_thread_state()
        try:
            handler(request, *arguments)
        except OSError as error:
            LIBRARY.fuse_reply_err(request, error.errno or errno.EIO)
        except Exception:
            logging.exception("defect while answering a request")
            LIBRARY.fuse_reply_err(request, errno.EIO)

    return answer


class Session:
    """A FUSE session; `handlers` are called as handler(request, ...) in libfuse's worker threads and answer through `LIBRARY`."""

    def __init__(self, handlers: Mapping[str, Callable[..., None]], options: Sequence[str]) -> None:
        self._operations = _Operations()
        self._callbacks = []
        for name, handler in handlers.items():
            callback = ctypes.CFUNCTYPE(None, _VOID_P, *_SIGNATURES[name])(_guarded(handler))
            self._callbacks.append(callback)
            setattr(self._operations, name, ctypes.cast(callback, _VOID_P))
        argv = (ctypes.c_char_p * 3)(b"cvmfs2", b"-o", ",".join(options).encode())
        arguments = _Arguments(3, ctypes.cast(argv, ctypes.POINTER(ctypes.c_char_p)), 0)
        self._session = _new_session(arguments, self._operations)
        if not self._session:
            raise LabError(f"libfuse refused the mount options {','.join(options)}")

    def mount(self, mountpoint: str) -> None:
        """Mount; raises LabError."""
        if LIBRARY.fuse_session_mount(self._session, mountpoint.encode()) != 0:
            raise LabError(f"cannot mount on {mountpoint}: is /dev/fuse there, and may this user mount (fusermount3)?")

    def serve(self) -> None:
        """Answer requests in as many threads as are needed, until unmounted or told to end by SIGTERM, SIGINT or SIGHUP."""
        LIBRARY.fuse_set_signal_handlers(self._session)
        if hasattr(LIBRARY, "fuse_loop_cfg_create"):
            LIBRARY.fuse_loop_cfg_create.restype = _VOID_P
            configuration = _VOID_P(LIBRARY.fuse_loop_cfg_create())
            LIBRARY.fuse_loop_cfg_set_clone_fd(configuration, 1)
            LIBRARY.fuse_loop_cfg_set_idle_threads(configuration, 10)
            LIBRARY.fuse_session_loop_mt(self._session, configuration)
        else:
            LIBRARY.fuse_session_loop_mt(self._session, ctypes.byref(_OldLoopConfig(1, 10)))

    def unmount(self) -> None:
        """Unmount, if that has not happened yet."""
        with contextlib.suppress(OSError):
            LIBRARY.fuse_session_unmount(self._session)
