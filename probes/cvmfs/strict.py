"""What others say of themselves, taken only in the form in which a client says it.

An attribute, a line of a talk socket or an argument of a process is what somebody else wrote. Numbers are ASCII digits, and not more
of them than any counter has; names are printable, short, and lead nowhere.
"""

from __future__ import annotations

import re
from typing import Final

NUMBER: Final = re.compile(r"[0-9]{1,18}")
"""A counter. What Python's isdigit() takes for digits is not always one, and it refuses to read thousands of them."""
PID: Final = re.compile(r"[1-9][0-9]{0,9}")
REPOSITORY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
"""A fully qualified repository name: it becomes part of a file name."""
VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .+~()_-]{0,79}")
COUNTER: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,79}")
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def number(text: str | None) -> int | None:
    """Return a number that is not negative, None if `text` is nothing of the kind."""
    return int(text) if text is not None and NUMBER.fullmatch(text) else None


def pid(text: str | None) -> int | None:
    """Return the number of a process."""
    return int(text) if text is not None and PID.fullmatch(text) else None


def repository(text: str | None) -> str | None:
    """Return the name of a repository."""
    return text if text is not None and REPOSITORY.fullmatch(text) and ".." not in text else None


def version(text: str | None) -> str | None:
    """Return the version of a client."""
    return text if text is not None and VERSION.fullmatch(text) else None


def line(text: str, most: int = 300) -> str:
    """Return a text as one line without control characters, as much as a sentence has room for."""
    plain = CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
    return plain if len(plain) <= most else f"{plain[:most]}…"
