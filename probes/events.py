"""The schema of a trace: one fixed record for everything that is observed, whichever probe observes it.

An event is 56 bytes, little-endian; in the kernel's ring an 8-byte header precedes it, so it takes 64 there:

    ts    u64   start, CLOCK_MONOTONIC ns (bpf_ktime_get_ns; the clock of time.monotonic_ns)
    dur   u64   duration ns; 0 for a point event. Enter and exit of a call are paired by the probe: one record per call
    tgid  u32   process
    tid   u32   thread
    kind  u16   what happened (`Kind`); UNFINISHED is or-ed in when the recording stopped before the call returned
    cpu   u16   where it ended; 0 where the probe cannot tell
    ret   i32   result or -errno
    a b c u64   what the kind says, see `Kind`

Text (paths, request lines, response heads, names) is a second stream of 512-byte records that name the event they belong
to by (ts, tid, kind). Text longer than TEXT_MAX is cut; `size` keeps the full length.

Numbers of processes and threads are those of the initial PID namespace.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, IntEnum, StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

EVENT: Final = np.dtype(
    [
        ("ts", "<u8"),
        ("dur", "<u8"),
        ("tgid", "<u4"),
        ("tid", "<u4"),
        ("kind", "<u2"),
        ("cpu", "<u2"),
        ("ret", "<i4"),
        ("a", "<u8"),
        ("b", "<u8"),
        ("c", "<u8"),
    ]
)
assert EVENT.itemsize == 56

TEXT_MAX: Final = 496
TEXT: Final = np.dtype([("ts", "<u8"), ("tid", "<u4"), ("kind", "<u2"), ("size", "<u2"), ("text", f"S{TEXT_MAX}")])
assert TEXT.itemsize == 512

UNFINISHED: Final = 0x8000
"""Flag in `kind`: the call had not returned when the recording stopped; `dur` reaches to the stop."""

NO_OFFSET: Final = 2**64 - 1
"""`b` of a read that goes by the file position instead of an explicit offset."""

DIRECT: Final = 1 << 32
"""Flag in `c` of a FUSE_READ."""

NOT_KNOWN: Final = 2**64 - 1
"""`b` and `c` of a CLEANUP whose bytes are not known."""

AT_FDCWD: Final = 2**64 - 100
"""Directory fd of a path that is relative to the working directory (-100 as u64)."""

NO_MOUNT: Final = 2**64 - 1
"""`a` of a COUNTER that is not of a mount but of a process."""

Events = npt.NDArray[np.void]
"""An array of `EVENT` records."""

Texts = npt.NDArray[np.void]
"""An array of `TEXT` records."""


class Side(Enum):
    """Whose deed an event is."""

    TARGET = "target"
    """Of the target's process tree alone; others' are not recorded."""
    DAEMON = "daemon"
    """Of a daemon."""
    BOTH = "both"
    """Of the target or of somebody else; the kind says of whom."""
    RECORDER = "recorder"
    """For the recorder, never in a trace."""


class Sight(StrEnum):
    """What a probe can observe besides phases. meta.json lists it under `sees`, so that an absence of events proves something or nothing."""

    REQUESTS = "requests"
    """System calls of the target, and the FUSE requests that daemons answer."""
    SENDS = "sends"
    """Each FUSE request when the kernel sends it, on every mount."""
    PAGES = "pages"
    """Pages of files that the target touches or reads."""
    SCHEDULER = "scheduler"
    """When threads are off the CPU, and who wakes them."""


class Kind(IntEnum):
    """What an event says. The comment names `ret`, `a`, `b`, `c` and the text, as far as they mean something."""

    side: Side

    def __new__(cls, value: int, side: Side) -> Kind:
        """Make a kind of an integer and whom it is about."""
        kind = int.__new__(cls, value)
        kind._value_ = value
        kind.side = side
        return kind

    # fmt: off
    # Processes, phases and scheduling.
    PROC_FORK = 1, Side.TARGET  # of the target's tree: a = child tgid, b = child tid; eBPF cannot tell a new thread and says its tid twice
    PROC_EXEC = 2, Side.TARGET  # text = the file
    PROC_EXIT = 3, Side.TARGET  # of a thread; ret = exit code where known (128+n: signal n ended it), else 0
    PHASE = 4, Side.TARGET  # a call that marks a phase: a = index into probes.phases.FUNCTIONS, b = first argument, ret = result,
    #                         text = name of a phase that the script names
    OFFCPU = 5, Side.BOTH  # thread of the target or of a daemon off the CPU in [ts, ts+dur]: a = ts of the wake-up (0: was never
    #                        blocked), b = waker tid, c = scheduler state (0 runnable i.e. preempted, 1 interruptible, 2 uninterruptible)
    PROC_SIGNAL = 6, Side.TARGET  # a signal whose default action ends the process was delivered, and nothing handles it: ret = signal,
    #                               a = address of the fault (SIGBUS, SIGSEGV), else 0, c = si_code (as u64). SIGKILL comes to every thread of a process that
    #                               ends while others of its threads run, too
    PROC_REAPED = 7, Side.TARGET  # a process learned how a child ended (wait4, waitid): a = child's tgid, b = status as wait(2) encodes it
    IMPORT = 12, Side.TARGET  # import of a module that was not loaded yet, as the target's interpreter marks it: ret = -1 if it raised, b = how many
    #                           imports it is nested in; text = the module. a = 1: a point without text, from where on imports are marked

    # System calls of the target.
    SYS_OPEN = 16, Side.TARGET  # open, openat, openat2: ret = fd, a = directory fd (as u64), b = flags, text = path as given
    SYS_READ = 17, Side.TARGET  # read, pread64, readv, preadv, preadv2; sendfile, splice and copy_file_range, of the file they
    #                            take from: ret = bytes, a = fd, b = offset or NO_OFFSET, c = bytes asked
    SYS_MMAP = 18, Side.TARGET  # of a file: ret = 0 or -errno, a = fd, b = offset, c = length
    SYS_CLOSE = 19, Side.TARGET  # a = fd
    SYS_WAIT = 20, Side.TARGET  # any other call that may block: a = number of the call (x86-64 numbering), b = first argument, c = second
    SYS_CHDIR = 21, Side.TARGET  # text = directory; without text: fchdir to the descriptor a
    SYS_DUP = 22, Side.TARGET  # dup, dup2, dup3, fcntl(F_DUPFD…) that succeeded: ret = new fd, a = old fd
    SYS_STAT = 23, Side.TARGET  # a path check: stat, lstat, fstat, newfstatat, statx that found a file on a FUSE mount, or that
    #                             failed and took more than 20 µs: a = st_dev (0: failed), b = inode, c = number of the call | directory
    #                             fd << 32; text = path as given, if it took more than 20 µs (asked the daemon). Seen by eBPF only

    # Pages of files on FUSE mounts, observed or not, touched by the target.
    FAULT = 24, Side.TARGET  # page fault that found no mapped page (mm_filemap_fault): a = st_dev, b = inode, c = page index; dur is known
    #                          from kprobes, where the kernel has no tracepoint
    PAGE_READ = 25, Side.TARGET  # read() copied from the page cache (get_pages): a = st_dev, b = inode, c = page | pages << 48
    PAGE_MAP = 26, Side.TARGET  # fault-around mapped cached pages (map_pages): a = st_dev, b = inode, c = page | pages << 48

    READAHEAD = 27, Side.TARGET  # pages that the kernel begins to read, of its own accord or because the target wants some of them:
    #                              ret = how many of them were asked for (0: all ahead), a = st_dev, b = inode, c = page | pages << 48

    # Further system calls of the target.
    SYS_LIST = 28, Side.TARGET  # getdents64: ret = bytes, a = fd
    SYS_LINK = 29, Side.TARGET  # readlink, readlinkat: ret = length, a = directory fd (as u64), text = path as given
    SYS_UNMAP = 30, Side.TARGET  # munmap of anything: ret = 0 or -errno, a = address, c = length
    SYS_MAPPED = 31, Side.TARGET  # where a SYS_MMAP that succeeded put the file (same ts): a = address, b = fd, c = length

    # A FUSE request as the kernel sees it; tid is the thread that sent it, which need not wait for it.
    FUSE_SEND = 32, Side.BOTH  # sent .. ended: ret = error, a = unique, b = connection (the mount's dev_t as the kernel has it, major << 20 |
    #                            minor), c = opcode << 32 | length. Of observed mounts everybody's, of other FUSE mounts the target's

    # A FUSE request as the daemon sees it; tid is the daemon's worker. Joined to FUSE_SEND by (connection, unique).
    FUSE_DAEMON = 40, Side.DAEMON  # read from /dev/fuse .. reply written: ret = error of the reply (0 or -errno), a = unique,
    #                                b = nodeid, c = opcode << 32 | pid of the asking thread; text = name for a LOOKUP
    FUSE_READ = 41, Side.DAEMON  # arguments of a READ (point, at FUSE_DAEMON's ts): ret = low half of fh (negative: chunked file),
    #                              a = unique, b = offset, c = size | DIRECT if it goes past the page cache (O_DIRECT)
    FUSE_REPLY = 42, Side.DAEMON  # the writev of the reply: a = unique, b = length | open_flags << 32 (OPEN),
    #                               c = first 8 bytes of the body for LOOKUP (nodeid) and OPEN (fh), else 0; ret = bytes written

    # The daemon's cache. Paths are as given, relative to the daemon's workspace.
    CACHE_OPEN = 48, Side.DAEMON  # any open by the daemon: ret = fd or -errno (-2 on "./XX/<hash>": a miss), a = flags, text = path
    CACHE_READ = 49, Side.DAEMON  # pread64: ret = bytes, a = fd, b = offset, c = bytes asked
    CACHE_RENAME = 50, Side.DAEMON  # commit of a download: text = new path
    CACHE_INSERT = 51, Side.DAEMON  # quota manager told of a new object by the same thread: a = size, text = path in the repository
    CACHE_CLOSE = 52, Side.DAEMON  # any close by the daemon: a = fd
    CACHE_WRITE = 53, Side.DAEMON  # write to a transaction file; a = fd, c = bytes. Seen by strace only: too many for too little

    # From the worker to the download thread and back, through pipes.
    HANDOVER = 56, Side.DAEMON  # worker writes 8 bytes, the address of the job: a = address, b = fd
    HANDOVER_TAKEN = 57, Side.DAEMON  # download thread reads them: a = address, b = fd
    HANDOVER_DONE = 58, Side.DAEMON  # download thread writes the 4-byte result: a = result, b = fd
    HANDOVER_RESULT = 59, Side.DAEMON  # worker reads it; [ts, ts+dur] is the last part of its wait: a = result, b = fd

    # The daemon's network.
    HTTP_CONNECT = 64, Side.DAEMON  # ret = 0 or -errno (-115: in progress), a = fd, b = family | port << 32, c = IPv4 address, host order
    HTTP_SEND = 65, Side.DAEMON  # ret = bytes, a = fd, c = bytes asked; text = request line without credentials and query; b = 1: over TLS, and
    #                              nothing of the request is seen but its length
    HTTP_RECV = 66, Side.DAEMON  # ret = bytes, a = fd, c = bytes asked; text = status line and chosen headers, if a head begins here
    DAEMON_POLL = 67, Side.DAEMON  # a wait; eBPF leaves out those under 5 µs: ret = ready descriptors, a = number of descriptors, b = timeout in ms (as u64)
    DAEMON_FUTEX = 68, Side.DAEMON  # futex wait of the daemon: a = address
    HTTP_ERROR = 69, Side.DAEMON  # the daemon learned that a connection did not come about: ret = -errno (SO_ERROR), a = fd. Seen by eBPF only

    # What somebody else counts, read from outside; [ts, ts+dur] is how long reading took.
    COUNTER = 72, Side.BOTH  # ret = 0: read by the target where a phase begins or ends, 1: by the recorder; a = index into the mounts
    #                          of meta.json, or NO_MOUNT for what the kernel counts of process tgid, b = index into
    #                          probes.portable.counts.COUNTS, c = value

    # Functions of the client's library (uprobes; only where it has symbols). Seen by eBPF only.
    FETCH_CALL = 80, Side.DAEMON  # cvmfs::Fetcher::Fetch in a worker, hit or miss: ret = descriptor of the object or -errno
    DOWNLOAD_CALL = 81, Side.DAEMON  # DownloadManager::Fetch in the worker, inside its FETCH_CALL, from before the hand-over until it has the
    #                                  result: ret = 0 or the client's number of the failure, a = address of the job (as in HANDOVER)
    CLEANUP = 82, Side.DAEMON  # PosixQuotaManager::DoCleanup, objects evicted from the cache: ret = 1 if it got below the bound, else 0,
    #                            a = bytes that may stay, b = bytes freed (0: nothing was to be done), c = bytes that stayed;
    #                            b = c = NOT_KNOWN where the layout of the quota manager does not show them
    BACKOFF = 83, Side.DAEMON  # sleep after a failure: DownloadManager::Backoff in the download thread before it asks again, a = address of
    #                            the job; or BackoffThrottle::Throttle in any thread (a = 0), which does not sleep after the first failure

    # For the recorder, never in a trace.
    MARK = 112, Side.RECORDER  # the target wrote a mark of its own, from within a PID namespace: a = ts of the mark, b = tid and c = tgid there.
    #                            The mark gets the numbers of this event
    # fmt: on


class Opcode(IntEnum):
    """FUSE opcodes that are named anywhere (linux/fuse.h)."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    READLINK = 5
    OPEN = 14
    READ = 15
    STATFS = 17
    RELEASE = 18
    GETXATTR = 22
    LISTXATTR = 23
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    ACCESS = 34
    INTERRUPT = 36
    BATCH_FORGET = 42
    READDIRPLUS = 44
    STATX = 52


def no_events() -> Events:
    """Return an empty array of events."""
    return np.empty(0, dtype=EVENT)


def no_texts() -> Texts:
    """Return an empty array of texts."""
    return np.empty(0, dtype=TEXT)


def sorting(
    ts: npt.NDArray[np.uint64], records: Callable[[npt.NDArray[np.intp]], npt.NDArray[np.void]]
) -> npt.NDArray[np.intp]:
    """Return the order by (ts, kind, tid) of the records with these times.

    `records` returns those at some places; it is asked for those only that have their time in common with others.
    """
    order = np.argsort(ts, kind="stable")
    in_turn = ts[order]
    tied = np.flatnonzero(in_turn[1:] == in_turn[:-1])
    if len(tied):
        places = np.union1d(tied, tied + 1)
        same = records(order[places])
        order[places] = order[places][np.lexsort((same["tid"], same["kind"], same["ts"]))]
    return order


def in_order(records: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Return events or texts sorted by (ts, kind, tid); the same array if it is sorted already."""
    ts = records["ts"]
    return records if _are_in_order(ts, records) else records[sorting(ts, lambda places: records[places])]


def _are_in_order(ts: npt.NDArray[np.uint64], records: npt.NDArray[np.void]) -> bool:
    if not bool(np.all(ts[1:] >= ts[:-1])):
        return False
    tied = np.flatnonzero(ts[1:] == ts[:-1])
    (kind, later_kind), (tid, later_tid) = ((records[name][tied], records[name][tied + 1]) for name in ("kind", "tid"))
    return bool(np.all((later_kind > kind) | ((later_kind == kind) & (later_tid >= tid))))
