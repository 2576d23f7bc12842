"""Names from outside (paths, arguments, phases) as harmless text: what cannot be seen is written out."""

import re
from typing import Final

UNSEEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff\ufff9-\ufffb]"
)
"""Control characters, what has no width, what turns the direction of writing, and halves of characters."""


def printable(name: str) -> str:
    """Return a name with every character that cannot be seen written as in Python: `\\x1b`, `\\u202e`."""
    return UNSEEN.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), name)


def shortened(name: str, most: int) -> str:
    """Return a printable name of at most `most` characters: the middle left out, since both ends tell something."""
    name = printable(name)
    if len(name) <= most:
        return name
    head = (most - 1) // 3
    return f"{name[:head]}…{name[len(name) - (most - 1 - head) :]}"
