"""What the origin does to a request, besides answering it."""

from __future__ import annotations

import fnmatch
import random
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from cvtrace.lab.errors import LabError
from cvtrace.lab.origin.pacing import Link


@dataclass(frozen=True)
class Injection:
    """What to do to which requests. Several things can be asked for at once; they happen in the order written here.

    Raises LabError for values that mean nothing.
    """

    match: str = "*"
    """URL paths it is meant for: a glob (`*/data/*P`), or after `re:` a regular expression that is searched for."""
    every: int = 1
    """Only every n-th of these requests."""
    probability: float = 1.0
    """Only this part of them, by chance."""
    times: int | None = None
    """Only so often, then never again."""
    first_byte_delay_s: float = 0.0
    """Wait before the first byte of the response."""
    drop: bool = False
    """Close the connection without an answer."""
    status: int | None = None
    """Answer with this status (400 to 599) instead."""
    truncate_after_bytes: int | None = None
    """Announce the whole body, send this much of it, close the connection."""
    bandwidth_bytes_per_s: float | None = None
    """Send bodies no faster than this, all requests of this injection together, as through one link."""

    def __post_init__(self) -> None:
        checks = {
            "every must be at least 1": self.every >= 1,
            "probability must be between 0 and 1": 0 <= self.probability <= 1,
            "times must not be negative": self.times is None or self.times >= 0,
            "first_byte_delay_s must not be negative": 0 <= self.first_byte_delay_s < float("inf"),
            "status must be between 400 and 599": self.status is None or 400 <= self.status <= 599,
            "truncate_after_bytes must not be negative": (self.truncate_after_bytes or 0) >= 0,
            "bandwidth_bytes_per_s must be above 0": self.bandwidth_bytes_per_s is None
            or self.bandwidth_bytes_per_s > 0,
        }
        for sentence, holds in checks.items():
            if not holds:
                raise LabError(f"an injection cannot be like that: {sentence}")
        try:
            self.pattern()
        except re.error as error:
            raise LabError(f"'{self.match}' is not a regular expression: {error}") from error

    def pattern(self) -> re.Pattern[str]:
        """Return the expression that is searched for in a URL path."""
        if self.match.startswith("re:"):
            return re.compile(self.match.removeprefix("re:"))
        return re.compile(fnmatch.translate(self.match))

    def to_json(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Injection:
        """Make an injection of fields by name. Raises LabError for unknown names and wrong types."""
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise LabError(f"an injection has no {', '.join(sorted(unknown))}")
        try:
            return cls(**values)
        except TypeError as error:
            raise LabError(f"an injection cannot be like that: {error}") from error


class Injector:
    """Finds the injection for a request: the first one that matches and whose turn it is. Thread-safe."""

    def __init__(self, injections: Sequence[Injection] = (), seed: int = 0) -> None:
        self.injections = tuple(injections)
        self._rules = [_Rule(injection) for injection in self.injections]
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def pick(self, path: str) -> tuple[Injection, Link | None]:
        """Return what to do to a request for this URL path, and the link its body goes through."""
        with self._lock:
            for rule in self._rules:
                if rule.takes(path, self._random):
                    return rule.injection, rule.link
        return _NO_INJECTION, None


class _Rule:
    """An injection and what has happened to it so far."""

    def __init__(self, injection: Injection) -> None:
        self.injection = injection
        bandwidth = injection.bandwidth_bytes_per_s
        self.link = Link(bandwidth) if bandwidth else None
        self._pattern = injection.pattern()
        self._matched = 0
        self._injected = 0

    def takes(self, path: str, chance: random.Random) -> bool:
        if not self._pattern.search(path):
            return False
        self._matched += 1
        injection = self.injection
        if injection.times is not None and self._injected >= injection.times:
            return False
        if self._matched % injection.every or (injection.probability < 1 and chance.random() >= injection.probability):
            return False
        self._injected += 1
        return True


_NO_INJECTION = Injection()
