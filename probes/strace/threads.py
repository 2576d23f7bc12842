"""Which process a thread belongs to, learnt from the clone calls in the log."""

from __future__ import annotations

from collections.abc import Mapping

from cvtrace.probes.strace.parse import LineParser

CLONES = (b"clone", b"clone3", b"fork", b"vfork")


class Threads:
    """Maps tid to tgid.

    `tgids` says what is known beforehand. A thread whose first line comes before its parent's clone call has returned is
    told by the call that is pending then; a thread that nothing tells about belongs to `default`, or else is a process.
    """

    def __init__(self, tgids: Mapping[int, int] | None, default: int | None = None) -> None:
        self._tgids = dict(tgids or {})
        self._named = set(self._tgids)
        """Threads that live and began a line. Without `--pidns-translation` clone returns numbers of the caller's PID namespace."""
        self._ended: dict[int, int] = {}
        """When each thread that is gone ended, ns."""
        self._newly_ended: dict[int, int] = {}
        self._default = default

    def tgid(self, tid: int, parser: LineParser) -> int:
        self._named.add(tid)
        known = self._tgids.get(tid)
        if known is None:
            known = self._tgids[tid] = self._guess(tid, parser)
        return known

    def cloned(self, parent: int, child: int, arguments: bytes, parser: LineParser) -> int:
        """Note a finished clone call and return the tgid of the child."""
        tgid = self.tgid(parent, parser) if b"CLONE_THREAD" in arguments else child
        self._tgids[child] = tgid
        return tgid

    def processes(self) -> tuple[int, ...]:
        """Return the processes of the threads that have not ended."""
        return tuple(dict.fromkeys(self._tgids.values()))

    def forget(self, tid: int, ts: int) -> None:
        """Forget a thread that ended at `ts` ns: its number may come again, as that of somebody else's thread."""
        self._tgids.pop(tid, None)
        self._named.discard(tid)
        self._ended[tid] = self._newly_ended[tid] = ts

    def take_ended(self) -> dict[int, int]:
        """Return the threads that ended since the last call, and when, ns."""
        ended, self._newly_ended = self._newly_ended, {}
        return ended

    def had(self, tid: int, ts: int) -> bool:
        """Return whether a thread that began lines of the log had this number at `ts` ns."""
        return tid in self._named or ts <= self._ended.get(tid, -1)

    def _guess(self, tid: int, parser: LineParser) -> int:
        for parent, arguments in parser.pending(*CLONES):
            if parent != tid:
                return self._tgids.get(parent, parent) if b"CLONE_THREAD" in arguments else tid
        return tid if self._default is None else self._default
