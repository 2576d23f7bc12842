"""Names from outside (paths, arguments, phases) as harmless text: what cannot be seen, or steers a terminal, is written out.

The one place that decides this, for everything that a person reads.
"""

from __future__ import annotations

import re
from typing import Final

UNSEEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Control characters, what has no width, what turns the direction of writing, and halves of characters."""
UNSEEN_IN_LINES: Final = re.compile(UNSEEN.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))
"""The same but for the ends of lines."""


def printable(name: str) -> str:
    """Return a name with every character that cannot be seen written as in Python: `\\x1b`, `\\u202e`."""
    return UNSEEN.sub(_written_out, name)


def printable_lines(text: str) -> str:
    """Return a text of several lines in the same way."""
    return UNSEEN_IN_LINES.sub(_written_out, text)


def _written_out(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode("ascii")
