"""The ladder of probes: the best one that this machine allows, and what each rung that failed said."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cvtrace.probes.command import SUDO
from cvtrace.probes.phases.own import OwnFunction
from cvtrace.probes.probe import CannotObserve, Probe, Scope

NOT_ROOT: Final = (
    f"without root only phases and the client's own counters are seen, not single reads and fetches: run `{SUDO} run …`"
)


@dataclass(frozen=True)
class Settings:
    """What a recording says to the probe; each probe takes what concerns it."""

    buffer_bytes: int | None = None
    """Room for events that wait for the recorder; None for the probe's default."""
    cost: bool = False
    """Whether to measure what observing itself costs in the kernel."""
    owner: tuple[int, int] | None = None
    """The (uid, gid) that the target will run as, if not those of this process."""
    own: tuple[OwnFunction, ...] = ()
    """Functions of the user's own that mark phases."""


# Each is imported when it is tried: the others' libraries may be missing.


def _ebpf(settings: Settings) -> Probe:
    from cvtrace.probes.ebpf.probe import EbpfProbe

    return EbpfProbe(settings.buffer_bytes, settings.cost, settings.own)


def _strace(settings: Settings) -> Probe:
    from cvtrace.probes.strace.probe import StraceProbe

    return StraceProbe(owner=settings.owner)


def _portable(settings: Settings) -> Probe:
    from cvtrace.probes.portable.probe import PortableProbe

    return PortableProbe()


RUNGS: Final[dict[str, Callable[[Settings], Probe]]] = {"ebpf": _ebpf, "strace": _strace, "portable": _portable}
"""Best first: what makes the probe of each name."""

CHOICES: Final = ("auto", *RUNGS)


@dataclass(frozen=True)
class Started:
    """A probe that observes, and one sentence for each better one that could not."""

    probe: Probe
    refusals: tuple[str, ...]


def start_probe(choice: str, scope: Scope, settings: Settings = Settings()) -> Started:
    """Start the probe called `choice`, or for `auto` the best one that works here.

    Raises CannotObserve with one sentence when the chosen one, or every one, refuses.
    """
    if choice != "auto":
        return Started(_start(choice, scope, settings), ())
    if os.geteuid() != 0:
        return Started(_start("portable", scope, settings), (NOT_ROOT,))
    refusals: list[str] = []
    for name in RUNGS:
        try:
            return Started(_start(name, scope, settings), tuple(refusals))
        except CannotObserve as refusal:
            refusals.append(f"{name}: {refusal}")
    raise CannotObserve("; ".join(refusals))


def _start(name: str, scope: Scope, settings: Settings) -> Probe:
    try:
        probe = RUNGS[name](settings)
    except ImportError as error:
        raise CannotObserve(f"the {name} probe cannot be loaded here: {error}") from error
    probe.start(scope)
    return probe
