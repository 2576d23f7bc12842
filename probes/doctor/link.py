"""How far away the server is that a client fetches from, measured by a few requests of the kind that the client makes.

The requests go where the client says that it fetches from, through the proxy that it uses: three small ones for the time of a round trip, and one
object, whose bytes are counted and thrown away.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Final
from urllib.parse import urlsplit

from cvtrace.probes.credentials import without_user_info
from cvtrace.probes.cvmfs.deadline import NoAnswer, within

PATIENCE_S: Final = 30.0
TIMEOUT_S: Final = 10.0
SMALL_REQUESTS: Final = 3
MOST_BYTES: Final = 32_000_000
"""How much of the object is taken."""
PART_BYTES: Final = 1 << 16
PUBLISHED: Final = ".cvmfspublished"


class NotMeasured(Exception):
    """Why the network could not be measured, one sentence."""


@dataclass(frozen=True)
class Link:
    """What was measured."""

    round_trip_s: float
    """From a request on an open connection to the first byte of its answer, the fastest of three."""
    bytes_per_s: float
    """Of the body of one object."""
    bytes: int
    """Of that body, compressed as it is sent."""


@dataclass(frozen=True)
class Source:
    """Where a client fetches from."""

    url: str
    """Of the repository: http://server/cvmfs/name."""
    proxy: str | None
    """None: it fetches from the server itself."""

    def __str__(self) -> str:
        url = without_user_info(self.url)
        return url if self.proxy is None else f"{url} through {without_user_info(self.proxy)}"


def measure(source: Source, object_path: str, switch: Callable[[], None]) -> Link:
    """Measure the way to a server, in a child that `switch` gives the rights of the user who called. Raises NotMeasured."""
    try:
        first_s, per_s, size = within(PATIENCE_S, partial(_measured, source, object_path, switch))
    except NoAnswer:
        raise NotMeasured(f"{source} did not answer within {PATIENCE_S:.0f} s") from None
    except OSError as failure:
        raise NotMeasured(f"{source}: {failure.strerror or failure}") from None
    return Link(float(first_s), float(per_s), int(size))


def _measured(source: Source, object_path: str, switch: Callable[[], None]) -> list[float]:
    """In the child."""
    switch()
    try:
        target, way = urlsplit(source.url), urlsplit(source.proxy or source.url)
        port = way.port or 80
    except ValueError:
        raise OSError(None, "this is no address") from None
    if way.scheme != "http" or way.hostname is None or way.username is not None or target.username is not None:
        raise OSError(None, "only plain HTTP without a password is measured")
    base = source.url if source.proxy is not None else target.path
    connection = HTTPConnection(way.hostname, port, timeout=TIMEOUT_S)
    try:
        connection.connect()
        times = [_get(connection, f"{base}/{PUBLISHED}")[0] for _ in range(SMALL_REQUESTS)]
        _, body_s, size = _get(connection, f"{base}/{object_path}")
    except HTTPException as failure:
        raise OSError(None, f"no answer in HTTP ({type(failure).__name__})") from None
    finally:
        connection.close()
    return [min(times), size / max(body_s, 1e-6), size]


def _get(connection: HTTPConnection, url: str) -> tuple[float, float, int]:
    """Return the seconds to the first byte, those of the body, and its size."""
    start_s = time.monotonic()
    connection.request("GET", url, headers={"Accept-Encoding": "identity"})
    response = connection.getresponse()
    first_s = time.monotonic()
    if response.status != 200:
        raise OSError(None, f"HTTP status {response.status} for {url.rpartition('/')[2]}")
    size = _discard(response)
    return first_s - start_s, time.monotonic() - first_s, size


def _discard(response: HTTPResponse) -> int:
    size = 0
    while size < MOST_BYTES and (part := response.read(PART_BYTES)):
        size += len(part)
    return size
