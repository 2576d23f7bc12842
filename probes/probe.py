"""What every probe can do, and what only some can.

`Probe` is what each has. What only some have is a Protocol of its own, and whoever uses it asks with isinstance: nothing outside of
`probes/` compares the names of probes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from cvtrace.probes.capabilities import Capability

if TYPE_CHECKING:  # numpy, which who only looks at mounts does not need
    from cvtrace.probes.events import Events, Sight, Texts


class CannotObserve(Exception):
    """This machine does not let a probe observe; the message says what is missing and the command that mends it."""


@dataclass(frozen=True)
class Daemon:
    """One CVMFS client process to observe."""

    pid: int
    """As /proc shows it."""
    device: int = 0
    """st_dev of the mount that it serves; 0 for a manager of caches."""


@dataclass(frozen=True)
class Scope:
    """What a probe is to observe: the daemons, the devices of their mounts, and the library that marks phases."""

    daemons: tuple[Daemon, ...]
    devices: tuple[int, ...]
    """st_dev of every observed mount, as os.stat gives it; its minor number is the FUSE connection."""
    libraries: tuple[str, ...] = ()
    """Paths of libonnxruntime-genai.so that the target may map."""
    other_devices: tuple[int, ...] = ()
    """st_dev of the FUSE mounts that are not observed: only what the target does there is recorded."""


@dataclass(frozen=True)
class Losses:
    """Events that were seen and could not be kept."""

    by_kind: dict[str, int] = field(default_factory=dict)
    """Name of the kind (or of the stage) -> number of events."""
    by_cpu: dict[str, list[int]] = field(default_factory=dict)
    """The same, a number for each CPU; empty where the probe cannot tell."""

    @property
    def total(self) -> int:
        return sum(self.by_kind.values())


class Probe(Protocol):
    """A way of observing. Called in this order: start, add_target, drain repeatedly, stop, drain until empty."""

    name: str
    """As `--probes` and meta.json have it."""
    title: str
    """As a sentence has it."""

    @property
    def sees(self) -> frozenset[Sight]:
        """What is observed, once the probe has started. Without REQUESTS, the target reads the client's counters at the boundaries of its
        phases."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this probe needs from when it has started until it has stopped, besides what every recorder needs."""

    def start(self, scope: Scope) -> None:
        """Attach. Raises CannotObserve with one sentence, leaving nothing attached."""

    def add_target(self, pid: int) -> None:
        """Observe process `pid` and all that it will fork; called while it is stopped before its exec, or when attaching."""

    def command(self, argv: list[str]) -> list[str]:
        """Return the command line that runs `argv` under this probe (`argv` itself unless the probe must be the parent)."""

    @property
    def drain_every_s(self) -> float:
        """How long `drain` may wait for its next call, so that nothing is lost or comes too late."""

    def drain(self) -> tuple[Events, Texts]:
        """Take what was observed since the last call; both arrays may be empty."""

    def stop(self) -> None:
        """Detach. What is still open is delivered by the next `drain`, flagged UNFINISHED."""

    def losses(self) -> Losses:
        """Return how many events were lost so far."""

    def missing(self) -> list[str]:
        """Return one sentence for each thing this probe cannot see here and what that hides."""


@runtime_checkable
class HasWakeupFd(Protocol):
    """A probe that can tell when `drain` must not wait any longer."""

    @property
    def wakeup_fd(self) -> int:
        """A descriptor that is readable then, while the probe observes."""


@runtime_checkable
class MarksPhases(Protocol):
    """A probe that can see the calls of a GenAI library, without the import hook."""

    @property
    def marks_phases(self) -> bool:
        """Whether it sees them: from the start, or since the target loaded a library."""


@runtime_checkable
class HasBuffer(Protocol):
    """A probe whose events wait for `drain` in a buffer, of a size that the user may choose."""

    @property
    def buffer_bytes(self) -> int:
        """The room for events, as it was chosen; fuller, it loses them."""


@runtime_checkable
class MeasuresCost(Protocol):
    """A probe that can measure what observing costs in the kernel."""

    @property
    def costs(self) -> Mapping[str, Any]:
        """Names and values for `recorder` in meta.json, once the probe has stopped; none if that was not asked for."""


@runtime_checkable
class HasHelper(Protocol):
    """A probe with a process of its own that has the target's environment, and is not the target's."""

    @property
    def helper(self) -> str:
        """The name of that process, as /proc shows it."""


class ClientSymbols(Protocol):
    """What is seen of the functions of a client's library."""

    @property
    def build_id(self) -> str | None:
        """The build id of the library, None if it has none."""

    @property
    def functions(self) -> tuple[str, ...]:
        """The functions whose calls are recorded."""


@runtime_checkable
class SeesClientFunctions(Protocol):
    """A probe that can see calls of functions in the library of a daemon."""

    def client_library(self, pid: int) -> ClientSymbols | None:
        """Return what is seen of the library of daemon `pid`, None if it has none that is known."""


@runtime_checkable
class KnowsCalls(Protocol):
    """A probe that can tell, while it observes, which calls have begun and not returned."""

    def calls_under_way(self) -> tuple[int, ...]:
        """Return the calls that mark phases (indices into FUNCTIONS) that threads are in, the one that began first first."""


@runtime_checkable
class AddsScope(Protocol):
    """A probe that can observe more while it observes."""

    def add_scope(self, daemons: Iterable[Daemon], devices: Iterable[int], other_devices: Iterable[int] = ()) -> None:
        """Observe these daemons and mounts (st_dev), too, and what the target does on `other_devices`."""


@runtime_checkable
class KnowsProcesses(Protocol):
    """A probe that can tell which processes of the target's tree live."""

    def living(self) -> tuple[int, ...]:
        """Return the processes of the target's tree that have not ended."""


@runtime_checkable
class KnowsNumbers(Protocol):
    """A probe that learns the numbers that processes have in the initial PID namespace, where this process does not see them."""

    def kernel_number(self, pid: int) -> int | None:
        """Return the number of a process that was named as `pid`, None if it was not seen at work."""

    def server_of(self, device: int) -> int | None:
        """Return the number of the process that answers the requests on a mount (st_dev), None if it was not seen to."""
