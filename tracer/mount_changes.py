"""Mounts and daemons that come and go while a recording runs."""

from __future__ import annotations

import time
from dataclasses import replace

from cvtrace.probes.probe import AddsScope
from cvtrace.tracer.new_mounts import NewMounts
from cvtrace.tracer.observation import Observation
from cvtrace.tracer.signals import Signals


class MountChanges:
    """Observes mounts that appear, and tells of daemons that end."""

    def __init__(self, observation: Observation) -> None:
        self._observation = observation
        self._new_mounts = NewMounts(observation.environment.mount_choice, observation.environment.points())

    def begin(self, signals: Signals) -> None:
        """Let the wait for signals end when there is news of mounts, and take what has happened so far."""
        for descriptor, events in self._new_mounts.descriptors.items():
            signals.watch(descriptor, events)
        self._observation.writer.update_meta(other_mounts=self._observation.environment.other_mounts.meta())
        self._look_for_mounts()

    def take(self, ready: set[int]) -> None:
        """See to mounts if one of the descriptors that are `ready` has news of them."""
        if not ready.isdisjoint(self._new_mounts.descriptors):
            self._look_for_mounts()

    def close(self) -> None:
        """Look for mounts no more."""
        self._new_mounts.close()

    def add_other_mounts(self, devices: list[int]) -> None:
        """Observe what the target does on FUSE mounts (st_dev) that were not known."""
        if devices:
            if isinstance(self._observation.probe, AddsScope):
                self._observation.probe.add_scope((), (), devices)
            self._observation.writer.update_meta(other_mounts=self._observation.environment.other_mounts.meta())

    def look_for_deaths(self) -> None:
        """Say which daemons have ended, and since when nothing of them is seen."""
        observation = self._observation
        for observed in observation.environment.deaths():
            daemon, at_s = observed.mount.daemon, ((observed.ended_ns or 0) - observation.start_ns) / 1e9
            sentence = (
                f"cvmfs2 (pid {daemon.pid if daemon else '?'}) of {observed.mount.path} exited while it was traced, at "
                f"{at_s:.1f} s; from there on nothing of it is seen"
            )
            observation.missing.append(sentence)
            if (
                observed.is_named or len(observation.environment.observed) == 1
            ):  # another may be none of the user's business
                observation.options.say(sentence)
            observation.update_mounts()

    def _look_for_mounts(self) -> None:
        """Observe mounts that appear. Their pages and requests at once, their daemons when they said who they are."""
        observation = self._observation
        adding = observation.probe if isinstance(observation.probe, AddsScope) else None
        appeared = self._new_mounts.appeared()
        observation.environment.other_mounts.observe(point.device for point in appeared)
        if appeared and adding:
            adding.add_scope((), [point.device for point in appeared])
        self.add_other_mounts(observation.environment.other_mounts.look())
        for observed, managers, is_observed in self._new_mounts.described():
            observation.environment = observation.environment.with_mount(observed)
            if adding:
                alone = replace(observation.environment, observed=(observed,), managers=tuple(managers))
                adding.add_scope(alone.daemons(), (observed.mount.device,))
            is_observed.set()
            at_s = (time.monotonic_ns() - observation.start_ns) / 1e9
            observation.missing.append(
                f"{observed.mount.path} was mounted while the recording ran: what its cvmfs2 did before {at_s:.1f} s is not seen"
            )
            observation.update_mounts()
        if self._new_mounts.has_counters.is_set():
            self._new_mounts.has_counters.clear()
            observation.writer.update_meta(mounts=observation.mounts_meta())
