"""FUSE requests: what the kernel sent joined with what the daemon answered."""

import errno
from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.trace.intervals import Bools, Ints, Lanes, latest, match, pick
from cvtrace.analysis.trace.keys import high_half, low_half, request_key
from cvtrace.analysis.trace.recording import Recording, Rows
from cvtrace.probes.events import DIRECT, Kind, Opcode

WITHOUT_REPLY: Final = tuple(
    int(opcode) for opcode in (Opcode.RELEASE, Opcode.RELEASEDIR, Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT)
)
"""Requests that no thread waits for."""

PATHS: Final = tuple(
    int(opcode)
    for opcode in (
        Opcode.LOOKUP,
        Opcode.GETATTR,
        Opcode.STATX,
        Opcode.READLINK,
        Opcode.OPENDIR,
        Opcode.READDIR,
        Opcode.READDIRPLUS,
    )
)
"""Requests for names and attributes."""

HARMLESS: Final = tuple(
    -number
    for number in (
        errno.EPERM, errno.ENOENT, errno.EINTR, errno.EAGAIN, errno.EACCES, errno.EEXIST, errno.EXDEV, errno.ENOTDIR, errno.EISDIR, errno.EINVAL,
        errno.EROFS, errno.ERANGE, errno.ENAMETOOLONG, errno.ENOSYS, errno.ENOTEMPTY, errno.ELOOP, errno.ENODATA, errno.EOPNOTSUPP, errno.ECANCELED,
    )
)  # fmt: skip
"""Errors that are an answer: there is no such name, no right, no such function. Any other is a failure of the client."""

DIRECT_IO: Final = 1
"""FOPEN_DIRECT_IO of the reply to OPEN (linux/fuse.h): reads of the file go past the page cache."""

PASSTHROUGH: Final = 1 << 7
"""FOPEN_PASSTHROUGH of the reply to OPEN (linux/fuse.h): reads go to a backing file, past the daemon."""


@dataclass(frozen=True)
class Requests:
    """FUSE requests, sorted by `sent`. Times in ns; a request the daemon was not seen to handle has worker -1.

    `sent` is when the kernel queued it (without FUSE tracepoints: when the daemon read it), `received`
    when the daemon read it, `replying` when it began to write the reply, `replied` when that was written.
    """

    connection: Ints
    unique: Ints
    opcode: Ints
    nodeid: Ints
    asker: Ints
    daemon: Ints
    worker: Ints
    sent: Ints
    received: Ints
    replying: Ints
    replied: Ints
    error: Ints
    offset: Ints
    size: Ints
    reply_bytes: Ints
    open_flags: Ints
    node_of_reply: Ints
    handle: Ints
    """Of OPEN and READ: low half of `fh`, negative for a chunked file, else a descriptor of the cache; 0 where it was not seen."""
    by_target: Bools
    seen_by_daemon: Bools
    answered: Bools
    """Whether it has ended: what was under way when the recording or the client ended has not."""
    direct: Bools
    """READs that go past the page cache."""
    row: Ints
    """Index among the events FUSE_DAEMON, -1 without."""
    lanes: Lanes
    """One lane for each daemon worker."""
    in_worker: Ints
    """Order of the requests by (worker, received), for `of_worker`."""

    def __len__(self) -> int:
        return len(self.sent)

    def is_(self, opcode: Opcode) -> Bools:
        same: Bools = self.opcode == int(opcode)
        return same

    @property
    def expects_reply(self) -> Bools:
        """Requests that some thread may wait for."""
        expected: Bools = ~np.isin(self.opcode, WITHOUT_REPLY)
        return expected

    @property
    def failed(self) -> Bools:
        """Requests that the client did not do: answered with an error that is no answer."""
        failed: Bools = (self.error < 0) & ~np.isin(self.error, HARMLESS)
        return failed

    @property
    def reads(self) -> Bools:
        """READs that did not fail: a failed one brought nothing, and tells nothing of caches."""
        reads: Bools = self.is_(Opcode.READ) & ~self.failed
        return reads

    @property
    def read_bytes(self) -> Ints:
        """Bytes a READ brought; what it asked for where the reply was not seen."""
        read = self.is_(Opcode.READ) & (self.error == 0) & self.answered
        brought = np.where(self.reply_bytes >= 0, np.maximum(self.reply_bytes - 16, 0), self.size)
        return np.where(read, np.maximum(brought, 0), 0)

    def of_worker(self, tid: Ints, time_ns: Ints) -> Ints:
        """Return the request that a daemon's thread was handling at a time, -1 if none."""
        order = self.in_worker
        places = self.lanes.at(self.worker[order], self.received[order])
        last = latest(places, self.lanes.at(tid, time_ns))
        request = pick(order, last, -1)
        inside = (pick(self.worker, request, -2) == tid) & (pick(self.replied, request, -1) >= time_ns)
        return np.where(inside, request, -1)


def requests(recording: Recording) -> Requests:
    """Build the table of FUSE requests from FUSE_SEND, FUSE_DAEMON, FUSE_READ and FUSE_REPLY."""
    sends, served = recording.of(Kind.FUSE_SEND), recording.of(Kind.FUSE_DAEMON)
    connections = _Connections(recording, sends)
    key_sent = connections.key(sends.b, sends.a)
    key_served = connections.key(connections.of_daemon(served.tgid), served.a)
    of_send = match(key_served, key_sent)
    daemon_only = match(key_sent, key_served) < 0
    # A row for each request sent, then one for each request that only the daemon saw.
    send = np.concatenate([np.arange(len(sends)), np.full(int(daemon_only.sum()), -1)])
    daemon = np.concatenate([of_send, np.flatnonzero(daemon_only)])
    key = np.where(send >= 0, pick(key_sent, send, -1), pick(key_served, daemon, -1))
    return _table(recording, sends, served, send, daemon, key, connections)


class _Connections:
    """Numbers for connections: those of the mounts, and of processes that no mount names."""

    def __init__(self, recording: Recording, sends: Rows) -> None:
        self._daemon = np.array([mount.daemon_pid for mount in recording.mounts], dtype=np.int64)
        self._connection = np.array([mount.connection for mount in recording.mounts], dtype=np.int64)
        unlisted = -recording.processes_of(Kind.FUSE_DAEMON, Kind.FUSE_REPLY, Kind.FUSE_READ)
        self._known = np.unique(np.concatenate([self._connection, unlisted, sends.b]))

    def of_daemon(self, tgid: Ints) -> Ints:
        return pick(self._connection, match(self._daemon, tgid), -tgid)

    def key(self, connection: Ints, unique: Ints) -> Ints:
        """Return one number for (connection, unique)."""
        rank = np.searchsorted(self._known, connection).astype(np.int64)
        return request_key(rank, unique)


def _table(
    recording: Recording,
    sends: Rows,
    served: Rows,
    send: Ints,
    daemon: Ints,
    key: Ints,
    connections: _Connections,
) -> Requests:
    reads, replies = recording.of(Kind.FUSE_READ), recording.of(Kind.FUSE_REPLY)
    read = match(connections.key(connections.of_daemon(reads.tgid), reads.a), key)
    reply = match(connections.key(connections.of_daemon(replies.tgid), replies.a), key)
    ended = np.where(send >= 0, pick(sends.end, send, 0), pick(served.end, daemon, 0))
    received = pick(served.start, daemon, ended)
    by_daemon = (daemon >= 0) & ~_is(served.unfinished, daemon)
    of_kernel = (send >= 0) & ~_is(sends.unfinished, send)  # which ends what a client that is gone will not answer
    replied = np.where(by_daemon | ~of_kernel, pick(served.end, daemon, ended), ended)
    replied = np.maximum(replied, received)
    replying = np.clip(pick(replies.start, reply, replied), received, replied)
    sent = np.minimum(pick(sends.start, send, received), received)
    size_word, head = pick(replies.b, reply, -1), pick(served.c, daemon, 0)
    # Sender and header both tell who asked. A queued readahead is sent by whoever made room for it, and the
    # header's pid is one of the mount's PID namespace: a known thread of the target is believed first.
    sender, header_pid = pick(sends.tid, send, 0), low_half(head)
    asker = np.where(recording.is_target_thread(sender) | (header_pid == 0), sender, header_pid)
    order = np.lexsort((key, sent))
    worker = pick(served.tid, daemon, -1)[order]
    received = received[order]
    lanes = recording.lanes(np.unique(served.tid))
    brought = pick(reads.c, read, 0)
    opcode = np.where(daemon >= 0, high_half(head), high_half(pick(sends.c, send, 0)))
    return Requests(
        connection=np.where(send >= 0, pick(sends.b, send, 0), connections.of_daemon(pick(served.tgid, daemon, 0)))[
            order
        ],
        unique=np.where(send >= 0, pick(sends.a, send, 0), pick(served.a, daemon, 0))[order],
        opcode=opcode[order],
        nodeid=pick(served.b, daemon, -1)[order],
        asker=asker[order],
        daemon=pick(served.tgid, daemon, -1)[order],
        worker=worker,
        sent=sent[order],
        received=received,
        replying=replying[order],
        replied=replied[order],
        error=np.where(by_daemon, pick(served.ret, daemon, 0), pick(sends.ret, send, 0))[order],
        offset=pick(reads.b, read, -1)[order],
        size=(brought & (DIRECT - 1))[order],
        reply_bytes=np.where(size_word >= 0, low_half(size_word), -1)[order],
        open_flags=np.where(size_word >= 0, high_half(size_word), 0)[order],
        node_of_reply=pick(replies.c, reply, 0)[order],
        handle=_signed_half(np.where(read >= 0, pick(reads.ret, read, 0), pick(replies.c, reply, 0)))[order],
        by_target=recording.is_target_thread(asker)[order],
        seen_by_daemon=(daemon >= 0)[order],
        answered=(by_daemon | of_kernel)[order],
        direct=(brought & DIRECT != 0)[order],
        row=pick(served.index, daemon, -1)[order],
        lanes=lanes,
        in_worker=_by_worker(worker, received),
    )


def _signed_half(number: Ints) -> Ints:
    """Return the low half of each number as a signed one."""
    return np.asarray(number.astype(np.uint64).astype(np.uint32).view(np.int32).astype(np.int64))


def _is(flags: Bools, index: Ints) -> Bools:
    """Return the flag at each index, False where it points nowhere."""
    is_set: Bools = pick(flags.astype(np.int64), index, 0) == 1
    return is_set


def _by_worker(worker: Ints, received: Ints) -> Ints:
    handled = np.flatnonzero(worker >= 0)
    order: Ints = handled[np.lexsort((received[handled], worker[handled]))]
    return order
