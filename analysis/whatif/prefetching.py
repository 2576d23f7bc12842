"""The replay of a run with a bundle: when each object would be there, and how long the run would still wait for fetches.

It follows what clients of 2.14 do (bundle_mgr.cc): when the trigger is opened, one thread fetches the bundle, then eight threads take the files
in order, each fetches one file at a time, its objects one after the other. One download thread unpacks for everybody, and all share one link. The loop has one turn for each
object that is fetched, not for each event.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

POOL: Final = 8
"""Threads that fetch the files of bundles (CVMFS_BUNDLE_POOL_SIZE)."""
QUEUE_PAGES: Final = 16
"""Pages of the pipe in which paths wait for these threads; a path lies within one."""
PAGE: Final = 4096
HEADER_BYTES: Final = 12
"""Of the message that a path is sent in: command and length."""


@dataclass(frozen=True)
class Cost:
    """What fetching an object takes, in ns: until its first byte, its bytes on the link, and unpacking them."""

    latency: int
    wire: int
    unpacking: int

    @property
    def alone(self) -> int:
        """With nothing else under way."""
        return self.latency + max(self.wire, self.unpacking)


@dataclass(frozen=True)
class Need:
    """A wait of the run: at `at` (ns since the trigger was opened) it waited `waited` ns for `objects`."""

    at: int
    waited: int
    objects: tuple[int, ...]


@dataclass(frozen=True)
class Replay:
    """How much longer (or shorter: negative) each need waits, and when the last object of the bundle was there, in ns."""

    changes: tuple[int, ...]
    background: int

    @property
    def change(self) -> int:
        """The change of the whole run."""
        return sum(self.changes)


class _Client:
    """The client's link and its download thread, and what has been fetched so far."""

    def __init__(self, costs: Sequence[Cost]) -> None:
        self._costs = costs
        self._link_free = self._thread_free = 0
        self.there: dict[int, int] = {}
        """Object -> when it is in the cache."""

    def fetch(self, an_object: int, now: int) -> int:
        """Have an object fetched unless it is there or under way; return when it is there."""
        if an_object not in self.there:
            cost = self._costs[an_object]
            first_byte = now + cost.latency
            received = max(first_byte, self._link_free) + cost.wire
            unpacked = max(first_byte, self._thread_free) + cost.unpacking
            self._link_free, self._thread_free = received, unpacked
            self.there[an_object] = max(received, unpacked)
        return max(self.there[an_object], now)


def replay(costs: Sequence[Cost], files: Sequence[Sequence[int]], needs: Sequence[Need], bundle: Cost) -> Replay:
    """Replay `needs`, in order of time, beside the background fetches of `files`, each a sequence of objects (indices of `costs`).

    `bundle` is the cost of the bundle itself. Objects that neither a file nor a need names are not fetched.
    """
    client = _Client(costs)
    waiting = list(reversed(files))
    begin = bundle.alone
    threads: list[tuple[int, int, list[int]]] = [(begin, number, []) for number in range(POOL)]
    heapq.heapify(threads)
    shift, changes, last = 0, [], 0
    pending = list(reversed(needs))
    while pending or threads:
        due = pending[-1].at + shift if pending else None
        if threads and (due is None or threads[0][0] <= due):
            last = max(last, _turn(client, threads, waiting))
            continue
        need = pending.pop()
        now = need.at + shift
        for an_object in need.objects:
            now = client.fetch(an_object, now)
        change = now - (need.at + shift) - need.waited
        changes.append(change)
        shift += change
    return Replay(tuple(changes), last)


def _turn(client: _Client, threads: list[tuple[int, int, list[int]]], waiting: list[Sequence[int]]) -> int:
    """Let the thread that is free next fetch its next object, or take a file, or end; return when that object is there, else 0."""
    now, number, objects = heapq.heappop(threads)
    if not objects:
        if not waiting:
            return 0
        objects = list(reversed(waiting.pop()))
        heapq.heappush(threads, (now, number, objects))
        return 0
    done = client.fetch(objects.pop(), now)
    heapq.heappush(threads, (done, number, objects))
    return done


def queued(paths: Sequence[str]) -> int:
    """Return how many of the paths, from the first on, surely find room in the client's queue while nothing is taken out of it."""
    page, room = 0, PAGE
    for number, path in enumerate(paths):
        size = HEADER_BYTES + len(path.encode("utf-8", "surrogateescape"))
        if size > room:
            page, room = page + 1, PAGE
        if page == QUEUE_PAGES or size > PAGE:
            return number
        room -= size
    return len(paths)
