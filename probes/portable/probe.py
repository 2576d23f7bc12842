"""The probe that needs no privileges: it sees no events of its own; phases come from marks, counts from the client."""

from __future__ import annotations

from typing import Final

from cvtrace.probes.events import Events, Texts, no_events, no_texts
from cvtrace.probes.probe import Losses, Scope

UNSEEN: Final = (
    "single reads, page faults, cache lookups and fetches are not seen: where the time of a phase went is unknown, "
    "and the client's counters cover the whole run, not a phase"
)


class PortableProbe:
    """Observes nothing by itself; it stands in so that a recording without privileges has the same shape."""

    name = "portable"

    def start(self, scope: Scope) -> None:
        """Do nothing: there is nothing to attach."""

    def add_target(self, pid: int) -> None:
        """Do nothing."""

    def command(self, argv: list[str]) -> list[str]:
        """Return `argv`: the target runs as it is."""
        return argv

    def drain(self) -> tuple[Events, Texts]:
        """Return no events."""
        return no_events(), no_texts()

    def stop(self) -> None:
        """Do nothing."""

    def losses(self) -> Losses:
        """Return no losses."""
        return Losses()

    def missing(self) -> list[str]:
        """Return what this rung hides."""
        return [UNSEEN]
