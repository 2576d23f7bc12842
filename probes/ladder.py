"""The ladder of probes: the best one that this machine allows, and what each rung that failed said."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from typing import Any, Final

from cvtrace.probes.command import SUDO
from cvtrace.probes.probe import CannotObserve, Probe, Scope

RUNGS: Final = {
    "ebpf": ("cvtrace.probes.ebpf.probe", "EbpfProbe"),
    "strace": ("cvtrace.probes.strace.probe", "StraceProbe"),
    "portable": ("cvtrace.probes.portable.probe", "PortableProbe"),
}
"""Best first: module and class of each probe, imported when it is tried."""

CHOICES: Final = ("auto", *RUNGS)

NOT_ROOT: Final = (
    f"without root only phases and the client's own counters are seen, not single reads and fetches: run `{SUDO} run …`"
)


@dataclass(frozen=True)
class Started:
    """A probe that observes, and one sentence for each better one that could not."""

    probe: Probe
    refusals: tuple[str, ...]


@dataclass(frozen=True)
class Settings:
    """What the user asked of the probe; each probe takes what concerns it."""

    buffer_bytes: int | None = None
    """Room for events that wait for the recorder; None for the probe's default."""
    cost: bool = False
    """Whether to measure what observing itself costs in the kernel."""


def start_probe(
    choice: str, scope: Scope, owner: tuple[int, int] | None = None, settings: Settings = Settings()
) -> Started:
    """Start the probe called `choice`, or for `auto` the best one that works here.

    `owner` is the (uid, gid) the target will run as, if not those of this process. Raises CannotObserve with one sentence when the chosen one, or every one, refuses.
    """
    if choice != "auto":
        return Started(_start(choice, scope, owner, settings), ())
    if os.geteuid() != 0:
        return Started(_start("portable", scope, owner, settings), (NOT_ROOT,))
    refusals: list[str] = []
    for name in RUNGS:
        try:
            return Started(_start(name, scope, owner, settings), tuple(refusals))
        except CannotObserve as refusal:
            refusals.append(f"{name}: {refusal}")
    raise CannotObserve("; ".join(refusals))


def _start(name: str, scope: Scope, owner: tuple[int, int] | None, settings: Settings) -> Probe:
    if name == "ebpf" and os.geteuid() != 0:
        raise CannotObserve(f"eBPF needs root: run `{SUDO} run …`, or use `--probes portable`")
    module, kind = RUNGS[name]
    try:
        given: dict[str, Any] = {"strace": {"owner": owner}, "ebpf": vars(settings)}.get(name, {})
        probe: Probe = getattr(importlib.import_module(module), kind)(**given)
    except ImportError as error:
        raise CannotObserve(f"the {name} probe cannot be loaded here: {error}") from error
    probe.start(scope)
    return probe
