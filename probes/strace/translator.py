"""What translating the daemons' log and the target's have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from cvtrace.probes.events import Kind
from cvtrace.probes.strace.columns import Columns
from cvtrace.probes.strace.parse import Handler, LineParser
from cvtrace.probes.strace.threads import Threads


class Translator(ABC):
    """Translates the lines that `parser` is fed with; what they say is in `columns`."""

    def __init__(
        self, *, realtime_offset_ns: int, tgids: Mapping[int, int] | None, default_tgid: int | None = None
    ) -> None:
        self.columns = Columns()
        self.parser = LineParser(self._handlers(), realtime_offset_ns=realtime_offset_ns)
        self._threads = Threads(tgids, default_tgid)

    def had(self, tid: int, ts: int) -> bool:
        """Return whether a thread that began lines of the log had this number at `ts` ns."""
        return self._threads.had(tid, ts)

    def finish(self, end_ns: int | None = None) -> None:
        """Emit every call that has not returned as UNFINISHED."""
        self.parser.finish(end_ns)

    @abstractmethod
    def _handlers(self) -> dict[bytes, Handler]:
        """Return what each system call is translated by."""

    def _event(
        self, kind: Kind, tid: int, ts: int, dur: int, ret: int | None, a: int = 0, b: int = 0, c: int = 0
    ) -> None:
        self.columns.event(kind, ts, dur, self._threads.tgid(tid, self.parser), tid, ret, a, b, c)
