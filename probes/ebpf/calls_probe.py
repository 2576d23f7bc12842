"""The calls of the library alone: for runs that are timed and not traced, of programs that have no import hook to mark them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cvtrace.probes.ebpf import loader
from cvtrace.probes.ebpf.probe import EbpfProbe
from cvtrace.probes.ebpf.records import ROLE_TARGET
from cvtrace.probes.probe import Daemon

OPENS: Final = ("open", "openat", "openat2")
"""What tells that a target loads the library later."""


class CallsProbe(EbpfProbe):
    """Sees the begin and the end of processes, what they open, and the calls of a GenAI library: nothing of mounts and clients."""

    def _source(self) -> loader.Source:
        return loader.source(self._rings, self.slots, ())

    def _watched(self, name: str) -> int:
        return ROLE_TARGET if name in OPENS else 0

    def add_scope(self, daemons: Iterable[Daemon], devices: Iterable[int], other_devices: Iterable[int] = ()) -> None:
        """Observe none of them."""
