"""Numbers formatted for people."""

from collections.abc import Sequence
from typing import Final

_BYTES: Final = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def seconds(value: float) -> str:
    """Return a time with three digits: 0 s, 84 µs, 12.3 ms, 1.93 s, 312 s."""
    if value == 0:
        return "0 s"
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if abs(value) < limit * 0.9995:
            return f"{_digits(value * factor)} {unit}"
    return f"{_digits(value)} s"


def signed(change_ns: float) -> str:
    """Return a change of time with its sign: +12.3 ms, -1.93 s, 0 s."""
    return f"{'+' if change_ns > 0 else ''}{seconds(change_ns / 1e9)}"


def size(value: float) -> str:
    """Return bytes in decimal units with three digits: 0, 512 B, 1.37 MB."""
    if value == 0:
        return "0"
    for limit, unit in _BYTES:
        if abs(value) >= limit * 0.9995:
            return f"{_digits(value / limit)} {unit}"
    return f"{value:.0f} B"


def pluralize(number: int, what: str) -> str:
    """Return `1 read`, `1,986 reads`."""
    return f"{number:,} {what if number == 1 else what + ('es' if what.endswith('ch') else 's')}"


def listed(numbers: Sequence[int], most: int) -> str:
    """Return sorted numbers as ranges, at most so many: `1–4, 7, 9–23 …`."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    shown = [str(first) if first == last else f"{first}–{last}" for first, last in ranges[:most]]
    return ", ".join(shown) + (" …" if len(ranges) > most else "")


def _digits(value: float) -> str:
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"


def script(argv: tuple[str, ...]) -> str:
    """Return the name of the script, also of one that a wrapper (sh -c …, python) is given, else of the program."""
    if not argv:
        return "a running process"
    scripts = (word for word in argv if word.endswith(".py") and "\n" not in word)
    return next(scripts, argv[0]).rpartition("/")[2]
