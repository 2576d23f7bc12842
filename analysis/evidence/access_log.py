"""Access logs of web servers and proxies, as columns: JSON lines of the lab's origin, common and combined, Squid's own.

Nothing in a log is trusted: lines of any length and content are read, and those that are none of these are counted.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

import numpy as np

from cvtrace.analysis.trace.intervals import Ints
from cvtrace.tracer.errors import TraceError
from cvtrace.tracer.safe_open import NotRegular, open_followed

LONGEST_LINE: Final = 1 << 16
"""Bytes; a longer one is unreadable."""
LONGEST_PATH: Final = 1024
"""Bytes; what a client asks for has some 100."""
MOST_LINES: Final = 2_000_000
"""Requests that are kept: some 1 GB of memory."""
LARGEST: Final = 2**62
SECOND_NS: Final = 1_000_000_000
MS_NS: Final = 1_000_000

COMMON: Final = re.compile(
    rb"^(?:\S{1,255}:\d{1,5} )?(?P<client>\S{1,255}) \S{1,255} [^\[]{1,255} ?"
    rb"\[(?P<day>\d\d)/(?P<month>\w{3})/(?P<year>\d{4}):(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d) "
    rb'(?P<zone>[+-]\d{4})\] "(?P<method>[A-Z]{3,16}) (?P<target>\S+)[^"]{0,64}" (?P<status>\d{3}) (?P<bytes>\d{1,15}|-)'
)
SQUID: Final = re.compile(
    rb"^(?P<time>\d{9,11})\.(?P<ms>\d{3}) +(?P<elapsed>-?\d{1,12}) (?P<client>\S{1,255}) \w{1,64}/(?P<status>\d{3}) "
    rb"(?P<bytes>\d{1,15}) (?P<method>[A-Z]{3,16}) (?P<target>\S+)"
)
MONTHS: Final = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")


@dataclass(frozen=True)
class Line:
    """One request as a log tells it; it was made some time in [`from_ns`, `to_ns`], real time."""

    path: str
    status: int
    bytes: int
    from_ns: int
    to_ns: int
    client: str
    """Address of who asked; empty where the log does not tell."""
    get: bool
    of_proxy: bool
    """A whole URL was asked for."""


@dataclass(frozen=True)
class AccessLog:
    """The GETs of a log for the chosen paths, sorted by time, as columns. Times are real time, ns.

    `with_head`: bytes count the head of the response, too. `lines` are all lines of the file, `unreadable` those in no
    known format, `elsewhere` those of other paths and methods.
    """

    name: str
    format: str
    of_proxy: bool
    with_head: bool
    lines: int
    unreadable: int
    elsewhere: int
    path: tuple[str, ...]
    status: Ints
    bytes: Ints
    from_ns: Ints
    to_ns: Ints
    client: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.path)


class LogUnreadable(TraceError):
    """The file cannot be read as an access log; the message says why."""


def path_of(target: str) -> str:
    """Return the path of a request's target, which for a proxy is a whole URL, without its query."""
    if "://" in target[:16]:
        target = "/" + target.partition("://")[2].partition("/")[2]
    return target.partition("?")[0]


def read_access_log(file: Path, prefixes: tuple[str, ...]) -> AccessLog:
    """Read the lines whose path begins with one of `prefixes`. Raises LogUnreadable."""
    raw_prefixes = tuple(prefix.encode() for prefix in prefixes)
    entries: list[Line] = []
    lines = unreadable = elsewhere = 0
    parse: Callable[[bytes], Line | None] | None = None
    for raw in _lines(file):
        if not raw.strip():
            continue
        lines += 1
        if raw.startswith(b"#"):  # a comment
            elsewhere += 1
            continue
        parse = parse or _parser(raw)
        if parse is not None and not any(each in raw for each in raw_prefixes):
            elsewhere += 1
            continue
        line = parse(raw) if parse is not None else None
        if line is None or len(line.path) > LONGEST_PATH:
            unreadable += 1
        elif not line.get or not line.path.startswith(prefixes):
            elsewhere += 1
        else:
            entries.append(line)
            if len(entries) > MOST_LINES:
                raise LogUnreadable(
                    f"{file} has more than {MOST_LINES:,} requests for these repositories: cut it to the hour of the recording"
                )
    if parse is None:
        raise LogUnreadable(
            f"{file} has no line of an access log: known are common and combined (Apache, nginx), Squid's native format, "
            "and the JSON lines of `cvtrace lab serve`"
        )
    entries.sort(key=lambda line: (line.from_ns, line.path))
    return AccessLog(
        name=str(file),
        format=FORMATS[parse],
        of_proxy=any(line.of_proxy for line in entries),
        with_head=parse is _squid,
        lines=lines,
        unreadable=unreadable,
        elsewhere=elsewhere,
        path=tuple(line.path for line in entries),
        status=_column([line.status for line in entries]),
        bytes=_column([line.bytes for line in entries]),
        from_ns=_column([line.from_ns for line in entries]),
        to_ns=_column([line.to_ns for line in entries]),
        client=tuple(line.client for line in entries),
    )


def _column(values: list[int]) -> Ints:
    return np.array(values, dtype=np.int64)


def _lines(file: Path) -> Iterator[bytes]:
    """Yield the lines; of one that is too long, something that is none."""
    try:
        with open_followed(file) as source:
            at_line_start = True
            while raw := source.readline(LONGEST_LINE):
                is_complete = raw.endswith(b"\n")
                if at_line_start:
                    yield raw if is_complete or len(raw) < LONGEST_LINE else b"\0"
                at_line_start = is_complete
    except NotRegular:
        raise LogUnreadable(f"cannot read {file}: it is not a file") from None
    except OSError as error:
        raise LogUnreadable(f"cannot read {file}: {error.strerror}") from None


def _parser(raw: bytes) -> Callable[[bytes], Line | None] | None:
    """Return what can read this line."""
    return next((parse for parse in FORMATS if parse(raw) is not None), None)


def _lab(raw: bytes) -> Line | None:
    if not raw.startswith(b"{"):
        return None
    try:
        entry: Any = json.loads(raw)
        path, status = entry["path"], entry["status"]
        size, start, end = entry["body_bytes"], entry["start_ms"], entry["end_ms"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    method = entry.get("method", "GET")
    numbers = (status, size, start, end)
    if not isinstance(path, str) or not all(type(each) is int and 0 <= each < LARGEST // MS_NS for each in numbers):
        return None
    return Line(path_of(path), status, size, start * MS_NS, (end + 1) * MS_NS, "", method == "GET", False)


def _common(raw: bytes) -> Line | None:
    """Apache writes when a request came, nginx when it was answered."""
    match = COMMON.match(raw)
    if match is None or match["month"] not in MONTHS:
        return None
    zone, month = int(match["zone"]), MONTHS.index(match["month"]) + 1
    offset = timedelta(hours=abs(zone) // 100, minutes=abs(zone) % 100)
    year, day, hour, minute, second = (int(match[name]) for name in ("year", "day", "hour", "minute", "second"))
    try:
        at = datetime(
            year, month, day, hour, minute, min(second, 59), tzinfo=timezone(offset if zone >= 0 else -offset)
        )
        start_ns = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1) * SECOND_NS
    except (ValueError, OverflowError):
        return None
    size = 0 if match["bytes"] == b"-" else int(match["bytes"])
    if not 0 <= start_ns < LARGEST:
        return None
    target, client = match["target"].decode("utf-8", "replace"), match["client"].decode("utf-8", "replace")
    return Line(
        path_of(target),
        int(match["status"]),
        size,
        start_ns,
        start_ns + SECOND_NS,
        client,
        *_method_and_form(match, target),
    )


def _squid(raw: bytes) -> Line | None:
    """Squid writes when a request ended, and how many ms it took."""
    match = SQUID.match(raw)
    if match is None:
        return None
    end_ns = (int(match["time"]) * 1000 + int(match["ms"])) * MS_NS
    if end_ns >= LARGEST:
        return None
    start_ns = max(end_ns - max(int(match["elapsed"]), 0) * MS_NS, 0)
    target, client = match["target"].decode("utf-8", "replace"), match["client"].decode("utf-8", "replace")
    return Line(
        path_of(target),
        int(match["status"]),
        int(match["bytes"]),
        start_ns,
        end_ns + MS_NS,
        client,
        *_method_and_form(match, target),
    )


def _method_and_form(match: re.Match[bytes], target: str) -> tuple[bool, bool]:
    return match["method"] == b"GET", "://" in target[:16]


FORMATS: Final[dict[Callable[[bytes], Line | None], str]] = {
    _lab: "cvtrace lab",
    _common: "common or combined",
    _squid: "Squid",
}
