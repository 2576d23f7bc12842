"""The eBPF probe: attaches the programs, drains their rings, and tells what was lost or cannot be seen."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import select
import time
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from cvtrace.probes import namespaces
from cvtrace.probes.capabilities import Capability
from cvtrace.probes.command import SUDO
from cvtrace.probes.ebpf import bcc, client, cost, in_flight, kprobes, loader, uprobes
from cvtrace.probes.ebpf.client import ClientFunctions, ClientLibrary
from cvtrace.probes.ebpf.detach import descriptors, held_by_child
from cvtrace.probes.ebpf.memory import release_compiler
from cvtrace.probes.ebpf.phase_calls import PhaseCalls
from cvtrace.probes.ebpf.records import LATECOMERS, LOST_CALLS, LOST_TEXT, ROLE_DAEMON, ROLE_TARGET
from cvtrace.probes.ebpf.ring import Ring
from cvtrace.probes.ebpf.syscalls import DAEMON, TARGET, numbers
from cvtrace.probes.events import EVENT, TEXT, UNFINISHED, Events, Kind, Sight, Texts, no_events, no_texts
from cvtrace.probes.http import drop_contents, redact_texts
from cvtrace.probes.names import Names
from cvtrace.probes.phases.own import OwnFunction
from cvtrace.probes.probe import CannotObserve, Daemon, Losses, Scope
from cvtrace.probes.processes import lives

BUFFER_BYTES: Final = 32_000_000
"""Room for events if the user says nothing: half a second of a million events per second."""
TEXT_SHARE: Final = 4
"""The ring of texts is so many times smaller."""
_LATEST_S: Final = 0.25


def kernel_device(st_dev: int) -> int:
    """Return a device number as the kernel has it (MKDEV of linux/kdev_t.h)."""
    return os.major(st_dev) << 20 | os.minor(st_dev)


def _pages(size_bytes: int) -> int:
    """Return the pages of a ring that holds so much: the kernel takes powers of two."""
    return 1 << max(0, (size_bytes - 1) // mmap.PAGESIZE).bit_length()


class EbpfProbe:
    """Observes with BPF programs in the running kernel; needs root (CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN)."""

    name = "ebpf"
    title = "eBPF"
    slots = loader.Slots()

    def __init__(self, buffer_bytes: int | None = None, cost: bool = False, own: tuple[OwnFunction, ...] = ()) -> None:
        self.buffer_bytes = BUFFER_BYTES if buffer_bytes is None else buffer_bytes
        pages = _pages(self.buffer_bytes)
        self._rings = loader.Rings(pages, max(pages // TEXT_SHARE, 1))
        self._cost = cost
        self._statistics: int | None = None
        self._bpf: Any = None
        self._missing: list[str] = []
        self._late: tuple[Events, Texts] = (no_events(), no_texts())
        self._losses = Losses()
        self._links: list[int] = []
        self.costs: dict[str, Any] = {}
        """After `stop`, with `cost`: `bpf_s`, seconds that the programs ran, `bpf_runs`, how often, and both for each of `bpf_programs`."""
        self._namespaced = not namespaces.sees_initial()
        self._namespaces: list[int] = []
        self._namesakes: dict[int, namespaces.Namesake] = {}
        self._recognised: dict[int, int] = {}
        self._servers: dict[int, int] = {}
        self._devices: set[int] = set()
        self._targets: list[int] = []
        self._daemons: list[int] = []
        self._phases = PhaseCalls(lambda tid: namespaces.tree(self._targets) if self._namespaced else (tid,), own)
        self._client = ClientFunctions(self._attach_client, lambda tid: self._daemons if self._namespaced else (tid,))
        self._names = Names()

    @property
    def sees(self) -> frozenset[Sight]:
        """What the programs observe that this kernel allows."""
        attached = {Sight.SENDS: self._fuse, Sight.PAGES: self._pages, Sight.SCHEDULER: self._sched}
        return frozenset({Sight.REQUESTS, *(sight for sight, is_attached in attached.items() if is_attached)})

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What is needed until the stop.

        The tables in the kernel are read at the end: for the fd alone since 5.19, for CAP_BPF before. And when the target loads a
        GenAI library, that is found in /proc/PID/map_files (CAP_CHECKPOINT_RESTORE) and its calls are attached to. Before
        uprobes.MULTI that takes a perf event for each call, which kernels with the fix of CVE-2025-38466 keep for
        CAP_SYS_ADMIN; and /proc/PID/map_files was for that alone before 5.9.
        """
        always = {Capability.BPF, Capability.PERFMON, Capability.CHECKPOINT_RESTORE}
        return frozenset(always if kprobes.release() >= uprobes.MULTI else {*always, Capability.SYS_ADMIN})

    def start(self, scope: Scope) -> None:
        """Compile, load and attach. Raises CannotObserve with one sentence, leaving nothing attached."""
        if os.geteuid() != 0:
            raise CannotObserve(f"eBPF needs root: run `{SUDO} run …`, or use `--probes portable`")
        source = self._source()
        self._missing = list(source.missing)
        self._sched = "sched.bpf.c" in source.programs
        self._fuse = "fuse_requests.h" in source.programs
        self._faults = "kprobes_pages.bpf.c" in source.programs
        self._pages = self._faults or "pages.bpf.c" in source.programs
        self._bpf = bcc.compile_program(source.text)
        try:
            uprobes.prepare(self._bpf, "client")
            self._fill_filters(scope)
            self._attach_kprobes(source.attachments)
            self._phases.start(self._bpf, scope.libraries, own_numbers=not self._namespaced)
            self._events = Ring(self._bpf[b"events"].map_fd, self._rings.event_pages, EVENT)
            self._texts = Ring(self._bpf[b"texts"].map_fd, self._rings.text_pages, TEXT)
            self._filling = self._filling_rings()
            self._measure_cost()
            release_compiler()
        except BaseException:
            self._detach(self._bpf, self._every_link())
            self._bpf = None
            raise

    def _source(self) -> loader.Source:
        return loader.source(self._rings, self.slots)

    def _watched(self, name: str) -> int:
        """Return whose system calls of that name are recorded, as roles."""
        return (ROLE_TARGET if name in TARGET else 0) | (ROLE_DAEMON if name in DAEMON else 0)

    def _fill_filters(self, scope: Scope) -> None:
        watch = self._bpf[b"watch"]
        for name, number in numbers().items():
            watched = self._watched(name)
            watch[ctypes.c_uint32(number)] = ctypes.c_uint32(watched)
        if self._namespaced:  # processes are recognised while they are in calls whose begin was not noted
            self._bpf[b"displacements"][LATECOMERS] = ctypes.c_uint64(1)
        self.add_scope(scope.daemons, scope.devices, scope.other_devices)

    def add_scope(self, daemons: Iterable[Daemon], devices: Iterable[int], other_devices: Iterable[int] = ()) -> None:
        """Observe these daemons and mounts (st_dev), too, and what the target does on `other_devices`."""
        devices = tuple(devices)
        self._devices.update(devices)
        for st_devs, everybody in ((other_devices, 0), (devices, 1)):
            for st_dev in st_devs:
                self._add_device(st_dev, everybody)
        for daemon in daemons:
            self._observe(daemon.pid, ROLE_DAEMON)
            self._note_served(daemon)
            self._daemons.append(daemon.pid)
            self._client.look_into(daemon.pid)

    def _add_device(self, st_dev: int, everybody: int) -> None:
        known, slots = self._bpf[b"devices"], self._bpf[b"device_slots"]
        dev = kernel_device(st_dev)
        slot = ctypes.c_int(dev & (self.slots.device - 1))
        if slots[slot].dev in (0, dev):
            slots[slot] = slots.Leaf(dev, st_dev, everybody, 0)
        known[ctypes.c_uint32(dev)] = known.Leaf(dev, st_dev, everybody, 0)

    def _note_served(self, daemon: Daemon) -> None:
        """Tell the programs what is known of a daemon before it answers its first request."""
        if self._namespaced:
            return
        pid = ctypes.c_uint32(daemon.pid)
        if daemon.device and self._fuse:
            self._bpf[b"served"][pid] = ctypes.c_uint32(kernel_device(daemon.device))
        if namespaces.namespace_of(daemon.pid) != namespaces.INITIAL:
            self._bpf[b"namespace_numbers"][pid] = ctypes.c_uint32(1)

    def _observe(self, pid: int, role: int) -> None:
        if self._namespaced:
            self._await(pid, role)
            return
        processes = self._bpf[b"processes"]
        for tid in (pid, *in_flight.task_ids(pid)):
            processes[ctypes.c_uint32(tid)] = ctypes.c_uint32(role)
        in_flight.note_in_flight_calls(self._bpf, self.slots, pid, role)

    def _await(self, pid: int, role: int) -> None:
        """Let the programs recognise a process by its number in its own PID namespace."""
        namesake = namespaces.namesake(pid)
        if namesake is None:
            return
        if namesake.namespace not in self._namespaces:
            if len(self._namespaces) == loader.NAMESPACES:
                self._missing.append(f"process {pid} is in one PID namespace too many: it is not observed")
                return
            self._bpf[b"namespaces"][len(self._namespaces)] = ctypes.c_uint64(namesake.namespace)
            self._namespaces.append(namesake.namespace)
        self._namesakes[pid] = namesake
        awaited = self._bpf[b"awaited"]
        awaited[awaited.Key(namesake.namespace, namesake.number)] = ctypes.c_uint32(role)

    def living(self) -> tuple[int, ...]:
        """Return the processes of the target's tree that have not ended; none where /proc does not show the kernel's numbers."""
        if self._bpf is None or self._namespaced:
            return ()
        targets = [tgid.value for tgid, role in self._bpf[b"processes"].items() if role.value == ROLE_TARGET]
        return tuple(tgid for tgid in targets if lives(tgid))

    def kernel_number(self, pid: int) -> int | None:
        """Return the number in the initial PID namespace of a process that was named as `pid`, None if it was not seen at work."""
        if not self._namespaced:
            return pid
        namesake = self._namesakes.get(pid)
        if self._bpf is not None and namesake is not None and pid not in self._recognised:
            table = self._bpf[b"recognised"]
            with contextlib.suppress(KeyError):
                self._recognised[pid] = table[table.Key(namesake.namespace, namesake.number)].value
        return self._recognised.get(pid)

    def _remember_numbers(self) -> None:
        """Ask the programs for all numbers that they know, for when they are gone."""
        for pid in self._namesakes:
            self.kernel_number(pid)
        for device in self._devices:
            self.server_of(device)

    def server_of(self, device: int) -> int | None:
        """Return the number in the initial PID namespace of who answers requests on a mount, None if nobody was seen to."""
        if self._bpf is not None:
            dev = kernel_device(device)
            slot = self._bpf[b"device_slots"][ctypes.c_int(dev & (self.slots.device - 1))]
            if slot.dev != dev:
                with contextlib.suppress(KeyError):
                    slot = self._bpf[b"devices"][ctypes.c_uint32(dev)]
            if slot.dev == dev and slot.server:
                self._servers[device] = slot.server
        return self._servers.get(device)

    def _attach_kprobes(self, attachments: tuple[kprobes.Attachment, ...]) -> None:
        try:
            kprobes.attach(self._bpf, attachments)
        except Exception as error:  # bcc raises plain Exception for everything
            raise CannotObserve(f"the kernel refused a kprobe: {error}") from error

    def _attach_client(self, path: str, offsets: dict[int, int]) -> None:
        self._links += uprobes.attach(self._bpf, path, offsets, "client")

    def client_library(self, pid: int) -> ClientLibrary | None:
        """Return what is seen of the functions of a daemon's library, None if none was found."""
        return self._client.library_of(pid)

    def _measure_cost(self) -> None:
        if self._cost:
            try:
                self._statistics = cost.enable()
            except OSError as error:
                self._missing.append(f"the kernel does not tell what BPF programs cost ({error})")

    def _read_cost(self) -> None:
        if self._statistics is not None:
            spent = cost.read({name.decode(): function.fd for name, function in self._bpf.funcs.items()})
            self.costs = {
                "bpf_s": sum(each.bpf_ns for each in spent.values()) / 1e9,
                "bpf_runs": sum(each.runs for each in spent.values()),
                "bpf_programs": {name: [each.bpf_ns / 1e9, each.runs] for name, each in spent.items() if each.runs},
            }
            os.close(self._statistics)

    def add_target(self, pid: int) -> None:
        """Observe process `pid` and all that it forks."""
        self._observe(pid, ROLE_TARGET)
        self._targets.append(pid)
        self._phases.add_target(pid)

    def command(self, argv: list[str]) -> list[str]:
        """Return `argv`: the target runs as it is."""
        return argv

    @property
    def marks_phases(self) -> bool:
        """Whether calls of a GenAI library are seen: from the start, or since the target loaded one."""
        return self._phases.marks

    @property
    def drain_every_s(self) -> float:
        """How long what is in the rings may wait; shorter as long as a library may be loaded that marks phases.

        Each drain takes 0.3 ms of a CPU, whatever there is: caches are cold by then.
        """
        return self._phases.drain_every_s or _LATEST_S

    def _filling_rings(self) -> select.epoll:
        filling = select.epoll()
        for name in (b"events", b"texts"):
            # By edges: there is something in a ring most of the time, but a wake-up only when it fills.
            filling.register(self._bpf[name].map_fd, select.EPOLLIN | select.EPOLLET)
        return filling

    @property
    def wakeup_fd(self) -> int:
        """A descriptor that is readable when a ring is filling, from `start` to `stop`."""
        return self._filling.fileno()

    def drain(self) -> tuple[Events, Texts]:
        """Take what is in the rings; see ring.py. After `stop`, also the calls that were still open."""
        if self._bpf is None:
            late, self._late = self._late, (no_events(), no_texts())
            return late
        self._filling.poll(0)  # so that it tells of what is written from now on
        texts = redact_texts(self._names.take(self._texts.drain()))
        self._phases.notice(texts)
        self._client.notice(texts)
        self._client.look()
        events = drop_contents(self._events.drain())
        ended = self._phases.end_by_next(events)
        return np.concatenate([events, ended]) if len(ended) else events, texts

    def stop(self) -> None:
        """Stop observing and collect the open calls."""
        if self._bpf is None:
            return
        stopped_ns = time.monotonic_ns()
        self._remember_numbers()
        unfinished = self._unfinished(stopped_ns)
        self._bpf[b"processes"].clear()
        self._read_cost()
        events, texts = self.drain()
        self._late = np.concatenate([events, unfinished]), texts
        self._losses = self._count_losses()
        self._events.close()
        self._texts.close()
        self._filling.close()
        with held_by_child(descriptors(self._bpf, self._every_link())):
            self._detach(self._bpf, self._every_link())
        self._bpf = None

    def _every_link(self) -> list[int]:
        return [*self._links, *self._phases.links]

    @staticmethod
    def _detach(bpf: Any, links: list[int]) -> None:
        for link in links:
            os.close(link)
        bpf.cleanup()

    def _unfinished(self, stopped_ns: int) -> Events:
        """Return one UNFINISHED event for each call, phase, absence and FUSE request that has not ended."""
        parts = [
            in_flight.system_calls(self._bpf, self.slots),
            self._phases.in_flight_calls(),
            client.in_flight_calls(self._bpf),
            in_flight.requests_served(self._bpf, self.slots),
        ]
        if self._sched:
            parts.append(in_flight.absences(self._bpf, self.slots))
        if self._fuse:
            parts.append(in_flight.requests_sent(self._bpf, self.slots))
        if self._faults:
            parts.append(in_flight.page_faults(self._bpf))
        events = np.concatenate(parts)
        events = events[events["ts"] <= stopped_ns]
        events["dur"] = stopped_ns - events["ts"]
        events["kind"] |= UNFINISHED
        return events

    def calls_under_way(self) -> tuple[int, ...]:
        """Return the calls that mark phases that threads are in, the one that began first first."""
        if self._bpf is None:
            return ()
        return tuple(np.sort(self._phases.in_flight_calls(), order="ts")["a"].tolist())

    def _count_losses(self) -> Losses:
        by_cpu: dict[str, list[int]] = {}
        slots = [(kind.value, kind.name) for kind in Kind]
        slots += [(LOST_TEXT + kind.value, f"{kind.name} text") for kind in Kind]
        for slot, name in (*slots, (LOST_CALLS, "system calls")):
            counts = [int(count) for count in self._bpf[b"lost"][ctypes.c_int(slot)]]
            if any(counts):
                by_cpu[name] = counts
        return Losses({name: sum(counts) for name, counts in by_cpu.items()}, by_cpu)

    def losses(self) -> Losses:
        """Return the events that found no room, by kind."""
        return self._count_losses() if self._bpf is not None else self._losses

    def missing(self) -> list[str]:
        """Return what this kernel does not let the probe see."""
        return [*self._missing, *self._phases.missing, *self._phases.own_missing(), *self._client.missing()]
