"""A trace as read back: in memory as records, or as packed columns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cvtrace.probes.events import Events, Texts, in_order
from cvtrace.tracer.columns import EventColumns


@dataclass(frozen=True)
class Trace:
    """A trace as read back.

    `events` is sorted by ts. `texts` has one record per text. `meta` is meta.json. `damage` is None for a
    whole trace, otherwise one sentence that says where and why it ends.
    """

    path: Path
    meta: dict[str, Any]
    events: Events
    texts: Texts
    damage: str | None

    def __len__(self) -> int:
        return len(self.events)

    def columns(self) -> EventColumns:
        """Return the events by kind, as packed columns."""
        return EventColumns.of(in_order(self.events))


class PackedTrace(Trace):
    """A finished trace as read back: its events are held as packed columns, and unpacked only for who asks for them as records."""

    def __init__(
        self, path: Path, meta: dict[str, Any], events: EventColumns | Events, texts: Texts, damage: str | None
    ) -> None:
        vars(self).update(path=path, meta=meta, texts=texts, damage=damage)
        vars(self).update({"packed" if isinstance(events, EventColumns) else "events": events})

    @cached_property
    def events(self) -> Events:
        return self.columns().events()

    def __len__(self) -> int:
        return len(self.columns())

    def columns(self) -> EventColumns:
        packed: EventColumns | None = vars(self).get("packed")
        return super().columns() if packed is None else packed
